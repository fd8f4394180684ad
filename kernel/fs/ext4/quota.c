/*
 * Usage that follows the inodes. What counts is what the slot of an inode says: whoever writes a slot (inode_edit.c) moves the difference
 * between what it said and what it says from its former owner's records to its owner's, in the same handle. So usage is as right after
 * a crash as the inodes are.
 *
 *   ext4_quota_plan ─ slot's buffer locked ─ ext4_quota_settle ─ unlocked ─ ext4_quota_apply
 *
 * Limits are asked about earlier, where a change can still be refused: when blocks are reserved, when an inode is made or gets another owner.
 * What is reserved counts as had.
 *
 * Invariants
 *  1. Memory knows a record from when it was first asked for until the volume is closed, and then is what counts. A record stays where it is.
 *  2. A file that turns out damaged is left alone from then on and the volume is marked as damaged; its usage is for a check to set right.
 */
#include "ext4.h"

#include "lib/hash.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SLOTS_MIN 64u

struct ext4_dquot {
	struct ext4_dquot *next; /* [lock] in its slot */
	struct quota q;          /* [lock] */
	u64 reserved_bytes;      /* [lock] */
	u64 blk;                 /* [const] where its record is */
	u32 off_bytes;           /* [const] */
};

const struct bh_ops ext4_quota_ops = { .name = "quota" };

/* ---- opening ---- */

static int load_head(struct ext4_super *es, struct ext4_quota_file *f)
{
	u64 size = ext4_size(f->ei);
	struct ext4_disk_quota_head h;
	int err = 0;

	if (!is_reg(&f->ei->vfs) || f->ei->flags & EXT4_FL_INLINE_DATA || size < 2 * EXT4_QUOTA_BLOCK)
		err = -EUCLEAN;
	if (!err)
		err = ext4_read_content(f->ei, 0, &h, sizeof(h));
	if (!err &&
	    (le32_get(h.magic) != ext4_quota_magic(f->kind) || le32_get(h.version) != EXT4_QUOTA_VERSION ||
	     le32_get(h.blocks) > size / EXT4_QUOTA_BLOCK))
		err = -EUCLEAN;
	if (err)
		return fail(err, "%s: the file of %s quota is damaged: check it first", es->vfs.health.name,
			    ext4_quota_name(f->kind));
	f->space_grace_sec = le32_get(h.space_grace_sec);
	f->inodes_grace_sec = le32_get(h.inodes_grace_sec);
	return 0;
}

static int open_file(struct ext4_super *es, struct ext4_quota_file *f, u32 ino)
{
	int err;

	f->ei = ext4_inode_alloc();
	f->slots = SLOTS_MIN;
	f->slot = calloc(f->slots, sizeof(struct ext4_dquot *));
	if (!f->ei || !f->slot)
		return fail(-ENOMEM, "no memory for quotas");
	f->ei->vfs.sb = &es->vfs;
	f->ei->vfs.ino = ino;
	mutex_init(&f->ei->vfs.attr, RANK_LEAF);
	atomic_store(&f->ei->vfs.tail_from, ~0ull);
	err = ext4_inode_load(f->ei);
	return err ? err : load_head(es, f);
}

int ext4_quota_open(struct ext4_super *es, bool enforce)
{
	struct ext4_quotas *qs;
	int err = 0;

	if (!ext4_has_ro_compat(es, EXT4_RO_COMPAT_QUOTA))
		return 0;
	qs = calloc(1, sizeof(*qs));
	if (!qs)
		return fail(-ENOMEM, "no memory for quotas");
	es->quotas = qs;
	qs->enforce = enforce;
	mutex_init(&qs->lock, RANK_LEAF);
	mutex_init(&qs->edit, RANK_MAP);
	for (u32 kind = 0; kind < QUOTA_KINDS && !err; kind++) {
		u32 ino = ext4_quota_inum(&es->disk, kind);

		qs->file[kind].kind = kind;
		if (ino)
			err = open_file(es, &qs->file[kind], ino);
	}
	return err;
}

void ext4_quota_close(struct ext4_super *es)
{
	struct ext4_quotas *qs = es->quotas;

	if (!qs)
		return;
	for (u32 kind = 0; kind < QUOTA_KINDS; kind++) {
		struct ext4_quota_file *f = &qs->file[kind];

		for (u32 i = 0; f->slot && i < f->slots; i++)
			for (struct ext4_dquot *dq = f->slot[i], *next; dq; dq = next) {
				next = dq->next;
				free(dq);
			}
		free(f->slot);
		if (f->ei)
			mutex_fini(&f->ei->vfs.attr);
		ext4_inode_free(f->ei);
	}
	mutex_fini(&qs->lock);
	mutex_fini(&qs->edit);
	free(qs);
	es->quotas = NULL;
}

void ext4_quota_broken(struct ext4_super *es, struct ext4_quota_file *f, const char *what)
{
	if (!atomic_exchange(&f->broken, true))
		(void)!corrupt(&es->vfs.health, "inode", f->ei->vfs.ino,
			       "%s quota: %s: its usage is not kept any more", ext4_quota_name(f->kind),
			       what);
}

/* ---- records ---- */

int ext4_quota_block(struct ext4_super *es, struct ext4_quota_file *f, u32 nr, struct buffer_head **bh,
		     u32 *off_bytes)
{
	u32 bits = es->block_bits;
	u64 at = (u64)nr * EXT4_QUOTA_BLOCK, lblk = at >> bits;
	const struct bh_ctx ctx = ext4_ctx_map(f->ei, 0);
	struct ext4_run run;
	int err = at < ext4_size(f->ei) ? 0 : -EUCLEAN;

	if (!err) {
		rw_read_lock(&f->ei->tree);
		err = ext4_map_blocks(f->ei, lblk, 1, &run);
		rw_read_unlock(&f->ei->tree);
	}
	if (!err && (!run.pblk || run.unwritten))
		err = -EUCLEAN;
	if (err)
		return err;
	*off_bytes = (u32)(at & ((1u << bits) - 1));
	return bh_read(es->vfs.dev, run.pblk + (lblk - run.lblk), &ext4_quota_ops, &ctx, bh);
}

/* The leaf where the record is; 0: there is none. */
static int find_leaf(struct ext4_super *es, struct ext4_quota_file *f, u32 id, u32 *leaf)
{
	u32 at = EXT4_QUOTA_ROOT, off;

	for (u32 depth = EXT4_QUOTA_DEPTH; depth-- && at;) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		const struct ext4_disk_quota_node *node;
		int err = ext4_quota_block(es, f, at, &bh, &off);

		if (err)
			return err;
		bh_lock(bh);
		node = (const void *)((const u8 *)bh->data + off);
		at = le32_get(node->child[id >> 8 * depth & 0xff]);
		bh_unlock(bh);
	}
	*leaf = at;
	return 0;
}

/* -ENOENT: the id has no record. */
static int read_record(struct ext4_super *es, struct ext4_quota_file *f, u32 id, struct ext4_dquot *dq)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_quota_leaf *l;
	u32 leaf, off;
	int err = find_leaf(es, f, id, &leaf);

	if (!err && !leaf)
		return -ENOENT;
	if (!err)
		err = ext4_quota_block(es, f, leaf, &bh, &off);
	if (err)
		return err;
	bh_lock(bh);
	l = (const void *)((const u8 *)bh->data + off);
	err = -EUCLEAN;
	for (u32 i = 0; i < EXT4_QUOTA_PER_LEAF && err; i++) {
		const struct ext4_disk_quota *d = &l->place[i];

		if (le32_get(d->id) != id || ext4_quota_is_free(d))
			continue;
		dq->q = ext4_quota_decode(d);
		dq->blk = bh->blk;
		dq->off_bytes = off + (u32)((const u8 *)d - (const u8 *)l);
		err = 0;
	}
	bh_unlock(bh);
	return err;
}

/* Locks: lock, for these three. */
static struct ext4_dquot *known(struct ext4_quota_file *f, u32 id)
{
	struct ext4_dquot *dq = f->slot[hash_u64(id) & (f->slots - 1)];

	while (dq && dq->q.id != id)
		dq = dq->next;
	return dq;
}

static void widen(struct ext4_quota_file *f)
{
	u32 slots = 2 * f->slots;
	struct ext4_dquot **slot = slots > f->slots ? calloc(slots, sizeof(struct ext4_dquot *)) : NULL;

	/* With less memory it is only slower. */
	if (!slot)
		return;
	for (u32 i = 0; i < f->slots; i++)
		for (struct ext4_dquot *dq = f->slot[i], *next; dq; dq = next) {
			struct ext4_dquot **to = &slot[hash_u64(dq->q.id) & (slots - 1)];

			next = dq->next;
			dq->next = *to;
			*to = dq;
		}
	free(f->slot);
	f->slot = slot;
	f->slots = slots;
}

/* dq, or the one that somebody else brought meanwhile. */
static struct ext4_dquot *remember(struct ext4_quota_file *f, struct ext4_dquot *dq)
{
	struct ext4_dquot *other = known(f, dq->q.id), **to;

	if (other) {
		free(dq);
		return other;
	}
	if (f->count++ >= f->slots)
		widen(f);
	to = &f->slot[hash_u64(dq->q.id) & (f->slots - 1)];
	dq->next = *to;
	*to = dq;
	return dq;
}

/* *out NULL: nothing is counted there. -ENOENT: no record. */
static int find(struct ext4_super *es, enum quota_kind kind, u32 id, struct ext4_dquot **out)
{
	struct ext4_quota_file *f = &es->quotas->file[kind];
	struct ext4_dquot *dq;
	int err;

	*out = NULL;
	if (!f->ei || atomic_load(&f->broken))
		return 0;
	mutex_lock(&es->quotas->lock);
	*out = known(f, id);
	mutex_unlock(&es->quotas->lock);
	if (*out)
		return 0;
	dq = calloc(1, sizeof(*dq));
	if (!dq)
		return fail(-ENOMEM, "no memory for quotas");
	err = read_record(es, f, id, dq);
	if (err) {
		free(dq);
		if (err == -ENOENT || err == -ENOMEM)
			return err;
		ext4_quota_broken(es, f, "its file is damaged");
		return 0;
	}
	mutex_lock(&es->quotas->lock);
	*out = remember(f, dq);
	mutex_unlock(&es->quotas->lock);
	return 0;
}

int ext4_quota_has(struct ext4_super *es, enum quota_kind kind, u32 id)
{
	struct ext4_dquot *dq;
	int err = find(es, kind, id, &dq);

	return err == -ENOENT ? 0 : err ? err : 1;
}

/* ---- limits ---- */

struct ext4_owner ext4_owner(const struct ext4_inode *ei)
{
	return (struct ext4_owner){ .id = { ei->vfs.uid, ei->vfs.gid, ei->vfs.project } };
}

/* Those of the volume itself are nobody's; values of attributes are counted where these are. */
static bool is_counted(const struct ext4_inode *ei)
{
	const struct ext4_super *es = ext4_inode_super(ei);
	u64 ino = ei->vfs.ino;

	return es->quotas && (ino == EXT4_INO_ROOT || ino >= es->first_ino) &&
	       ino != ext4_quota_inum(&es->disk, QUOTA_PROJECT);
}

static bool over(u64 used, u64 soft, u64 hard, u64 until_sec, u64 now_sec)
{
	return (hard && used > hard) || (soft && used > soft && until_sec && now_sec >= until_sec);
}

/* Locks: lock. */
static bool is_too_much(const struct ext4_dquot *dq, u64 bytes, u64 inodes, u64 now_sec)
{
	const struct quota *q = &dq->q;
	u64 space = q->space_bytes + dq->reserved_bytes + bytes;

	return (bytes && over(DIV_ROUND_UP(space, 1024ull), q->space_soft_kib, q->space_hard_kib,
			      q->space_until_sec, now_sec)) ||
	       (inodes &&
		over(q->inodes + inodes, q->inodes_soft, q->inodes_hard, q->inodes_until_sec, now_sec));
}

/* What is known of the owner's ids; those that have no record have no limits either. */
static int find_all(struct ext4_super *es, const struct ext4_owner *owner, struct ext4_dquot *dq[QUOTA_KINDS])
{
	for (u32 kind = 0; kind < QUOTA_KINDS; kind++) {
		int err = find(es, kind, owner->id[kind], &dq[kind]);

		if (err && err != -ENOENT)
			return err;
	}
	return 0;
}

static int too_much(const struct ext4_super *es, enum quota_kind kind, u32 id)
{
	return fail(-EDQUOT, "%s: the quota of %s %u is used up", es->vfs.health.name, ext4_quota_name(kind),
		    id);
}

/* but: ids that count already; NULL: none. */
static int check(struct ext4_super *es, const struct ext4_owner *owner, const struct ext4_owner *but,
		 u64 bytes, u64 inodes)
{
	struct ext4_dquot *dq[QUOTA_KINDS];
	u64 now = (u64)super_now(&es->vfs).sec;
	u32 kind = 0;
	int err;

	if (!es->quotas || !es->quotas->enforce || vfs_privileged())
		return 0;
	err = find_all(es, owner, dq);
	if (err)
		return err;
	mutex_lock(&es->quotas->lock);
	while (kind < QUOTA_KINDS && (!dq[kind] || (but && but->id[kind] == owner->id[kind]) ||
				      !is_too_much(dq[kind], bytes, inodes, now)))
		kind++;
	mutex_unlock(&es->quotas->lock);
	return kind < QUOTA_KINDS ? too_much(es, kind, owner->id[kind]) : 0;
}

int ext4_quota_check(struct ext4_super *es, const struct ext4_owner *owner, u64 bytes, u64 inodes)
{
	return check(es, owner, NULL, bytes, inodes);
}

int ext4_quota_check_move(struct ext4_inode *ei, const struct ext4_owner *owner)
{
	const struct ext4_owner old = ext4_owner(ei);

	return is_counted(ei) ? check(ext4_inode_super(ei), owner, &old, ext4_inode_disk_512(ei) << 9, 1) : 0;
}

int ext4_quota_check_blocks(struct ext4_inode *ei, u64 blocks)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_owner owner = ext4_owner(ei);

	return is_counted(ei) ? ext4_quota_check(es, &owner, blocks << es->block_bits, 0) : 0;
}

/* The owner's records; false: they do not matter here. */
static bool limited(struct ext4_inode *ei, struct ext4_dquot *dq[QUOTA_KINDS])
{
	const struct ext4_owner owner = ext4_owner(ei);
	struct ext4_super *es = ext4_inode_super(ei);

	/* What fails here is found when it is counted. */
	return is_counted(ei) && es->quotas->enforce && !find_all(es, &owner, dq);
}

int ext4_quota_reserve(struct ext4_inode *ei, u64 least, u64 *blocks)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u32 bits = es->block_bits, kind = 0;
	struct ext4_dquot *dq[QUOTA_KINDS];
	u64 now = (u64)super_now(&es->vfs).sec;

	if (!limited(ei, dq))
		return 0;
	mutex_lock(&es->quotas->lock);
	for (; kind < QUOTA_KINDS && !vfs_privileged(); kind++) {
		while (dq[kind] && *blocks >= least && is_too_much(dq[kind], *blocks << bits, 0, now))
			*blocks = *blocks > least ? MAX(*blocks / 2, least) : 0;
		if (*blocks < least)
			break;
	}
	for (u32 i = 0; i < QUOTA_KINDS && *blocks >= least; i++)
		if (dq[i])
			dq[i]->reserved_bytes += *blocks << bits;
	mutex_unlock(&es->quotas->lock);
	return *blocks < least ? too_much(es, kind, ext4_owner(ei).id[kind]) : 0;
}

void ext4_quota_unreserve(struct ext4_inode *ei, u64 blocks)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_dquot *dq[QUOTA_KINDS];
	u64 bytes = blocks << es->block_bits;

	if (!blocks || !limited(ei, dq))
		return;
	mutex_lock(&es->quotas->lock);
	for (u32 i = 0; i < QUOTA_KINDS; i++)
		if (dq[i])
			dq[i]->reserved_bytes -= MIN(bytes, dq[i]->reserved_bytes);
	mutex_unlock(&es->quotas->lock);
}

/* ---- counting ---- */

static struct ext4_use use_of_slot(const struct ext4_super *es, const struct ext4_disk_inode *raw)
{
	struct ext4_use u = { .bytes = ext4_inode_blocks_512(es, raw) << 9, .inodes = 1 };

	for (u32 kind = 0; kind < QUOTA_KINDS; kind++)
		u.owner.id[kind] = ext4_quota_id(es, raw, kind);
	return u;
}

/* ei's, when its slot says it: a project that the slot has no room for is 0. */
static struct ext4_use use_of_inode(const struct ext4_inode *ei)
{
	struct ext4_use u = { .owner = ext4_owner(ei), .bytes = ext4_inode_disk_512(ei) << 9, .inodes = 1 };

	if (EXT4_INODE_BYTES_OLD + ei->extra_isize < sizeof(struct ext4_disk_inode))
		u.owner.id[QUOTA_PROJECT] = 0;
	return u;
}

static bool same_owner(const struct ext4_owner *a, const struct ext4_owner *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static bool is_nothing(const struct ext4_use *was, const struct ext4_use *is)
{
	return was->bytes == is->bytes && was->inodes == is->inodes && same_owner(&was->owner, &is->owner);
}

/* The record of one id, *bh NULL where nothing is counted. */
static int join_one(struct ext4_handle *h, enum quota_kind kind, u32 id, struct ext4_dquot **dq,
		    struct buffer_head **bh)
{
	struct ext4_super *es = h->es;
	struct ext4_quota_file *f = &es->quotas->file[kind];
	struct bh_ctx ctx;
	int err = find(es, kind, id, dq);

	if (err == -ENOENT) {
		char what[64];

		snprintf(what, sizeof(what), "%u has no record, but inodes", id);
		ext4_quota_broken(es, f, what);
		return 0;
	}
	if (err || !*dq)
		return err;
	ctx = ext4_ctx_map(f->ei, 0);
	err = bh_read(es->vfs.dev, (*dq)->blk, &ext4_quota_ops, &ctx, bh);
	return err ? err : ext4_access(h, *bh);
}

static int join(struct ext4_handle *h, struct ext4_quota_change *q)
{
	bool moves = !same_owner(&q->was.owner, &q->is.owner);
	int err = 0;

	for (u32 i = 0; i < QUOTA_KINDS && !err; i++) {
		err = join_one(h, i, q->is.owner.id[i], &q->to[i].dq, &q->to[i].bh);
		if (!err && moves)
			err = join_one(h, i, q->was.owner.id[i], &q->from[i].dq, &q->from[i].bh);
	}
	q->joined = !err;
	return err;
}

void ext4_quota_change_end(struct ext4_quota_change *q)
{
	for (u32 i = 0; i < QUOTA_KINDS; i++) {
		bh_put(q->from[i].bh);
		bh_put(q->to[i].bh);
	}
	*q = (struct ext4_quota_change){ 0 };
}

static void look(const struct ext4_inode *ei, const struct ext4_disk_inode *raw, bool fresh,
		 struct ext4_use *was, struct ext4_use *is)
{
	*is = use_of_inode(ei);
	*was = fresh ? (struct ext4_use){ .owner = is->owner } : use_of_slot(ext4_inode_super(ei), raw);
}

int ext4_quota_plan(struct ext4_handle *h, const struct ext4_inode *ei, const struct ext4_disk_inode *raw,
		    bool fresh, struct ext4_quota_change *q)
{
	ext4_quota_change_end(q);
	if (!is_counted(ei))
		return 0;
	look(ei, raw, fresh, &q->was, &q->is);
	return is_nothing(&q->was, &q->is) ? 0 : join(h, q);
}

bool ext4_quota_settle(const struct ext4_inode *ei, const struct ext4_disk_inode *raw, bool fresh,
		       struct ext4_quota_change *q)
{
	struct ext4_use was, is;
	bool planned;

	if (!is_counted(ei))
		return true;
	look(ei, raw, fresh, &was, &is);
	planned = is_nothing(&was, &is) ||
		  (q->joined && same_owner(&was.owner, &q->was.owner) && same_owner(&is.owner, &q->is.owner));
	q->was = was;
	q->is = is;
	return planned;
}

static u64 moved(u64 n, u64 minus, u64 plus)
{
	/* A damaged file may have counted too little. */
	return n + plus > minus ? n + plus - minus : 0;
}

/* The soft limit is left from now on, or kept again. */
static void set_until(u64 used, u64 soft, u32 grace_sec, u64 now_sec, u64 *until_sec)
{
	if (!soft || used <= soft)
		*until_sec = 0;
	else if (!*until_sec)
		*until_sec = now_sec + grace_sec;
}

static void count(struct ext4_handle *h, struct ext4_quota_file *f, struct ext4_dquot *dq,
		  struct buffer_head *bh, const struct ext4_use *minus, const struct ext4_use *plus)
{
	struct ext4_super *es = h->es;
	struct quota *q = &dq->q;
	u64 now = (u64)super_now(&es->vfs).sec;
	struct ext4_disk_quota d;

	bh_lock(bh);
	mutex_lock(&es->quotas->lock);
	q->space_bytes = moved(q->space_bytes, minus->bytes, plus->bytes);
	q->inodes = moved(q->inodes, minus->inodes, plus->inodes);
	set_until(DIV_ROUND_UP(q->space_bytes, 1024ull), q->space_soft_kib, f->space_grace_sec, now,
		  &q->space_until_sec);
	set_until(q->inodes, q->inodes_soft, f->inodes_grace_sec, now, &q->inodes_until_sec);
	d = ext4_quota_encode(q);
	mutex_unlock(&es->quotas->lock);
	memcpy((u8 *)bh->data + dq->off_bytes, &d, sizeof(d));
	bh_unlock(bh);
	ext4_dirty(h, bh);
}

void ext4_quota_apply(struct ext4_handle *h, const struct ext4_quota_change *q)
{
	static const struct ext4_use none;

	if (!q->joined || is_nothing(&q->was, &q->is))
		return;
	for (u32 i = 0; i < QUOTA_KINDS; i++) {
		struct ext4_quota_file *f = &h->es->quotas->file[i];
		bool same = q->was.owner.id[i] == q->is.owner.id[i];

		if (q->to[i].bh)
			count(h, f, q->to[i].dq, q->to[i].bh, same ? &q->was : &none, &q->is);
		if (!same && q->from[i].bh)
			count(h, f, q->from[i].dq, q->from[i].bh, &q->was, &none);
	}
}

int ext4_quota_gone(struct ext4_handle *h, const struct ext4_inode *ei)
{
	scoped(ext4_quota_change_end) struct ext4_quota_change q = { 0 };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	int err;

	if (!is_counted(ei))
		return 0;
	err = ext4_raw_inode_get(h->es, ei->vfs.ino, &bh, &raw);
	if (err)
		return err;
	q.was = use_of_slot(h->es, raw);
	q.is.owner = q.was.owner;
	err = join(h, &q);
	if (!err)
		ext4_quota_apply(h, &q);
	return err;
}
