/*
 * Trees by id and subvolumes by name, on volumes whose trees are one leaf each: paths there and back, old items without their later
 * members, and names that lead in circles.
 */
#include "craft.h"

#include "block/block.h"
#include <errno.h>

#define NODE 16384u

static struct btrfs_super bs;
static u8 leaf[4][NODE]; /* of the root tree, of the top level, of 256, of 257 */
static const u64 ids[4] = { BTRFS_TREE_ROOT, BTRFS_TREE_FS, 256, 257 };

static u64 place(u32 i)
{
	return (u64)(i + 1) * NODE;
}

static void begin(void)
{
	craft_super(&bs, NODE);
	mutex_init(&bs.roots_lock, RANK_ALLOC);
	bs.disk.root_dir_objectid = le64_put(BTRFS_TREE_ROOT_DIR);
	assert_int_equal(dev_mem_new("crafted", 1 << 20, 1, &bs.vfs.dev), 0);
	bs.vfs.dev->health = &bs.vfs.health;
	assert_int_equal(bcache_new(0, &bs.vfs.cache), 0);
	assert_int_equal(bcache_attach(bs.vfs.cache, bs.vfs.dev, NODE), 0);
	bs.tree_root = (struct btrfs_root){
		.bs = &bs, .id = BTRFS_TREE_ROOT, .bytenr = place(0), .generation = CRAFT_GENERATION
	};
	for (u32 i = 0; i < 4; i++)
		craft_node(&bs, leaf[i], place(i), ids[i], 0);
}

static void written(void)
{
	for (u32 i = 0; i < 4; i++) {
		craft_seal(&bs, leaf[i]);
		assert_int_equal(blkdev_write(bs.vfs.dev, place(i), leaf[i], NODE, 0), 0);
	}
}

static void end(void)
{
	btrfs_roots_free(&bs);
	assert_int_equal(bcache_detach(bs.vfs.dev, true), 0);
	bcache_free(bs.vfs.cache);
	bs.vfs.dev->health = NULL;
	blkdev_put(bs.vfs.dev);
	mutex_fini(&bs.roots_lock);
	health_fini(&bs.vfs.health);
}

static struct btrfs_disk_root *add_root(u32 i, u64 offset, u32 len)
{
	struct btrfs_disk_root *d =
		craft_item(&bs, leaf[0], BTRFS_KEY(ids[i], BTRFS_KEY_ROOT_ITEM, offset), NULL, len);

	d->generation = le64_put(CRAFT_GENERATION);
	d->root_dirid = le64_put(BTRFS_OBJ_FIRST_FREE);
	d->bytenr = le64_put(place(i));
	d->refs = le32_put(1);
	return d;
}

static void add_backref(u64 id, u64 parent, u64 dirid, const char *name)
{
	u32 len = (u32)strlen(name);
	struct btrfs_disk_root_ref *d = craft_item(
		&bs, leaf[0], BTRFS_KEY(id, BTRFS_KEY_ROOT_BACKREF, parent), NULL, sizeof(*d) + len);

	d->dirid = le64_put(dirid);
	d->name_len = le16_put((u16)len);
	memcpy(d->name, name, len);
}

static void add_entry(void *in, u64 dirid, const char *name, struct btrfs_key location)
{
	u32 len = (u32)strlen(name);
	struct btrfs_disk_dir_item *d =
		craft_item(&bs, in, BTRFS_KEY(dirid, BTRFS_KEY_DIR_ITEM, btrfs_name_hash(name, len)), NULL,
			   sizeof(*d) + len);

	d->location = craft_key(location);
	d->type = BTRFS_FT_DIR;
	d->name_len = le16_put((u16)len);
	memcpy(d->name, name, len);
}

static void add_ref(void *in, u64 objectid, u64 parent, const char *name)
{
	u32 len = (u32)strlen(name);
	struct btrfs_disk_inode_ref *d =
		craft_item(&bs, in, BTRFS_KEY(objectid, BTRFS_KEY_INODE_REF, parent), NULL, sizeof(*d) + len);

	d->name_len = le16_put((u16)len);
	memcpy(d->name, name, len);
}

static void add_dir(void *in, u64 objectid)
{
	struct btrfs_disk_inode *d =
		craft_item(&bs, in, BTRFS_KEY(objectid, BTRFS_KEY_INODE_ITEM, 0), NULL, sizeof(*d));

	d->mode = le32_put(S_IFDIR | 0755);
	d->nlink = le32_put(1);
}

/* "dir" is a directory of the top level, "dir/sub" the subvolume 256, "dir/sub/in" the subvolume 257. */
static void make(void)
{
	begin();
	add_root(1, 0, sizeof(struct btrfs_disk_root));
	add_entry(leaf[0], BTRFS_TREE_ROOT_DIR, "default", BTRFS_KEY(257, BTRFS_KEY_ROOT_ITEM, ~0ull));
	add_root(2, 0, sizeof(struct btrfs_disk_root));
	add_backref(256, BTRFS_TREE_FS, 300, "sub");
	add_root(3, 0, sizeof(struct btrfs_disk_root));
	add_backref(257, 256, BTRFS_OBJ_FIRST_FREE, "in");
	add_entry(leaf[1], BTRFS_OBJ_FIRST_FREE, "dir", BTRFS_KEY(300, BTRFS_KEY_INODE_ITEM, 0));
	add_dir(leaf[1], 300);
	add_ref(leaf[1], 300, BTRFS_OBJ_FIRST_FREE, "dir");
	add_entry(leaf[1], 300, "sub", BTRFS_KEY(256, BTRFS_KEY_ROOT_ITEM, ~0ull));
	add_entry(leaf[2], BTRFS_OBJ_FIRST_FREE, "in", BTRFS_KEY(257, BTRFS_KEY_ROOT_ITEM, ~0ull));
}

static void has_path(u64 id, const char *path)
{
	struct text t = { 0 };

	assert_int_equal(btrfs_root_path(&bs, id, &t), 0);
	assert_string_equal(text_str(&t), path);
	text_free(&t);
}

static void names(void **state)
{
	char name[256];
	u64 id, parent, dirid;

	(void)state;
	make();
	written();
	has_path(BTRFS_TREE_FS, "");
	has_path(256, "dir/sub");
	has_path(257, "dir/sub/in");
	has_path(300, "?");
	assert_int_equal(btrfs_root_default(&bs, &id), 0);
	assert_int_equal(id, 257);
	assert_int_equal(btrfs_root_parent(&bs, 256, &parent, &dirid, name), 0);
	assert_int_equal(parent, BTRFS_TREE_FS);
	assert_int_equal(dirid, 300);
	assert_string_equal(name, "sub");
	assert_int_equal(btrfs_root_parent(&bs, BTRFS_TREE_FS, &parent, &dirid, name), -ENOENT);
	end();
}

static void by_path(void **state)
{
	static const struct {
		const char *path;
		int err;
		u64 id;
	} of[] = {
		{ "", 0, 5 },
		{ "/", 0, 5 },
		{ "dir/sub", 0, 256 },
		{ "/dir/sub/", 0, 256 },
		{ "//dir///sub/in", 0, 257 },
		{ "dir", -EINVAL, 0 },
		{ "sub", -ENOENT, 0 },
		{ "dir/sub/none", -ENOENT, 0 },
		{ "..", -ENOENT, 0 },
		{ "dir/su", -ENOENT, 0 },
	};
	char longest[400];
	u64 id;

	(void)state;
	make();
	written();
	for (u32 i = 0; i < ARRAY_SIZE(of); i++) {
		assert_int_equal(btrfs_root_by_path(&bs, of[i].path, &id), of[i].err);
		if (!of[i].err)
			assert_int_equal(id, of[i].id);
	}
	memset(longest, 'a', sizeof(longest));
	longest[sizeof(longest) - 1] = 0;
	assert_int_equal(btrfs_root_by_path(&bs, longest, &id), -ENOENT);
	end();
}

static void by_id(void **state)
{
	const struct btrfs_root *root, *again;

	(void)state;
	make();
	written();
	assert_int_equal(btrfs_root_get(&bs, 256, &root), 0);
	assert_int_equal(root->id, 256);
	assert_int_equal(root->bytenr, place(2));
	assert_int_equal(root->dirid, BTRFS_OBJ_FIRST_FREE);
	assert_int_equal(btrfs_root_get(&bs, 256, &again), 0);
	assert_ptr_equal(root, again);
	assert_int_equal(btrfs_root_get(&bs, 256 + ARRAY_SIZE(bs.roots), &again), -ENOENT);
	assert_int_equal(btrfs_root_get(&bs, 7, &again), -ENOENT);
	assert_int_equal(btrfs_root_get(&bs, BTRFS_TREE_ROOT, &again), 0);
	assert_ptr_equal(again, &bs.tree_root);
	end();
}

/* What an old kernel did not keep up does not count; of a snapshot the offset is not 0; of two items the later one counts. */
static void old_items(void **state)
{
	const struct btrfs_root *root;
	struct btrfs_disk_root *d;
	const u8 zeros[16] = { 0 };

	(void)state;
	begin();
	d = add_root(1, 0, sizeof(*d));
	d->generation_v2 = le64_put(CRAFT_GENERATION - 1);
	memset(d->uuid, 1, sizeof(d->uuid));
	add_root(2, 50, BTRFS_ROOT_ITEM_V1_BYTES);
	d = add_root(3, 50, sizeof(*d));
	d->bytenr = le64_put(0);
	d = add_root(3, 60, sizeof(*d));
	d->generation_v2 = d->generation;
	memset(d->uuid, 1, sizeof(d->uuid));
	written();
	assert_int_equal(btrfs_root_get(&bs, 5, &root), 0);
	assert_memory_equal(root->item.uuid, zeros, 16);
	assert_int_equal(btrfs_root_get(&bs, 256, &root), 0);
	assert_int_equal(root->bytenr, place(2));
	assert_memory_equal(root->item.uuid, zeros, 16);
	assert_int_equal(btrfs_root_get(&bs, 257, &root), 0);
	assert_int_equal(root->bytenr, place(3));
	assert_memory_not_equal(root->item.uuid, zeros, 16);
	end();
}

/* 256 is in 257, which is in 256; a directory is in itself. */
static void circles(void **state)
{
	struct text t = { 0 };
	u64 id;

	(void)state;
	begin();
	add_root(1, 0, sizeof(struct btrfs_disk_root));
	add_root(2, 0, sizeof(struct btrfs_disk_root));
	add_backref(256, 257, BTRFS_OBJ_FIRST_FREE, "a");
	add_root(3, 0, sizeof(struct btrfs_disk_root));
	add_backref(257, 256, BTRFS_OBJ_FIRST_FREE, "b");
	add_entry(leaf[1], BTRFS_OBJ_FIRST_FREE, "top", BTRFS_KEY(5, BTRFS_KEY_ROOT_ITEM, ~0ull));
	written();
	assert_int_equal(btrfs_root_path(&bs, 256, &t), 0);
	assert_int_equal(text_str(&t)[0], '?');
	assert_true(t.len_bytes < 4096);
	/* A path has an end. */
	assert_int_equal(btrfs_root_by_path(&bs, "top/top/top", &id), 0);
	assert_int_equal(id, BTRFS_TREE_FS);
	end();
	begin();
	add_root(1, 0, sizeof(struct btrfs_disk_root));
	add_root(2, 0, sizeof(struct btrfs_disk_root));
	add_backref(256, BTRFS_TREE_FS, 300, "a");
	add_dir(leaf[1], 300);
	add_ref(leaf[1], 300, 300, "x");
	written();
	assert_int_equal(btrfs_root_path(&bs, 256, &t), 0);
	assert_int_equal(text_str(&t)[0], '?');
	text_free(&t);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),     cmocka_unit_test(by_path), cmocka_unit_test(by_id),
		cmocka_unit_test(old_items), cmocka_unit_test(circles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
