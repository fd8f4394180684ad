/*
 * Extents that zlib compressed: one deflate stream behind zlib's header of two bytes (RFC 1950, RFC 1951). libdeflate unpacks them, twice
 * as fast as zlib; but it gives nothing of a stream that holds more than there is room for, of which the first part is
 * what the extent is (linux/btrfs.h, unencoded_len): that is zlib's.
 */
#include "btrfs.h"

#include <errno.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <zlib.h>

#define HEADER_BYTES 2u

void btrfs_zlib_free(void *ctx)
{
	libdeflate_free_decompressor(ctx);
}

/* Deflate, a window that exists, no dictionary, and the header's own check. */
static bool header_ok(const u8 *p)
{
	return (p[0] & 0x0f) == Z_DEFLATED && p[0] >> 4 <= 7 && !(p[1] & 0x20) &&
	       (p[0] * 256u + p[1]) % 31 == 0;
}

static int damaged(void)
{
	return fail(-EIO, "data compressed by zlib are damaged");
}

/* The first room_bytes of a stream that has more. */
static int unpack_first(const u8 *src, u32 src_bytes, void *dst, u32 room_bytes)
{
	z_stream z = {
		.next_in = (u8 *)src, .avail_in = src_bytes, .next_out = dst, .avail_out = room_bytes
	};
	int ret;

	if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
		return fail(-ENOMEM, "no memory to unpack zlib's data");
	ret = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return ret == Z_BUF_ERROR && !z.avail_out ? 0 : damaged();
}

int btrfs_zlib_unpack(void **ctx, const void *src, u32 src_bytes, void *dst, u32 room_bytes, u32 *done)
{
	const u8 *stream = (const u8 *)src + HEADER_BYTES;
	size_t in, out;

	if (src_bytes < HEADER_BYTES || !header_ok(src))
		return fail(-EIO, "compressed data do not begin as zlib's do");
	if (!*ctx)
		*ctx = libdeflate_alloc_decompressor();
	if (!*ctx)
		return fail(-ENOMEM, "no memory to unpack zlib's data");
	src_bytes -= HEADER_BYTES;
	/* zlib's checksum behind the stream is not looked at: the extent has one of its own. */
	switch (libdeflate_deflate_decompress_ex(*ctx, stream, src_bytes, dst, room_bytes, &in, &out)) {
	case LIBDEFLATE_SUCCESS:
		*done = (u32)out;
		return 0;
	case LIBDEFLATE_INSUFFICIENT_SPACE:
		*done = room_bytes;
		return unpack_first(stream, src_bytes, dst, room_bytes);
	default:
		return damaged();
	}
}
