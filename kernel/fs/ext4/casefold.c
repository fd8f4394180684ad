/*
 * Names without regard to case: canonical decomposition, full case folding, ignorable characters dropped, as
 * UTF-8 again. libutf8proc stands behind it; plain ASCII, which is most names, does without.
 */
#include "ext4.h"

#include <utf8proc.h>

static bool fold_ascii(const char *name, u32 len, char *folded)
{
	for (u32 i = 0; i < len; i++) {
		u8 c = (u8)name[i];

		if (c >= 0x80)
			return false;
		folded[i] = (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
	}
	return true;
}

bool ext4_casefold(const char *name, u32 len, char folded[EXT4_FOLD_MAX], u32 *folded_len)
{
	const utf8proc_option_t how = UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE;
	utf8proc_int32_t cp[EXT4_FOLD_MAX];
	utf8proc_ssize_t n;
	u32 at = 0;

	if (len > EXT4_NAME_MAX)
		return false;
	*folded_len = len;
	if (fold_ascii(name, len, folded))
		return true;
	n = utf8proc_decompose((const u8 *)name, len, cp, ARRAY_SIZE(cp), how);
	if (n < 0 || n > (utf8proc_ssize_t)ARRAY_SIZE(cp))
		return false;
	for (utf8proc_ssize_t i = 0; i < n; i++) {
		if (at + 4 > EXT4_FOLD_MAX)
			return false;
		at += (u32)utf8proc_encode_char(cp[i], (u8 *)folded + at);
	}
	*folded_len = at;
	return true;
}
