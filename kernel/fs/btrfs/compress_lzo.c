/*
 * Extents that LZO compressed (fs/btrfs/lzo.c of the kernel describes it): 4 bytes with the length of everything, themselves
 * included, then segments: 4 bytes with the length of what follows, which unpacks to at most a sector. Where less
 * than 4 bytes of a sector are left the next length begins with the next sector.
 */
#include "btrfs.h"

#include <errno.h>
#include <lzo/lzo1x.h>

#define LENGTH_BYTES 4u

static u32 length_at(const u8 *p)
{
	le32 v;

	memcpy(&v, p, sizeof(v));
	return le32_get(v);
}

int btrfs_lzo_unpack(u32 sector_bytes, const void *src, u32 src_bytes, void *dst, u32 room_bytes, u32 *done)
{
	const u8 *p = src;
	u32 end, at = LENGTH_BYTES, out = 0;

	if (src_bytes < LENGTH_BYTES)
		return fail(-EIO, "data compressed by LZO are cut off");
	end = length_at(p);
	/* Not a sector of the extent is for nothing. */
	if (end < LENGTH_BYTES || end > src_bytes || ALIGN_UP((u64)end, (u64)sector_bytes) < src_bytes)
		return fail(-EIO, "data compressed by LZO are of another length than the extent");
	while (out < room_bytes && end - at >= LENGTH_BYTES) {
		u32 len = length_at(p + at), left;
		lzo_uint n = MIN(room_bytes - out, sector_bytes);

		at += LENGTH_BYTES;
		if (!len || len > end - at ||
		    lzo1x_decompress_safe(p + at, len, (u8 *)dst + out, &n, NULL) != LZO_E_OK || !n)
			return fail(-EIO, "data compressed by LZO are damaged");
		at += len;
		out += (u32)n;
		left = sector_bytes - at % sector_bytes;
		if (left < LENGTH_BYTES)
			at += MIN(left, end - at);
	}
	*done = out;
	return 0;
}
