/*
 * Extents that LZO compressed. The frame (fs/btrfs/lzo.c of the kernel describes it): 4 bytes with the length of everything, themselves
 * included, then segments: 4 bytes with the length of what follows, which unpacks to at most a sector. Where less than 4 bytes of
 * a sector are left the next length begins with the next sector.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>
#include <lzo/lzo1x.h>

#define LENGTH_BYTES 4u

static u32 length_at(const u8 *p)
{
	le32 v;

	memcpy(&v, p, sizeof(v));
	return le32_get(v);
}

/* One segment, of which the first `room` bytes are wanted. *made: how many of them there were; 0: it is damaged. */
static int unpack_segment(const u8 *src, u32 len, u32 sector_bytes, u8 *dst, u32 room, u32 *made)
{
	scoped(freep) u8 *whole = NULL;
	lzo_uint n = MIN(room, sector_bytes);
	int ret = lzo1x_decompress_safe(src, len, dst, &n, NULL);

	/* The library gives all of a segment or nothing that counts. */
	if (ret == LZO_E_OUTPUT_OVERRUN && room < sector_bytes) {
		whole = malloc(sector_bytes);
		if (!whole)
			return fail(-ENOMEM, "no memory to unpack data");
		n = sector_bytes;
		ret = lzo1x_decompress_safe(src, len, whole, &n, NULL);
		n = MIN(n, (lzo_uint)room);
		if (ret == LZO_E_OK)
			memcpy(dst, whole, n);
	}
	*made = ret == LZO_E_OK ? (u32)n : 0;
	return 0;
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
		u32 len = length_at(p + at), made = 0, left;
		int err;

		at += LENGTH_BYTES;
		if (len > end - at)
			return fail(-EIO, "data compressed by LZO are cut off");
		err = unpack_segment(p + at, len, sector_bytes, (u8 *)dst + out, room_bytes - out, &made);
		if (err)
			return err;
		if (!made)
			return fail(-EIO, "data compressed by LZO are damaged");
		at += len;
		out += made;
		left = sector_bytes - at % sector_bytes;
		if (left < LENGTH_BYTES)
			at += MIN(left, end - at);
	}
	*done = out;
	return 0;
}
