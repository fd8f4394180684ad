/*
 * Ways through trees that are made by hand, of one level to six, against a sorted array; what a walk does about damage: a leaf, a pointer
 * or an item that cannot be read hides itself alone, and what would lead in circles is refused.
 */
#include "craft.h"

#include "block/block.h"
#include <errno.h>
#include <time.h>

#define NODE     4096u
#define BASE     (1ull << 20)
#define ITEMS    5000u
#define DEV_SIZE (64ull << 20)

static struct btrfs_super bs;
static struct btrfs_root root;
static struct btrfs_key keys[ITEMS];
static u32 count, nodes;
static struct {
	u64 bytenr;
	u32 level;
	struct btrfs_key first;
} made[ITEMS * 2]; /* every node, in the order it was made: leaves first */

static void volume_begin(void)
{
	craft_super(&bs, NODE);
	assert_int_equal(dev_mem_new("crafted", DEV_SIZE, 1, &bs.vfs.dev), 0);
	bs.vfs.dev->health = &bs.vfs.health;
	assert_int_equal(bcache_new(0, &bs.vfs.cache), 0);
	assert_int_equal(bcache_attach(bs.vfs.cache, bs.vfs.dev, NODE), 0);
	bs.ahead_ok = true;
	nodes = 0;
}

/* Fails when a path kept a node. */
static void volume_end(void)
{
	assert_int_equal(bcache_detach(bs.vfs.dev, true), 0);
	bcache_free(bs.vfs.cache);
	bs.vfs.dev->health = NULL;
	blkdev_put(bs.vfs.dev);
	health_fini(&bs.vfs.health);
}

/* What was read so far is forgotten, so that what was written since is seen. */
static void forget(void)
{
	assert_int_equal(bcache_detach(bs.vfs.dev, true), 0);
	assert_int_equal(bcache_attach(bs.vfs.cache, bs.vfs.dev, NODE), 0);
	atomic_store(&bs.bad_items, false);
}

static void put_node(u8 *node, u64 bytenr)
{
	craft_seal(&bs, node);
	assert_int_equal(blkdev_write(bs.vfs.dev, bytenr, node, NODE, 0), 0);
}

static u64 new_node(u8 *node, u32 level)
{
	u64 bytenr = BASE + (u64)nodes * NODE;

	craft_node(&bs, node, bytenr, root.id, level);
	made[nodes].bytenr = bytenr;
	made[nodes++].level = level;
	return bytenr;
}

/* Item i: its number, in as many bytes as i says. */
static u32 item_len(u32 i)
{
	return 4 + i % 7;
}

/* A tree of `n` items, with at most `per` entries in a node; items of type 254, of which nothing is asked. */
static void tree_make(u32 n, u32 per)
{
	u32 below, from = 0;
	u8 node[NODE];

	root = (struct btrfs_root){ .bs = &bs, .id = BTRFS_TREE_FS, .generation = CRAFT_GENERATION };
	count = n;
	for (u32 i = 0; i < n; i++)
		keys[i] = BTRFS_KEY(256 + i / 10 * 3, 254, i % 10 * 5);
	for (u32 i = 0; i < n || !i;) {
		u64 bytenr = new_node(node, 0);

		made[nodes - 1].first = keys[i];
		for (u32 k = 0; k < per && i < n; k++, i++) {
			u8 data[16] = { (u8)i, (u8)(i >> 8) };

			craft_item(&bs, node, keys[i], data, item_len(i));
		}
		put_node(node, bytenr);
		if (!n)
			break;
	}
	for (below = nodes; below - from > 1; from = below, below = nodes) {
		root.level++;
		for (u32 i = from; i < below;) {
			u64 bytenr = new_node(node, root.level);

			made[nodes - 1].first = made[i].first;
			for (u32 k = 0; k < per && i < below; k++, i++)
				craft_ptr(node, made[i].first, made[i].bytenr);
			put_node(node, bytenr);
		}
	}
	root.bytenr = made[nodes - 1].bytenr;
}

static bool same_key(const struct btrfs_path *p, u32 i)
{
	struct btrfs_key k = btrfs_path_key(p);

	return !btrfs_key_cmp(&k, &keys[i]);
}

static void stands_on(const struct btrfs_path *p, u32 i)
{
	u32 len;
	const u8 *item = btrfs_path_item(p, &len);

	assert_true(same_key(p, i));
	assert_int_equal(len, item_len(i));
	assert_int_equal(item[0] | item[1] << 8, i);
}

/* The first key at or after k. */
static u32 model_at(const struct btrfs_key *k)
{
	u32 i = 0;

	while (i < count && btrfs_key_cmp(&keys[i], k) < 0)
		i++;
	return i;
}

static u32 rnd(u32 n)
{
	return (u32)rand() % n;
}

static struct btrfs_key random_key(void)
{
	if (!rnd(50))
		return rnd(2) ? BTRFS_KEY(0, 0, 0) : BTRFS_KEY_LAST;
	return BTRFS_KEY(250 + rnd(count / 10 * 3 + 20), (u8)(253 + rnd(3)), rnd(50));
}

/* One search of each kind. */
static void search(struct btrfs_path *p)
{
	struct btrfs_key k = random_key();
	u32 at = model_at(&k);
	bool exact = at < count && !btrfs_key_cmp(&keys[at], &k);
	int err = btrfs_find(&root, &k, p);

	assert_int_equal(err, exact ? 0 : -ENOENT);
	if (exact)
		stands_on(p, at);
	err = btrfs_seek_last(&root, &k, p);
	assert_int_equal(err, exact || at ? 0 : -ENOENT);
	if (!err)
		stands_on(p, exact ? at : at - 1);
	err = btrfs_seek(&root, &k, p);
	assert_int_equal(err, at < count ? 0 : -ENOENT);
	if (err)
		return;
	stands_on(p, at);
	for (u32 steps = rnd(40); steps; steps--) {
		bool forward = rnd(3);

		err = forward ? btrfs_next(p) : btrfs_prev(p);
		if (forward ? at + 1 == count : !at) {
			assert_int_equal(err, -ENOENT);
		} else {
			assert_int_equal(err, 0);
			at += forward ? 1 : -1u;
		}
		stands_on(p, at);
	}
}

static void walk(void)
{
	struct btrfs_path p = { 0 };
	u32 i = 0;
	int err;

	for (err = btrfs_seek(&root, &BTRFS_KEY(0, 0, 0), &p); !err; err = btrfs_next(&p))
		stands_on(&p, i++);
	assert_int_equal(err, -ENOENT);
	assert_int_equal(i, count);
	for (err = btrfs_seek_last(&root, &BTRFS_KEY_LAST, &p); !err; err = btrfs_prev(&p))
		stands_on(&p, --i);
	assert_int_equal(err, -ENOENT);
	assert_int_equal(i, 0);
	btrfs_path_put(&p);
}

static void shapes(void **state)
{
	static const struct {
		u32 n, per, level;
	} shape[] = {
		{ 0, 10, 0 },    { 1, 10, 0 },    { 60, 60, 0 },  { 61, 60, 1 },
		{ 5000, 60, 2 }, { 5000, 20, 2 }, { 4000, 7, 4 }, { 1000, 3, 6 },
	};
	u32 seed = getenv("SEED") ? (u32)atoi(getenv("SEED")) : (u32)time(NULL);

	(void)state;
	print_message("SEED=%u\n", seed);
	srand(seed);
	for (u32 s = 0; s < ARRAY_SIZE(shape); s++) {
		struct btrfs_path p = { 0 };

		volume_begin();
		tree_make(shape[s].n, shape[s].per);
		assert_int_equal(root.level, shape[s].level);
		walk();
		forget();
		for (u32 i = 0; i < 1500; i++)
			search(&p);
		btrfs_ahead(&root, &keys[0], 4);
		btrfs_path_put(&p);
		walk();
		assert_int_equal(bs.vfs.health.corrupt_count, 0);
		volume_end();
	}
}

/* ---- damage ---- */

/* The content of node i, as it lies. */
static u8 *get_node(u32 i)
{
	static u8 node[NODE];

	assert_int_equal(blkdev_read(bs.vfs.dev, made[i].bytenr, node, NODE), 0);
	return node;
}

static struct btrfs_disk_ptr *ptr_of(u8 *node, u32 slot)
{
	return (struct btrfs_disk_ptr *)(node + sizeof(struct btrfs_disk_header)) + slot;
}

/* Walks both ways; the keys that are hidden are those of [from, to), and the walk says so `errors` times. */
static void hides(u32 from, u32 to, u32 errors)
{
	for (int forward = 1; forward >= 0; forward--) {
		struct btrfs_path p = { 0 };
		u32 i = forward ? 0 : count, met = 0, steps = 0;
		int err = forward ? btrfs_seek(&root, &BTRFS_KEY(0, 0, 0), &p)
				  : btrfs_seek_last(&root, &BTRFS_KEY_LAST, &p);

		for (; err != -ENOENT; err = forward ? btrfs_next(&p) : btrfs_prev(&p)) {
			assert_true(++steps < 3 * ITEMS);
			if (err) {
				assert_int_equal(err, -EUCLEAN);
				assert_true(err_text()[0]);
				met++;
				/* Where it stands is known. */
				assert_true(from == to || same_key(&p, from));
				continue;
			}
			if (forward) {
				i = i == from ? to : i;
				assert_true(same_key(&p, i++));
			} else {
				i = i == to ? from : i;
				assert_true(same_key(&p, --i));
			}
		}
		if (forward)
			assert_int_equal(i == from ? to : i, count);
		else
			assert_int_equal(i == to ? from : i, 0);
		assert_int_equal(met, errors);
		btrfs_path_put(&p);
	}
	assert_true(bs.vfs.health.corrupt_count > 0);
}

static void bad_leaf(void **state)
{
	(void)state;
	for (u32 leaf = 0; leaf < 10; leaf += 3) {
		u8 *node;

		volume_begin();
		tree_make(100, 10);
		node = get_node(leaf);
		node[NODE - 1] ^= 1;
		assert_int_equal(blkdev_write(bs.vfs.dev, made[leaf].bytenr, node, NODE, 0), 0);
		hides(leaf * 10, leaf * 10 + 10, 1);
		volume_end();
	}
}

/* A node above: what is below it is hidden. */
static void bad_subtree(void **state)
{
	u8 *node;

	(void)state;
	volume_begin();
	tree_make(1000, 10); /* 100 leaves, 10 nodes above, the root */
	node = get_node(103);
	((struct btrfs_disk_header *)node)->generation = le64_put(CRAFT_GENERATION - 1);
	put_node(node, made[103].bytenr);
	hides(300, 400, 1);
	volume_end();
}

static void bad_root(void **state)
{
	struct btrfs_path p = { 0 };
	u8 *node;

	(void)state;
	volume_begin();
	tree_make(100, 10);
	node = get_node(nodes - 1);
	node[50] ^= 1;
	assert_int_equal(blkdev_write(bs.vfs.dev, root.bytenr, node, NODE, 0), 0);
	assert_int_equal(btrfs_seek(&root, &keys[5], &p), -EUCLEAN);
	assert_int_equal(btrfs_next(&p), -ENOENT);
	assert_int_equal(btrfs_prev(&p), -ENOENT);
	assert_int_equal(btrfs_find(&root, &keys[5], &p), -EUCLEAN);
	assert_int_equal(btrfs_seek_last(&root, &keys[5], &p), -EUCLEAN);
	btrfs_ahead(&root, &keys[5], 9);
	btrfs_path_put(&p);
	volume_end();
}

/* Searches say what a walk says. */
static void search_meets_damage(void **state)
{
	struct btrfs_path p = { 0 };
	u8 *node;

	(void)state;
	volume_begin();
	tree_make(100, 10);
	node = get_node(4);
	node[50] ^= 1;
	assert_int_equal(blkdev_write(bs.vfs.dev, made[4].bytenr, node, NODE, 0), 0);
	assert_int_equal(btrfs_find(&root, &keys[45], &p), -EUCLEAN);
	assert_int_equal(btrfs_seek_last(&root, &keys[45], &p), -EUCLEAN);
	assert_int_equal(btrfs_seek(&root, &keys[45], &p), -EUCLEAN);
	assert_true(same_key(&p, 40));
	assert_int_equal(btrfs_next(&p), 0);
	stands_on(&p, 50);
	assert_int_equal(btrfs_prev(&p), -EUCLEAN);
	assert_int_equal(btrfs_prev(&p), 0);
	stands_on(&p, 39);
	assert_int_equal(btrfs_find(&root, &keys[39], &p), 0);
	btrfs_path_put(&p);
	volume_end();
}

/* Item i of a leaf becomes an inode without bytes. */
static void bad_item(void **state)
{
	struct btrfs_path p = { 0 };
	u8 *node;

	(void)state;
	volume_begin();
	tree_make(100, 10);
	node = get_node(4);
	((struct btrfs_disk_item *)(node + sizeof(struct btrfs_disk_header)))[0].key.type =
		BTRFS_KEY_DIR_ITEM;
	keys[40].type = made[4].first.type = BTRFS_KEY_DIR_ITEM;
	put_node(node, made[4].bytenr);
	node = get_node(10);
	ptr_of(node, 4)->key.type = BTRFS_KEY_DIR_ITEM;
	put_node(node, made[10].bytenr);
	hides(40, 41, 1);
	assert_int_equal(btrfs_find(&root, &keys[40], &p), -EUCLEAN);
	assert_int_equal(btrfs_find(&root, &keys[41], &p), 0);
	assert_int_equal(btrfs_prev(&p), -EUCLEAN);
	assert_int_equal(btrfs_prev(&p), 0);
	stands_on(&p, 39);
	btrfs_path_put(&p);
	volume_end();
}

/* One pointer is changed; what was below it is hidden. */
static void bad_pointers(void **state)
{
	(void)state;
	for (int kind = 0; kind < 7; kind++) {
		struct btrfs_disk_ptr *ptr;
		u8 *node;

		volume_begin();
		tree_make(1000, 10);
		node = get_node(103);
		ptr = ptr_of(node, 5);
		switch (kind) {
		case 0:
			ptr->bytenr = le64_put(0);
			break;
		case 1:
			ptr->bytenr = le64_put(made[35].bytenr + 1);
			break;
		case 2: /* to itself */
			ptr->bytenr = le64_put(made[103].bytenr);
			break;
		case 3: /* to the root */
			ptr->bytenr = le64_put(root.bytenr);
			break;
		case 4: /* to its neighbour */
			ptr->bytenr = le64_put(made[36].bytenr);
			break;
		case 5:
			ptr->generation = le64_put(CRAFT_GENERATION - 1);
			break;
		case 6: /* to nothing */
			ptr->bytenr = le64_put(DEV_SIZE - NODE);
			break;
		}
		put_node(node, made[103].bytenr);
		hides(350, 360, 1);
		volume_end();
	}
}

/*
 * Two nodes that name the same leaves, but for their first: each is sound, and so is what each says of its children. Only that the
 * first goes beyond where the second begins gives it away; else a walk could take as long as there are ways.
 */
static void shared_children(void **state)
{
	u8 *node;

	(void)state;
	volume_begin();
	tree_make(200, 10); /* leaves 0 to 19, nodes 20 and 21, the root 22 */
	node = get_node(20);
	for (u32 i = 1; i < 10; i++)
		*ptr_of(node, i) =
			(struct btrfs_disk_ptr){ craft_key(made[10 + i].first), le64_put(made[10 + i].bytenr),
						 le64_put(CRAFT_GENERATION) };
	put_node(node, made[20].bytenr);
	hides(0, 100, 1);
	assert_non_null(strstr(bs.vfs.health.first, "its keys go beyond what its parent says"));
	volume_end();
}

/* A node that lies where no block of the cache begins is no damage. */
static void odd_address(void **state)
{
	struct btrfs_path p = { 0 };
	u8 *node;

	(void)state;
	volume_begin();
	bs.sector_bytes = 512;
	tree_make(100, 10);
	node = get_node(10);
	ptr_of(node, 5)->bytenr = le64_put(made[5].bytenr + 512);
	put_node(node, made[10].bytenr);
	assert_int_equal(btrfs_find(&root, &keys[55], &p), -EOPNOTSUPP);
	assert_int_equal(bs.vfs.health.corrupt_count, 0);
	btrfs_path_put(&p);
	volume_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shapes),
		cmocka_unit_test(bad_leaf),
		cmocka_unit_test(bad_subtree),
		cmocka_unit_test(bad_root),
		cmocka_unit_test(search_meets_damage),
		cmocka_unit_test(bad_item),
		cmocka_unit_test(bad_pointers),
		cmocka_unit_test(shared_children),
		cmocka_unit_test(odd_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
