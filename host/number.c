/* Numbers as people write them. Interface: number.h. */
#include "number.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool number_parse(const char *s, u64 max, u64 *out)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return false;
	errno = 0;
	*out = strtoull(s, &end, s[0] == '0' && (s[1] | 0x20) == 'x' ? 16 : 10);
	return !*end && !errno && *out <= max;
}

bool size_parse(const char *s, u64 *out)
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
