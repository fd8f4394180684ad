/* What may pass as a node: each check broken alone, in leaves and in nodes above them. What is bad in an item is not the node's. */
#include "craft.h"

#include <errno.h>

static struct btrfs_super bs;
static u8 node[16384];
static struct btrfs_disk_header *const h = (void *)node;
static struct blkdev dev = { .health = &bs.vfs.health };
static struct btrfs_expect want;

#define BYTENR 0x100000ull

static void leaf(void)
{
	craft_super(&bs, sizeof(node));
	craft_node(&bs, node, BYTENR, BTRFS_TREE_EXTENT, 0);
	craft_item(&bs, node, BTRFS_KEY(10, 2, 0), NULL, 20);
	craft_item(&bs, node, BTRFS_KEY(10, 3, 0), NULL, 0);
	craft_item(&bs, node, BTRFS_KEY(11, 2, 5), NULL, 30);
	want = (struct btrfs_expect){ BTRFS_TREE_EXTENT, 0, CRAFT_GENERATION, true, BTRFS_KEY(10, 2, 0) };
}

static void above(void)
{
	craft_super(&bs, sizeof(node));
	craft_node(&bs, node, BYTENR, BTRFS_TREE_EXTENT, 1);
	craft_ptr(node, BTRFS_KEY(10, 2, 0), 0x200000);
	craft_ptr(node, BTRFS_KEY(12, 2, 0), 0x204000);
	want = (struct btrfs_expect){ BTRFS_TREE_EXTENT, 1, CRAFT_GENERATION, true, BTRFS_KEY(10, 2, 0) };
}

static int verify(void)
{
	struct buffer_head bh = { .dev = &dev, .blk = BYTENR / sizeof(node), .size_bytes = sizeof(node) };
	struct bh_ctx ctx;

	btrfs_node_ctx(&want, &ctx);
	err_clear();
	return btrfs_node_ops.verify(&bh, node, &ctx);
}

static void passes(void)
{
	craft_seal(&bs, node);
	if (verify())
		fail_msg("does not pass: %s", err_text());
}

static void fails(const char *why)
{
	craft_seal(&bs, node);
	assert_int_equal(verify(), -EUCLEAN);
	if (!strstr(err_text(), why))
		fail_msg("\"%s\" is said, not \"%s\"", err_text(), why);
}

#define BAD(make, why, change) \
	do {                   \
		make();        \
		change;        \
		fails(why);    \
	} while (0)
#define GOOD(make, change) \
	do {               \
		make();    \
		change;    \
		passes();  \
	} while (0)

static struct btrfs_disk_item *item(u32 i)
{
	return (struct btrfs_disk_item *)(h + 1) + i;
}

static void identity(void **state)
{
	(void)state;
	GOOD(leaf, );
	BAD(leaf, "it says that it is block 0", h->bytenr = le64_put(0));
	BAD(leaf, "another volume", h->fsid[3] ^= 1);
	BAD(leaf, "its level is 1, not 0", h->level = 1);
	BAD(leaf, "its level is 8, not 8", (h->level = 8, want.level = 8));
	BAD(leaf, "its generation is 99, not 100", h->generation = le64_put(99));
	BAD(leaf, "its generation is 102, and the volume's 100",
	    (h->generation = le64_put(102), want.generation = 0));
	GOOD(leaf, (h->generation = le64_put(101), want.generation = 0));
	BAD(leaf, "it is of tree 7, not of 2", h->owner = le64_put(7));
	GOOD(leaf, (h->owner = le64_put(7), want.owner = 0));
}

static void seeds(void **state)
{
	(void)state;
	GOOD(leaf, (memset(h->fsid, 7, 16), memset(bs.seed_fsid[0], 7, 16), bs.seeds = 1));
	BAD(leaf, "another volume", (memset(h->fsid, 7, 16), memset(bs.seed_fsid[0], 7, 16)));
}

/* A subvolume may have nodes of any subvolume, and of no other tree. */
static void owners(void **state)
{
	(void)state;
	GOOD(leaf, (want.owner = BTRFS_TREE_FS, h->owner = le64_put(300)));
	GOOD(leaf, (want.owner = 257, h->owner = le64_put(BTRFS_TREE_FS)));
	BAD(leaf, "it is of tree 2", want.owner = 257);
	BAD(leaf, "it is of tree -9",
	    (want.owner = BTRFS_TREE_FS, h->owner = le64_put(BTRFS_TREE_DATA_RELOC)));
	BAD(leaf, "it is of tree 5", (want.owner = BTRFS_TREE_LOG, h->owner = le64_put(BTRFS_TREE_FS)));
	BAD(leaf, "it is of tree 281474976711666", /* a quota group of level 1 */
	    (want.owner = BTRFS_TREE_FS, h->owner = le64_put((1ull << 48) + 1010)));
}

static void checksum(void **state)
{
	(void)state;
	leaf();
	craft_seal(&bs, node);
	node[sizeof(node) - 1] ^= 1; /* in the first item */
	assert_int_equal(verify(), -EUCLEAN);
	assert_non_null(strstr(err_text(), "wrong checksum"));
	bs.opts.ignore_meta_csums = true;
	assert_int_equal(verify(), 0);
	/* That alone is relaxed. */
	h->bytenr = le64_put(0);
	assert_int_equal(verify(), -EUCLEAN);
}

static void leaves(void **state)
{
	const u32 most = (sizeof(node) - sizeof(*h)) / sizeof(struct btrfs_disk_item);

	(void)state;
	BAD(leaf, "more entries than there is room", h->nritems = le32_put(most + 1));
	BAD(leaf, "more entries than there is room", h->nritems = le32_put(~0u));
	BAD(leaf, "it is empty", h->nritems = le32_put(0));
	GOOD(leaf, (h->nritems = le32_put(0), want.has_key = false));
	BAD(leaf, "not in order", item(1)->key = item(0)->key);
	BAD(leaf, "not in order", item(2)->key.objectid = le64_put(9));
	BAD(leaf, "not in order", item(1)->key.type = 1);
	BAD(leaf, "overlap, or leave a gap", item(0)->len_bytes = le32_put(21));
	BAD(leaf, "overlap, or leave a gap", item(0)->offset_bytes = le32_put(~0u - 5));
	BAD(leaf, "overlap, or leave a gap", item(1)->len_bytes = le32_put(1));
	BAD(leaf, "overlap, or leave a gap", item(2)->len_bytes = le32_put(~0u));
	BAD(leaf, "overlap, or leave a gap", item(2)->len_bytes = le32_put(29));
	BAD(leaf, "its first key is not", want.first.offset = 1);
	GOOD(leaf, (want.first.offset = 1, want.has_key = false));
}

/* The last item's bytes reach down to the items, and over them. */
static void crowded(void **state)
{
	u32 len;

	(void)state;
	leaf();
	len = craft_room(&bs, node) - (u32)sizeof(struct btrfs_disk_item);
	craft_item(&bs, node, BTRFS_KEY(12, 2, 0), NULL, len);
	passes();
	item(3)->offset_bytes = le32_put(le32_get(item(3)->offset_bytes) - 1);
	item(3)->len_bytes = le32_put(len + 1);
	fails("lie over its items");
}

static void pointers(void **state)
{
	const u32 most = (sizeof(node) - sizeof(*h)) / sizeof(struct btrfs_disk_ptr);
	struct btrfs_disk_ptr *p = (void *)(h + 1);

	(void)state;
	GOOD(above, );
	BAD(above, "it is empty", h->nritems = le32_put(0));
	BAD(above, "it is empty", (h->nritems = le32_put(0), want.has_key = false));
	BAD(above, "more entries than there is room", h->nritems = le32_put(most + 1));
	BAD(above, "not in order", p[1].key = p[0].key);
	BAD(above, "its first key is not", want.first.objectid = 9);
	/* A pointer that leads nowhere is looked at when it is followed. */
	GOOD(above, p[1].bytenr = le64_put(1));
}

/* Two expectations that differ are two contexts; those of two subvolumes are one. */
static void contexts(void **state)
{
	struct btrfs_expect a = { 300, 1, 7, true, { 1, 2, 3 } }, b = a;
	struct bh_ctx x, y;

	(void)state;
	btrfs_node_ctx(&a, &x);
	b.owner = BTRFS_TREE_FS;
	btrfs_node_ctx(&b, &y);
	assert_memory_equal(&x, &y, sizeof(x));
#define DIFFERS(change)                                     \
	do {                                                \
		b = a;                                      \
		change;                                     \
		btrfs_node_ctx(&b, &y);                     \
		assert_memory_not_equal(&x, &y, sizeof(x)); \
	} while (0)
	DIFFERS(b.owner = BTRFS_TREE_CSUM);
	DIFFERS(b.level = 2);
	DIFFERS(b.generation = 8);
	DIFFERS(b.has_key = false);
	DIFFERS(b.first.objectid = 2);
	DIFFERS(b.first.type = 3);
	DIFFERS(b.first.offset = 4);
}

/* A leaf with a bad item passes, and the volume knows. */
static void bad_items(void **state)
{
	(void)state;
	leaf();
	passes();
	assert_false(bs.bad_items);
	craft_item(&bs, node, BTRFS_KEY(12, BTRFS_KEY_INODE_ITEM, 0), NULL, 160);
	passes();
	assert_true(bs.bad_items);
	assert_int_equal(bs.vfs.health.corrupt_count, 1);
	assert_string_equal(err_text(), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity), cmocka_unit_test(seeds),    cmocka_unit_test(owners),
		cmocka_unit_test(checksum), cmocka_unit_test(leaves),   cmocka_unit_test(crowded),
		cmocka_unit_test(pointers), cmocka_unit_test(contexts), cmocka_unit_test(bad_items),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
