/*
 * A plan onto a device.
 *
 * Blocks are gathered and written in large requests, in the order of the plan, and nothing is read. What the device reads as zeros is not
 * written as such; on another one all that must be zeros is made so first.
 *
 * The superblock comes last, when all else is durable, and on a device with old content its place was cleared first: so a volume that was not
 * finished is none.
 *
 * Interface: ext4_format, ext4_mkfs_write, mkfs.h.
 */
#include "mkfs.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define ARENA_BYTES (4u << 20)
#define PIECES_MAX  512u
#define END_BYTES   65536u /* where RAID superblocks and the like are, at the end of a device */

/* Volumes with one of these count what was written to them; flex_bg too. */
#define COUNTS_WRITES                                                                    \
	(EXT4_RO_COMPAT_HUGE_FILE | EXT4_RO_COMPAT_GDT_CSUM | EXT4_RO_COMPAT_DIR_NLINK | \
	 EXT4_RO_COMPAT_METADATA_CSUM | EXT4_RO_COMPAT_EXTRA_ISIZE)

/* A piece of the arena, and where it goes. */
struct piece {
	u64 off_bytes;
	u32 at, len;
};

struct writer {
	const struct ext4_mkfs_plan *plan;
	const struct ext4_super *es;
	struct blkdev *dev;
	int err; /* the first; nothing is written after it */
	u8 *arena;
	u32 used, pieces;
	struct piece piece[PIECES_MAX];
	struct bio bio[PIECES_MAX];
	u64 written_bytes;
};

/* ---- writing ---- */

static void drain(struct writer *w)
{
	struct io_batch batch;
	int err;

	if (!w->err && w->pieces) {
		io_batch_init(&batch);
		for (u32 i = 0; i < w->pieces; i++) {
			const struct piece *p = &w->piece[i];

			bio_init(&w->bio[i], w->dev, BIO_WRITE, p->off_bytes, w->arena + p->at, p->len);
			io_submit(&batch, &w->bio[i]);
		}
		err = io_wait(&batch);
		if (err)
			w->err = fail(err, "%s cannot be written", w->dev->name);
	}
	w->used = w->pieces = 0;
}

/* Zeros in memory that will be written to these blocks: at most ARENA_BYTES. Good until the next call. */
static void *room(struct writer *w, u64 blk, u32 blocks)
{
	u32 bits = w->es->block_bits, len = blocks << bits;
	struct piece *last;
	void *p;

	if (w->used + len > ARENA_BYTES || w->pieces == PIECES_MAX)
		drain(w);
	p = w->arena + w->used;
	memset(p, 0, len);
	last = w->pieces ? &w->piece[w->pieces - 1] : NULL;
	if (last && last->off_bytes + last->len == blk << bits)
		last->len += len;
	else
		w->piece[w->pieces++] = (struct piece){ blk << bits, w->used, len };
	w->used += len;
	w->written_bytes += len;
	return p;
}

/* More than the arena holds, or more than once. */
static void put(struct writer *w, u64 blk, const void *p, u64 len)
{
	drain(w);
	if (!w->err)
		w->err = blkdev_write(w->dev, blk << w->es->block_bits, p, len, 0);
	w->written_bytes += len;
}

static void zero(struct writer *w, u64 off_bytes, u64 len)
{
	drain(w);
	if (!w->err && len)
		w->err = blkdev_zero(w->dev, off_bytes, len);
}

static void zero_blocks(struct writer *w, u64 blk, u64 len)
{
	zero(w, blk << w->es->block_bits, len << w->es->block_bits);
}

static void flush(struct writer *w)
{
	drain(w);
	if (!w->err)
		w->err = blkdev_flush(w->dev);
}

/* ---- old content ---- */

/* Slots of a group's table that hold inodes. */
static u32 slots_used(const struct writer *w, u32 group)
{
	u64 first = (u64)group * w->es->inodes_per_group;

	return w->plan->last_ino > first ? (u32)MIN(w->plan->last_ino - first, (u64)w->es->inodes_per_group)
					 : 0;
}

static u32 table_written(const struct writer *w, u32 group)
{
	return DIV_ROUND_UP(slots_used(w, group), w->es->inodes_per_block);
}

/* Tables of neighbours in one go. */
static void clear_tables(struct writer *w)
{
	u64 start = 0, end = 0;

	for (u32 i = 0; i < w->es->groups; i++) {
		u64 from = w->es->group[i].inode_table;

		if (from != end) {
			zero_blocks(w, start, end - start);
			start = from;
		}
		end = from + w->es->itable_blocks;
	}
	zero_blocks(w, start, end - start);
}

static void clear_journal(struct writer *w)
{
	const struct ext4_mkfs_file *f = &w->plan->journal;
	u64 start = 0, len = 0;

	for (u32 i = 0; i < f->runs; i++) {
		if (len && f->run[i].pblk != start + len) {
			zero_blocks(w, start, len);
			len = 0;
		}
		if (!len)
			start = f->run[i].pblk;
		len += f->run[i].len;
	}
	zero_blocks(w, start, len);
}

/* The device held something else. */
static void clear(struct writer *w)
{
	const struct ext4_super *es = w->es;
	u64 bytes = es->blocks << es->block_bits, start = MAX(ext4_block_bytes(es), 4096u);
	u32 reserved = le16_get(es->disk.reserved_gdt_blocks);

	zero(w, 0, MIN(start, bytes));
	flush(w);
	zero(w, bytes - MIN(bytes, (u64)END_BYTES), MIN(bytes, (u64)END_BYTES));
	if (!w->plan->opts.lazy_itable || !es->desc_csum)
		clear_tables(w);
	clear_journal(w);
	for (u32 copy = 0; reserved && ext4_group_desc_blk(es, 0, copy); copy++)
		zero_blocks(w, ext4_group_desc_blk(es, 0, copy) + es->gdt_blocks, reserved);
}

/* ---- bitmaps ---- */

static void set_bits(u8 *map, u64 from, u64 to)
{
	while (from < to && from % 8)
		map[from / 8] |= (u8)(1u << from % 8), from++;
	if (from < to)
		memset(map + from / 8, 0xff, (to - from) / 8);
	for (from = MAX(from, ALIGN_DOWN(to, 8u)); from < to; from++)
		map[from / 8] |= (u8)(1u << from % 8);
}

static void block_bitmap(struct writer *w, u32 group)
{
	const struct ext4_super *es = w->es;
	struct ext4_group *g = &es->group[group];
	u64 start = ext4_group_start(es, group), end = start + ext4_group_blocks(es, group), gap_end;
	u8 *map;

	if (g->flags & EXT4_GROUP_BLOCK_UNINIT)
		return;
	map = room(w, g->block_bitmap, 1);
	for (u64 blk = start, gap; blk < end; blk = gap_end) {
		gap = ext4_zone_gap(&w->plan->used, blk, &gap_end);
		set_bits(map, (blk - start) >> es->cluster_bits, (MIN(gap, end) - start) >> es->cluster_bits);
	}
	set_bits(map, (end - start) >> es->cluster_bits, ext4_block_bytes(es) * 8ull);
	if (es->metadata_csum)
		g->block_bitmap_csum = ext4_csum_bitmap(es, map, es->clusters_per_group);
}

static void inode_bitmap(struct writer *w, u32 group)
{
	const struct ext4_super *es = w->es;
	struct ext4_group *g = &es->group[group];
	u8 *map;

	if (g->flags & EXT4_GROUP_INODE_UNINIT)
		return;
	map = room(w, g->inode_bitmap, 1);
	set_bits(map, 0, slots_used(w, group));
	set_bits(map, es->inodes_per_group, ext4_block_bytes(es) * 8ull);
	if (es->metadata_csum)
		g->inode_bitmap_csum = ext4_csum_bitmap(es, map, es->inodes_per_group);
}

/* Those of a set lie together, kind by kind. */
static void bitmaps(struct writer *w)
{
	u32 groups = w->es->groups, bits = MIN((u32)w->es->disk.log_groups_per_flex, 30u), set = 1u << bits;

	for (u64 first = 0; first < groups; first += set) {
		u32 end = (u32)MIN(first + set, (u64)groups);

		for (u32 i = (u32)first; i < end; i++)
			block_bitmap(w, i);
		for (u32 i = (u32)first; i < end; i++)
			inode_bitmap(w, i);
	}
}

/* ---- inodes ---- */

static void times(struct writer *w, struct ext4_disk_inode *raw)
{
	struct timespec64 now = { w->plan->opts.now.sec, 0 };
	bool extra = w->es->inode_bytes > EXT4_INODE_BYTES_OLD;

	ext4_time_put(now, &raw->atime, extra ? &raw->atime_extra : NULL);
	ext4_time_put(now, &raw->ctime, extra ? &raw->ctime_extra : NULL);
	ext4_time_put(now, &raw->mtime, extra ? &raw->mtime_extra : NULL);
	if (extra)
		ext4_time_put(now, &raw->crtime, &raw->crtime_extra);
}

static void inode_put(struct writer *w, struct ext4_disk_inode *raw, u32 mode, u32 links, u64 size,
		      u64 clusters)
{
	const struct ext4_super *es = w->es;
	u64 sectors = clusters << (es->cluster_bits + es->block_bits - 9);

	raw->mode = le16_put((u16)mode);
	raw->links_count = le16_put((u16)links);
	raw->size_lo = le32_put((u32)size);
	raw->size_hi = le32_put((u32)(size >> 32));
	raw->blocks_lo = le32_put((u32)sectors);
	raw->blocks_hi = le16_put((u16)(sectors >> 32));
	if (es->inode_bytes > EXT4_INODE_BYTES_OLD)
		raw->extra_isize = es->disk.want_extra_isize;
	times(w, raw);
}

static void inode_of_file(struct writer *w, struct ext4_disk_inode *raw, const struct ext4_mkfs_file *f,
			  u32 mode, u32 links)
{
	inode_put(w, raw, mode, links, (u64)f->blocks << w->es->block_bits, f->clusters);
	if (ext4_has_incompat(w->es, EXT4_INCOMPAT_EXTENTS))
		raw->flags = le32_put(EXT4_FL_EXTENTS);
	memcpy(raw->block, f->block, sizeof(raw->block));
}

static void inode_of_resize(struct writer *w, struct ext4_disk_inode *raw)
{
	u64 per = ext4_pointers_per_block(w->es);
	le32 *block = (void *)raw->block;

	inode_put(w, raw, S_IFREG | 0600, 1, (per * per + per + EXT4_NDIR) << w->es->block_bits,
		  ext4_resize_clusters(w->es));
	block[EXT4_NDIR + 1] = le32_put((u32)w->plan->resize_blk);
}

static void inode_fill(struct writer *w, u32 ino, struct ext4_disk_inode *raw)
{
	const struct ext4_mkfs_plan *p = w->plan;

	if (ino == EXT4_INO_ROOT) {
		inode_of_file(w, raw, &p->root, S_IFDIR | 0755, 3);
		raw->uid_lo = le16_put((u16)p->opts.root_uid);
		raw->uid_hi = le16_put((u16)(p->opts.root_uid >> 16));
		raw->gid_lo = le16_put((u16)p->opts.root_gid);
		raw->gid_hi = le16_put((u16)(p->opts.root_gid >> 16));
	} else if (ino == p->lost_found.ino) {
		inode_of_file(w, raw, &p->lost_found, S_IFDIR | 0700, 2);
	} else if (ino == p->journal.ino && p->journal_blocks) {
		inode_of_file(w, raw, &p->journal, S_IFREG | 0600, 1);
	} else if (ino == p->orphans.ino && p->orphan_blocks) {
		inode_of_file(w, raw, &p->orphans, S_IFREG | 0600, 1);
	} else if (ino == EXT4_INO_RESIZE && p->resize_blk) {
		inode_of_resize(w, raw);
	}
	/* Reserved ones that are nothing have their sum, too. */
	if (w->es->metadata_csum)
		ext4_csum_inode_put(w->es, ext4_csum_inode_seed(w->es, ino, 0), raw);
}

static void inodes(struct writer *w)
{
	const struct ext4_super *es = w->es;

	for (u32 group = 0; slots_used(w, group); group++) {
		u32 n = slots_used(w, group), first = group * es->inodes_per_group + 1;
		u8 *table = room(w, es->group[group].inode_table, table_written(w, group));

		for (u32 i = 0; i < n; i++)
			inode_fill(w, first + i, (void *)(table + (size_t)i * es->inode_bytes));
	}
}

/* ---- content ---- */

/* The block of a file. */
static u64 file_blk(const struct ext4_mkfs_file *f, u32 lblk)
{
	u32 i = 0;

	while (lblk >= f->run[i].lblk + f->run[i].len)
		i++;
	return f->run[i].pblk + lblk - f->run[i].lblk;
}

static void leaf_sum(const struct ext4_super *es, u32 ino, u8 *block)
{
	struct ext4_disk_dir_tail *t = (void *)(block + ext4_leaf_bytes(es));

	if (es->metadata_csum)
		t->checksum =
			le32_put(ext4_csum_dir(ext4_csum_inode_seed(es, ino, 0), block, ext4_leaf_bytes(es)));
}

static void directories(struct writer *w)
{
	static const struct name name = { "lost+found", 10 };
	const struct ext4_mkfs_file *root = &w->plan->root, *lost = &w->plan->lost_found;
	u8 *block = room(w, file_blk(root, 0), 1);
	const char *bad;
	u32 off;

	ext4_leaf_top(w->es, block, root->ino, root->ino);
	if (ext4_leaf_room(w->es, block, ext4_dirent_bytes(name.len), &off, &bad))
		ext4_leaf_add(w->es, block, off, &name, lost->ino, ext4_dirent_type(w->es, S_IFDIR));
	leaf_sum(w->es, root->ino, block);
	for (u32 i = 0; i < lost->blocks; i++) {
		block = room(w, file_blk(lost, i), 1);
		if (i)
			ext4_leaf_init(w->es, block);
		else
			ext4_leaf_top(w->es, block, lost->ino, root->ino);
		leaf_sum(w->es, lost->ino, block);
	}
}

static void nodes(struct writer *w, const struct ext4_mkfs_file *f)
{
	for (u32 i = 0; i < f->nodes; i++)
		memcpy(room(w, f->node[i].blk, 1), f->node[i].data, ext4_block_bytes(w->es));
}

static void orphan_file(struct writer *w)
{
	const struct ext4_mkfs_file *f = &w->plan->orphans;
	const struct ext4_super *es = w->es;

	for (u32 i = 0; i < f->blocks; i++) {
		u64 blk = file_blk(f, i);
		u8 *block = room(w, blk, 1);

		ext4_orphan_block_init(es, ext4_csum_inode_seed(es, f->ino, 0), blk, block);
	}
}

/* Which blocks are kept for descriptors, as the map of a file: each of those in group 0 points to those in the copies. */
static void resize_map(struct writer *w)
{
	const struct ext4_super *es = w->es;
	u32 reserved = le16_get(es->disk.reserved_gdt_blocks), per = ext4_pointers_per_block(es);
	u64 first = es->super_blk + 1 + es->gdt_blocks;
	le32 *top = room(w, w->plan->resize_blk, 1);

	for (u32 i = 0; i < reserved; i++)
		top[(es->gdt_blocks + i) % per] = le32_put((u32)(first + i));
	for (u32 i = 0; i < reserved; i++) {
		le32 *copies = room(w, first + i, 1);
		u64 blk;

		for (u32 k = 1; k <= per && (blk = ext4_super_copy_blk(es, k)); k++)
			copies[k - 1] = le32_put((u32)(first + i +
						       (blk - es->first_data_blk) / es->blocks_per_group *
							       es->blocks_per_group));
	}
}

static void files(struct writer *w)
{
	const struct ext4_mkfs_plan *p = w->plan;

	inodes(w);
	directories(w);
	nodes(w, &p->root);
	nodes(w, &p->lost_found);
	if (p->resize_blk)
		resize_map(w);
	if (p->journal_blocks)
		jbd2_super_new(room(w, file_blk(&p->journal, 0), 1), ext4_block_bytes(w->es),
			       p->journal_blocks, p->opts.uuid);
	nodes(w, &p->journal);
	orphan_file(w);
	nodes(w, &p->orphans);
}

/* ---- descriptors and superblocks ---- */

static void descriptors(struct writer *w)
{
	const struct ext4_super *es = w->es;
	bool spread = ext4_has_incompat(es, EXT4_INCOMPAT_META_BG);
	size_t bytes = (size_t)es->gdt_blocks << es->block_bits;
	scoped(freep) u8 *table = os_alloc_aligned(4096, bytes);
	u64 blk;

	if (!table) {
		w->err = w->err ? w->err : fail(-ENOMEM, "no memory for group descriptors");
		return;
	}
	memset(table, 0, bytes);
	for (u32 i = 0; i < es->groups; i++)
		ext4_group_encode(es, i, &es->group[i], table + (size_t)i * es->desc_bytes);
	for (u32 copy = 0; !spread && (blk = ext4_group_desc_blk(es, 0, copy)); copy++)
		put(w, blk, table, bytes);
	for (u32 i = 0; spread && i < es->gdt_blocks; i++)
		for (u32 copy = 0; (blk = ext4_group_desc_blk(es, i, copy)); copy++)
			memcpy(room(w, blk, 1), table + ((size_t)i << es->block_bits), ext4_block_bytes(es));
}

static void super_put(const struct writer *w, struct ext4_disk_super d, u32 group, void *to)
{
	d.block_group_nr = le16_put((u16)group);
	/* Who has to use a copy has something to check. */
	if (group)
		d.state = le16_put(0);
	if (w->es->metadata_csum)
		d.checksum = le32_put(ext4_csum_super(&d));
	memcpy(to, &d, sizeof(d));
}

static void superblocks(struct writer *w)
{
	const struct ext4_super *es = w->es;
	struct ext4_disk_super d = es->disk;
	u8 *block;
	u64 blk;

	if (es->ro_compat & COUNTS_WRITES || ext4_has_incompat(es, EXT4_INCOMPAT_FLEX_BG))
		d.kbytes_written = le64_put(MAX(w->written_bytes >> 10, 1ull));
	for (u32 copy = 1; (blk = ext4_super_copy_blk(es, copy)); copy++)
		super_put(w, d, (u32)((blk - es->first_data_blk) / es->blocks_per_group), room(w, blk, 1));
	flush(w);
	block = room(w, es->super_blk, 1);
	super_put(w, d, 0, block + (EXT4_SUPER_OFF - (es->super_blk << es->block_bits)));
	flush(w);
}

int ext4_mkfs_write(struct ext4_mkfs_plan *plan, struct blkdev *dev)
{
	scoped(freep) struct writer *w = calloc(1, sizeof(*w));
	scoped(freep) u8 *arena = os_alloc_aligned(4096, ARENA_BYTES);

	if (!w || !arena)
		return fail(-ENOMEM, "no memory for what is to be written");
	w->plan = plan;
	w->es = plan->es;
	w->dev = dev;
	w->arena = arena;
	if (!plan->opts.zeroed)
		clear(w);
	bitmaps(w);
	files(w);
	descriptors(w);
	superblocks(w);
	return w->err;
}

/* ---- fs_type.format ---- */

static void plan_doc(const struct ext4_mkfs_plan *p, struct doc *out)
{
	struct doc *copies;
	u64 blk;

	ext4_super_brief(&p->es->disk, out);
	doc_u64(out, "journal_blocks", p->journal_blocks);
	doc_u64(out, "groups", p->es->groups);
	copies = doc_array(out, "superblock_copies");
	for (u32 copy = 1; (blk = ext4_super_copy_blk(p->es, copy)); copy++)
		doc_u64(copies, NULL, blk);
}

int ext4_format(struct blkdev *dev, const struct format_opts *opts, struct doc *out)
{
	struct ext4_mkfs_opts o;
	struct ext4_mkfs_plan plan;
	int err;

	if (opts->size_bytes > dev->size_bytes)
		return fail(-EINVAL, "%s has %llu bytes, not %llu", dev->name,
			    (unsigned long long)dev->size_bytes, (unsigned long long)opts->size_bytes);
	if (dev->flags & BLKDEV_RDONLY && !opts->dry)
		return fail(-EROFS, "%s cannot be written", dev->name);
	err = ext4_mkfs_parse(opts, dev->sector_bytes, &o);
	if (err)
		return err;
	err = ext4_mkfs_plan(&o, &plan);
	if (err == -ENOSPC)
		err = -EINVAL;
	if (!err && !opts->dry)
		err = ext4_mkfs_write(&plan, dev);
	if (!err && out)
		plan_doc(&plan, out);
	ext4_mkfs_free(&plan);
	return err;
}
