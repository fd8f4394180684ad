/* Running other programs: programs.h. */
#include "support/programs.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

int program_run(const char *command, char **said)
{
	size_t len = 0, room = 4096, n;
	char *line, *out;
	FILE *p;
	int code;

	*said = NULL;
	if (asprintf(&line, "exec 2>&1; %s", command) < 0)
		return -1;
	p = popen(line, "re");
	free(line);
	out = malloc(room);
	if (!p || !out) {
		free(out);
		return -1;
	}
	while ((n = fread(out + len, 1, room - len - 1, p)) > 0) {
		len += n;
		if (room - len < 2) {
			char *more = realloc(out, room * 2);

			if (!more)
				break;
			out = more;
			room *= 2;
		}
	}
	out[len] = 0;
	code = pclose(p);
	*said = out;
	return WIFEXITED(code) ? WEXITSTATUS(code) : -1;
}
