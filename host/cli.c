/* What every command shares: errors, usage, numbers. Interface: cmd.h. */
#include "cmd.h"

#include "lib/err.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

bool cli_number(const char *s, u64 max, u64 *out)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*out = strtoull(s, &end, s[0] == '0' && (s[1] | 0x20) == 'x' ? 16 : 10);
	return !*end && !errno && *out <= max;
}

bool cli_size(const char *s, u64 *out)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;
	u32 shift;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*out = strtoull(s, &end, 10);
	if (errno)
		return false;
	if (!*end)
		return true;
	unit = strchr(units, toupper((unsigned char)*end));
	if (!unit)
		return false;
	end++;
	if (!strcmp(end, "iB") || !strcmp(end, "B"))
		end += strlen(end);
	shift = 10 * (u32)(unit - units + 1);
	if (*end || *out > (~0ull >> shift))
		return false;
	*out <<= shift;
	return true;
}

bool cli_uuid(const char *s, u8 out[16])
{
	return uuid_parse(s, out) == 0;
}
