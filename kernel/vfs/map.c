/* Questions about where a file's bytes lie: extent listing, SEEK_HOLE and SEEK_DATA. Nothing here moves data. */
#include "internal.h"

#include "lib/scope.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

void map_done(struct mapping *m)
{
	bh_put(take(m->bh));
}

/* The tail stage's block hides what the module says of it. */
static void map_tail(struct inode *inode, u64 off_bytes, struct mapping *m)
{
	const struct tail *t = inode->tail;
	u64 bs = inode->sb->block_bytes;

	if (off_bytes < t->off_bytes) {
		m->len_bytes = MIN(m->len_bytes, t->off_bytes - m->off_bytes);
		m->flags &= ~MAP_LAST;
	} else if (off_bytes - t->off_bytes < bs) {
		map_done(m);
		*m = (struct mapping){ .kind = MAP_INLINE,
				       .off_bytes = t->off_bytes,
				       .len_bytes = bs,
				       .inline_data = t->block };
	}
}

int map_at(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *m)
{
	int err;

	memset(m, 0, sizeof(*m));
	err = inode->ops->map(inode, off_bytes, len_bytes, m);
	if (err)
		return err;
	/* A module that answers with something else would send the callers' loops astray. */
	if (m->off_bytes > off_bytes || m->len_bytes > ~0ull - m->off_bytes ||
	    m->off_bytes + m->len_bytes <= off_bytes) {
		map_done(m);
		return corrupt(&inode->sb->health, "inode", inode->ino, "no mapping at byte %llu",
			       (unsigned long long)off_bytes);
	}
	if (inode->tail)
		map_tail(inode, off_bytes, m);
	return 0;
}

int vfs_extents(struct inode *inode, u64 off_bytes, u64 len_bytes,
		int (*emit)(void *ctx, const struct mapping *m), void *ctx)
{
	u64 end = len_bytes > ~0ull - off_bytes ? ~0ull : off_bytes + len_bytes;
	int err = 0;

	if (!inode->ops->map)
		return -EOPNOTSUPP;
	tail_await(inode, end);
	rw_read_lock(&inode->map_lock);
	while (!err && off_bytes < end) {
		struct mapping m;

		err = map_at(inode, off_bytes, end - off_bytes, &m);
		if (err)
			break;
		off_bytes = m.off_bytes + m.len_bytes;
		err = emit(ctx, &m);
		map_done(&m);
		if (m.flags & MAP_LAST)
			break;
	}
	rw_read_unlock(&inode->map_lock);
	return err > 0 ? 0 : err;
}

static bool map_is_data(const struct mapping *m)
{
	return m->kind == MAP_DATA || m->kind == MAP_INLINE || m->kind == MAP_ENCODED;
}

int vfs_seek(struct inode *inode, u64 off_bytes, int whence, u64 *out)
{
	u64 size;
	int err = 0;

	if (whence != SEEK_HOLE && whence != SEEK_DATA)
		return -EINVAL;
	if (!is_reg(inode))
		return is_dir(inode) ? -EISDIR : -EINVAL;
	tail_await(inode, ~0ull - 1);
	rw_read_lock(&inode->map_lock);
	size = inode_readable_size(inode);
	if (off_bytes >= size)
		err = -ENXIO;
	while (!err && off_bytes < size) {
		struct mapping m;

		err = map_at(inode, off_bytes, size - off_bytes, &m);
		if (err)
			break;
		map_done(&m);
		if (map_is_data(&m) == (whence == SEEK_DATA))
			break;
		off_bytes = m.off_bytes + m.len_bytes;
	}
	rw_read_unlock(&inode->map_lock);
	if (err)
		return err;
	if (off_bytes >= size) {
		if (whence == SEEK_DATA)
			return -ENXIO;
		off_bytes = size; /* the end of file is a hole */
	}
	*out = off_bytes;
	return 0;
}
