/*
 * What has no name gets one in lost+found, "#" and its number, as it does from other programs. A name that is there already is one of
 * the things that the next round finds.
 */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>

#define GROW_MAX  64u /* blocks at once */
#define LOST_MODE (S_IFDIR | 0700)

static const struct name lost_name = { CK_LOST_NAME, sizeof(CK_LOST_NAME) - 1 };

/* ---- names come into directories ---- */

static bool grow(struct ck *ck, struct ck_dir *d)
{
	struct ck_inode ci;
	scoped(freep) void *raw = ck_inode_load(ck, d->ino, &ci);
	u32 old = d->count;

	if (!raw || !ck_dir_set_blocks(ck, d, &ci, old + MIN(MAX(old / 2, 1u), GROW_MAX)))
		return false;
	for (u32 i = old; i < d->count; i++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;

		if (!ck_read(ck, ck->blk[d->first + i].pblk, &bh))
			return false;
		ext4_leaf_init(ck->es, bh->data);
		ck_dir_put(ck, d, i, bh);
	}
	ck_inode_put(ck, &ci);
	return true;
}

/* In block i. False: there is no room. */
static bool add_at(struct ck *ck, const struct ck_dir *d, u32 i, const struct name *name, u32 ino, u8 type)
{
	const struct ck_dirblk *b = &ck->blk[d->first + i];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const char *bad;
	struct ext4_dx dx;
	u32 off;

	if (!ck_read(ck, b->pblk, &bh) || ext4_dx_parse(ck->es, bh->data, !b->lblk, &dx) ||
	    !ext4_leaf_room(ck->es, bh->data, ext4_dirent_bytes(name->len), &off, &bad))
		return false;
	ext4_leaf_add(ck->es, bh->data, off, name, ino, type);
	ck_dir_put(ck, d, b->lblk, bh);
	return true;
}

/* The search begins at block *from, where the last one ended. An index does not know of the name. */
static bool add_name(struct ck *ck, struct ck_dir *d, u32 *from, const struct name *name, u32 ino, u8 type)
{
	if (ck_stores_hash(d) || d->flags & EXT4_FL_ENCRYPT)
		return false;
	if (d->flags & EXT4_FL_INLINE_DATA && !ck_dir_rebuild(ck, d))
		return false;
	for (; *from < d->count && ck_goes_on(ck); ++*from)
		if (add_at(ck, d, *from, name, ino, type))
			return true;
	return grow(ck, d) && add_at(ck, d, *from, name, ino, type);
}

/* ---- the directory ---- */

/* What the name lost+found in the root leads to; 0: there is none. */
static u32 lookup(struct ck *ck, const struct ck_dir *root)
{
	for (u32 i = 0; i < root->count && ck_goes_on(ck); i++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		const struct ext4_disk_dirent *de;
		struct ext4_dirent_iter it;
		const char *bad;

		if (!ck_read(ck, ck->blk[root->first + i].pblk, &bh))
			continue;
		ext4_dirent_iter(&it, bh->data, bh->size_bytes, bh->size_bytes);
		while ((de = ext4_dirent_next(&it, &bad)))
			if (le32_get(de->inode) && ck_is_lost_found(de))
				return le32_get(de->inode);
	}
	return 0;
}

/* One link more. */
static void add_link(struct ck *ck, u64 ino)
{
	struct ck_ino *in = ck_ino(ck, ino);
	struct ck_inode ci;
	scoped(freep) void *raw = ck_inode_load(ck, ino, &ci);

	if (!raw || !in)
		return;
	in->found++;
	if (in->links == 1)
		return;
	in->links++;
	ci.raw->links_count = le16_put(in->links);
	ck_inode_put(ck, &ci);
}

static void fill_inode(struct ck *ck, struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;
	struct timespec64 now = super_now(&es->vfs);
	struct ext4_disk_inode *raw = ci->raw;
	bool large = es->inode_bytes > EXT4_INODE_BYTES_OLD;

	memset(raw, 0, es->inode_bytes);
	raw->mode = le16_put(LOST_MODE);
	raw->links_count = le16_put(2);
	raw->generation = le32_put(now.nsec);
	ext4_time_put(now, &raw->atime, large ? &raw->atime_extra : NULL);
	ext4_time_put(now, &raw->mtime, large ? &raw->mtime_extra : NULL);
	ext4_time_put(now, &raw->ctime, large ? &raw->ctime_extra : NULL);
	ci->flags = 0;
	ci->is_dir = true;
	ci->mode = LOST_MODE;
	if (es->metadata_csum)
		ci->seed = ext4_csum_inode_seed(es, (u32)ci->ino, now.nsec);
	if (!large)
		return;
	raw->extra_isize = le16_put((u16)(sizeof(*raw) - EXT4_INODE_BYTES_OLD));
	ext4_time_put(now, &raw->crtime, &raw->crtime_extra);
}

/* A new directory without names, below the root. NULL: there is no room. */
static struct ck_dir *make(struct ck *ck)
{
	struct ck_dir d = { .parent = EXT4_INO_ROOT, .dotdot = EXT4_INO_ROOT };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ck_inode ci;
	u64 ino, *at;

	if (ck_alloc_ino(ck, 0, true, &ino))
		return NULL;
	d.ino = (u32)ino;
	scoped(freep) void *raw = ck_inode_load(ck, ino, &ci);

	if (!raw)
		return NULL;
	fill_inode(ck, &ci);
	d.generation = le32_get(ci.raw->generation);
	at = ck_map_at(ck, &ck->dir_of, ino);
	if (!at || !ck_room(ck, &ck->dir, ck->dirs, &ck->dir_room, sizeof(*ck->dir)) ||
	    !ck_dir_set_blocks(ck, &d, &ci, 1) || !ck_read(ck, ck->blk[d.first].pblk, &bh))
		return NULL;
	d.flags = ci.flags;
	ext4_leaf_top(ck->es, bh->data, d.ino, EXT4_INO_ROOT);
	ck_dir_put(ck, &d, 0, bh);
	ck_inode_put(ck, &ci);
	*ck_ino(ck, ino) = (struct ck_ino){
		.found = 2, .links = 2, .kind = S_IFDIR >> 12, .flags = CK_USED | CK_PARENT
	};
	ck->dir[ck->dirs++] = d;
	*at = ck->dirs;
	return &ck->dir[ck->dirs - 1];
}

bool ck_lost_missing(struct ck *ck)
{
	const struct ck_dir *root = ck_dir_of(ck, EXT4_INO_ROOT);

	return root && !root->partial && !lookup(ck, root) && ck_goes_on(ck);
}

struct ck_dir *ck_lost_found(struct ck *ck)
{
	struct ck_dir *root = ck_dir_of(ck, EXT4_INO_ROOT), *d;
	u32 from = 0, ino;

	if (ck->lost || !root)
		return ck_dir_of(ck, ck->lost);
	ino = lookup(ck, root);
	d = ck_dir_of(ck, ino);
	if (d && !(d->flags & EXT4_FL_ENCRYPT)) {
		ck->lost = ino;
		return d;
	}
	/* What cannot take names makes room, and is one of those that have none. */
	if (ino && !ck_drop_name(ck, root, ino))
		return NULL;
	d = make(ck);
	root = ck_dir_of(ck, EXT4_INO_ROOT);
	if (!d || !add_name(ck, root, &from, &lost_name, d->ino, ext4_dirent_type(ck->es, S_IFDIR)))
		return NULL;
	add_link(ck, EXT4_INO_ROOT);
	if (root->flags & EXT4_FL_INDEX && !ck_dir_rebuild(ck, root))
		return NULL;
	ck->lost = d->ino;
	return d;
}

bool ck_move_dotdot(struct ck *ck, struct ck_dir *d, u32 parent)
{
	struct ck_ino *old = ck_ino(ck, d->dotdot);

	if (!ck_set_dotdot(ck, d, parent))
		return false;
	if (old && old->found)
		old->found--;
	add_link(ck, parent);
	d->dotdot = parent;
	return true;
}

bool ck_connect(struct ck *ck, u64 ino)
{
	struct ck_dir *lost = ck_lost_found(ck), *d = ck_dir_of(ck, ino);
	struct ck_ino *in = ck_ino(ck, ino);
	char text[24];
	struct name name = { text, (u32)snprintf(text, sizeof(text), "#%llu", (unsigned long long)ino) };

	if (!lost || !in || lost == d ||
	    !add_name(ck, lost, &ck->lost_at, &name, (u32)ino, ext4_dirent_type(ck->es, (u32)in->kind << 12)))
		return false;
	in->found++;
	if (!d)
		return true;
	in->flags |= CK_PARENT;
	d->parent = ck->lost;
	return ck_move_dotdot(ck, d, ck->lost);
}

void ck_lost_end(struct ck *ck)
{
	struct ck_dir *lost = ck_dir_of(ck, ck->lost);

	if (lost && lost->flags & EXT4_FL_INDEX)
		(void)ck_dir_rebuild(ck, lost);
}
