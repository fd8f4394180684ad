/*
 * The hashes of attributes, and those of names that directory indexes are sorted by: legacy, half MD4, TEA. Each exists in a signed and
 * an unsigned form, because the machines that first wrote volumes disagreed on the sign of a char; the
 * superblock says which one a volume uses.
 *
 * Bit 0 of a hash is always 0: in the index it marks a hash that goes on from the block before.
 */
#include "ext4.h"

#include <errno.h>

#define XATTR_NAME_SHIFT  5
#define XATTR_VALUE_SHIFT 16

#define HASH_EOF 0xfffffffeu /* means the end of a directory, so no name may have it */

static u32 rol32(u32 x, u32 n)
{
	return x << n | x >> (32 - n);
}

static u32 char_value(char c, bool is_unsigned)
{
	return is_unsigned ? (u32)(u8)c : (u32)(s32)(s8)c;
}

/* Up to 4 * n characters as n words; short names are padded with their length. */
static void name_words(const char *s, u32 len, bool is_unsigned, u32 *word, u32 n)
{
	u32 pad = len | len << 8, at = 0;

	pad |= pad << 16;
	len = MIN(len, n * 4);
	for (u32 w = 0; w < n; w++) {
		u32 x = pad;

		for (u32 k = 0; k < 4 && at < len; k++)
			x = char_value(s[at++], is_unsigned) + (x << 8);
		word[w] = x;
	}
}

static u32 hash_legacy(const char *s, u32 len, bool is_unsigned)
{
	u32 hash, h0 = 0x12a3fe2d, h1 = 0x37abe8f9;

	while (len--) {
		hash = h1 + (h0 ^ char_value(*s++, is_unsigned) * 7152373);
		if (hash & 0x80000000)
			hash -= 0x7fffffff;
		h1 = h0;
		h0 = hash;
	}
	return h0 << 1;
}

static void tea(u32 buf[4], const u32 in[4])
{
	u32 sum = 0, b0 = buf[0], b1 = buf[1];

	for (int round = 0; round < 16; round++) {
		sum += 0x9e3779b9;
		b0 += ((b1 << 4) + in[0]) ^ (b1 + sum) ^ ((b1 >> 5) + in[1]);
		b1 += ((b0 << 4) + in[2]) ^ (b0 + sum) ^ ((b0 >> 5) + in[3]);
	}
	buf[0] += b0;
	buf[1] += b1;
}

/* Three rounds over eight words; s and x are each step's shift and word. */
static void half_md4(u32 buf[4], const u32 in[8])
{
	static const u8 shift[3][4] = { { 3, 7, 11, 19 }, { 3, 5, 9, 13 }, { 3, 9, 11, 15 } };
	static const u8 order[3][8] = { { 0, 1, 2, 3, 4, 5, 6, 7 },
					{ 1, 3, 5, 7, 0, 2, 4, 6 },
					{ 3, 7, 2, 6, 1, 5, 0, 4 } };
	static const u32 add[3] = { 0, 0x5a827999, 0x6ed9eba1 };
	u32 a = buf[0], b = buf[1], c = buf[2], d = buf[3];

	for (int r = 0; r < 3; r++) {
		for (int i = 0; i < 8; i++) {
			u32 f = r == 0 ? (d ^ (b & (c ^ d))) : r == 1 ? (b & c) + ((b ^ c) & d) : b ^ c ^ d;
			u32 x = rol32(a + f + in[order[r][i]] + add[r], shift[r][i % 4]);

			a = d;
			d = c;
			c = b;
			b = x;
		}
	}
	buf[0] += a;
	buf[1] += b;
	buf[2] += c;
	buf[3] += d;
}

u32 ext4_hash_version(const struct ext4_super *es, u32 version)
{
	return version <= EXT4_HASH_TEA && es->hash_unsigned ? version + EXT4_HASH_LEGACY_UNSIGNED : version;
}

int ext4_name_hash(const struct ext4_super *es, u32 version, const char *name, u32 len, struct ext4_hash *out)
{
	bool is_unsigned = version >= EXT4_HASH_LEGACY_UNSIGNED;
	u32 buf[4] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476 }, word[8];
	const u32 *seed = es->hash_seed;

	if (seed[0] || seed[1] || seed[2] || seed[3])
		memcpy(buf, seed, sizeof(buf));
	*out = (struct ext4_hash){ 0 };
	switch (version) {
	case EXT4_HASH_LEGACY:
	case EXT4_HASH_LEGACY_UNSIGNED:
		out->hash = hash_legacy(name, len, is_unsigned);
		break;
	case EXT4_HASH_HALF_MD4:
	case EXT4_HASH_HALF_MD4_UNSIGNED:
		for (u32 at = 0; at < len; at += 32) {
			name_words(name + at, len - at, is_unsigned, word, 8);
			half_md4(buf, word);
		}
		out->hash = buf[1];
		out->minor = buf[2];
		break;
	case EXT4_HASH_TEA:
	case EXT4_HASH_TEA_UNSIGNED:
		for (u32 at = 0; at < len; at += 16) {
			name_words(name + at, len - at, is_unsigned, word, 4);
			tea(buf, word);
		}
		out->hash = buf[0];
		out->minor = buf[1];
		break;
	default:
		return fail(-EOPNOTSUPP, "directory hash %u is not known", version);
	}
	out->hash &= ~1u;
	if (out->hash == HASH_EOF)
		out->hash = HASH_EOF - 2;
	return 0;
}

u32 ext4_xattr_hash(const char *name, u32 name_len, const void *value, u32 bytes, bool is_signed)
{
	u32 hash = 0;

	for (u32 i = 0; i < name_len; i++)
		hash = ext4_xattr_mix(hash, XATTR_NAME_SHIFT, char_value(name[i], !is_signed));
	for (u32 i = 0; i < bytes; i += (u32)sizeof(le32)) {
		le32 word = { { 0 } };

		memcpy(&word, (const u8 *)value + i, MIN(bytes - i, (u32)sizeof(word)));
		hash = ext4_xattr_mix(hash, XATTR_VALUE_SHIFT, le32_get(word));
	}
	return hash;
}
