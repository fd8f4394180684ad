/*
 * Names without regard to case: canonical decomposition, full case folding, ignorable characters dropped, as UTF-8 again; all as of
 * Unicode 12.1, which is what volumes say that they use. libutf8proc stands behind it, which knows later versions: what these gave a meaning
 * is taken apart here and stays as it is. Plain ASCII, which is most names, does without.
 */
#include "ext4.h"

#include <utf8proc.h>

struct range {
	utf8proc_int32_t first, last;
};

/* What Unicode 13 and 14 made letters with a case, combining or ignorable (UnicodeData.txt, CaseFolding.txt, DerivedAge.txt). */
static const struct range later[] = {
	{ 0x898, 0x89f },     { 0x8ca, 0x8d2 },     { 0xc3c, 0xc3c },     { 0x1715, 0x1715 },
	{ 0x180f, 0x180f },   { 0x1abf, 0x1ace },   { 0x1dfa, 0x1dfa },   { 0x2c2f, 0x2c2f },
	{ 0xa7c0, 0xa7c0 },   { 0xa7c7, 0xa7c7 },   { 0xa7c9, 0xa7c9 },   { 0xa7d0, 0xa7d0 },
	{ 0xa7d6, 0xa7d6 },   { 0xa7d8, 0xa7d8 },   { 0xa7f5, 0xa7f5 },   { 0xa82c, 0xa82c },
	{ 0x10570, 0x10595 }, { 0x10eab, 0x10eac }, { 0x10f82, 0x10f85 }, { 0x11070, 0x11070 },
	{ 0x11938, 0x11938 }, { 0x1193d, 0x1193e }, { 0x11943, 0x11943 }, { 0x16ff0, 0x16ff1 },
	{ 0x1e2ae, 0x1e2ae },
};

/* Never used, and ignorable all the same (DerivedCoreProperties.txt). */
static const struct range reserved[] = {
	{ 0x2065, 0x2065 },   { 0xfff0, 0xfff8 },   { 0xe0000, 0xe0000 },
	{ 0xe0002, 0xe001f }, { 0xe0080, 0xe00ff }, { 0xe01f0, 0xe0fff },
};

static bool is_in(const struct range *r, u32 n, utf8proc_int32_t cp)
{
	u32 lo = 0;

	while (lo < n) {
		u32 mid = lo + (n - lo) / 2;

		if (cp > r[mid].last)
			lo = mid + 1;
		else if (cp >= r[mid].first)
			return true;
		else
			n = mid;
	}
	return false;
}

/* It goes, and marks are not put in order across it. */
static bool is_ignorable(utf8proc_int32_t cp)
{
	return utf8proc_get_property(cp)->ignorable || is_in(reserved, ARRAY_SIZE(reserved), cp);
}

static inline char lower(u8 c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
}

static bool fold_ascii(const char *name, u32 len, char *folded)
{
	for (u32 i = 0; i < len; i++) {
		if ((u8)name[i] >= 0x80)
			return false;
		folded[i] = lower((u8)name[i]);
	}
	return true;
}

/* A piece of a name, without what is later or ignorable, goes behind what is there. */
static bool fold_piece(const char *s, u32 len, char *folded, u32 *at)
{
	const utf8proc_option_t how = UTF8PROC_DECOMPOSE | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE;
	utf8proc_int32_t cp[EXT4_FOLD_MAX];
	utf8proc_ssize_t n = utf8proc_decompose((const u8 *)s, len, cp, ARRAY_SIZE(cp), how);

	if (n < 0 || n > (utf8proc_ssize_t)ARRAY_SIZE(cp))
		return false;
	for (utf8proc_ssize_t i = 0; i < n; i++) {
		if (*at + 4 > EXT4_FOLD_MAX)
			return false;
		*at += (u32)utf8proc_encode_char(cp[i], (u8 *)folded + *at);
	}
	return true;
}

bool ext4_casefold(const char *name, u32 len, char folded[EXT4_FOLD_MAX], u32 *folded_len)
{
	char piece[EXT4_NAME_MAX];
	u32 at = 0, piece_len = 0;

	if (len > EXT4_NAME_MAX)
		return false;
	*folded_len = len;
	if (fold_ascii(name, len, folded))
		return true;
	for (u32 i = 0; i < len;) {
		utf8proc_int32_t cp;
		utf8proc_ssize_t n = utf8proc_iterate((const u8 *)name + i, len - i, &cp);
		bool as_it_is;

		if (n <= 0)
			return false;
		as_it_is = is_in(later, ARRAY_SIZE(later), cp);
		if (as_it_is || is_ignorable(cp)) {
			if (!fold_piece(piece, piece_len, folded, &at) || at + 4 > EXT4_FOLD_MAX)
				return false;
			piece_len = 0;
		}
		if (as_it_is) {
			memcpy(folded + at, name + i, (size_t)n);
			at += (u32)n;
		} else if (!is_ignorable(cp)) {
			memcpy(piece + piece_len, name + i, (size_t)n);
			piece_len += (u32)n;
		}
		i += (u32)n;
	}
	*folded_len = 0;
	if (!fold_piece(piece, piece_len, folded, &at))
		return false;
	*folded_len = at;
	return true;
}

bool ext4_casefold_is(const char *name, u32 len, const char *folded, u32 folded_len)
{
	char own[EXT4_FOLD_MAX];
	u32 own_len, i = 0;

	/* What is ASCII at the end of a name stands at the end of its folded form, byte for byte: nothing is reordered across it. */
	while (i < len && (u8)name[len - 1 - i] < 0x80) {
		if (i == folded_len || lower((u8)name[len - 1 - i]) != folded[folded_len - 1 - i])
			return false;
		i++;
	}
	if (i == len)
		return i == folded_len;
	return ext4_casefold(name, len, own, &own_len) && own_len == folded_len &&
	       !memcmp(own, folded, own_len);
}

bool ext4_dir_folds(const struct ext4_inode *dir)
{
	return dir->flags & EXT4_FL_CASEFOLD && !(dir->flags & EXT4_FL_ENCRYPT) &&
	       ext4_has_incompat(ext4_inode_super(dir), EXT4_INCOMPAT_CASEFOLD);
}

static int hash_folded(const struct ext4_super *es, u32 version, const char *name, u32 len,
		       struct ext4_hash *out)
{
	char folded[EXT4_FOLD_MAX];
	u32 folded_len;

	if (ext4_casefold(name, len, folded, &folded_len))
		return ext4_name_hash(es, version, folded, folded_len, out);
	return ext4_name_hash(es, version, name, len, out);
}

int ext4_dir_hash(const struct ext4_inode *dir, u32 version, const char *name, u32 len, struct ext4_hash *out)
{
	const struct ext4_super *es = ext4_inode_super(dir);

	return ext4_dir_folds(dir) ? hash_folded(es, version, name, len, out)
				   : ext4_name_hash(es, version, name, len, out);
}

bool ext4_dir_name_refused(const struct ext4_inode *dir, const struct name *name)
{
	const struct ext4_super *es = ext4_inode_super(dir);
	char folded[EXT4_FOLD_MAX];
	u32 len;

	return le16_get(es->disk.encoding_flags) & EXT4_ENCODING_STRICT && ext4_dir_folds(dir) &&
	       !ext4_casefold(name->s, name->len, folded, &len);
}
