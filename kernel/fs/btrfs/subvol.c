/* The list of subvolumes and snapshots: every ROOT_ITEM of a tree with files. */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>

static const u8 no_uuid[16];

static void fill(const struct btrfs_root *root, struct subvolume *s)
{
	const struct btrfs_disk_root *item = &root->item;

	s->generation = root->generation;
	s->created_generation = le64_get(item->otransid);
	s->created = (struct timespec64){ (s64)le64_get(item->otime.sec), le32_get(item->otime.nsec) };
	memcpy(s->uuid, item->uuid, sizeof(s->uuid));
	memcpy(s->parent_uuid, item->parent_uuid, sizeof(s->parent_uuid));
	memcpy(s->received_uuid, item->received_uuid, sizeof(s->received_uuid));
	s->rdonly = root->flags & BTRFS_ROOT_RDONLY;
	s->snapshot = memcmp(item->parent_uuid, no_uuid, sizeof(no_uuid));
	/* Until a kernel has cleaned up. */
	s->deleted = !le32_get(item->refs);
}

static int emit_subvol(struct btrfs_super *bs, u64 id, subvolume_fn emit, void *ctx)
{
	struct subvolume s = { .id = id };
	char name[BTRFS_NAME_MAX + 1];
	const struct btrfs_root *root;
	struct text path = { 0 };
	u64 dirid;
	int err = btrfs_root_get(bs, id, &root);

	if (err)
		return err;
	fill(root, &s);
	s.shown = root == bs->top;
	if (btrfs_root_parent(bs, id, &s.parent, &dirid, name))
		s.parent = 0;
	err = btrfs_root_path(bs, id, &path);
	s.path = text_str(&path);
	if (!err)
		err = emit(ctx, &s);
	text_free(&path);
	return err;
}

int btrfs_subvolumes(struct super_block *sb, subvolume_fn emit, void *ctx)
{
	struct btrfs_super *bs = btrfs_super(sb);
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	bool left_out = false;
	u64 last = 0;
	int err = btrfs_seek(&bs->tree_root, &BTRFS_KEY(BTRFS_TREE_FS, BTRFS_KEY_ROOT_ITEM, 0), &p);

	for (; err != -ENOENT; err = btrfs_next(&p)) {
		struct btrfs_key key = btrfs_path_key(&p);

		if (err == -EUCLEAN || err == -EIO) {
			left_out = true;
			continue;
		}
		if (err)
			return err;
		if (key.type != BTRFS_KEY_ROOT_ITEM || !btrfs_is_subvol(key.objectid) || key.objectid == last)
			continue;
		last = key.objectid;
		err = emit_subvol(bs, last, emit, ctx);
		if (err)
			return err;
	}
	return left_out ? fail(-EUCLEAN, "the root tree is damaged: some subvolumes are not shown") : 0;
}
