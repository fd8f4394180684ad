/* A device's content, in a file: see copy_out.h. */
#include "support/copy_out.h"

#include <stdio.h>
#include <stdlib.h>

#define CHUNK (1u << 20)

int copy_out(struct blkdev *dev, const char *path)
{
	FILE *f = fopen(path, "w");
	void *buf = malloc(CHUNK);
	int err = f && buf ? 0 : -1;

	for (u64 off = 0; !err && off < dev->size_bytes; off += CHUNK) {
		u64 now = MIN(dev->size_bytes - off, (u64)CHUNK);

		err = blkdev_read(dev, off, buf, now);
		if (!err && fwrite(buf, 1, now, f) != now)
			err = -1;
	}
	free(buf);
	return f && fclose(f) ? -1 : err;
}
