/* Extents that zstd compressed: one frame (RFC 8878), then zeros up to the end of the last sector. */
#include "btrfs.h"

#include <errno.h>
#include <zstd.h>

/* No window needs more than the longest extent: a frame that asks for more memory is refused. */
#define WINDOW_LOG 17

void btrfs_zstd_free(void *ctx)
{
	ZSTD_freeDCtx(ctx);
}

int btrfs_zstd_unpack(void **ctx, const void *src, u32 src_bytes, void *dst, u32 room_bytes, u32 *done)
{
	ZSTD_outBuffer out = { .dst = dst, .size = room_bytes };
	ZSTD_inBuffer in = { .src = src, .size = src_bytes };
	size_t ret = 1, moved = 1;

	if (!*ctx) {
		*ctx = ZSTD_createDCtx();
		if (!*ctx || ZSTD_isError(ZSTD_DCtx_setParameter(*ctx, ZSTD_d_windowLogMax, WINDOW_LOG)))
			return fail(-ENOMEM, "no memory to unpack zstd's data");
	}
	ZSTD_DCtx_reset(*ctx, ZSTD_reset_session_only);
	/* The whole frame at once where it fits, which zstd unpacks straight to its place. */
	while (ret && out.pos < out.size && moved) {
		moved = in.pos + out.pos;
		ret = ZSTD_decompressStream(*ctx, &out, &in);
		if (ZSTD_isError(ret))
			return fail(-EIO, "data compressed by zstd are damaged: %s", ZSTD_getErrorName(ret));
		moved = in.pos + out.pos - moved;
	}
	*done = (u32)out.pos;
	if (ret && out.pos < out.size)
		return fail(-EIO, "data compressed by zstd are cut off");
	return 0;
}
