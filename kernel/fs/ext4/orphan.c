/*
 * Orphans: inodes that a crash must not leave as they are. Who has no name but is open, and who is being cut shorter in more than one
 * transaction, is noted on the volume in the transaction that begins it, and taken off in the one that ends it.
 *
 * Two places, one inode in one of them:
 *   - The list: the superblock's last_orphan is the first inode, and each inode's dtime the number of the next. Memory has it in the
 *     same order, so a neighbour is found without reading.
 *   - The orphan file (feature orphan_file): blocks of inode numbers, 0 where a place is free. Nobody's neighbour is touched, and
 *     with many changes at once the superblock is left alone. When it is full, the list is used.
 *
 *   ORPHAN_PRESENT in the superblock says that the file may hold something: set while the volume is open for writing, cleared
 *   when it is closed with the file empty.
 *
 * Without a journal nothing is noted: nothing would order the note and the change, and e2fsck has to look at everything anyway. What was
 * noted before the journal went is dealt with all the same.
 * What is found at mount is dealt with by inode_life.c.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

struct ext4_orphan_file {
	struct bh_ctx ctx;
	u32 places; /* in a block */
	u32 blocks;
	struct {
		u64 blk;
		u32 free; /* [orphan_lock] */
	} block[];
};

/* ---- blocks of the orphan file ---- */

static u32 places_of(u32 block_bytes)
{
	return (block_bytes - (u32)sizeof(struct ext4_disk_orphan_tail)) / (u32)sizeof(le32);
}

static u32 block_csum(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	const struct ext4_super *es = ext4_bh_super(bh);
	u32 seed = ext4_csum_inode_seed(es, (u32)ctx->v[0], (u32)ctx->v[1]);

	return ext4_csum_orphan(seed, bh->blk, data, places_of(bh->size_bytes) * (u32)sizeof(le32));
}

static const struct ext4_disk_orphan_tail *tail_of(const struct buffer_head *bh, const void *data)
{
	return (const void *)((const u8 *)data + bh->size_bytes - sizeof(struct ext4_disk_orphan_tail));
}

static int verify_orphans(const struct buffer_head *bh, const void *data, const struct bh_ctx *ctx)
{
	const struct ext4_disk_orphan_tail *t = tail_of(bh, data);

	if (le32_get(t->magic) != EXT4_ORPHAN_MAGIC)
		return corrupt(bh->dev->health, "block", bh->blk, "not a block of orphans");
	if (ext4_bh_super(bh)->metadata_csum && block_csum(bh, data, ctx) != le32_get(t->checksum))
		return corrupt(bh->dev->health, "block", bh->blk, "wrong checksum of orphans");
	return 0;
}

static void seal_orphans(const struct buffer_head *bh, void *data)
{
	struct ext4_disk_orphan_tail *t = (void *)tail_of(bh, data);

	if (ext4_bh_super(bh)->metadata_csum)
		t->checksum = le32_put(block_csum(bh, data, &bh->ctx));
}

static const struct bh_ops orphan_ops = { .name = "orphans", .verify = verify_orphans, .seal = seal_orphans };

static int read_block(struct ext4_super *es, u32 i, struct buffer_head **out)
{
	struct ext4_orphan_file *f = es->orphan_file;

	return bh_read(es->vfs.dev, f->block[i].blk, &orphan_ops, &f->ctx, out);
}

void ext4_orphan_block_init(const struct ext4_super *es, u32 seed, u64 blk, void *block)
{
	u32 bytes = ext4_block_bytes(es);
	struct ext4_disk_orphan_tail *t = (void *)((u8 *)block + bytes - sizeof(*t));

	memset(block, 0, bytes);
	t->magic = le32_put(EXT4_ORPHAN_MAGIC);
	if (es->metadata_csum)
		t->checksum =
			le32_put(ext4_csum_orphan(seed, blk, block, places_of(bytes) * (u32)sizeof(le32)));
}

/* ---- the file ---- */

static int load_block(struct ext4_super *es, struct ext4_inode *ei, u32 i)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_orphan_file *f = es->orphan_file;
	struct ext4_run run;
	const le32 *place;
	int err = ext4_map_blocks(ei, i, 1, &run);

	if (err)
		return err;
	if (!run.pblk || run.unwritten)
		return corrupt(&es->vfs.health, "inode", ei->vfs.ino, "the orphan file has a hole");
	f->block[i].blk = run.pblk + i - run.lblk;
	err = read_block(es, i, &bh);
	if (err)
		return err;
	place = bh->data;
	for (u32 k = 0; k < f->places; k++)
		f->block[i].free += !le32_get(place[k]);
	return 0;
}

static int load_file(struct ext4_super *es)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	u32 ino = le32_get(es->disk.orphan_file_inum), bits = es->block_bits, n;
	int err;

	if (!ei)
		return fail(-ENOMEM, "no memory for the orphan file");
	ei->vfs.sb = &es->vfs;
	ei->vfs.ino = ino;
	atomic_store(&ei->vfs.tail_from, ~0ull);
	err = ext4_inode_load(ei);
	if (err)
		return err == -ESTALE ? corrupt(&es->vfs.health, "inode", ino,
						"is to be the orphan file, but is free")
				      : err;
	n = (u32)MIN(ext4_size(ei) >> bits, (u64)EXT4_ORPHAN_BLOCKS_MAX + 1);
	if (!is_reg(&ei->vfs) || ei->flags & EXT4_FL_INLINE_DATA || n > EXT4_ORPHAN_BLOCKS_MAX ||
	    ext4_size(ei) != (u64)n << bits)
		return corrupt(&es->vfs.health, "inode", ino, "cannot be the orphan file");
	es->orphan_file = calloc(1, sizeof(*es->orphan_file) + n * sizeof(es->orphan_file->block[0]));
	if (!es->orphan_file)
		return fail(-ENOMEM, "no memory for the orphan file");
	es->orphan_file->ctx = ext4_ctx_map(ei, 0);
	es->orphan_file->places = places_of(ext4_block_bytes(es));
	es->orphan_file->blocks = n;
	for (u32 i = 0; i < n && !err; i++)
		err = load_block(es, ei, i);
	return err;
}

static void set_present(struct ext4_super *es, bool present)
{
	struct ext4_disk_super *d = ext4_super_lock(es);
	u32 bits = le32_get(d->feature_ro_compat) & ~EXT4_RO_COMPAT_ORPHAN_PRESENT;

	d->feature_ro_compat = le32_put(bits | (present ? EXT4_RO_COMPAT_ORPHAN_PRESENT : 0));
	ext4_super_unlock(es);
}

int ext4_orphan_open(struct ext4_super *es)
{
	int err;

	list_init(&es->orphans);
	es->orphan_rest = 0;
	if (!ext4_has_compat(es, EXT4_COMPAT_ORPHAN_FILE))
		return 0;
	err = load_file(es);
	if (err)
		ext4_orphan_close(es);
	else
		set_present(es, true);
	return err;
}

void ext4_orphan_close(struct ext4_super *es)
{
	struct ext4_orphan_file *f = es->orphan_file;
	u64 used = 0;

	if (!f)
		return;
	for (u32 i = 0; i < f->blocks; i++)
		used += f->places - f->block[i].free;
	if (!used)
		set_present(es, false);
	free(f);
	es->orphan_file = NULL;
}

static int set_place(struct ext4_handle *h, u32 place, u32 ino)
{
	struct ext4_orphan_file *f = h->es->orphan_file;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 i = place / f->places;
	int err = read_block(h->es, i, &bh);

	if (!err)
		err = ext4_access(h, bh);
	if (err)
		return err;
	bh_lock(bh);
	((le32 *)bh->data)[place % f->places] = le32_put(ino);
	bh_unlock(bh);
	ext4_dirty(h, bh);
	if (ino)
		f->block[i].free--;
	else
		f->block[i].free++;
	return 0;
}

/* -ENOSPC: no place is free. Each inode begins to look in a block of its own, so that it is not always the first that changes. */
static int free_place(struct ext4_super *es, u64 ino, u32 *place)
{
	struct ext4_orphan_file *f = es->orphan_file;

	for (u32 k = 0; k < f->blocks; k++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		u32 i = (u32)((ino / 64 + k) % f->blocks);
		int err;

		if (!f->block[i].free)
			continue;
		err = read_block(es, i, &bh);
		if (err)
			return err;
		for (u32 p = 0; p < f->places; p++)
			if (!le32_get(((const le32 *)bh->data)[p])) {
				*place = i * f->places + p;
				return 0;
			}
	}
	return -ENOSPC;
}

u32 ext4_orphan_places(const struct ext4_super *es)
{
	return es->orphan_file ? es->orphan_file->places * es->orphan_file->blocks : 0;
}

int ext4_orphan_at(struct ext4_super *es, u32 place, u32 *ino)
{
	struct ext4_orphan_file *f = es->orphan_file;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	int err = read_block(es, place / f->places, &bh);

	if (!err)
		*ino = le32_get(((const le32 *)bh->data)[place % f->places]);
	return err;
}

int ext4_orphan_clear(struct ext4_handle *h, u32 place)
{
	mutex_guard(&h->es->orphan_lock);
	return set_place(h, place, 0);
}

/* ---- the list ---- */

u32 ext4_orphan_head(struct ext4_super *es)
{
	u32 ino;

	mutex_lock(&es->super_lock);
	ino = le32_get(es->disk.last_orphan);
	mutex_unlock(&es->super_lock);
	return ino;
}

static int set_head(struct ext4_handle *h, u32 ino)
{
	struct ext4_super *es = h->es;
	int err = ext4_super_join(h);

	if (err)
		return err;
	ext4_super_lock(es)->last_orphan = le32_put(ino);
	ext4_super_unlock(es);
	return 0;
}

int ext4_orphan_give_up(struct ext4_handle *h)
{
	struct ext4_super *es = h->es;

	mutex_guard(&es->orphan_lock);
	es->orphan_rest = 0;
	return set_head(h, 0);
}

static int list_insert(struct ext4_handle *h, struct ext4_inode *ei)
{
	struct ext4_super *es = h->es;
	int err = ext4_super_join(h);

	if (!err)
		err = ext4_inode_set_dtime(h, ei->vfs.ino, ext4_orphan_head(es));
	if (!err)
		err = set_head(h, (u32)ei->vfs.ino);
	if (!err)
		list_add(&es->orphans, &ei->orphan);
	return err;
}

/* What follows it on the volume. */
static u32 next_of(struct ext4_super *es, const struct ext4_inode *ei)
{
	if (ei->orphan.next == &es->orphans)
		return es->orphan_rest;
	return (u32)list_entry(ei->orphan.next, struct ext4_inode, orphan)->vfs.ino;
}

static int list_remove(struct ext4_handle *h, struct ext4_inode *ei)
{
	struct ext4_super *es = h->es;
	u32 next = next_of(es, ei);
	int err;

	if (ei->orphan.prev == &es->orphans)
		err = set_head(h, next);
	else
		err = ext4_inode_set_dtime(h, list_entry(ei->orphan.prev, struct ext4_inode, orphan)->vfs.ino,
					   next);
	if (!err)
		err = ext4_inode_set_dtime(h, ei->vfs.ino, 0);
	if (!err)
		list_del(&ei->orphan);
	return err;
}

/* ---- both ---- */

int ext4_orphan_add(struct ext4_handle *h, struct ext4_inode *ei)
{
	struct ext4_super *es = h->es;
	u32 place = 0;
	int err;

	if (!es->journal)
		return 0;
	mutex_guard(&es->orphan_lock);
	if (ei->orphan_place || !list_empty(&ei->orphan))
		return 0;
	if (!es->orphan_file)
		return list_insert(h, ei);
	err = free_place(es, ei->vfs.ino, &place);
	if (err == -ENOSPC)
		return list_insert(h, ei);
	if (!err)
		err = set_place(h, place, (u32)ei->vfs.ino);
	if (!err)
		ei->orphan_place = place + 1;
	return err;
}

int ext4_orphan_del(struct ext4_handle *h, struct ext4_inode *ei)
{
	struct ext4_super *es = h->es;
	int err = 0;

	mutex_guard(&es->orphan_lock);
	if (ei->orphan_place) {
		err = set_place(h, ei->orphan_place - 1, 0);
		if (!err)
			ei->orphan_place = 0;
	} else if (!list_empty(&ei->orphan)) {
		err = list_remove(h, ei);
	}
	return err;
}

bool ext4_orphan_noted(struct ext4_inode *ei)
{
	mutex_guard(&ext4_inode_super(ei)->orphan_lock);
	return ei->orphan_place || !list_empty(&ei->orphan);
}

bool ext4_orphan_any(struct ext4_super *es)
{
	struct ext4_orphan_file *f = es->orphan_file;
	bool any;

	mutex_guard(&es->orphan_lock);
	any = !list_empty(&es->orphans);
	for (u32 i = 0; f && i < f->blocks && !any; i++)
		any = f->block[i].free < f->places;
	return any;
}

void ext4_orphan_forget(struct ext4_inode *ei)
{
	struct ext4_super *es = ext4_inode_super(ei);

	if (es->vfs.rdonly || list_empty(&ei->orphan))
		return;
	mutex_guard(&es->orphan_lock);
	list_del(&ei->orphan);
}

void ext4_orphan_found(struct ext4_inode *ei, u32 place, u32 rest)
{
	struct ext4_super *es = ext4_inode_super(ei);

	mutex_guard(&es->orphan_lock);
	if (place) {
		ei->orphan_place = place;
		return;
	}
	list_add(&es->orphans, &ei->orphan);
	es->orphan_rest = rest;
}
