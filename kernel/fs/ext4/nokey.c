/*
 * Names in encrypted directories, shown without their key as the kernel shows them: base64url of the directory
 * hash and the encrypted bytes; of long ones the first 149 and a SHA-256 of the rest. Such a name can be looked
 * up again, since it holds all that the search needs.
 */
#include "ext4.h"

#include <gcrypt.h>

#define HEAD_BYTES   8u
#define PREFIX_BYTES 149u
#define DIGEST_BYTES EXT4_NOKEY_DIGEST

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void digest(const void *p, u32 len, u8 out[DIGEST_BYTES])
{
	gcry_check_version(NULL);
	gcry_md_hash_buffer(GCRY_MD_SHA256, out, p, len);
}

static u32 base64_put(const u8 *p, u32 len, char *out)
{
	u32 n = 0, bits = 0, acc = 0;

	for (u32 i = 0; i < len; i++) {
		acc = acc << 8 | p[i];
		for (bits += 8; bits >= 6; bits -= 6)
			out[n++] = alphabet[acc >> (bits - 6) & 63];
	}
	if (bits)
		out[n++] = alphabet[acc << (6 - bits) & 63];
	return n;
}

/* False: not base64url of at most `max` bytes. */
static bool base64_get(const char *s, u32 len, u8 *out, u32 max, u32 *out_len)
{
	u32 n = 0, bits = 0, acc = 0;

	for (u32 i = 0; i < len; i++) {
		const char *at = s[i] ? strchr(alphabet, s[i]) : NULL;

		if (!at)
			return false;
		acc = acc << 6 | (u32)(at - alphabet);
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		if (n == max)
			return false;
		out[n++] = (u8)(acc >> bits);
	}
	*out_len = n;
	return bits < 6 && !(acc & ((1u << bits) - 1));
}

u32 ext4_nokey_name(const struct ext4_hash *hash, const char *name, u32 len, char out[EXT4_NAME_MAX])
{
	u8 raw[HEAD_BYTES + PREFIX_BYTES + DIGEST_BYTES];
	u32 prefix = MIN(len, PREFIX_BYTES), n = HEAD_BYTES + prefix;
	le32 h = le32_put(hash->hash), m = le32_put(hash->minor);

	memcpy(raw, &h, sizeof(h));
	memcpy(raw + sizeof(h), &m, sizeof(m));
	memcpy(raw + HEAD_BYTES, name, prefix);
	if (len > prefix) {
		digest(name + prefix, len - prefix, raw + n);
		n += DIGEST_BYTES;
	}
	return base64_put(raw, n, out);
}

bool ext4_nokey_parse(const struct name *name, struct ext4_nokey *out)
{
	u8 raw[HEAD_BYTES + PREFIX_BYTES + DIGEST_BYTES];
	u32 n;

	if (!base64_get(name->s, name->len, raw, sizeof(raw), &n) || n <= HEAD_BYTES)
		return false;
	out->has_digest = n > HEAD_BYTES + PREFIX_BYTES;
	if (out->has_digest && n != sizeof(raw))
		return false;
	out->hash.hash = le32_get(*(const le32 *)raw);
	out->hash.minor = le32_get(*(const le32 *)(raw + sizeof(le32)));
	out->len = MIN(n - HEAD_BYTES, PREFIX_BYTES);
	memcpy(out->bytes, raw + HEAD_BYTES, out->len);
	if (out->has_digest)
		memcpy(out->digest, raw + HEAD_BYTES + PREFIX_BYTES, DIGEST_BYTES);
	return true;
}

bool ext4_nokey_is(const struct ext4_nokey *want, const char *name, u32 len)
{
	u8 sum[DIGEST_BYTES];

	if (len < want->len || memcmp(name, want->bytes, want->len))
		return false;
	if (!want->has_digest)
		return len == want->len;
	if (len <= PREFIX_BYTES)
		return false;
	digest(name + PREFIX_BYTES, len - PREFIX_BYTES, sum);
	return !memcmp(sum, want->digest, sizeof(sum));
}
