/* What every command shares: errors, usage, numbers. Interface: cmd.h. */
#include "cmd.h"

#include "lib/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uuid/uuid.h>

static const struct command *current;

void cli_begin(const struct command *c)
{
	current = c;
}

int cli_fail(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("werunos: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return EXIT_ERROR;
}

int cli_error(int err, const char *what)
{
	const char *sentence = err_text();

	if (*sentence)
		return cli_fail("%s", sentence);
	return cli_fail("%s: %s", what, strerror(-err));
}

int cli_usage(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	if (fmt) {
		fprintf(stderr, "werunos %s: ", current->name);
		va_start(ap, fmt);
		vfprintf(stderr, fmt, ap);
		va_end(ap);
		fputc('\n', stderr);
	}
	fprintf(stderr, "usage: werunos %s %s\n", current->name, current->args);
	return EXIT_USAGE;
}

bool cli_uuid(const char *s, u8 out[16])
{
	return uuid_parse(s, out) == 0;
}
