/*
 * Usage, per user, group and project: what the pass over the inodes counted against the quota files.
 *
 * A file in which anything is wrong is written anew as a whole, with the usage that was counted and the limits that could be read. Where the round
 * mended something else, the count may be wrong by now, and the next round looks.
 */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

/* ---- counting ---- */

static struct ck_usage *usage_of(struct ck *ck, enum quota_kind kind, u32 id)
{
	struct ck_quota *q = &ck->quota[kind];
	u64 *at = ck_map_at(ck, &q->of, (u64)id + 1);

	if (!at || (!*at && !ck_room(ck, &q->usage, q->count, &q->room, sizeof(*q->usage))))
		return NULL;
	if (!*at) {
		q->usage[q->count] = (struct ck_usage){ .id = id };
		*at = ++q->count;
	}
	return &q->usage[*at - 1];
}

/* The root, and what names can lead to. */
void ck_quota_count(struct ck *ck, const struct ck_inode *ci)
{
	const struct ext4_super *es = ck->es;

	if (!ext4_ino_public(es, ci->ino) || ci->flags & EXT4_FL_EA_INODE)
		return;
	for (enum quota_kind kind = 0; kind < QUOTA_KINDS; kind++) {
		struct ck_usage *u = NULL;

		if (ext4_quota_inum(&es->disk, kind))
			u = usage_of(ck, kind, ext4_quota_id(es, ci->raw, kind));
		if (!u)
			continue;
		u->bytes += ci->clusters << (es->cluster_bits + es->block_bits);
		u->inodes += 1 + ci->values;
	}
}

/* ---- writing a file ---- */

static bool load(struct ck *ck, struct ext4_inode *ei, u32 ino)
{
	ei->vfs.sb = &ck->es->vfs;
	ei->vfs.ino = ino;
	if (!ext4_inode_load(ei) && is_reg(&ei->vfs) && !(ei->flags & EXT4_FL_INLINE_DATA))
		return true;
	err_clear();
	return false;
}

/* Block lblk of the file; 0: it has none that can be used. */
static u64 block_of(struct ck *ck, struct ext4_inode *ei, u64 lblk)
{
	struct ext4_run run;

	if (ext4_map_blocks(ei, lblk, 1, &run)) {
		err_clear();
		return 0;
	}
	return run.pblk && !run.unwritten && ext4_blocks_ok(ck->es, run.pblk, 1) ? run.pblk + lblk - run.lblk
										 : 0;
}

/* It has room for n blocks, in blocks that are nobody else's. */
static bool has_room(struct ck *ck, struct ext4_inode *ei, u64 n)
{
	if (ext4_size(ei) >> ck->es->block_bits < n)
		return false;
	for (u64 i = 0; i < n; i++) {
		u64 blk = block_of(ck, ei, i);

		if (!blk || ck_twice(ck, ck_cluster(ck, blk), 1))
			return false;
	}
	return true;
}

static void write_blocks(struct ck *ck, struct ext4_inode *ei, const u8 *bytes, u64 len)
{
	u32 size = ext4_block_bytes(ck->es);

	for (u64 at = 0; at < len && ck_goes_on(ck); at += size) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		u64 blk = block_of(ck, ei, at / size);
		u64 n = MIN(len - at, (u64)size);

		if (!blk || !ck_read(ck, blk, &bh))
			return;
		memcpy(bh->data, bytes + at, n);
		memset((u8 *)bh->data + n, 0, size - n);
		ck_put(ck, bh);
	}
}

/* A user's and a group's file has its inode for good; a project's gets another. */
static int make_file(struct ck *ck, enum quota_kind kind, bool in_place, u64 blocks, u32 *ino)
{
	struct ext4_disk_super *d = &ck->es->disk;
	u64 other = *ino;
	int err = 0;

	if (!in_place && kind == QUOTA_PROJECT)
		err = ck_alloc_ino(ck, 0, false, &other);
	if (!err)
		err = ck_file_make(ck, (u32)other, (u32)blocks);
	if (err || other == *ino)
		return err;
	*ino = (u32)other;
	d->prj_quota_inum = le32_put(*ino);
	ck_super_put(ck);
	return 0;
}

/* is_one: its inode holds such a file. Else a project's may be anybody's, who keeps it. */
static void store(struct ck *ck, enum quota_kind kind, bool is_one, const u8 *bytes, u64 len)
{
	scoped(ext4_inode_freep) struct ext4_inode *old = ext4_inode_alloc(), *ei = ext4_inode_alloc();
	u32 ino = ext4_quota_inum(&ck->es->disk, kind);
	u64 blocks = DIV_ROUND_UP(len, (u64)ext4_block_bytes(ck->es));
	bool in_place;
	int err;

	if (!old || !ei) {
		ck_no_memory(ck);
		return;
	}
	in_place = load(ck, old, ino) && (is_one || kind != QUOTA_PROJECT);
	if (in_place && has_room(ck, old, blocks)) {
		write_blocks(ck, old, bytes, len);
		return;
	}
	err = make_file(ck, kind, in_place, blocks, &ino);
	if (!err && load(ck, ei, ino))
		write_blocks(ck, ei, bytes, len);
	else if (!ck->err)
		ck_not_mended(ck, CK_QUOTA_FILE, ino, err ? err_text() : "its inode cannot be read");
}

/* ---- comparing ---- */

static int by_id(const void *a, const void *b)
{
	const struct quota *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static bool says_something(const struct quota *q)
{
	return q->space_bytes | q->inodes | q->space_soft_kib | q->space_hard_kib | q->inodes_soft |
	       q->inodes_hard;
}

/* Writes the file, with the usage that was counted, and the rest as in l. */
static void mend(struct ck *ck, enum quota_kind kind, struct ext4_quota_list *l)
{
	struct ck_quota *counted = &ck->quota[kind];
	scoped(freep) u8 *bytes = NULL;
	u32 kept = 0;
	u64 len;

	for (u32 i = 0; i < counted->count; i++)
		counted->usage[i].listed = false;
	for (u32 i = 0; i < l->count; i++) {
		struct quota *q = &l->quota[i];
		u64 at = ck_map_get(&counted->of, (u64)q->id + 1);
		struct ck_usage *u = at ? &counted->usage[at - 1] : NULL;

		q->space_bytes = u ? u->bytes : 0;
		q->inodes = u ? u->inodes : 0;
		if (u)
			u->listed = true;
		if (says_something(q))
			l->quota[kept++] = *q;
	}
	l->count = kept;
	for (u32 i = 0; i < counted->count; i++) {
		const struct ck_usage *u = &counted->usage[i];
		struct quota q = { .id = u->id, .space_bytes = u->bytes, .inodes = u->inodes };

		if (!u->listed && ext4_quota_list_add(l, &q)) {
			ck_no_memory(ck);
			return;
		}
	}
	if (l->count)
		qsort(l->quota, l->count, sizeof(*l->quota), by_id);
	if (ext4_quota_pack(l, kind, &bytes, &len))
		ck_no_memory(ck);
	else
		store(ck, kind, l->is_one, bytes, len);
}

/* How many ids are counted wrongly; *first is such a one as the file has it. */
static u64 wrong(struct ck *ck, enum quota_kind kind, const struct ext4_quota_list *l, struct quota *first)
{
	struct ck_quota *counted = &ck->quota[kind];
	u64 n = 0;

	for (u32 i = 0; i < l->count; i++) {
		const struct quota *q = &l->quota[i];
		u64 at = ck_map_get(&counted->of, (u64)q->id + 1);
		struct ck_usage none = { 0 }, *u = at ? &counted->usage[at - 1] : &none;

		u->listed = true;
		if (u->bytes == q->space_bytes && u->inodes == q->inodes)
			continue;
		if (!n++)
			*first = *q;
	}
	for (u32 i = 0; i < counted->count; i++)
		if (!counted->usage[i].listed && !n++)
			*first = (struct quota){ .id = counted->usage[i].id };
	return n;
}

static void check_usage(struct ck *ck, enum quota_kind kind, struct ext4_quota_list *l)
{
	struct quota says = { 0 };
	u64 n = wrong(ck, kind, l, &says), at = ck_map_get(&ck->quota[kind].of, (u64)says.id + 1);
	struct ck_usage is = at ? ck->quota[kind].usage[at - 1] : (struct ck_usage){ 0 };

	if (n && ck_fix(ck, CK_QUOTA_USAGE, ext4_quota_inum(&ck->es->disk, kind),
			"of %llu, the first is %s %u: %llu bytes and %llu inodes, there are %llu and %llu",
			(unsigned long long)n, ext4_quota_name(kind), says.id,
			(unsigned long long)says.space_bytes, (unsigned long long)says.inodes,
			(unsigned long long)is.bytes, (unsigned long long)is.inodes))
		mend(ck, kind, l);
}

static void check_file(struct ck *ck, enum quota_kind kind)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	u32 ino = ext4_quota_inum(&ck->es->disk, kind);
	struct ext4_quota_list l = { 0 };

	if (!ei) {
		ck_no_memory(ck);
		return;
	}
	/* One that cannot be read is an empty one, which is damaged. */
	if (!load(ck, ei, ino))
		atomic_store(&ei->vfs.size_bytes, 0);
	if (ext4_quota_load(ei, kind, &l))
		ck_no_memory(ck);
	if (ck->err)
		;
	else if (!l.bad)
		check_usage(ck, kind, &l);
	else if (ck_fix(ck, CK_QUOTA_FILE, ino, "%s: %s", ext4_quota_name(kind), l.bad))
		mend(ck, kind, &l);
	ext4_quota_list_free(&l);
}

void ck_quotas(struct ck *ck)
{
	if (ck_mends(ck) && ck->sum->mended)
		return;
	for (enum quota_kind kind = 0; kind < QUOTA_KINDS && ck_goes_on(ck); kind++)
		if (ext4_quota_inum(&ck->es->disk, kind))
			check_file(ck, kind);
}
