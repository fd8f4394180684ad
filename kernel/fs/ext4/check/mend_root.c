/* A new root directory. */
#include "check.h"

#include "lib/scope.h"

#define ROOT_MODE (S_IFDIR | 0755)

static void fill_root(struct ck *ck, struct ck_inode *ci, u64 blk)
{
	const struct ext4_super *es = ck->es;
	le32 now = le32_put((u32)super_now(&ck->es->vfs).sec);

	memset(ci->raw, 0, es->inode_bytes);
	ci->raw->mode = le16_put(ROOT_MODE);
	ci->raw->links_count = le16_put(2);
	ci->raw->atime = ci->raw->ctime = ci->raw->mtime = now;
	if (es->inode_bytes > EXT4_INODE_BYTES_OLD)
		ci->raw->extra_isize = le16_put((u16)(sizeof(struct ext4_disk_inode) - EXT4_INODE_BYTES_OLD));
	ck_inode_set_size(ci, ext4_block_bytes(es));
	ck_inode_set_blocks(ck, ci, 1ull << (es->cluster_bits + es->block_bits - 9));
	if (ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS)) {
		ck->runs = ck->nodes = 0;
		ck_run_add(ck, 0, blk, 1, false);
		(void)ck_tree_build(ck, ci);
	} else {
		((le32 *)ci->raw->block)[0] = le32_put((u32)blk);
	}
}

/* Its one block: "." and "..". */
static bool root_block(struct ck *ck, u64 blk)
{
	const struct ext4_super *es = ck->es;
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u32 tail = ext4_leaf_bytes(es);
	struct ext4_disk_dir_tail *t;

	if (!ck_read(ck, blk, &bh))
		return false;
	ext4_leaf_top(es, bh->data, EXT4_INO_ROOT, EXT4_INO_ROOT);
	if (es->metadata_csum) {
		t = (void *)((u8 *)bh->data + tail);
		t->checksum =
			le32_put(ext4_csum_dir(ext4_csum_inode_seed(es, EXT4_INO_ROOT, 0), bh->data, tail));
	}
	ck_put(ck, bh);
	return true;
}

bool ck_root_make(struct ck *ck)
{
	const struct ext4_super *es = ck->es;
	struct ck_inode ci = { .ino = EXT4_INO_ROOT };
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ck_ino *in = ck_ino_make(ck, EXT4_INO_ROOT);
	u64 cluster, blk, table;
	u32 off;

	if (!in || ext4_inode_where(es, EXT4_INO_ROOT, &table, &off) || ck_alloc(ck, 0, 1, &cluster) ||
	    !ck_read(ck, table, &bh))
		return false;
	blk = es->first_data_blk + (cluster << es->cluster_bits);
	if (!root_block(ck, blk))
		return false;
	ci.raw = (void *)((u8 *)bh->data + off);
	fill_root(ck, &ci, blk);
	ck_inode_put(ck, &ci);
	*in = (struct ck_ino){ .flags = CK_USED, .links = 2, .kind = S_IFDIR >> 12 };
	if (ck_room(ck, &ck->blk, ck->blks, &ck->blk_room, sizeof(*ck->blk)))
		ck->blk[ck->blks++] = (struct ck_dirblk){ .pblk = blk };
	return !ck->err;
}
