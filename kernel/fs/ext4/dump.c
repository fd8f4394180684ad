/*
 * `dump`: one printer per on-disk structure. Works on what is damaged too: a block is shown with the verdict of
 * its verifier, an inode with that of its checksum, and what makes no sense is shown as it is.
 *
 * The volume is opened as for a mount, only without asking for a root directory; `superblock` needs not even that.
 */
#include "ext4.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DUMP_MAX 100000u /* entries of one object; more help nobody */

struct dumper {
	struct ext4_super *es;
	struct ext4_inode *ei; /* of the objects that belong to an inode */
	struct doc *out;
	u32 left; /* of DUMP_MAX */
	u64 nr;
};

/* ---- helpers ---- */

static bool spend(struct dumper *d)
{
	return d->left && d->left--;
}

/* A block with its verdict; NULL after the reading failed, which is noted. */
static struct buffer_head *read_shown(struct dumper *d, u64 blk, const struct bh_ops *ops, struct bh_ctx ctx,
				      struct doc *out)
{
	struct buffer_head *bh = NULL;
	int verdict = 0, err;

	doc_u64(out, "block", blk);
	if (blk >= d->es->blocks) {
		doc_str(out, "error", "not on the volume");
		return NULL;
	}
	err_clear();
	err = bh_read_raw(d->es->vfs.dev, blk, ops, &ctx, &bh, &verdict);
	if (err || verdict)
		doc_str(out, "error", err_text());
	return err ? NULL : bh;
}

/* ---- group ---- */

#define M(field, kind) DOC_MEMBER(struct ext4_disk_group, field, kind)
static const struct doc_member group_members[] = {
	M(block_bitmap_lo, NUMBER),
	M(block_bitmap_hi, NUMBER),
	M(inode_bitmap_lo, NUMBER),
	M(inode_bitmap_hi, NUMBER),
	M(inode_table_lo, NUMBER),
	M(inode_table_hi, NUMBER),
	M(free_blocks_count_lo, NUMBER),
	M(free_blocks_count_hi, NUMBER),
	M(free_inodes_count_lo, NUMBER),
	M(free_inodes_count_hi, NUMBER),
	M(used_dirs_count_lo, NUMBER),
	M(used_dirs_count_hi, NUMBER),
	M(itable_unused_lo, NUMBER),
	M(itable_unused_hi, NUMBER),
	M(flags, HEX),
	M(exclude_bitmap_lo, NUMBER),
	M(exclude_bitmap_hi, NUMBER),
	M(block_bitmap_csum_lo, HEX),
	M(block_bitmap_csum_hi, HEX),
	M(inode_bitmap_csum_lo, HEX),
	M(inode_bitmap_csum_hi, HEX),
	M(checksum, HEX),
};
#undef M

static int check_group(struct dumper *d)
{
	if (d->nr < d->es->groups)
		return 0;
	return fail(-EINVAL, "the volume has groups 0 to %u", d->es->groups - 1);
}

static int dump_group(struct dumper *d)
{
	u32 group = (u32)d->nr, i = group / d->es->descs_per_block;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_group g;
	const char *bad;
	const u8 *desc;
	int err = check_group(d);

	if (err)
		return err;
	doc_u64(d->out, "first_block", ext4_group_start(d->es, group));
	doc_u64(d->out, "blocks", ext4_group_blocks(d->es, group));
	doc_bool(d->out, "has_superblock", ext4_group_has_super(d->es, group));
	bh = read_shown(d, ext4_group_desc_blk(d->es, i, 0), &ext4_gdt_ops, (struct bh_ctx){ { 0 } }, d->out);
	if (!bh)
		return 0;
	desc = (const u8 *)bh->data + (size_t)(group % d->es->descs_per_block) * d->es->desc_bytes;
	ext4_group_decode(d->es, desc, &g);
	bad = ext4_group_wrong(d->es, group, desc, &g);
	if (bad)
		doc_str(d->out, "error", bad);
	doc_members(d->out, group_members, ARRAY_SIZE(group_members), desc, d->es->desc_bytes);
	return 0;
}

/* ---- bitmaps ---- */

static bool bit(const u8 *map, u32 i)
{
	return map[i / 8] >> i % 8 & 1;
}

/* The set bits as ranges, each the number that bit 0 stands for further on. */
static void bits_doc(struct dumper *d, struct doc *out, const u8 *map, u32 bits, u64 first, u32 step)
{
	struct doc *a = doc_array(out, "in_use");

	for (u32 i = 0, from; i < bits && spend(d); i++) {
		char s[64];

		while (i < bits && !bit(map, i))
			i++;
		for (from = i; i < bits && bit(map, i);)
			i++;
		if (from == i)
			break;
		snprintf(s, sizeof(s), "%llu-%llu", (unsigned long long)(first + (u64)from * step),
			 (unsigned long long)(first + (u64)i * step - 1));
		doc_str(a, NULL, s);
	}
}

static int dump_bitmap(struct dumper *d)
{
	const struct ext4_group *g;
	struct buffer_head *bh;
	struct doc *o;
	u32 group = (u32)d->nr;
	int err = check_group(d);

	if (err)
		return err;
	g = &d->es->group[group];
	o = doc_object(d->out, "block_bitmap");
	if (g->flags & EXT4_GROUP_BLOCK_UNINIT)
		doc_str(o, "state", "not written yet: follows from the layout");
	bh = read_shown(d, g->block_bitmap,
			g->flags & EXT4_GROUP_BLOCK_UNINIT ? &ext4_gdt_ops : &ext4_block_bitmap_ops,
			ext4_ctx_group(group), o);
	if (bh && !(g->flags & EXT4_GROUP_BLOCK_UNINIT))
		bits_doc(d, o, bh->data, ext4_group_blocks(d->es, group) >> d->es->cluster_bits,
			 ext4_group_start(d->es, group), 1u << d->es->cluster_bits);
	bh_put(bh);
	o = doc_object(d->out, "inode_bitmap");
	if (g->flags & EXT4_GROUP_INODE_UNINIT)
		doc_str(o, "state", "not written yet: no inode is in use");
	bh = read_shown(d, g->inode_bitmap,
			g->flags & EXT4_GROUP_INODE_UNINIT ? &ext4_gdt_ops : &ext4_inode_bitmap_ops,
			ext4_ctx_group(group), o);
	if (bh && !(g->flags & EXT4_GROUP_INODE_UNINIT))
		bits_doc(d, o, bh->data, d->es->inodes_per_group, (u64)group * d->es->inodes_per_group + 1,
			 1);
	bh_put(bh);
	return 0;
}

/* ---- inode ---- */

#define M(field, kind) DOC_MEMBER(struct ext4_disk_inode, field, kind)
static const struct doc_member inode_members[] = {
	M(links_count, NUMBER), M(blocks_lo, NUMBER),   M(blocks_hi, NUMBER), M(version, NUMBER),
	M(version_hi, NUMBER),  M(generation, NUMBER),  M(dtime, NUMBER),     M(file_acl_lo, NUMBER),
	M(file_acl_hi, NUMBER), M(extra_isize, NUMBER), M(projid, NUMBER),    M(checksum_lo, HEX),
	M(checksum_hi, HEX),
};
#undef M

static const struct {
	u32 bit;
	const char *name;
} flag_names[] = {
	{ EXT4_FL_SECRM, "secrm" },
	{ EXT4_FL_UNRM, "unrm" },
	{ EXT4_FL_COMPR, "compr" },
	{ EXT4_FL_SYNC, "sync" },
	{ EXT4_FL_IMMUTABLE, "immutable" },
	{ EXT4_FL_APPEND, "append" },
	{ EXT4_FL_NODUMP, "nodump" },
	{ EXT4_FL_NOATIME, "noatime" },
	{ EXT4_FL_ENCRYPT, "encrypt" },
	{ EXT4_FL_INDEX, "index" },
	{ EXT4_FL_IMAGIC, "imagic" },
	{ EXT4_FL_JOURNAL_DATA, "journal_data" },
	{ EXT4_FL_NOTAIL, "notail" },
	{ EXT4_FL_DIRSYNC, "dirsync" },
	{ EXT4_FL_TOPDIR, "topdir" },
	{ EXT4_FL_HUGE_FILE, "huge_file" },
	{ EXT4_FL_EXTENTS, "extents" },
	{ EXT4_FL_VERITY, "verity" },
	{ EXT4_FL_EA_INODE, "ea_inode" },
	{ EXT4_FL_DAX, "dax" },
	{ EXT4_FL_INLINE_DATA, "inline_data" },
	{ EXT4_FL_PROJINHERIT, "projinherit" },
	{ EXT4_FL_CASEFOLD, "casefold" },
};

static void flags_doc(struct doc *out, u32 flags)
{
	struct doc *a = doc_array(out, "flags");

	for (u32 i = 0; i < ARRAY_SIZE(flag_names); i++)
		if (flags & flag_names[i].bit)
			doc_str(a, NULL, flag_names[i].name);
}

static const char *type_name(u32 mode)
{
	static const char *const name[16] = { "none",
					      "fifo",
					      "character device",
					      "?",
					      "directory",
					      "?",
					      "block device",
					      "?",
					      "file",
					      "?",
					      "symlink",
					      "?",
					      "socket",
					      "?",
					      "?",
					      "?" };

	return name[mode >> 12 & 15];
}

static void inode_times_doc(struct ext4_super *es, const struct ext4_disk_inode *raw, struct doc *out)
{
	struct timespec64 t = ext4_inode_time(es, raw, &raw->atime, &raw->atime_extra);

	doc_time(out, "atime", t.sec, t.nsec);
	t = ext4_inode_time(es, raw, &raw->mtime, &raw->mtime_extra);
	doc_time(out, "mtime", t.sec, t.nsec);
	t = ext4_inode_time(es, raw, &raw->ctime, &raw->ctime_extra);
	doc_time(out, "ctime", t.sec, t.nsec);
	t = ext4_inode_time(es, raw, &raw->crtime, &raw->crtime_extra);
	if (t.sec || t.nsec)
		doc_time(out, "crtime", t.sec, t.nsec);
}

static void inode_doc(struct dumper *d, const struct ext4_disk_inode *raw)
{
	u32 mode = le16_get(raw->mode), mask, sum, fields = EXT4_INODE_BYTES_OLD;
	struct ext4_super *es = d->es;
	char octal[16];

	snprintf(octal, sizeof(octal), "%04o", mode & 07777);
	doc_str(d->out, "type", type_name(mode));
	doc_str(d->out, "mode", octal);
	doc_u64(d->out, "uid", le16_get(raw->uid_lo) | (u32)le16_get(raw->uid_hi) << 16);
	doc_u64(d->out, "gid", le16_get(raw->gid_lo) | (u32)le16_get(raw->gid_hi) << 16);
	doc_u64(d->out, "size", le32_get(raw->size_lo) | (u64)le32_get(raw->size_hi) << 32);
	flags_doc(d->out, le32_get(raw->flags));
	inode_times_doc(es, raw, d->out);
	if (es->inode_bytes > EXT4_INODE_BYTES_OLD)
		fields = MIN(es->inode_bytes, EXT4_INODE_BYTES_OLD + le16_get(raw->extra_isize));
	doc_members(d->out, inode_members, ARRAY_SIZE(inode_members), raw, fields);
	if (es->metadata_csum) {
		u32 seed = ext4_csum_inode_seed(es, (u32)d->nr, le32_get(raw->generation));

		sum = ext4_csum_inode_stored(es, raw, &mask);
		doc_str(d->out, "checksum_is",
			(ext4_csum_inode(es, seed, raw) & mask) == sum ? "right" : "wrong");
	}
	doc_hexdump(doc_array(d->out, "i_block"), raw->block, sizeof(raw->block));
}

static int dump_inode(struct dumper *d)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 blk;
	u32 off;
	int err = ext4_inode_where(d->es, d->nr, &blk, &off);

	if (err)
		return err;
	doc_u64(d->out, "group", ext4_ino_group(d->es, d->nr));
	doc_u64(d->out, "offset", off);
	bh = read_shown(d, blk, &ext4_itable_ops, (struct bh_ctx){ { 0 } }, d->out);
	if (bh)
		inode_doc(d, (const void *)((const u8 *)bh->data + off));
	return 0;
}

/* ---- maps ---- */

static void extent_node_doc(struct dumper *d, const void *node, u32 bytes, u32 depth, struct doc *out)
{
	const struct ext4_disk_extent_header *h = node;
	const struct ext4_disk_extent *e = (const void *)(h + 1);
	u32 n = MIN((u32)le16_get(h->entries), (bytes - (u32)sizeof(*h)) / (u32)sizeof(*e));
	struct doc *a;

	doc_u64(out, "depth", le16_get(h->depth));
	doc_u64(out, "entries", le16_get(h->entries));
	doc_u64(out, "max", le16_get(h->max));
	a = doc_array(out, depth ? "index" : "extents");
	for (u32 i = 0; i < n && spend(d); i++) {
		struct doc *o = doc_object(a, NULL);
		u32 len = le16_get(e[i].len);

		doc_u64(o, "lblk", le32_get(e[i].lblk));
		if (depth) {
			const struct ext4_disk_extent_idx *x = (const void *)&e[i];
			struct buffer_head *bh =
				read_shown(d, le32_get(x->leaf_lo) | (u64)le16_get(x->leaf_hi) << 32,
					   &ext4_extent_ops, ext4_ctx_map(d->ei, depth - 1), o);

			if (bh)
				extent_node_doc(d, bh->data, bh->size_bytes, depth - 1, o);
			bh_put(bh);
			continue;
		}
		doc_u64(o, "len", len > EXT4_EXTENT_INIT_MAX ? len - EXT4_EXTENT_INIT_MAX : len);
		doc_u64(o, "block", le32_get(e[i].start_lo) | (u64)le16_get(e[i].start_hi) << 32);
		if (len > EXT4_EXTENT_INIT_MAX)
			doc_bool(o, "unwritten", true);
	}
}

/* What the map says, run by run, for maps without a tree. */
static int runs_doc(struct dumper *d)
{
	struct doc *a = doc_array(d->out, "runs");
	u64 end = DIV_ROUND_UP(ext4_size(d->ei), (u64)ext4_block_bytes(d->es));
	struct ext4_run run;

	for (u64 lblk = 0; lblk < end && spend(d); lblk = run.lblk + run.len) {
		int err = ext4_map_blocks(d->ei, lblk, end - lblk, &run);
		struct doc *o;

		if (err)
			return err;
		if (!run.pblk)
			continue;
		o = doc_object(a, NULL);
		doc_u64(o, "lblk", run.lblk);
		doc_u64(o, "len", run.len);
		doc_u64(o, "block", run.pblk);
	}
	return 0;
}

static int dump_extents(struct dumper *d)
{
	const struct ext4_disk_extent_header *h = (const void *)d->ei->block;

	if (d->ei->flags & EXT4_FL_INLINE_DATA) {
		doc_str(d->out, "map", "inline data");
		return 0;
	}
	if (!ext4_has_extents(d->ei)) {
		doc_str(d->out, "map", "block pointers");
		return runs_doc(d);
	}
	doc_str(d->out, "map", "extents");
	extent_node_doc(d, h, sizeof(d->ei->block), le16_get(h->depth), d->out);
	return 0;
}

/* ---- directories ---- */

static void records_doc(struct dumper *d, const void *p, u32 len, struct doc *out)
{
	struct doc *a = doc_array(out, "entries");
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad = NULL;

	ext4_dirent_iter(&it, p, len, ext4_block_bytes(d->es));
	while (spend(d) && (de = ext4_dirent_next(&it, &bad))) {
		struct doc *o = doc_object(a, NULL);

		doc_u64(o, "offset", it.off);
		doc_u64(o, "inode", le32_get(de->inode));
		doc_u64(o, "rec_len", it.next - it.off);
		doc_u64(o, "type", de->file_type);
		doc_bytes(o, "name", ext4_dirent_name(de), de->name_len);
	}
	if (bad)
		doc_str(out, "error", bad);
}

static void index_doc(struct dumper *d, const struct ext4_dx *dx, struct doc *out)
{
	struct doc *a;

	if (dx->info) {
		doc_u64(out, "hash_version", dx->info->hash_version);
		doc_u64(out, "indirect_levels", dx->info->indirect_levels);
		doc_hex(out, "unused_flags", dx->info->unused_flags);
	}
	doc_u64(out, "limit", dx->limit);
	doc_u64(out, "count", dx->count);
	a = doc_array(out, "index");
	for (u32 i = 0; i < dx->count && spend(d); i++) {
		struct doc *o = doc_object(a, NULL);

		doc_hex(o, "hash", i ? le32_get(dx->entry[i].hash) : 0);
		doc_u64(o, "lblk", le32_get(dx->entry[i].lblk));
	}
}

static int inline_dir_doc(struct dumper *d)
{
	struct ext4_inline in;
	int err = ext4_inline_get(d->ei, &in);

	if (err)
		return err;
	if (in.piece[0].len > sizeof(le32)) {
		doc_u64(d->out, "parent", le32_get(*(const le32 *)in.piece[0].p));
		records_doc(d, in.piece[0].p + sizeof(le32), in.piece[0].len - (u32)sizeof(le32),
			    doc_object(d->out, "i_block"));
	}
	if (in.piece[1].len)
		records_doc(d, in.piece[1].p, in.piece[1].len, doc_object(d->out, "system.data"));
	ext4_inline_put(&in);
	return 0;
}

/* Block lblk of the directory, with its place and verdict. NULL: a hole, or it could not be read. */
static struct buffer_head *dir_block_shown(struct dumper *d, u64 lblk, struct doc *out)
{
	struct ext4_run run;

	doc_u64(out, "lblk", lblk);
	if (ext4_map_blocks(d->ei, lblk, 1, &run)) {
		doc_str(out, "error", err_text());
		return NULL;
	}
	if (!run.pblk) {
		doc_str(out, "error", "a hole");
		return NULL;
	}
	return read_shown(d, run.pblk + lblk - run.lblk, &ext4_dir_ops, ext4_ctx_dir(d->ei, (u32)lblk), out);
}

static int dump_dir(struct dumper *d)
{
	u64 blocks = DIV_ROUND_UP(ext4_size(d->ei), (u64)ext4_block_bytes(d->es));
	struct doc *a;

	if (!is_dir(&d->ei->vfs))
		return fail(-ENOTDIR, "inode %llu is not a directory", (unsigned long long)d->nr);
	if (d->ei->flags & EXT4_FL_INLINE_DATA)
		return inline_dir_doc(d);
	a = doc_array(d->out, "blocks");
	for (u64 lblk = 0; lblk < blocks && spend(d); lblk++) {
		struct doc *o = doc_object(a, NULL);
		struct buffer_head *bh = dir_block_shown(d, lblk, o);
		struct ext4_dx dx;

		if (bh && ext4_dx_parse(d->es, bh->data, !lblk, &dx))
			index_doc(d, &dx, o);
		if (bh)
			records_doc(d, bh->data, bh->size_bytes, o);
		bh_put(bh);
	}
	return 0;
}

/* An index block and those below it, `levels` deep. */
static void htree_doc(struct dumper *d, u64 lblk, u32 levels, struct doc *out)
{
	scoped(bh_putp) struct buffer_head *bh = dir_block_shown(d, lblk, out);
	struct ext4_dx dx;
	struct doc *a;

	if (!bh)
		return;
	if (!ext4_dx_parse(d->es, bh->data, !lblk, &dx)) {
		doc_str(out, "error", "not an index block");
		return;
	}
	index_doc(d, &dx, out);
	if (!lblk)
		levels = MIN((u32)dx.info->indirect_levels, levels);
	if (!levels)
		return;
	a = doc_array(out, "nodes");
	for (u32 i = 0; i < dx.count && spend(d); i++)
		htree_doc(d, le32_get(dx.entry[i].lblk), levels - 1, doc_object(a, NULL));
}

static int dump_htree(struct dumper *d)
{
	if (!is_dir(&d->ei->vfs) || !(d->ei->flags & EXT4_FL_INDEX))
		return fail(-EINVAL, "inode %llu is not a hashed directory", (unsigned long long)d->nr);
	htree_doc(d, 0, 2, d->out);
	return 0;
}

/* ---- extended attributes ---- */

#define M(field, kind) DOC_MEMBER(struct ext4_disk_xattr_header, field, kind)
static const struct doc_member xattr_members[] = { M(refcount, NUMBER), M(blocks, NUMBER), M(hash, HEX),
						   M(checksum, HEX) };
#undef M

static void list_doc(struct dumper *d, const struct ext4_xattr_list *l, struct doc *out)
{
	const struct ext4_disk_xattr_entry *e = NULL;
	struct doc *a = doc_array(out, "entries");

	while (spend(d) && (e = ext4_xattr_next(l, e))) {
		struct doc *o = doc_object(a, NULL);

		doc_u64(o, "index", e->name_index);
		doc_bytes(o, "name", ext4_xattr_entry_name(e), e->name_len);
		doc_u64(o, "size", le32_get(e->value_size));
		doc_hex(o, "hash", le32_get(e->hash));
		if (le32_get(e->value_inum))
			doc_u64(o, "value_inode", le32_get(e->value_inum));
		else if (le32_get(e->value_size))
			doc_hexdump(doc_array(o, "value"), ext4_xattr_value(l, e), le32_get(e->value_size));
	}
}

static int dump_xattr(struct dumper *d)
{
	struct ext4_xattr_list l;
	struct doc *o;
	int err = ext4_xattr_ibody(d->ei, &l);

	if (err != -ENODATA) {
		o = doc_object(d->out, "in_inode");
		if (err)
			doc_str(o, "error", err_text());
		else
			list_doc(d, &l, o);
		ext4_xattr_list_put(&l);
	}
	err = ext4_xattr_block(d->ei, &l);
	if (err != -ENODATA) {
		o = doc_object(d->out, "in_block");
		doc_u64(o, "block", d->ei->xattr_blk);
		if (err) {
			doc_str(o, "error", err_text());
		} else {
			doc_members(o, xattr_members, ARRAY_SIZE(xattr_members), l.base, l.bytes);
			list_doc(d, &l, o);
		}
		ext4_xattr_list_put(&l);
	}
	return 0;
}

/* ---- verity ---- */

#define M(field, kind) DOC_MEMBER(struct ext4_disk_verity, field, kind)
static const struct doc_member verity_members[] = {
	M(version, NUMBER),   M(hash_algorithm, NUMBER), M(log_blocksize, NUMBER),
	M(salt_size, NUMBER), M(sig_size, NUMBER),       M(data_size, NUMBER),
};
#undef M

static void doc_plain_hex(struct doc *out, const char *key, const u8 *p, u32 len)
{
	struct text t = { 0 };

	for (u32 i = 0; i < len; i++)
		text_add(&t, "%02x", p[i]);
	doc_str(out, key, text_str(&t));
	text_free(&t);
}

static int dump_verity(struct dumper *d)
{
	struct ext4_disk_verity v;
	u64 off;
	int err;

	if (!is_reg(&d->ei->vfs) || !(d->ei->flags & EXT4_FL_VERITY))
		return fail(-EINVAL, "inode %llu is no verity file", (unsigned long long)d->nr);
	err = ext4_verity_read(d->ei, &v, &off);
	if (err)
		return err;
	doc_u64(d->out, "offset", off);
	doc_members(d->out, verity_members, ARRAY_SIZE(verity_members), &v, sizeof(v));
	doc_plain_hex(d->out, "root_hash", v.root_hash, sizeof(v.root_hash));
	doc_plain_hex(d->out, "salt", v.salt, sizeof(v.salt));
	return 0;
}

/* ---- journal ---- */

static int dump_journal(struct dumper *d)
{
	const struct jbd2_info *info;
	struct jbd2 *journal;
	int err;

	if (!ext4_journal_is_inside(d->es))
		return fail(-EINVAL, "the volume has no journal on itself");
	err = ext4_journal_open(d->es, d->ei, &journal);
	if (err)
		return err;
	info = jbd2_info(journal);
	doc_u64(d->out, "inode", d->ei->vfs.ino);
	doc_uuid(d->out, "uuid", info->uuid);
	doc_u64(d->out, "block_bytes", info->block_bytes);
	doc_u64(d->out, "blocks", info->blocks);
	doc_u64(d->out, "first", info->first);
	doc_u64(d->out, "end", info->end);
	doc_u64(d->out, "start", info->start);
	doc_u64(d->out, "sequence", info->sequence);
	doc_hex(d->out, "compat", info->compat);
	doc_hex(d->out, "incompat", info->incompat);
	doc_u64(d->out, "fast_commit_first", info->fc_first);
	doc_u64(d->out, "fast_commit_blocks", info->fc_count);
	doc_s64(d->out, "error", info->err);
	doc_bool(d->out, "needs_recovery", info->needs_recovery);
	jbd2_close(journal);
	return 0;
}

/* ---- anything ---- */

static int dump_block(struct dumper *d)
{
	scoped(bh_putp) struct buffer_head *bh =
		read_shown(d, d->nr, &ext4_gdt_ops, (struct bh_ctx){ { 0 } }, d->out);

	if (bh)
		doc_hexdump(doc_array(d->out, "bytes"), bh->data, bh->size_bytes);
	return 0;
}

static const struct {
	const char *word;
	bool of_inode; /* the number is an inode's, which is loaded first */
	int (*fn)(struct dumper *d);
} dumps[] = {
	{ "group", false, dump_group },     { "bitmap", false, dump_bitmap }, { "inode", false, dump_inode },
	{ "extents", true, dump_extents },  { "dir", true, dump_dir },        { "htree", true, dump_htree },
	{ "xattr", true, dump_xattr },      { "block", false, dump_block },   { "verity", true, dump_verity },
	{ "journal", false, dump_journal },
};

static int usage(void)
{
	return fail(-EINVAL, "dump what? superblock or journal; or group, bitmap (of a group), inode, "
			     "extents, dir, htree, "
			     "xattr, verity (of an inode), block, each with a number");
}

static int dump_superblock(struct blkdev *dev, const struct mount_opts *opts, struct doc *out)
{
	struct ext4_disk_super d;
	u64 off;
	int err = ext4_sb_read(dev, opts, &d, &off);

	if (err && le16_get(d.magic) != EXT4_MAGIC)
		return err;
	doc_u64(out, "at_byte", off);
	if (err)
		doc_str(out, "error", err_text());
	ext4_super_doc(&d, out);
	return 0;
}

/* What a volume is of that is opened for its structures only. */
static const struct fs_type opened = { .name = "ext4" };

/* Opens the volume, and the inode where there is one. */
static int dump_opened(struct blkdev *dev, const struct mount_opts *opts, u32 which, u64 nr, struct doc *out)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	struct dumper d = { .ei = ei, .out = out, .left = DUMP_MAX, .nr = nr };
	struct mount_opts as_it_lies = *opts;
	int err;

	as_it_lies.norecovery = true;
	err = ei ? ext4_super_open(dev, &opened, &as_it_lies, &d.es)
		 : fail(-ENOMEM, "no memory for an inode");

	if (err)
		return err;
	if (dumps[which].of_inode) {
		ei->vfs.sb = &d.es->vfs;
		ei->vfs.ino = nr;
		err = ext4_inode_load(ei);
	}
	if (!err)
		err = dumps[which].fn(&d);
	if (!d.left)
		doc_str(out, "cut_off", "there is more than is shown");
	vfs_unmount(&d.es->vfs);
	return err;
}

int ext4_dump(struct blkdev **devs, u32 n, const struct mount_opts *opts, u32 words, const char *const *word,
	      struct doc *out)
{
	bool numbered = !words || strcmp(word[0], "journal") != 0;
	int err = ext4_one_device(n);
	u64 nr = 0;
	char *end;

	if (err)
		return err;
	if (words == 1 && !strcmp(word[0], "superblock"))
		return dump_superblock(devs[0], opts, out);
	if (words != 1u + numbered)
		return usage();
	if (numbered) {
		errno = 0;
		nr = strtoull(word[1], &end, 0);
		if (*end || errno || end == word[1] || word[1][0] == '-')
			return fail(-EINVAL, "\"%s\" is not a number", word[1]);
	}
	for (u32 i = 0; i < ARRAY_SIZE(dumps); i++)
		if (!strcmp(word[0], dumps[i].word))
			return dump_opened(devs[0], opts, i, nr, out);
	return usage();
}
