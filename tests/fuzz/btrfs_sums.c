/*
 * Makes the checksums of btrfs's nodes and superblocks valid for a program linked with it (--wrap, see the Makefile): the answer is what stands in
 * front of the bytes that are summed. Data has its checksums elsewhere: they are computed.
 */
#include "btrfs/btrfs.h"

void __wrap_btrfs_csum(u32 type, const void *p, size_t len_bytes, u8 out[BTRFS_CSUM_BYTES]);
void __real_btrfs_csum(u32 type, const void *p, size_t len_bytes, u8 out[BTRFS_CSUM_BYTES]);

void __wrap_btrfs_csum(u32 type, const void *p, size_t len_bytes, u8 out[BTRFS_CSUM_BYTES])
{
	if (is_pow2(len_bytes + BTRFS_CSUM_BYTES))
		memcpy(out, (const u8 *)p - BTRFS_CSUM_BYTES, BTRFS_CSUM_BYTES);
	else
		__real_btrfs_csum(type, p, len_bytes, out);
}
