/* Extents that zlib compressed: one deflate stream behind zlib's header of two bytes (RFC 1950, RFC 1951). */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#define HEADER_BYTES 2u

void btrfs_zlib_free(void *ctx)
{
	if (ctx)
		inflateEnd(ctx);
	free(ctx);
}

static z_stream *stream_get(void **ctx)
{
	z_stream *z = *ctx;

	if (z)
		return inflateReset(z) == Z_OK ? z : NULL;
	z = calloc(1, sizeof(*z));
	/* The header is read here, and the checksum behind the stream not at all: the extent has one of its own. */
	if (!z || inflateInit2(z, -MAX_WBITS) != Z_OK) {
		free(z);
		return NULL;
	}
	return *ctx = z;
}

/* Deflate, a window that exists, no dictionary, and the header's own check. */
static bool header_ok(const u8 *p)
{
	return (p[0] & 0x0f) == Z_DEFLATED && p[0] >> 4 <= 7 && !(p[1] & 0x20) &&
	       (p[0] * 256u + p[1]) % 31 == 0;
}

int btrfs_zlib_unpack(void **ctx, const void *src, u32 src_bytes, void *dst, u32 room_bytes, u32 *done)
{
	z_stream *z;
	int ret;

	if (src_bytes < HEADER_BYTES || !header_ok(src))
		return fail(-EIO, "compressed data does not begin as zlib's do");
	z = stream_get(ctx);
	if (!z)
		return fail(-ENOMEM, "no memory to unpack zlib's data");
	z->next_in = (u8 *)src + HEADER_BYTES;
	z->avail_in = src_bytes - HEADER_BYTES;
	z->next_out = dst;
	z->avail_out = room_bytes;
	ret = inflate(z, Z_FINISH);
	*done = room_bytes - z->avail_out;
	/* Z_BUF_ERROR: the room is full, or there is no more input. */
	if (ret == Z_STREAM_END || (ret == Z_BUF_ERROR && !z->avail_out))
		return 0;
	return fail(-EIO, "data compressed by zlib are damaged");
}
