/*
 * Usage that follows the inodes. What counts is what the slot of an inode says: whoever writes a slot (inode_edit.c) moves the difference
 * between what it said and what it says from its former owner's records to its owner's, in the same handle. So usage is as right after
 * a crash as the inodes are.
 *
 *   slot's buffer locked ─ ext4_quota_settle ─ unlocked ─┬─ ext4_quota_join, and again
 *                                                        └─ ext4_quota_apply
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

#define SLOTS_MIN     64u
#define FREED_WAIT_MS 200u

struct ext4_dquot {
	struct ext4_dquot *next;             /* [lock] in its slot */
	struct quota q;                      /* [lock] */
	u64 reserved_bytes, reserved_inodes; /* [lock] */
	u64 blk;                             /* [const] where its record is */
	u32 off_bytes;                       /* [const] */
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
	cond_init(&qs->freed);
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
	cond_fini(&qs->freed);
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
		/* The last of this rank: whoever changes this file has no other's. */
		rw_write_lock_nested(&f->ei->tree);
		err = ext4_map_blocks(f->ei, lblk, 1, &run);
		rw_write_unlock(&f->ei->tree);
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
	struct ext4_dquot *dq = f->slot[hash_number(id) & (f->slots - 1)];

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
			struct ext4_dquot **to = &slot[hash_number(dq->q.id) & (slots - 1)];

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
	to = &f->slot[hash_number(dq->q.id) & (f->slots - 1)];
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
		if (err != -EUCLEAN)
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

/* Those of the volume itself are nobody's. */
static bool is_kept(const struct ext4_inode *ei)
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
	       (inodes && over(q->inodes + dq->reserved_inodes + inodes, q->inodes_soft, q->inodes_hard,
			       q->inodes_until_sec, now_sec));
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

static bool has_limits(const struct ext4_super *es)
{
	return es->quotas && es->quotas->enforce;
}

/* held: it counts as had. but: ids that have it already; NULL: none. */
static int ask(struct ext4_super *es, const struct ext4_use *more, const struct ext4_owner *but, bool held)
{
	struct ext4_dquot *dq[QUOTA_KINDS];
	u64 now = (u64)super_now(&es->vfs).sec;
	u32 kind = 0;
	int err;

	if (!has_limits(es))
		return 0;
	err = find_all(es, &more->owner, dq);
	if (err)
		return err;
	for (u32 i = 0; i < QUOTA_KINDS; i++)
		if (but && but->id[i] == more->owner.id[i])
			dq[i] = NULL;
	mutex_lock(&es->quotas->lock);
	while (kind < QUOTA_KINDS &&
	       (!dq[kind] || vfs_privileged() || !is_too_much(dq[kind], more->bytes, more->inodes, now)))
		kind++;
	for (u32 i = 0; i < QUOTA_KINDS && kind == QUOTA_KINDS && held; i++)
		if (dq[i]) {
			dq[i]->reserved_bytes += more->bytes;
			dq[i]->reserved_inodes += more->inodes;
		}
	mutex_unlock(&es->quotas->lock);
	return kind < QUOTA_KINDS ? too_much(es, kind, more->owner.id[kind]) : 0;
}

static void give_back(struct ext4_super *es, const struct ext4_use *more, const struct ext4_owner *but)
{
	if (!has_limits(es))
		return;
	mutex_lock(&es->quotas->lock);
	for (u32 kind = 0; kind < QUOTA_KINDS; kind++) {
		struct ext4_quota_file *f = &es->quotas->file[kind];
		struct ext4_dquot *dq = f->ei ? known(f, more->owner.id[kind]) : NULL;

		if (!dq || (but && but->id[kind] == more->owner.id[kind]))
			continue;
		dq->reserved_bytes -= MIN(more->bytes, dq->reserved_bytes);
		dq->reserved_inodes -= MIN(more->inodes, dq->reserved_inodes);
	}
	mutex_unlock(&es->quotas->lock);
}

int ext4_quota_hold(struct ext4_super *es, const struct ext4_use *more)
{
	return ask(es, more, NULL, true);
}

void ext4_quota_release(struct ext4_super *es, const struct ext4_use *more)
{
	give_back(es, more, NULL);
}

void ext4_quota_wait(struct ext4_super *es)
{
	struct ext4_quotas *qs = es->quotas;
	u32 frees;

	mutex_lock(&qs->lock);
	frees = qs->frees;
	while (frees == qs->frees && cond_wait_ms(&qs->freed, &qs->lock, FREED_WAIT_MS))
		;
	mutex_unlock(&qs->lock);
}

static u64 bytes_of(const struct ext4_super *es, u64 clusters)
{
	return clusters << (es->cluster_bits + es->block_bits);
}

int ext4_quota_check(struct ext4_inode *ei, u64 clusters, u64 inodes)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_use more = { .owner = ext4_owner(ei), .inodes = inodes };
	u64 is_512;

	if (!is_kept(ei) || !(clusters || inodes))
		return 0;
	mutex_lock(&ei->vfs.attr);
	is_512 = ext4_inode_disk_512(ei);
	/* What this handle added, and has not written yet. */
	more.bytes = is_512 > ei->counted_512 ? (is_512 - ei->counted_512) << 9 : 0;
	mutex_unlock(&ei->vfs.attr);
	more.bytes = clusters ? more.bytes + bytes_of(es, clusters) : 0;
	return ask(es, &more, NULL, false);
}

int ext4_quota_reserve(struct ext4_inode *ei, u64 least, u64 *clusters)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_dquot *dq[QUOTA_KINDS];
	const struct ext4_owner owner = ext4_owner(ei);
	u64 now = (u64)super_now(&es->vfs).sec;
	u32 kind = 0;
	int err;

	if (!is_kept(ei) || !has_limits(es))
		return 0;
	err = find_all(es, &owner, dq);
	if (err)
		return err;
	mutex_lock(&es->quotas->lock);
	for (; kind < QUOTA_KINDS && !vfs_privileged(); kind++) {
		while (dq[kind] && *clusters >= least && *clusters &&
		       is_too_much(dq[kind], bytes_of(es, *clusters), 0, now))
			*clusters = *clusters > least ? MAX(*clusters / 2, least) : 0;
		if (*clusters < least)
			break;
	}
	if (*clusters >= least)
		ei->reserved_bytes += bytes_of(es, *clusters);
	for (u32 i = 0; i < QUOTA_KINDS && *clusters >= least; i++)
		if (dq[i])
			dq[i]->reserved_bytes += bytes_of(es, *clusters);
	mutex_unlock(&es->quotas->lock);
	return *clusters < least ? too_much(es, kind, owner.id[kind]) : 0;
}

u64 ext4_quota_reserved(struct ext4_super *es, enum quota_kind kind, u32 id)
{
	struct ext4_dquot *dq;
	u64 bytes;

	mutex_lock(&es->quotas->lock);
	dq = known(&es->quotas->file[kind], id);
	bytes = dq ? dq->reserved_bytes : 0;
	mutex_unlock(&es->quotas->lock);
	return bytes;
}

void ext4_quota_unreserve(struct ext4_inode *ei, u64 clusters)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_use less = { .owner = ext4_owner(ei), .bytes = bytes_of(es, clusters) };

	if (!clusters || !is_kept(ei) || !has_limits(es))
		return;
	mutex_lock(&es->quotas->lock);
	ei->reserved_bytes -= MIN(less.bytes, ei->reserved_bytes);
	mutex_unlock(&es->quotas->lock);
	give_back(es, &less, NULL);
}

/* ---- another owner ---- */

static bool same_owner(const struct ext4_owner *a, const struct ext4_owner *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static u64 reserved_of(struct ext4_inode *ei)
{
	struct ext4_quotas *qs = ext4_inode_super(ei)->quotas;
	u64 bytes;

	mutex_lock(&qs->lock);
	bytes = ei->reserved_bytes;
	mutex_unlock(&qs->lock);
	return bytes;
}

int ext4_quota_move_begin(struct ext4_inode *ei, const struct ext4_owner *to, u32 values,
			  struct ext4_quota_move *m)
{
	int err;

	*m = (struct ext4_quota_move){ .old = ext4_owner(ei), .held.owner = *to };
	if (!is_kept(ei))
		return 0;
	mutex_lock(&ei->vfs.attr);
	ei->values = values;
	m->held.bytes = ext4_inode_disk_512(ei) << 9;
	m->held.inodes = 1 + (u64)values;
	mutex_unlock(&ei->vfs.attr);
	m->held.bytes += reserved_of(ei);
	err = ask(ext4_inode_super(ei), &m->held, &m->old, true);
	m->begun = !err;
	return err;
}

void ext4_quota_move_end(struct ext4_inode *ei, struct ext4_quota_move *m)
{
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_use part = { .owner = m->old };
	const struct ext4_owner now = ext4_owner(ei);

	if (!m->begun)
		return;
	m->begun = false;
	part.bytes = reserved_of(ei);
	if (same_owner(&m->held.owner, &now)) {
		m->held.bytes -= MIN(part.bytes, m->held.bytes);
		give_back(es, &part, &m->held.owner);
	}
	give_back(es, &m->held, &m->old);
}

/* ---- counting ---- */

/* A slot that holds a value of attributes is nobody's: it is counted where these are. */
static void set_amount(struct ext4_use *u, u32 flags, u64 blocks_512, u64 inodes)
{
	bool counts = !(flags & EXT4_FL_EA_INODE);

	u->bytes = counts ? blocks_512 << 9 : 0;
	u->inodes = counts ? inodes : 0;
}

static struct ext4_use use_of_slot(const struct ext4_super *es, const struct ext4_disk_inode *raw, u64 inodes)
{
	struct ext4_use u;

	for (u32 kind = 0; kind < QUOTA_KINDS; kind++)
		u.owner.id[kind] = ext4_quota_id(es, raw, kind);
	set_amount(&u, le32_get(raw->flags), ext4_inode_blocks_512(es, raw), inodes);
	return u;
}

/* ei's, when its slot says it: a project that the slot has no room for is 0. Locks: attr. */
static struct ext4_use use_of_inode(const struct ext4_inode *ei)
{
	struct ext4_use u = { .owner = ext4_owner(ei) };

	if (EXT4_INODE_BYTES_OLD + ei->extra_isize < sizeof(struct ext4_disk_inode))
		u.owner.id[QUOTA_PROJECT] = 0;
	set_amount(&u, ei->flags, ext4_inode_disk_512(ei), 1ull + ei->values + (u64)(s64)ei->values_more);
	return u;
}

static bool is_none(const struct ext4_use *u)
{
	return !u->bytes && !u->inodes;
}

static bool is_nothing(const struct ext4_use *was, const struct ext4_use *is)
{
	return was->bytes == is->bytes && was->inodes == is->inodes && same_owner(&was->owner, &is->owner);
}

struct ext4_use ext4_quota_use(struct ext4_inode *ei, u32 values)
{
	struct ext4_use u;

	mutex_lock(&ei->vfs.attr);
	ei->values = values;
	u = use_of_inode(ei);
	mutex_unlock(&ei->vfs.attr);
	return u;
}

bool ext4_quota_differs(struct ext4_quota_change *q)
{
	/* What counts for nobody on one side has no owner of its own. */
	if (is_none(&q->was))
		q->was.owner = q->is.owner;
	else if (is_none(&q->is))
		q->is.owner = q->was.owner;
	return !is_nothing(&q->was, &q->is);
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
	if (!err && *dq) {
		ctx = ext4_ctx_map(f->ei, 0);
		err = bh_read(es->vfs.dev, (*dq)->blk, &ext4_quota_ops, &ctx, bh);
	}
	/* The inode goes on all the same. */
	if (err == -EIO) {
		ext4_quota_broken(es, f, "its file cannot be read");
		return 0;
	}
	return err || !*bh ? err : ext4_access(h, *bh);
}

void ext4_quota_change_end(struct ext4_quota_change *q)
{
	for (u32 i = 0; i < QUOTA_KINDS; i++) {
		bh_put(q->from[i].bh);
		bh_put(q->to[i].bh);
	}
	*q = (struct ext4_quota_change){ 0 };
}

int ext4_quota_join(struct ext4_handle *h, struct ext4_quota_change *q)
{
	struct ext4_quota_change next = { .was = q->was, .is = q->is };
	bool moves = !same_owner(&q->was.owner, &q->is.owner);
	int err = 0;

	ext4_quota_change_end(q);
	*q = next;
	for (u32 i = 0; i < QUOTA_KINDS && !err; i++) {
		err = join_one(h, i, q->is.owner.id[i], &q->to[i].dq, &q->to[i].bh);
		if (!err && moves)
			err = join_one(h, i, q->was.owner.id[i], &q->from[i].dq, &q->from[i].bh);
	}
	q->joined = !err;
	q->joined_was = q->was.owner;
	q->joined_is = q->is.owner;
	return err;
}

bool ext4_quota_settle(struct ext4_inode *ei, const struct ext4_disk_inode *raw, bool fresh,
		       struct ext4_quota_change *q)
{
	bool ready;

	if (!is_kept(ei))
		return true;
	q->is = use_of_inode(ei);
	q->was = fresh ? (struct ext4_use){ .owner = q->is.owner }
		       : use_of_slot(ext4_inode_super(ei), raw, 1ull + ei->values);
	ready = !ext4_quota_differs(q) || (q->joined && same_owner(&q->was.owner, &q->joined_was) &&
					   same_owner(&q->is.owner, &q->joined_is));
	if (ready) {
		ei->counted_512 = ext4_inode_disk_512(ei);
		ei->values += (u32)ei->values_more;
		ei->values_more = 0;
	}
	return ready;
}

void ext4_quota_values(struct ext4_inode *ei, u32 before, u32 after)
{
	mutex_lock(&ei->vfs.attr);
	ei->values = before - (u32)ei->values_more;
	ei->values_more += (s32)(after - before);
	mutex_unlock(&ei->vfs.attr);
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

/* Locks: lock, for these two; and bh's, for the second. */
static void set_times(const struct ext4_quota_file *f, struct quota *q, u64 now_sec)
{
	set_until(DIV_ROUND_UP(q->space_bytes, 1024ull), q->space_soft_kib, f->space_grace_sec, now_sec,
		  &q->space_until_sec);
	set_until(q->inodes, q->inodes_soft, f->inodes_grace_sec, now_sec, &q->inodes_until_sec);
}

static void put_record(const struct ext4_dquot *dq, struct buffer_head *bh)
{
	const struct ext4_disk_quota d = ext4_quota_encode(&dq->q);

	memcpy((u8 *)bh->data + dq->off_bytes, &d, sizeof(d));
}

static void count(struct ext4_handle *h, struct ext4_quota_file *f, struct ext4_dquot *dq,
		  struct buffer_head *bh, const struct ext4_use *minus, const struct ext4_use *plus)
{
	struct ext4_super *es = h->es;
	struct quota *q = &dq->q;

	bh_lock(bh);
	mutex_lock(&es->quotas->lock);
	q->space_bytes = moved(q->space_bytes, minus->bytes, plus->bytes);
	q->inodes = moved(q->inodes, minus->inodes, plus->inodes);
	set_times(f, q, (u64)super_now(&es->vfs).sec);
	put_record(dq, bh);
	mutex_unlock(&es->quotas->lock);
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

/* The limits of a record: who is above a soft one has the whole grace from now on. */
static void set_limits(struct ext4_quota_file *f, struct quota *q, const struct quota_set *set, u64 now_sec)
{
	if (set->valid & QUOTA_SET_SPACE_SOFT)
		q->space_soft_kib = set->space_soft_kib;
	if (set->valid & QUOTA_SET_SPACE_HARD)
		q->space_hard_kib = set->space_hard_kib;
	if (set->valid & QUOTA_SET_INODES_SOFT)
		q->inodes_soft = set->inodes_soft;
	if (set->valid & QUOTA_SET_INODES_HARD)
		q->inodes_hard = set->inodes_hard;
	if (set->valid & (QUOTA_SET_SPACE_SOFT | QUOTA_SET_SPACE_HARD))
		q->space_until_sec = 0;
	if (set->valid & (QUOTA_SET_INODES_SOFT | QUOTA_SET_INODES_HARD))
		q->inodes_until_sec = 0;
	set_times(f, q, now_sec);
}

int ext4_quota_limit(struct ext4_handle *h, enum quota_kind kind, const struct quota_set *set)
{
	struct ext4_super *es = h->es;
	struct ext4_quota_file *f = &es->quotas->file[kind];
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_dquot *dq;
	int err = join_one(h, kind, set->id, &dq, &bh);

	if (err)
		return err;
	if (!bh)
		return fail(-EUCLEAN, "%s: the file of %s quota is damaged: check it first",
			    es->vfs.health.name, ext4_quota_name(kind));
	bh_lock(bh);
	mutex_lock(&es->quotas->lock);
	set_limits(f, &dq->q, set, (u64)super_now(&es->vfs).sec);
	put_record(dq, bh);
	mutex_unlock(&es->quotas->lock);
	bh_unlock(bh);
	ext4_dirty(h, bh);
	return 0;
}

int ext4_quota_gone(struct ext4_handle *h, const struct ext4_inode *ei)
{
	scoped(ext4_quota_change_end) struct ext4_quota_change q = { 0 };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	int err;

	if (!is_kept(ei))
		return 0;
	err = ext4_raw_inode_get(h->es, ei->vfs.ino, &bh, &raw);
	if (err)
		return err;
	q.was = use_of_slot(h->es, raw, 1ull + ei->values);
	q.is.owner = q.was.owner;
	err = is_none(&q.was) ? 0 : ext4_quota_join(h, &q);
	if (!err)
		ext4_quota_apply(h, &q);
	mutex_lock(&h->es->quotas->lock);
	h->es->quotas->frees++;
	cond_broadcast(&h->es->quotas->freed);
	mutex_unlock(&h->es->quotas->lock);
	return err;
}
