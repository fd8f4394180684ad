/*
 * Quota files that change other than by counting, and that are shown. New records: an id gets one before the first inode counts for it, in a handle of its own, so that nobody who changes an
 * inode has to. A record without usage and limits does no harm.
 *
 * Of the file's blocks those that it calls free are used first, then it grows. All that is needed is had and joined before the first byte
 * changes.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>

#define PIECES_MAX (EXT4_QUOTA_DEPTH + 1)
/* The head, the tree's blocks, the neighbour in the list of leaves; the file grows by as many blocks as there are pieces. */
#define CREDITS_ATTACH \
	(2 * PIECES_MAX + 2 + EXT4_CREDITS_INODE + PIECES_MAX * (EXT4_CREDITS_INSERT + EXT4_CREDITS_GROUP))

/* A block of the file, joined. */
struct piece {
	u32 nr;
	struct buffer_head *bh;
	void *at;
};

struct attach {
	struct ext4_handle *h;
	struct ext4_super *es;
	struct ext4_quota_file *f;
	u32 id;
	struct piece head;
	struct piece path[PIECES_MAX]; /* nodes from the root on, then the leaf */
	u32 there;                     /* of them, that the tree leads to already */
	struct piece next;             /* of the leaves with room */
	u32 blocks, free_block;        /* what the head will say */
	bool is_new_leaf;
};

static void attach_end(struct attach *a)
{
	bh_put(a->head.bh);
	bh_put(a->next.bh);
	for (u32 i = 0; i < PIECES_MAX; i++)
		bh_put(a->path[i].bh);
}

static struct ext4_disk_quota_head *head_of(const struct attach *a)
{
	return a->head.at;
}

static struct ext4_disk_quota_leaf *leaf_of(const struct attach *a)
{
	return a->path[EXT4_QUOTA_DEPTH].at;
}

static u32 byte_of(u32 id, u32 level)
{
	return id >> 8 * (EXT4_QUOTA_DEPTH - 1 - level) & 0xff;
}

/* ---- planning ---- */

static int get_piece(struct attach *a, u32 nr, struct piece *p)
{
	u32 off;
	int err = ext4_quota_block(a->es, a->f, nr, &p->bh, &off);

	if (err)
		return err;
	p->nr = nr;
	p->at = (u8 *)p->bh->data + off;
	return ext4_access(a->h, p->bh);
}

/* One more block of the volume at the file's end, zeros. */
static int grow(struct attach *a)
{
	struct ext4_inode *ei = a->f->ei;
	const struct bh_ctx ctx = ext4_ctx_map(ei, 0);
	u64 lblk = DIV_ROUND_UP(ext4_size(ei), (u64)ext4_block_bytes(a->es));
	struct buffer_head *bh;
	int err = ext4_map_new_block(a->h, ei, lblk, &ext4_quota_ops, &ctx, &bh);

	if (err)
		return err;
	ext4_dirty(a->h, bh);
	bh_put(bh);
	inode_set_size(&ei->vfs, (lblk + 1) << a->es->block_bits);
	err = ext4_inode_write(a->h, ei);
	return err ? ext4_abort(a->es, err) : 0;
}

/* A block that nothing uses. Its bytes are whatever they are. */
static int new_piece(struct attach *a, struct piece *p)
{
	int err = 0;

	if (a->free_block) {
		err = get_piece(a, a->free_block, p);
		if (!err)
			a->free_block = le32_get(((const struct ext4_disk_quota_leaf *)p->at)->next_free);
		return err;
	}
	if (a->blocks == UINT32_MAX)
		return fail(-ENOSPC, "%s: its quota files are full", a->es->vfs.health.name);
	if ((u64)a->blocks * EXT4_QUOTA_BLOCK >= ext4_size(a->f->ei))
		err = grow(a);
	return err ? err : get_piece(a, a->blocks++, p);
}

/* The nodes that are there. */
static int find_path(struct attach *a)
{
	u32 nr = EXT4_QUOTA_ROOT;
	int err = 0;

	for (u32 level = 0; level < EXT4_QUOTA_DEPTH && nr && !err; level++) {
		const struct ext4_disk_quota_node *node;

		err = get_piece(a, nr, &a->path[level]);
		if (err)
			break;
		a->there++;
		node = a->path[level].at;
		nr = le32_get(node->child[byte_of(a->id, level)]);
	}
	/* All the way down, though there is no such record. */
	return !err && a->there == EXT4_QUOTA_DEPTH && nr ? -EUCLEAN : err;
}

static u32 places_used(const struct ext4_disk_quota_leaf *l)
{
	u32 n = 0;

	for (u32 i = 0; i < EXT4_QUOTA_PER_LEAF; i++)
		n += !ext4_quota_is_free(&l->place[i]);
	return n;
}

static int find_room(struct attach *a)
{
	u32 nr = le32_get(head_of(a)->free_leaf);
	struct piece *p = &a->path[EXT4_QUOTA_DEPTH];
	u32 used;
	int err;

	a->is_new_leaf = !nr;
	if (!nr)
		return new_piece(a, p);
	err = get_piece(a, nr, p);
	if (err)
		return err;
	used = places_used(leaf_of(a));
	if (used >= EXT4_QUOTA_PER_LEAF || used != le16_get(leaf_of(a)->count))
		return -EUCLEAN;
	nr = le32_get(leaf_of(a)->next_free);
	/* It leaves the list of those with room. */
	return used + 1 == EXT4_QUOTA_PER_LEAF && nr ? get_piece(a, nr, &a->next) : 0;
}

static int plan(struct attach *a)
{
	int err = get_piece(a, 0, &a->head);

	if (!err)
		err = find_path(a);
	if (err)
		return err;
	a->blocks = le32_get(head_of(a)->blocks);
	a->free_block = le32_get(head_of(a)->free_block);
	for (u32 level = a->there; level < EXT4_QUOTA_DEPTH && !err; level++)
		err = new_piece(a, &a->path[level]);
	return err ? err : find_room(a);
}

/* No block is two of these: what the file says of free ones may be wrong. */
static bool all_differ(const struct attach *a)
{
	for (u32 i = 0; i < PIECES_MAX; i++) {
		if (!a->path[i].nr || a->path[i].nr == a->next.nr)
			return false;
		for (u32 k = i + 1; k < PIECES_MAX; k++)
			if (a->path[i].nr == a->path[k].nr)
				return false;
	}
	return true;
}

/* ---- changing ---- */

static void put_leaf(struct attach *a)
{
	const struct quota q = { .id = a->id };
	struct ext4_disk_quota_leaf *l = leaf_of(a);
	u32 place = 0, used;

	if (a->is_new_leaf) {
		memset(l, 0, sizeof(*l));
		head_of(a)->free_leaf = le32_put(a->path[EXT4_QUOTA_DEPTH].nr);
	}
	while (!ext4_quota_is_free(&l->place[place]))
		place++;
	l->place[place] = ext4_quota_encode(&q);
	used = places_used(l);
	l->count = le16_put((u16)used);
	if (used < EXT4_QUOTA_PER_LEAF)
		return;
	head_of(a)->free_leaf = l->next_free;
	l->next_free = le32_put(0);
	if (a->next.bh)
		((struct ext4_disk_quota_leaf *)a->next.at)->prev_free = le32_put(0);
}

static void put_path(struct attach *a)
{
	for (u32 level = 0; level < EXT4_QUOTA_DEPTH; level++) {
		struct ext4_disk_quota_node *node = a->path[level].at;

		if (level >= a->there)
			memset(node, 0, sizeof(*node));
		if (level + 1 >= a->there)
			node->child[byte_of(a->id, level)] = le32_put(a->path[level + 1].nr);
	}
}

/* Who counts in the same block changes other bytes of it, under its lock. */
static void change(struct attach *a)
{
	const struct piece *all[PIECES_MAX + 2] = { &a->head, &a->next };

	put_path(a);
	put_leaf(a);
	head_of(a)->blocks = le32_put(a->blocks);
	head_of(a)->free_block = le32_put(a->free_block);
	for (u32 i = 0; i < PIECES_MAX; i++)
		all[i + 2] = &a->path[i];
	for (u32 i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i]->bh)
			ext4_dirty(a->h, all[i]->bh);
}

/* Locks: edit. */
static int add_record(struct ext4_handle *h, struct ext4_quota_file *f, u32 id)
{
	scoped(attach_end) struct attach a = { .h = h, .es = h->es, .f = f, .id = id };
	int err = plan(&a);

	if (!err && !all_differ(&a))
		err = -EUCLEAN;
	if (!err)
		change(&a);
	if (err != -EUCLEAN)
		return err;
	ext4_quota_broken(h->es, f, "its file is damaged");
	return 0;
}

static int attach_one(struct ext4_super *es, enum quota_kind kind, u32 id)
{
	struct ext4_handle h;
	int err;

	mutex_guard(&es->quotas->edit);
	/* Somebody may have been faster. */
	err = ext4_quota_has(es, kind, id);
	if (err)
		return err < 0 ? err : 0;
	err = ext4_begin(es, CREDITS_ATTACH, 0, &h);
	if (err)
		return err;
	err = add_record(&h, &es->quotas->file[kind], id);
	return ext4_end(&h, err);
}

static int attach_id(struct ext4_super *es, enum quota_kind kind, u32 id)
{
	int err = ext4_quota_has(es, kind, id);
	bool tried = false;

	if (err)
		return MIN(err, 0);
	do
		err = attach_one(es, kind, id);
	while (ext4_retry(es, err, &tried));
	return err;
}

int ext4_quota_attach(struct ext4_super *es, const struct ext4_owner *owner)
{
	int err = 0;

	for (u32 kind = 0; es->quotas && kind < QUOTA_KINDS && !err; kind++)
		err = attach_id(es, kind, owner->id[kind]);
	return err;
}

/* ---- limits, and the report ---- */

static struct ext4_quota_file *file_of(struct ext4_super *es, enum quota_kind kind)
{
	return es->quotas && es->quotas->file[kind].ei ? &es->quotas->file[kind] : NULL;
}

static int no_count(enum quota_kind kind)
{
	return fail(-EOPNOTSUPP, "the volume keeps no count for each %s", ext4_quota_name(kind));
}

static int set_limits(struct ext4_super *es, enum quota_kind kind, const struct quota_set *set)
{
	struct ext4_handle h;
	int err = ext4_begin(es, 0, 0, &h);

	return err ? err : ext4_end(&h, ext4_quota_limit(&h, kind, set));
}

/* Locks: edit. */
static int set_grace_in(struct ext4_handle *h, struct ext4_quota_file *f, const struct quota_set *set)
{
	scoped(attach_end) struct attach a = { .h = h, .es = h->es, .f = f };
	int err = get_piece(&a, 0, &a.head);

	if (err)
		return err;
	if (set->valid & QUOTA_SET_SPACE_GRACE)
		atomic_store(&f->space_grace_sec, set->space_grace_sec);
	if (set->valid & QUOTA_SET_INODES_GRACE)
		atomic_store(&f->inodes_grace_sec, set->inodes_grace_sec);
	bh_lock(a.head.bh);
	head_of(&a)->space_grace_sec = le32_put(f->space_grace_sec);
	head_of(&a)->inodes_grace_sec = le32_put(f->inodes_grace_sec);
	bh_unlock(a.head.bh);
	ext4_dirty(h, a.head.bh);
	return 0;
}

static int set_grace(struct ext4_super *es, struct ext4_quota_file *f, const struct quota_set *set)
{
	struct ext4_handle h;
	int err;

	mutex_guard(&es->quotas->edit);
	err = ext4_begin(es, 1, 0, &h);
	return err ? err : ext4_end(&h, set_grace_in(&h, f, set));
}

int ext4_set_quota(struct super_block *sb, enum quota_kind kind, const struct quota_set *set)
{
	const u32 grace = QUOTA_SET_SPACE_GRACE | QUOTA_SET_INODES_GRACE;
	struct ext4_super *es = ext4_super(sb);
	struct ext4_quota_file *f = file_of(es, kind);
	int err = f ? 0 : no_count(kind);

	if (!err && set->valid & ~grace) {
		err = attach_id(es, kind, set->id);
		if (!err)
			err = set_limits(es, kind, set);
	}
	if (!err && set->valid & grace)
		err = set_grace(es, f, set);
	return err;
}

/* A piece of the file as it is in memory: of one of its blocks. */
static int read_piece(void *ctx, u64 off_bytes, void *buf, u64 len_bytes)
{
	struct ext4_quota_file *f = ctx;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 off;
	int err =
		ext4_quota_block(ext4_inode_super(f->ei), f, (u32)(off_bytes / EXT4_QUOTA_BLOCK), &bh, &off);

	if (err)
		return err;
	bh_lock(bh);
	memcpy(buf, (const u8 *)bh->data + off, MIN(len_bytes, (u64)EXT4_QUOTA_BLOCK));
	bh_unlock(bh);
	return 0;
}

/* Of a volume that is written. New records come meanwhile, or not. */
static int load_live(struct ext4_super *es, struct ext4_quota_file *f, struct ext4_quota_list *l)
{
	struct ext4_quota_source src = { .read = read_piece,
					 .ctx = f,
					 .blocks_max = es->blocks << es->block_bits >> 10 };

	mutex_guard(&es->quotas->edit);
	src.size_bytes = ext4_size(f->ei);
	return ext4_quota_parse(&src, f->kind, l);
}

static int load_closed(struct ext4_super *es, enum quota_kind kind, struct ext4_quota_list *l)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	int err;

	if (!ei)
		return fail(-ENOMEM, "no memory for an inode");
	ei->vfs.sb = &es->vfs;
	ei->vfs.ino = ext4_quota_inum(&es->disk, kind);
	err = ext4_inode_load(ei);
	if (!err && !is_reg(&ei->vfs))
		err = corrupt(&es->vfs.health, "inode", ei->vfs.ino, "not a quota file");
	return err ? err : ext4_quota_load(ei, kind, l);
}

int ext4_quota(struct super_block *sb, enum quota_kind kind, struct quota_grace *grace, quota_fn emit,
	       void *ctx)
{
	struct ext4_super *es = ext4_super(sb);
	struct ext4_quota_file *f = file_of(es, kind);
	u32 ino = ext4_quota_inum(&es->disk, kind);
	struct ext4_quota_list l = { 0 };
	int err;

	if (!ino)
		return no_count(kind);
	err = f ? load_live(es, f, &l) : load_closed(es, kind, &l);
	*grace = (struct quota_grace){ l.space_grace_sec, l.inodes_grace_sec };
	for (u32 i = 0; i < l.count && !err; i++) {
		/* As the kernel's report. */
		if (f)
			l.quota[i].space_bytes += ext4_quota_reserved(es, kind, l.quota[i].id);
		err = emit(ctx, &l.quota[i]);
	}
	if (!err && l.bad)
		err = corrupt(&sb->health, "inode", ino, "the quota file is damaged: %s", l.bad);
	ext4_quota_list_free(&l);
	return err;
}
