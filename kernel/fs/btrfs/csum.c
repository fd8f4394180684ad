/* The checksums of nodes, superblocks and data, and the hashes of names. */
#include "btrfs.h"

#include "lib/crc.h"
#include <gcrypt.h>
#include <xxhash.h>

static const struct {
	const char *name;
	u32 bytes;
} types[] = {
	[BTRFS_CSUM_CRC32C] = { "crc32c", 4 },
	[BTRFS_CSUM_XXHASH] = { "xxhash64", 8 },
	[BTRFS_CSUM_SHA256] = { "sha256", 32 },
	[BTRFS_CSUM_BLAKE2] = { "blake2b", 32 },
};

u32 btrfs_csum_bytes(u32 type)
{
	return type < ARRAY_SIZE(types) ? types[type].bytes : 0;
}

const char *btrfs_csum_name(u32 type)
{
	return type < ARRAY_SIZE(types) ? types[type].name : "unknown";
}

static void digest(int algo, void *out, const void *p, size_t len_bytes)
{
	/* Makes the library ready, which costs nothing when it is. */
	gcry_check_version(NULL);
	gcry_md_hash_buffer(algo, out, p, len_bytes);
}

void btrfs_csum(u32 type, const void *p, size_t len_bytes, u8 out[BTRFS_CSUM_BYTES])
{
	le32 crc;
	le64 xx;

	memset(out, 0, BTRFS_CSUM_BYTES);
	switch (type) {
	case BTRFS_CSUM_CRC32C:
		crc = le32_put(~crc32c(~0u, p, len_bytes));
		memcpy(out, &crc, sizeof(crc));
		break;
	case BTRFS_CSUM_XXHASH:
		xx = le64_put(XXH64(p, len_bytes, 0));
		memcpy(out, &xx, sizeof(xx));
		break;
	case BTRFS_CSUM_SHA256:
		digest(GCRY_MD_SHA256, out, p, len_bytes);
		break;
	case BTRFS_CSUM_BLAKE2:
		digest(GCRY_MD_BLAKE2B_256, out, p, len_bytes);
		break;
	}
}

u64 btrfs_name_hash(const void *name, u32 len)
{
	return crc32c(~1u, name, len);
}

u64 btrfs_extref_hash(u64 parent, const void *name, u32 len)
{
	return crc32c((u32)parent, name, len);
}
