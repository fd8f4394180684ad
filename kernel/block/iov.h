/* Copying between plain memory and the bytes of an iovec. */
#ifndef BLOCK_IOV_H
#define BLOCK_IOV_H

#include "lib/types.h"
#include <string.h>
#include <sys/uio.h>

/*
 * A device may be read and written at the same bytes at once, as a disk may: what is read then is undefined, and no
 * defect of the device. The thread sanitizer is told so for the copies into and out of a device's memory.
 */
#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
#define DEVICE_COPY_BEGIN() \
	(AnnotateIgnoreReadsBegin(__FILE__, __LINE__), AnnotateIgnoreWritesBegin(__FILE__, __LINE__))
#define DEVICE_COPY_END() \
	(AnnotateIgnoreWritesEnd(__FILE__, __LINE__), AnnotateIgnoreReadsEnd(__FILE__, __LINE__))
#else
#define DEVICE_COPY_BEGIN() ((void)0)
#define DEVICE_COPY_END()   ((void)0)
#endif

/* Finds the byte `at` of the iovec: its segment and the offset in it. `at` lies within. */
static inline const struct iovec *iov_seek(const struct iovec *iov, u64 at, u64 *within)
{
	while (at >= iov->iov_len) {
		at -= iov->iov_len;
		iov++;
	}
	*within = at;
	return iov;
}

/* Copies len bytes from the iovec's byte `at` on to buf, or back when `into` the iovec. */
static inline void iov_copy(const struct iovec *iov, u64 at, void *buf, u64 len, bool into)
{
	u8 *p = buf;
	u64 within;

	if (!len)
		return;
	DEVICE_COPY_BEGIN();
	for (iov = iov_seek(iov, at, &within); len; iov++, within = 0) {
		u64 now = MIN(len, (u64)iov->iov_len - within);
		u8 *seg = (u8 *)iov->iov_base + within;

		if (into)
			memcpy(seg, p, now);
		else
			memcpy(p, seg, now);
		p += now;
		len -= now;
	}
	DEVICE_COPY_END();
}

static inline void iov_fill(const struct iovec *iov, u64 at, u8 byte, u64 len)
{
	u64 within;

	if (!len)
		return;
	for (iov = iov_seek(iov, at, &within); len; iov++, within = 0) {
		u64 now = MIN(len, (u64)iov->iov_len - within);

		memset((u8 *)iov->iov_base + within, byte, now);
		len -= now;
	}
}

#endif
