/* explore IMAGE…: mounts, walks, reads and dumps each volume; one line each. Ends 0 whatever the volumes are like. */
#include "support/explore.h"

#include "lib/err.h"
#include <stdio.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct blkdev *dev;
		int err = dev_file_open(argv[i], 0, &dev);

		if (!err) {
			err = explore(dev, true);
			blkdev_put(dev);
		}
		printf("%s: %s\n", argv[i], err ? err_text() : "explored");
		fflush(stdout);
	}
	return 0;
}
