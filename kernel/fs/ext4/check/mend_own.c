/*
 * What a volume has for itself, made anew: the journal, the orphan file, the block against two mounts, the map of the resize inode.
 *
 * What has a place that can be used is written there at once. For what needs free blocks it is noted in ck->own, and made when the pass over
 * the inodes has told which are free (ck_own_make), where mkfs would put it.
 */
#include "check.h"

#include "../mkfs.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define JOURNAL_BLOCKS_MIN 1024u

/* ---- inodes ---- */

void ck_own_put(struct ck *ck, u32 ino, const struct ext4_disk_inode *raw)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *to;
	u64 blk;
	u32 off;

	if (ext4_inode_where(es, ino, &blk, &off) || !ck_read(ck, blk, &bh))
		return;
	to = (void *)((u8 *)bh->data + off);
	memset(to, 0, es->inode_bytes);
	memcpy(to, raw, MIN((size_t)es->inode_bytes, sizeof(*raw)));
	if (es->metadata_csum)
		ext4_csum_inode_put(es, ext4_csum_inode_seed(es, ino, le32_get(to->generation)), to);
	ck_put(ck, bh);
}

/* A file of the volume's own. */
static struct ext4_disk_inode file_of(const struct ck *ck, u64 size_bytes, u64 clusters)
{
	const struct ext4_super *es = ck->es;
	u64 sectors = clusters << (es->cluster_bits + es->block_bits - 9);
	struct timespec64 now = { super_now(&es->vfs).sec, 0 };
	struct ext4_disk_inode raw = { .mode = le16_put(S_IFREG | 0600), .links_count = le16_put(1) };
	bool extra = es->inode_bytes > EXT4_INODE_BYTES_OLD;

	raw.size_lo = le32_put((u32)size_bytes);
	raw.size_hi = le32_put((u32)(size_bytes >> 32));
	raw.blocks_lo = le32_put((u32)sectors);
	raw.blocks_hi = le16_put((u16)(sectors >> 32));
	if (extra)
		raw.extra_isize = es->disk.want_extra_isize;
	ext4_time_put(now, &raw.atime, extra ? &raw.atime_extra : NULL);
	ext4_time_put(now, &raw.ctime, extra ? &raw.ctime_extra : NULL);
	ext4_time_put(now, &raw.mtime, extra ? &raw.mtime_extra : NULL);
	if (extra)
		ext4_time_put(now, &raw.crtime, &raw.crtime_extra);
	return raw;
}

void ck_reserved_clear(struct ck *ck, u32 ino)
{
	ck_own_put(ck, ino, &(struct ext4_disk_inode){ .mode = le16_put(0) });
}

/* ---- files in free blocks ---- */

/* What is used, as mkfs has it: all from cluster `end` on. */
static int used_zone(const struct ck *ck, struct ext4_zone *z, u64 end)
{
	u64 all = MIN(end, ck_cluster(ck, ck->es->blocks - 1) + 1), from;
	u32 bits = ck->es->cluster_bits;
	u64 rest = ck->es->first_data_blk + (all << bits);
	int err = rest < ck->es->blocks ? ext4_zone_add(z, rest, ck->es->blocks - rest) : 0;

	for (u64 at = 0; at < all && !err; at++) {
		if (!ck_is_used(ck, at))
			continue;
		for (from = at; at < all && ck_is_used(ck, at);)
			at++;
		err = ext4_zone_add(z, ck->es->first_data_blk + (from << bits), (at - from) << bits);
	}
	ext4_zone_seal(z);
	return err;
}

static void claim_file(struct ck *ck, const struct ext4_mkfs_file *f)
{
	u64 mask = (1ull << ck->es->cluster_bits) - 1;

	for (u32 i = 0; i < f->runs; i++)
		/* A run that goes on in the cluster of the one before has it already. */
		if (!((f->run[i].pblk - ck->es->first_data_blk) & mask))
			(void)ck_claim(ck, ck_cluster(ck, f->run[i].pblk),
				       DIV_ROUND_UP(f->run[i].len, mask + 1));
	for (u32 i = 0; i < f->nodes; i++)
		(void)ck_claim(ck, ck_cluster(ck, f->node[i].blk), 1);
}

/* *p is to be ended by ext4_mkfs_free in any case. */
static int plan_open(struct ck *ck, struct ext4_mkfs_plan *p, u64 end)
{
	*p = (struct ext4_mkfs_plan){ .es = calloc(1, sizeof(*p->es)) };
	if (!p->es)
		return fail(-ENOMEM, "no memory for a volume");
	p->es->disk = ck->es->disk;
	ext4_sb_fill(p->es);
	p->es->group = calloc(p->es->groups, sizeof(*p->es->group));
	return p->es->group ? used_zone(ck, &p->used, end) : fail(-ENOMEM, "no memory for groups");
}

/* Blocks for f, whose map is written. -ENOSPC: there are not enough. */
static int place(struct ck *ck, struct ext4_mkfs_plan *p, struct ext4_mkfs_file *f)
{
	int err = ext4_mkfs_place_log(p, f);

	if (err)
		return err;
	claim_file(ck, f);
	for (u32 i = 0; i < f->nodes && ck_goes_on(ck); i++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;

		if (!ck_read(ck, f->node[i].blk, &bh))
			continue;
		memcpy(bh->data, f->node[i].data, bh->size_bytes);
		ck_put(ck, bh);
	}
	return ck->err;
}

static struct ext4_disk_inode inode_of(const struct ck *ck, const struct ext4_mkfs_file *f)
{
	struct ext4_disk_inode raw = file_of(ck, (u64)f->blocks << ck->es->block_bits, f->clusters);

	if (ext4_has_incompat(ck->es, EXT4_INCOMPAT_EXTENTS))
		raw.flags = le32_put(EXT4_FL_EXTENTS);
	memcpy(raw.block, f->block, sizeof(raw.block));
	return raw;
}

static void write_file(struct ck *ck, const struct ext4_mkfs_file *f)
{
	struct ext4_disk_inode raw = inode_of(ck, f);

	ck_own_put(ck, f->ino, &raw);
}

int ck_file_place(struct ck *ck, u32 ino, u32 n, u64 end, struct ext4_disk_inode *raw)
{
	struct ext4_mkfs_plan p;
	int err = plan_open(ck, &p, end);

	/* A file of the plan's, which frees it. */
	p.orphans = (struct ext4_mkfs_file){ .ino = ino, .blocks = n };
	if (!err)
		err = place(ck, &p, &p.orphans);
	if (!err)
		*raw = inode_of(ck, &p.orphans);
	ext4_mkfs_free(&p);
	return err;
}

int ck_file_make(struct ck *ck, u32 ino, u32 n)
{
	struct ext4_disk_inode raw;
	int err = ck_file_place(ck, ino, n, ~0ull, &raw);

	if (!err)
		ck_own_put(ck, ino, &raw);
	return err;
}

/* ---- the journal ---- */

/* The first block of the journal, by its inode. */
static int log_super(struct ck *ck, struct ext4_inode *ei, struct buffer_head **bh)
{
	struct ext4_run run;
	int err;

	if (!ei)
		return fail(-ENOMEM, "no memory for an inode");
	err = ext4_journal_inode(ck->es, ei);
	if (!err)
		err = ext4_map_blocks(ei, 0, 1, &run);
	if (err)
		return err;
	return run.pblk && ck_read(ck, run.pblk, bh) ? 0 : -EUCLEAN;
}

/* A damaged superblock of a log, and nothing of somebody else's. */
static bool has_log_super(struct ck *ck)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	scoped(bh_putp) struct buffer_head *bh = NULL;

	return !log_super(ck, ei, &bh) && jbd2_super_is_likely(bh->data, bh->size_bytes);
}

int ck_log_anew(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct jbd2 *journal;
	u32 next = 1, blocks;
	int err = log_super(ck, ei, &bh);

	if (err)
		return err;
	blocks = (u32)MIN(ext4_size(ei) >> es->block_bits, (u64)UINT32_MAX);
	memset(bh->data, 0, bh->size_bytes);
	jbd2_super_new(bh->data, bh->size_bytes, blocks, es->disk.uuid);
	ck_put(ck, bh);
	err = ext4_journal_open(es, ei, &journal);
	if (err)
		return err;
	err = jbd2_sequence_behind(journal, &next);
	if (!err)
		err = jbd2_mark_empty(journal, ck->dev, next);
	jbd2_close(journal);
	return err;
}

void ck_journal_done(struct ck *ck)
{
	struct ext4_disk_super *d = &ck->es->disk;

	d->feature_incompat = le32_put(le32_get(d->feature_incompat) & ~EXT4_INCOMPAT_RECOVER);
	ck_super_put(ck);
	ck->rest = true;
}

void ck_journal_empty(struct ck *ck)
{
	if (has_log_super(ck) && !ck_log_anew(ck))
		ck_journal_done(ck);
	else
		ck_journal_give_up(ck);
}

void ck_journal_salvage(struct ck *ck, struct jbd2 *journal)
{
	struct jbd2_recovery r = { 0 };
	u32 next = jbd2_info(journal)->sequence;

	/* What it says of damaged blocks was said. */
	if (ext4_has_incompat(ck->es, EXT4_INCOMPAT_RECOVER) && jbd2_info(journal)->needs_recovery) {
		if (jbd2_recover(journal, ck->dev, &r))
			err_clear();
		next = r.end + 1;
	}
	if (jbd2_mark_empty(journal, ck->dev, next) || jbd2_error_told(journal))
		ck_journal_empty(ck);
	else
		ck_journal_done(ck);
}

void ck_journal_forgive(struct ck *ck, struct jbd2 *journal)
{
	struct ext4_disk_super *d = &ck->es->disk;

	if (jbd2_mark_empty(journal, ck->dev, jbd2_info(journal)->sequence) || jbd2_error_told(journal))
		return;
	d->state = le16_put(le16_get(d->state) | EXT4_STATE_ERROR);
	ck_super_put(ck);
}

void ck_journal_usual(struct ck *ck)
{
	ck->es->disk.journal_inum = le32_put(EXT4_INO_JOURNAL);
	ck_super_put(ck);
	ck->rest = true;
}

void ck_journal_inode(struct ck *ck, const struct ext4_inode *copy)
{
	u32 bits = ck->es->block_bits + ck->es->cluster_bits;
	/* Without what a deeper map takes: that is found with the map. */
	struct ext4_disk_inode raw =
		file_of(ck, ext4_size(copy), DIV_ROUND_UP(ext4_size(copy), 1ull << bits));

	raw.flags = le32_put(copy->flags & EXT4_FL_EXTENTS);
	memcpy(raw.block, copy->block, sizeof(raw.block));
	ck_own_put(ck, le32_get(ck->es->disk.journal_inum), &raw);
	ck->rest = true;
}

void ck_journal_give_up(struct ck *ck)
{
	struct ext4_disk_super *d = &ck->es->disk;
	u64 size = le32_get(d->jnl_blocks[16]) | (u64)le32_get(d->jnl_blocks[15]) << 32;

	ck->journal_blocks = size >> ck->es->block_bits;
	ck->own |= CK_OWN_JOURNAL;
	/* What its damaged map claims is nobody's. */
	if (ext4_journal_is_inside(ck->es))
		ck_reserved_clear(ck, le32_get(d->journal_inum));
	memset(d->jnl_blocks, 0, sizeof(d->jnl_blocks));
}

/* Without room there is none: the volume is one without a journal. */
static void make_journal(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	struct ext4_disk_super *d = &es->disk;
	u32 blocks = ext4_mkfs_journal_blocks(es->blocks);
	struct ext4_mkfs_plan p;
	int err = plan_open(ck, &p, ~0ull);

	if (ck->journal_blocks >= JOURNAL_BLOCKS_MIN && ck->journal_blocks <= es->blocks / 2)
		blocks = (u32)MIN(ck->journal_blocks, (u64)UINT32_MAX);
	p.journal = (struct ext4_mkfs_file){ .ino = EXT4_INO_JOURNAL, .blocks = blocks };
	if (!err)
		err = blocks ? place(ck, &p, &p.journal) : -ENOSPC;
	if (!err) {
		write_file(ck, &p.journal);
		d->journal_inum = le32_put(EXT4_INO_JOURNAL);
		ext4_journal_backup(d, p.journal.block, (u64)blocks << es->block_bits);
		err = ck_log_anew(ck);
	}
	if (err) {
		d->feature_compat = le32_put(es->compat & ~(EXT4_COMPAT_HAS_JOURNAL));
		d->journal_inum = le32_put(0);
		ck_reserved_clear(ck, EXT4_INO_JOURNAL);
	}
	ext4_mkfs_free(&p);
	ck_journal_done(ck);
}

/* ---- the orphan file ---- */

/* Blocks without orphans, of the file that is mapped so. */
static int orphans_clear(struct ck *ck, struct ext4_inode *ei, u32 blocks)
{
	const struct ext4_super *es = ck->es;
	u32 seed = ext4_csum_inode_seed(es, (u32)ei->vfs.ino, ei->vfs.generation);
	struct ext4_run run;
	int err = 0;

	for (u32 i = 0; i < blocks && !err && ck_goes_on(ck); i++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		u64 blk;

		err = ext4_map_blocks(ei, i, 1, &run);
		if (!err && (!run.pblk || run.unwritten))
			err = -EUCLEAN;
		if (err)
			return err;
		blk = run.pblk + i - run.lblk;
		if (!ck_read(ck, blk, &bh))
			return -EIO;
		ext4_orphan_block_init(es, seed, blk, bh->data);
		ck_put(ck, bh);
	}
	return err ? err : ck->err;
}

static int orphan_file_load(struct ck *ck, struct ext4_inode *ei, u32 *blocks)
{
	int err;

	ei->vfs.sb = &ck->es->vfs;
	ei->vfs.ino = le32_get(ck->es->disk.orphan_file_inum);
	atomic_store(&ei->vfs.tail_from, ~0ull);
	err = ext4_inode_load(ei);
	if (!err && (!is_reg(&ei->vfs) || ei->flags & EXT4_FL_INLINE_DATA || !ext4_size(ei) ||
		     ext4_size(ei) % ext4_block_bytes(ck->es) ||
		     ext4_size(ei) >> ck->es->block_bits > EXT4_ORPHAN_BLOCKS_MAX))
		err = -EUCLEAN;
	*blocks = err ? 0 : (u32)(ext4_size(ei) >> ck->es->block_bits);
	return err;
}

void ck_orphans_done(struct ck *ck)
{
	struct ext4_disk_super *d = &ck->es->disk;

	d->feature_ro_compat = le32_put(le32_get(d->feature_ro_compat) & ~EXT4_RO_COMPAT_ORPHAN_PRESENT);
	ck_super_put(ck);
	ck->rest = true;
}

void ck_orphan_list_empty(struct ck *ck)
{
	ck->es->disk.last_orphan = le32_put(0);
	ck_super_put(ck);
	ck->rest = true;
}

/* How many of the file's blocks were made for orphans. *shared: some are somebody else's, too; NULL: that is not known yet. */
static u32 orphan_blocks(struct ck *ck, struct ext4_inode *ei, u32 blocks, bool *shared)
{
	u32 off = ext4_block_bytes(ck->es) - (u32)sizeof(struct ext4_disk_orphan_tail), n = 0;
	struct ext4_run run;

	if (shared)
		*shared = false;
	for (u32 i = 0; i < blocks && ck_goes_on(ck); i++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		const struct ext4_disk_orphan_tail *t;
		u64 blk;

		if (ext4_map_blocks(ei, i, 1, &run) || !run.pblk || run.unwritten)
			continue;
		blk = run.pblk + i - run.lblk;
		if (shared)
			*shared |= ck_twice(ck, ck_cluster(ck, blk), 1);
		if (!ck_read(ck, blk, &bh))
			continue;
		t = (const void *)((const u8 *)bh->data + off);
		n += le32_get(t->magic) == EXT4_ORPHAN_MAGIC;
	}
	return n;
}

/* Blocks that were not made for orphans may be anybody's, until it is known who claims them. */
void ck_orphan_file_empty(struct ck *ck)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	u32 blocks = 0, of_orphans;

	if (!ei || orphan_file_load(ck, ei, &blocks)) {
		ck->own |= CK_OWN_ORPHANS;
		return;
	}
	of_orphans = orphan_blocks(ck, ei, blocks, NULL);
	if (of_orphans && of_orphans < blocks)
		ck->own |= CK_OWN_ORPHANS_HERE;
	else if (!of_orphans || orphans_clear(ck, ei, blocks))
		ck->own |= CK_OWN_ORPHANS;
	else
		ck_orphans_done(ck);
}

/* In an inode of its own: what was called the orphan file may be anybody's. */
static void make_orphan_file(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	u32 blocks = ALIGN_UP(ext4_mkfs_orphan_blocks(es->blocks), 1u << es->cluster_bits);
	struct ext4_mkfs_plan p;
	u64 ino = 0;
	int err = plan_open(ck, &p, ~0ull);

	if (!err)
		err = ei ? ck_alloc_ino(ck, 0, false, &ino) : -ENOMEM;
	p.orphans = (struct ext4_mkfs_file){ .ino = (u32)ino, .blocks = blocks };
	if (!err)
		err = place(ck, &p, &p.orphans);
	if (!err) {
		write_file(ck, &p.orphans);
		es->disk.orphan_file_inum = le32_put((u32)ino);
		err = orphan_file_load(ck, ei, &blocks);
	}
	if (!err)
		err = orphans_clear(ck, ei, blocks);
	if (err) {
		es->disk.feature_compat = le32_put(es->compat & ~EXT4_COMPAT_ORPHAN_FILE);
		es->disk.orphan_file_inum = le32_put(0);
	}
	ext4_mkfs_free(&p);
	ck_orphans_done(ck);
}

/* As long as somebody else has some of its blocks it waits for a round in which the others have copies. */
static void clear_orphans_here(struct ck *ck)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	bool shared = false;
	u32 blocks;

	if (ei && !orphan_file_load(ck, ei, &blocks)) {
		(void)orphan_blocks(ck, ei, blocks, &shared);
		if (shared)
			return;
		if (!orphans_clear(ck, ei, blocks)) {
			ck_orphans_done(ck);
			return;
		}
	}
	make_orphan_file(ck);
}

/* ---- multiple mount protection ---- */

void ck_mmp_put(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_mmp *m;

	if (!ck_read(ck, le64_get(es->disk.mmp_block), &bh))
		return;
	memset(bh->data, 0, bh->size_bytes);
	m = bh->data;
	m->magic = le32_put(EXT4_MMP_MAGIC);
	m->seq = le32_put(EXT4_MMP_SEQ_CLEAN);
	m->check_interval = es->disk.mmp_update_interval;
	if (es->metadata_csum)
		m->checksum = le32_put(ext4_csum_mmp(es->csum_seed, m));
	ck_put(ck, bh);
}

static void make_mmp(struct ck *ck)
{
	struct ext4_super *es = ck->es;
	u64 first;

	if (ck_alloc(ck, 0, 1, &first)) {
		es->disk.feature_incompat = le32_put(es->incompat & ~EXT4_INCOMPAT_MMP);
	} else {
		es->disk.mmp_block = le64_put(es->first_data_blk + (first << es->cluster_bits));
		ck_mmp_put(ck);
	}
	ck_super_put(ck);
}

static void make_mmp_here(struct ck *ck)
{
	if (ck_twice(ck, ck_cluster(ck, le64_get(ck->es->disk.mmp_block)), 1))
		make_mmp(ck);
	else
		ck_mmp_put(ck);
}

/* ---- room for more descriptors: lib/ext2fs/res_gdt.c of e2fsprogs ---- */

/* Each of the blocks kept in group 0 points to those in the copies. */
static void resize_copies(struct ck *ck, u64 blk)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;

	if (!ck_read(ck, blk, &bh))
		return;
	ext4_kept_point(ck->es, blk, bh->data);
	ck_put(ck, bh);
}

static void make_resize(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	u32 reserved = le16_get(es->disk.reserved_gdt_blocks);
	u64 per = ext4_pointers_per_block(es), dind = ck->resize_blk, first;
	struct ext4_disk_inode raw =
		file_of(ck, (per * per + per + EXT4_NDIR) << es->block_bits, ext4_resize_clusters(es));
	scoped(bh_putp) struct buffer_head *bh = NULL;
	le32 *root = (void *)raw.block, *top;

	if (!dind && ck_alloc(ck, 0, 1, &first)) {
		ck_say(ck, CK_RESIZE, EXT4_INO_RESIZE, "%s", err_text());
		return;
	}
	if (!dind)
		dind = es->first_data_blk + (first << es->cluster_bits);
	root[EXT4_NDIR + 1] = le32_put((u32)dind);
	ck_own_put(ck, EXT4_INO_RESIZE, &raw);
	if (!ck_read(ck, dind, &bh))
		return;
	memset(bh->data, 0, bh->size_bytes);
	top = bh->data;
	for (u32 i = 0; i < reserved; i++) {
		u64 blk = es->super_blk + 1 + es->gdt_blocks + i;

		top[(es->gdt_blocks + i) % per] = le32_put((u32)blk);
		resize_copies(ck, blk);
	}
	ck_put(ck, bh);
}

/* ---- all of it ---- */

void ck_own_make(struct ck *ck)
{
	static const struct {
		u32 what;
		void (*make)(struct ck *ck);
	} own[] = {
		{ CK_OWN_JOURNAL, make_journal },
		{ CK_OWN_ORPHANS, make_orphan_file },
		{ CK_OWN_ORPHANS_HERE, clear_orphans_here },
		{ CK_OWN_MMP, make_mmp },
		{ CK_OWN_MMP_HERE, make_mmp_here },
		{ CK_OWN_RESIZE, make_resize },
	};

	ck_groups_move(ck);
	for (u32 i = 0; i < ARRAY_SIZE(own) && ck_goes_on(ck); i++)
		if (ck->own & own[i].what)
			own[i].make(ck);
}
