/* The list of subvolumes and snapshots: every ROOT_ITEM of a tree with files. */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>

static const u8 no_uuid[16];

static void add_uuid(struct doc *d, const char *key, const u8 *uuid)
{
	if (memcmp(uuid, no_uuid, sizeof(no_uuid)))
		doc_uuid(d, key, uuid);
}

static void add_time(struct doc *d, const char *key, const struct btrfs_disk_time *t)
{
	doc_time(d, key, (s64)le64_get(t->sec), le32_get(t->nsec));
}

static int add_subvol(struct btrfs_super *bs, u64 id, struct doc *array)
{
	struct doc *d = doc_object(array, NULL);
	char name[BTRFS_NAME_MAX + 1];
	const struct btrfs_root *root;
	struct text path = { 0 };
	u64 parent, dirid;
	int err = btrfs_root_get(bs, id, &root);

	doc_u64(d, "id", id);
	if (err) {
		doc_str(d, "error", err_text());
		return err == -ENOMEM ? err : 0;
	}
	err = btrfs_root_path(bs, id, &path);
	doc_bytes(d, "path", text_str(&path), path.len_bytes);
	text_free(&path);
	if (!btrfs_root_parent(bs, id, &parent, &dirid, name))
		doc_u64(d, "parent", parent);
	doc_u64(d, "generation", root->generation);
	doc_u64(d, "created_generation", le64_get(root->item.otransid));
	if (le64_get(root->item.otime.sec))
		add_time(d, "created", &root->item.otime);
	add_uuid(d, "uuid", root->item.uuid);
	add_uuid(d, "parent_uuid", root->item.parent_uuid);
	add_uuid(d, "received_uuid", root->item.received_uuid);
	doc_bool(d, "readonly", root->flags & BTRFS_ROOT_RDONLY);
	doc_bool(d, "snapshot", memcmp(root->item.parent_uuid, no_uuid, sizeof(no_uuid)));
	/* What is left of a subvolume that was deleted, until a kernel has cleaned up. */
	doc_bool(d, "deleted", !le32_get(root->item.refs));
	doc_bool(d, "shown", root == bs->top);
	return err;
}

int btrfs_subvolumes(struct super_block *sb, struct doc *array)
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
		err = add_subvol(bs, last, array);
		if (err)
			return err;
	}
	return left_out ? fail(-EUCLEAN, "the root tree is damaged: some subvolumes are not shown") : 0;
}
