/*
 * What may pass as an item: for each type one that is good, and each check broken alone. Random bytes of any type are judged without
 * reading beyond them, and their printers do not mind.
 */
#include "craft.h"

#include "lib/crc.h"
#include <sys/stat.h>
#include <time.h>

static struct btrfs_super bs;
static u8 leaf[16384];
static void *data; /* of the item under test, the last one */

static u32 slot(void)
{
	return btrfs_nritems(leaf) - 1;
}

static struct btrfs_disk_key *key(void)
{
	return &((struct btrfs_disk_item *)(leaf + sizeof(struct btrfs_disk_header)))[slot()].key;
}

/* The item again, of another length: what is new is zeros. */
static void resize(u32 len)
{
	struct btrfs_disk_header *h = (void *)leaf;
	struct btrfs_key k = btrfs_key_get(key());
	u8 old[8192];
	u32 n = btrfs_item_len(leaf, slot());

	memcpy(old, data, n);
	h->nritems = le32_put(slot());
	data = craft_item(&bs, leaf, k, NULL, len);
	memset(data, 0, len);
	memcpy(data, old, MIN(n, len));
}

static void begin(u64 owner)
{
	craft_super(&bs, sizeof(leaf));
	craft_node(&bs, leaf, 0x100000, owner, 0);
}

static void *add(u64 objectid, u8 type, u64 offset, u32 len)
{
	return data = craft_item(&bs, leaf, BTRFS_KEY(objectid, type, offset), NULL, len);
}

static void is_good(int line)
{
	const char *bad = btrfs_item_wrong(&bs, leaf, slot());

	if (bad)
		fail_msg("line %d: does not pass: %s", line, bad);
}

static void is_bad(int line, const char *why)
{
	const char *bad = btrfs_item_wrong(&bs, leaf, slot());

	if (!bad || strcmp(bad, why))
		fail_msg("line %d: \"%s\" is said, not \"%s\"", line, bad ? bad : "nothing", why);
}

#define GOOD(make, change)         \
	do {                       \
		make();            \
		change;            \
		is_good(__LINE__); \
	} while (0)
#define BAD(make, why, change)         \
	do {                           \
		make();                \
		change;                \
		is_bad(__LINE__, why); \
	} while (0)

/* ---- inodes and names ---- */

static void make_inode(void)
{
	struct btrfs_disk_inode *d;

	begin(BTRFS_TREE_FS);
	d = add(257, BTRFS_KEY_INODE_ITEM, 0, sizeof(*d));
	d->generation = d->transid = le64_put(CRAFT_GENERATION);
	d->mode = le32_put(S_IFDIR | 0755);
	d->nlink = le32_put(1);
}

static void inodes(void **state)
{
	(void)state;
#define I ((struct btrfs_disk_inode *)data)
	GOOD(make_inode, );
	GOOD(make_inode, key()->objectid = le64_put(BTRFS_TREE_ROOT_DIR));
	GOOD(make_inode, key()->objectid = le64_put(BTRFS_OBJ_FREE_INO));
	BAD(make_inode, "an inode of an impossible number", key()->objectid = le64_put(255));
	BAD(make_inode, "an inode of an impossible number", key()->objectid = le64_put(BTRFS_OBJ_FREE_SPACE));
	BAD(make_inode, "an inode with an offset", key()->offset = le64_put(1));
	BAD(make_inode, "an inode of a wrong size", resize(159));
	BAD(make_inode, "an inode of a wrong size", resize(161));
	BAD(make_inode, "an inode from the future", I->generation = le64_put(CRAFT_GENERATION + 2));
	BAD(make_inode, "an inode from the future", I->transid = le64_put(CRAFT_GENERATION + 2));
	GOOD(make_inode, I->transid = le64_put(CRAFT_GENERATION + 1));
	BAD(make_inode, "an inode with unknown bits of mode", I->mode = le32_put(S_IFDIR | 0200000));
	BAD(make_inode, "an inode of no known type", I->mode = le32_put(0755));
	BAD(make_inode, "an inode of no known type", I->mode = le32_put(0150755));
	BAD(make_inode, "a directory with several links", I->nlink = le32_put(2));
	GOOD(make_inode, (I->nlink = le32_put(2), I->mode = le32_put(S_IFREG)));
	BAD(make_inode, "an inode with unknown flags", I->flags = le64_put(1ull << 33));
	GOOD(make_inode, I->flags = le64_put(BTRFS_INODE_RO_VERITY | BTRFS_INODE_COMPRESS));
	BAD(make_inode, "an inode of an impossible size", I->size_bytes = le64_put(1ull << 63));
#undef I
}

static void make_ref(void)
{
	struct btrfs_disk_inode_ref *d;

	make_inode();
	d = add(257, BTRFS_KEY_INODE_REF, 256, sizeof(*d) + 4);
	d->name_len = le16_put(4);
	memcpy(d->name, "name", 4);
}

static void make_extref(void)
{
	struct btrfs_disk_inode_extref *d;

	make_inode();
	d = add(257, BTRFS_KEY_INODE_EXTREF, btrfs_extref_hash(256, "name", 4), sizeof(*d) + 4);
	d->parent = le64_put(256);
	d->name_len = le16_put(4);
	memcpy(d->name, "name", 4);
}

/* Of another object than the item before. */
static void orphaned(void)
{
	key()->objectid = le64_put(258);
}

static void refs(void **state)
{
	(void)state;
#define R ((struct btrfs_disk_inode_ref *)data)
	GOOD(make_ref, );
	BAD(make_ref, "a name of an inode that is not there", orphaned());
	/* A log has what was synced, not whole inodes; other trees keep no inodes. */
	GOOD(make_ref, (orphaned(), ((struct btrfs_disk_header *)leaf)->owner = le64_put(BTRFS_TREE_LOG)));
	BAD(make_ref, "a list of names without a name", resize(0));
	BAD(make_ref, "a name that is cut off", resize(9));
	BAD(make_ref, "a name that is cut off", R->name_len = le16_put(5));
	BAD(make_ref, "a name that is cut off", resize(15));
	BAD(make_ref, "a name that cannot be", R->name[1] = '/');
	BAD(make_ref, "a name that cannot be", R->name[1] = 0);
	BAD(make_ref, "a name that cannot be",
	    (R->name_len = le16_put(2), resize(12), memcpy(R->name, "..", 2)));
	BAD(make_ref, "a name that cannot be", (R->name_len = le16_put(1), resize(11), R->name[0] = '.'));
	BAD(make_ref, "a name that cannot be", (R->name_len = le16_put(0), resize(10)));
	BAD(make_ref, "a name that cannot be",
	    (R->name_len = le16_put(256), resize(266), memset(R->name, 'a', 256)));
	GOOD(make_ref, (R->name_len = le16_put(255), resize(265), memset(R->name, 'a', 255)));
	GOOD(make_ref, (R->name_len = le16_put(2), resize(12), memcpy(R->name, "..", 2),
			key()->offset = le64_put(257)));
	GOOD(make_ref, memcpy(R->name, "....", 4));
#undef R
#define R ((struct btrfs_disk_inode_extref *)data)
	GOOD(make_extref, );
	BAD(make_extref, "a name of an inode that is not there", orphaned());
	BAD(make_extref, "a list of names without a name", resize(0));
	BAD(make_extref, "a name that is cut off", resize(17));
	BAD(make_extref, "a name that is cut off", R->name_len = le16_put(5));
	BAD(make_extref, "a name that cannot be", R->name[3] = '/');
	BAD(make_extref, "a name in a directory of an impossible number", R->parent = le64_put(5));
	BAD(make_extref, "a name whose hash is another", R->name[3] ^= 1);
#undef R
}

static void make_entry(u8 type)
{
	struct btrfs_disk_dir_item *d;

	make_inode();
	d = add(257, type, type == BTRFS_KEY_DIR_INDEX ? 2 : btrfs_name_hash("name", 4), sizeof(*d) + 4);
	d->location = craft_key(BTRFS_KEY(300, BTRFS_KEY_INODE_ITEM, 0));
	d->type = type == BTRFS_KEY_XATTR_ITEM ? BTRFS_FT_XATTR : BTRFS_FT_REG;
	if (type == BTRFS_KEY_XATTR_ITEM)
		d->location = craft_key(BTRFS_KEY(0, 0, 0));
	d->name_len = le16_put(4);
	memcpy(d->name, "name", 4);
}

static void make_dir_item(void)
{
	make_entry(BTRFS_KEY_DIR_ITEM);
}

static void make_dir_index(void)
{
	make_entry(BTRFS_KEY_DIR_INDEX);
}

static void make_xattr(void)
{
	make_entry(BTRFS_KEY_XATTR_ITEM);
}

/* A second entry behind the first, the same. */
static void twice(void)
{
	u32 len = btrfs_item_len(leaf, slot());

	resize(2 * len);
	memcpy((u8 *)data + len, data, len);
}

static void entries(void **state)
{
	(void)state;
#define D ((struct btrfs_disk_dir_item *)data)
	GOOD(make_dir_item, );
	GOOD(make_dir_item, twice());
	GOOD(make_dir_index, );
	BAD(make_dir_index, "several entries at one place", twice());
	BAD(make_dir_item, "an entry of an inode that is not there", orphaned());
	BAD(make_dir_item, "an item for entries without an entry", resize(0));
	BAD(make_dir_item, "an entry that is cut off", resize(29));
	BAD(make_dir_item, "an entry that is cut off", resize(35));
	BAD(make_dir_item, "an entry that is cut off", D->name_len = le16_put(5));
	BAD(make_dir_item, "an entry that is cut off", D->data_len = le16_put(65535));
	BAD(make_dir_item, "an entry of a type that cannot be here", D->type = 9);
	BAD(make_dir_item, "an entry of a type that cannot be here", D->type = BTRFS_FT_XATTR);
	BAD(make_xattr, "an entry of a type that cannot be here", D->type = BTRFS_FT_REG);
	GOOD(make_dir_item, D->type |= BTRFS_FT_ENCRYPTED);
	BAD(make_dir_item, "an entry whose name cannot be", D->name[0] = '/');
	BAD(make_dir_item, "an entry whose name cannot be", (D->name_len = le16_put(0), resize(30)));
	BAD(make_dir_item, "an entry with data", (D->data_len = le16_put(1), resize(35)));
	BAD(make_dir_item, "an entry that leads nowhere", D->location.type = BTRFS_KEY_DIR_ITEM);
	BAD(make_dir_item, "an entry that leads nowhere", D->location.objectid = le64_put(7));
	BAD(make_dir_item, "an entry that leads nowhere", D->location.offset = le64_put(7));
	GOOD(make_dir_item, D->location = craft_key(BTRFS_KEY(256, BTRFS_KEY_ROOT_ITEM, ~0ull)));
	GOOD(make_dir_item, D->location = craft_key(BTRFS_KEY(2, BTRFS_KEY_INODE_ITEM, 0)));
	BAD(make_dir_item, "an entry that leads nowhere",
	    D->location = craft_key(BTRFS_KEY(2, BTRFS_KEY_ROOT_ITEM, 0)));
	BAD(make_dir_item, "an entry whose hash is another", D->name[0] = 'N');
	GOOD(make_dir_index, D->name[0] = 'N');
	GOOD(make_xattr, );
	GOOD(make_xattr, (D->data_len = le16_put(9), resize(43)));
	GOOD(make_xattr, (memcpy(D->name, "a/.b", 4), key()->offset = le64_put(btrfs_name_hash("a/.b", 4))));
	BAD(make_xattr, "an attribute whose name cannot be", D->name[0] = 0);
	BAD(make_xattr, "an attribute whose name cannot be",
	    (D->name_len = le16_put(0), D->data_len = le16_put(4)));
	BAD(make_xattr, "an entry whose hash is another", D->name[0] = 'N');
#undef D
}

/* ---- data ---- */

static void make_extent(void)
{
	struct btrfs_disk_file_extent *d;

	make_inode();
	d = add(257, BTRFS_KEY_EXTENT_DATA, 0, sizeof(*d));
	*d = (struct btrfs_disk_file_extent){
		.ram_bytes = le64_put(8192),
		.kind = BTRFS_EXTENT_REG,
		.disk_bytenr = le64_put(1 << 20),
		.disk_bytes = le64_put(8192),
		.num_bytes = le64_put(8192),
	};
	d = add(257, BTRFS_KEY_EXTENT_DATA, 8192, sizeof(*d));
	memcpy(d, btrfs_item_data(leaf, 1), sizeof(*d));
}

static void make_packed(void)
{
	struct btrfs_disk_file_extent *d;

	make_extent();
	d = data;
	d->compression = BTRFS_COMPRESS_ZSTD;
	d->disk_bytes = le64_put(4096);
	d->ram_bytes = le64_put(131072);
	d->offset_bytes = le64_put(131072 - 8192);
}

static void make_inline(void)
{
	struct btrfs_disk_file_extent *d;

	make_inode();
	d = add(257, BTRFS_KEY_EXTENT_DATA, 0, BTRFS_FILE_EXTENT_HEAD_BYTES + 100);
	d->ram_bytes = le64_put(100);
	d->kind = BTRFS_EXTENT_INLINE;
}

static void extents(void **state)
{
	const char *unaligned = "an extent that is not aligned",
		   *more = "an extent that shows more than it has",
		   *length = "an extent of an impossible length",
		   *packed_length = "a compressed extent of an impossible length";

	(void)state;
#define E ((struct btrfs_disk_file_extent *)data)
	GOOD(make_extent, );
	BAD(make_extent, "data of an inode that is not there", orphaned());
	BAD(make_extent, unaligned, key()->offset = le64_put(8193));
	BAD(make_extent, "an extent of a wrong size", resize(20));
	BAD(make_extent, "an extent of a wrong size", resize(52));
	BAD(make_extent, "an extent of a wrong size", resize(54));
	BAD(make_extent, "an extent of no known kind", E->kind = 3);
	BAD(make_extent, "an extent compressed in no known way", E->compression = 4);
	BAD(make_extent, "an extent that is encrypted or encoded", E->encryption = 1);
	BAD(make_extent, "an extent that is encrypted or encoded", E->other_encoding = le16_put(1));
	BAD(make_extent, unaligned, E->ram_bytes = le64_put(8191));
	BAD(make_extent, unaligned, E->disk_bytenr = le64_put(512));
	BAD(make_extent, unaligned, E->disk_bytes = le64_put(8193));
	BAD(make_extent, unaligned, E->offset_bytes = le64_put(1));
	BAD(make_extent, unaligned, E->num_bytes = le64_put(1));
	BAD(make_extent, length, E->num_bytes = le64_put(0));
	BAD(make_extent, length, E->num_bytes = le64_put(1ull << 63));
	BAD(make_extent, length, E->num_bytes = le64_put(~0xfffull));
	BAD(make_extent, more, E->offset_bytes = le64_put(4096));
	BAD(make_extent, more, E->offset_bytes = le64_put(~0xfffull));
	BAD(make_extent, more, E->num_bytes = le64_put(12288));
	GOOD(make_extent, E->kind = BTRFS_EXTENT_PREALLOC);
	/* A hole says nothing of an extent. */
	GOOD(make_extent,
	     (E->disk_bytenr = le64_put(0), E->disk_bytes = le64_put(0), E->num_bytes = le64_put(1 << 20)));
	BAD(make_extent, "an extent that overlaps the one before", key()->offset = le64_put(4096));
	GOOD(make_packed, );
	BAD(make_packed, "a preallocated extent that is compressed", E->kind = BTRFS_EXTENT_PREALLOC);
	BAD(make_packed, packed_length, E->disk_bytes = le64_put(0));
	BAD(make_packed, packed_length, E->disk_bytes = le64_put(131072 + 4096));
	BAD(make_packed, packed_length, E->ram_bytes = le64_put(131072 + 4096));
	BAD(make_packed, more, E->ram_bytes = le64_put(131072 - 4096));
	GOOD(make_inline, );
	BAD(make_inline, "an inline extent that is not at the file's start", key()->offset = le64_put(4096));
	BAD(make_inline, "an inline extent of a wrong length", E->ram_bytes = le64_put(101));
	GOOD(make_inline, (E->ram_bytes = le64_put(101), E->compression = BTRFS_COMPRESS_LZO));
	BAD(make_inline, "an inline extent that would unpack to too much",
	    (E->ram_bytes = le64_put(131073), E->compression = BTRFS_COMPRESS_LZO));
#undef E
}

/* Behind an inline extent comes the next sector. */
static void extent_after_inline(void **state)
{
	struct btrfs_disk_file_extent d = { .ram_bytes = le64_put(4096),
					    .kind = BTRFS_EXTENT_REG,
					    .num_bytes = le64_put(4096) };

	(void)state;
	make_inline();
	data = craft_item(&bs, leaf, BTRFS_KEY(257, BTRFS_KEY_EXTENT_DATA, 4096), &d, sizeof(d));
	is_good(__LINE__);
	make_inline();
	resize(BTRFS_FILE_EXTENT_HEAD_BYTES + 4097);
	data = craft_item(&bs, leaf, BTRFS_KEY(257, BTRFS_KEY_EXTENT_DATA, 4096), &d, sizeof(d));
	is_bad(__LINE__, "an extent that overlaps the one before");
}

static void make_csum(void)
{
	begin(BTRFS_TREE_CSUM);
	add(BTRFS_OBJ_EXTENT_CSUM, BTRFS_KEY_EXTENT_CSUM, 8192, 8);
	add(BTRFS_OBJ_EXTENT_CSUM, BTRFS_KEY_EXTENT_CSUM, 16384, 40);
}

static void csums(void **state)
{
	(void)state;
	GOOD(make_csum, );
	BAD(make_csum, "checksums of an impossible object", key()->objectid = le64_put(5));
	BAD(make_csum, "checksums of what is not aligned", key()->offset = le64_put(16385));
	BAD(make_csum, "checksums that are cut off", resize(41));
	BAD(make_csum, "checksums that are cut off", resize(0));
	BAD(make_csum, "checksums beyond all addresses", key()->offset = le64_put(~0xfffull));
	BAD(make_csum, "checksums that overlap those before", key()->offset = le64_put(12288));
	BAD(make_csum, "checksums that are cut off", bs.csum_bytes = 32);
	GOOD(make_csum, (bs.csum_bytes = 8));
}

/* ---- trees ---- */

static void make_root(void)
{
	struct btrfs_disk_root *d;

	begin(BTRFS_TREE_ROOT);
	d = add(257, BTRFS_KEY_ROOT_ITEM, 0, sizeof(*d));
	d->generation = d->generation_v2 = le64_put(CRAFT_GENERATION);
	d->bytenr = le64_put(0x104000);
}

static void make_root_ref(void)
{
	struct btrfs_disk_root_ref *d;

	begin(BTRFS_TREE_ROOT);
	d = add(5, BTRFS_KEY_ROOT_REF, 257, sizeof(*d) + 4);
	d->name_len = le16_put(4);
	memcpy(d->name, "name", 4);
}

static void roots(void **state)
{
	(void)state;
#define R ((struct btrfs_disk_root *)data)
	GOOD(make_root, );
	BAD(make_root, "a tree of an impossible number", key()->objectid = le64_put(0));
	BAD(make_root, "a tree of an impossible number", key()->objectid = le64_put(BTRFS_TREE_RELOC));
	BAD(make_root, "a tree's item of a wrong size", resize(438));
	BAD(make_root, "a tree's item of a wrong size", resize(440));
	GOOD(make_root, resize(239));
	BAD(make_root, "a tree from the future", R->generation = le64_put(CRAFT_GENERATION + 2));
	BAD(make_root, "a tree from the future", R->generation_v2 = le64_put(CRAFT_GENERATION + 2));
	BAD(make_root, "a tree from the future", R->last_snapshot = le64_put(CRAFT_GENERATION + 2));
	BAD(make_root, "a tree whose root is not aligned", R->bytenr = le64_put(0x104001));
	BAD(make_root, "a tree of too many levels", R->level = 8);
	BAD(make_root, "a tree of too many levels", R->drop_level = 8);
	BAD(make_root, "a tree that is being dropped below its leaves",
	    R->drop_progress.objectid = le64_put(300));
	GOOD(make_root, (R->drop_progress.objectid = le64_put(300), R->drop_level = 1));
	BAD(make_root, "a tree with unknown flags", R->flags = le64_put(2));
	GOOD(make_root, R->flags = le64_put(BTRFS_ROOT_RDONLY | BTRFS_ROOT_DEAD));
#undef R
#define R ((struct btrfs_disk_root_ref *)data)
	GOOD(make_root_ref, );
	GOOD(make_root_ref, (key()->objectid = le64_put(257), key()->type = BTRFS_KEY_ROOT_BACKREF,
			     key()->offset = le64_put(5)));
	BAD(make_root_ref, "a subvolume's name of a wrong size", resize(17));
	BAD(make_root_ref, "a subvolume's name of a wrong size", resize(23));
	BAD(make_root_ref, "a subvolume's name of a wrong size", R->name_len = le16_put(3));
	BAD(make_root_ref, "a subvolume's name that cannot be", R->name[0] = 0);
	BAD(make_root_ref, "a name of what is no subvolume", key()->offset = le64_put(7));
	BAD(make_root_ref, "a name of what is no subvolume", key()->objectid = le64_put(2));
#undef R
}

/* ---- extents and their references ---- */

static void make_tree_block(void)
{
	struct btrfs_disk_extent_item *d;
	struct btrfs_disk_inline_ref *r;

	begin(BTRFS_TREE_EXTENT);
	add(0x100000, BTRFS_KEY_EXTENT_ITEM, 0x4000, sizeof(*d));
	d = add(0x104000, BTRFS_KEY_METADATA_ITEM, 1, sizeof(*d) + 2 * sizeof(*r));
	d->refs = le64_put(2);
	d->flags = le64_put(BTRFS_EXTENT_FLAG_TREE_BLOCK);
	r = (void *)(d + 1);
	r[0] = (struct btrfs_disk_inline_ref){ BTRFS_KEY_TREE_BLOCK_REF, le64_put(300) };
	r[1] = (struct btrfs_disk_inline_ref){ BTRFS_KEY_TREE_BLOCK_REF, le64_put(5) };
}

static void make_fat_block(void)
{
	struct btrfs_disk_extent_item *d;

	begin(BTRFS_TREE_EXTENT);
	d = add(0x104000, BTRFS_KEY_EXTENT_ITEM, 0x4000,
		sizeof(*d) + sizeof(struct btrfs_disk_tree_block_info));
	d->flags = le64_put(BTRFS_EXTENT_FLAG_TREE_BLOCK | BTRFS_EXTENT_FLAG_FULL_BACKREF);
}

#define DATA_REF_BYTES (1 + sizeof(struct btrfs_disk_data_ref))

static struct btrfs_disk_data_ref *data_ref(void)
{
	return (void *)((u8 *)data + sizeof(struct btrfs_disk_extent_item) + 1);
}

static struct btrfs_disk_inline_ref *shared_ref(void)
{
	return (void *)((u8 *)data + sizeof(struct btrfs_disk_extent_item) + DATA_REF_BYTES);
}

static void make_data(void)
{
	struct btrfs_disk_extent_item *d;
	struct btrfs_disk_inline_ref *s;
	u8 *r;

	begin(BTRFS_TREE_EXTENT);
	d = add(0x104000, BTRFS_KEY_EXTENT_ITEM, 0x10000, sizeof(*d) + DATA_REF_BYTES + sizeof(*s) + 4);
	d->refs = le64_put(5);
	d->flags = le64_put(BTRFS_EXTENT_FLAG_DATA);
	r = (u8 *)(d + 1);
	r[0] = BTRFS_KEY_EXTENT_DATA_REF;
	*data_ref() = (struct btrfs_disk_data_ref){ le64_put(5), le64_put(257), le64_put(0), le32_put(2) };
	s = shared_ref();
	*s = (struct btrfs_disk_inline_ref){ BTRFS_KEY_SHARED_DATA_REF, le64_put(0x200000) };
	((struct btrfs_disk_shared_data_ref *)(s + 1))->count = le32_put(3);
}

static void tree_blocks(void **state)
{
	const char *order = "references that are not in order";

	(void)state;
#define X ((struct btrfs_disk_extent_item *)data)
#define R ((struct btrfs_disk_inline_ref *)(X + 1))
	GOOD(make_tree_block, );
	BAD(make_tree_block, "a METADATA_ITEM without the feature skinny_metadata",
	    bs.disk.incompat = le64_put(0));
	BAD(make_tree_block, "a tree's node of too high a level", key()->offset = le64_put(8));
	BAD(make_tree_block, "an extent that is not aligned", key()->objectid = le64_put(0x104001));
	BAD(make_tree_block, "an extent that overlaps the one before", key()->objectid = le64_put(0x103000));
	BAD(make_tree_block, "an extent of an impossible length", key()->objectid = le64_put(~0xfffull));
	BAD(make_tree_block, "an extent item of a wrong size", resize(23));
	BAD(make_tree_block, "an extent from the future", X->generation = le64_put(CRAFT_GENERATION + 2));
	BAD(make_tree_block, "an extent of no known kind", X->flags = le64_put(0));
	BAD(make_tree_block, "an extent of no known kind", X->flags = le64_put(3));
	BAD(make_tree_block, "an extent of no known kind", X->flags = le64_put(6));
	BAD(make_tree_block, "data where a tree's node is wanted",
	    X->flags = le64_put(BTRFS_EXTENT_FLAG_DATA));
	BAD(make_tree_block, "an extent with more references than it counts", X->refs = le64_put(1));
	GOOD(make_tree_block, X->refs = le64_put(9)); /* others are items of their own */
	BAD(make_tree_block, "a reference of no known type", R[0].type = 1);
	BAD(make_tree_block, "a reference of no known type", R[0].type = BTRFS_KEY_EXTENT_ITEM);
	BAD(make_tree_block, "a reference that is cut off", resize(sizeof(*X) + 8));
	BAD(make_tree_block, "a file's reference to a tree",
	    (R[0].type = BTRFS_KEY_SHARED_DATA_REF, resize(sizeof(*X) + 13)));
	BAD(make_tree_block, order, R[1].offset = le64_put(301));
	BAD(make_tree_block, order, R[0].type = BTRFS_KEY_SHARED_BLOCK_REF; R[0].offset = le64_put(0));
	GOOD(make_tree_block, (R[1].type = BTRFS_KEY_SHARED_BLOCK_REF, R[1].offset = le64_put(0x4000)));
	BAD(make_tree_block, "a reference that is not aligned",
	    (R[1].type = BTRFS_KEY_SHARED_BLOCK_REF, R[1].offset = le64_put(1)));
	BAD(make_tree_block, "an owner where none can be", R[0].type = BTRFS_KEY_EXTENT_OWNER_REF);
	GOOD(make_tree_block, (R[0].type = BTRFS_KEY_EXTENT_OWNER_REF, bs.disk.incompat = le64_put(0x10100)));
	BAD(make_tree_block, "an owner where none can be",
	    (R[1].type = BTRFS_KEY_EXTENT_OWNER_REF, bs.disk.incompat = le64_put(0x10100)));
	GOOD(make_fat_block, );
	BAD(make_fat_block, "a tree's node of a wrong length", key()->offset = le64_put(0x8000));
	BAD(make_fat_block, "an extent item of a wrong size", resize(sizeof(*X) + 17));
	BAD(make_fat_block, "a tree's node of too high a level",
	    ((struct btrfs_disk_tree_block_info *)(X + 1))->level = 8);
}

static void data_extents(void **state)
{
	(void)state;
	GOOD(make_data, );
	BAD(make_data, "an extent of an impossible length", key()->offset = le64_put(0));
	BAD(make_data, "an extent of an impossible length", key()->offset = le64_put(~0xfffull));
	BAD(make_data, "an extent that is not aligned", key()->offset = le64_put(0x10001));
	BAD(make_data, "a reference that counts nothing", data_ref()->count = le32_put(0));
	BAD(make_data, "a reference from nowhere", data_ref()->root = le64_put(0));
	BAD(make_data, "a reference from nowhere", data_ref()->objectid = le64_put(0));
	BAD(make_data, "a reference that is not aligned", data_ref()->offset = le64_put(1));
	BAD(make_data, "a reference that is not aligned", shared_ref()->offset = le64_put(1));
	BAD(make_data, "an extent with more references than it counts", X->refs = le64_put(4));
	BAD(make_data, "a tree's reference to data", shared_ref()->type = BTRFS_KEY_SHARED_BLOCK_REF);
	BAD(make_data, "a reference that is cut off", resize(sizeof(*X) + 28));
	BAD(make_data, "a reference that is cut off", resize(sizeof(*X) + DATA_REF_BYTES + 12));
#undef R
#undef X
}

/* Of two references of a type the one with the higher hash comes first. */
static void data_ref_order(void **state)
{
	struct btrfs_disk_data_ref a = { le64_put(5), le64_put(257), le64_put(0), le32_put(1) },
				   b = { le64_put(5), le64_put(258), le64_put(0), le32_put(1) };
	struct btrfs_disk_extent_item x = { .refs = le64_put(2), .flags = le64_put(BTRFS_EXTENT_FLAG_DATA) };
	int wrong = 0;

	(void)state;
	for (int turn = 0; turn < 2; turn++) {
		u8 *p;

		begin(BTRFS_TREE_EXTENT);
		p = add(0x104000, BTRFS_KEY_EXTENT_ITEM, 0x10000, sizeof(x) + 2 * DATA_REF_BYTES);
		memcpy(p, &x, sizeof(x));
		p += sizeof(x);
		p[0] = p[DATA_REF_BYTES] = BTRFS_KEY_EXTENT_DATA_REF;
		memcpy(p + 1, turn ? &a : &b, sizeof(a));
		memcpy(p + DATA_REF_BYTES + 1, turn ? &b : &a, sizeof(b));
		wrong += btrfs_item_wrong(&bs, leaf, slot()) != NULL;
	}
	assert_int_equal(wrong, 1);
}

static void make_keyed(u8 type, u32 len)
{
	begin(BTRFS_TREE_EXTENT);
	add(0x104000, type, 0x8000, len);
}

static void keyed_refs(void **state)
{
	struct btrfs_disk_data_ref *d;

	(void)state;
	make_keyed(BTRFS_KEY_TREE_BLOCK_REF, 0);
	is_good(__LINE__);
	key()->objectid = le64_put(1);
	is_bad(__LINE__, "a reference to what is not aligned");
	make_keyed(BTRFS_KEY_TREE_BLOCK_REF, 1);
	is_bad(__LINE__, "a reference of a wrong size");
	make_keyed(BTRFS_KEY_SHARED_BLOCK_REF, 0);
	is_good(__LINE__);
	key()->offset = le64_put(1);
	is_bad(__LINE__, "a reference that is not aligned");
	make_keyed(BTRFS_KEY_SHARED_BLOCK_REF, 4);
	is_bad(__LINE__, "a reference of a wrong size");
	make_keyed(BTRFS_KEY_SHARED_DATA_REF, 4);
	is_good(__LINE__);
	make_keyed(BTRFS_KEY_SHARED_DATA_REF, 3);
	is_bad(__LINE__, "a reference of a wrong size");
	make_keyed(BTRFS_KEY_EXTENT_DATA_REF, 27);
	is_bad(__LINE__, "a reference of a wrong size");
	make_keyed(BTRFS_KEY_EXTENT_DATA_REF, 2 * sizeof(*d));
	d = data;
	d[0] = d[1] = (struct btrfs_disk_data_ref){ le64_put(5), le64_put(257), le64_put(0), le32_put(1) };
	is_good(__LINE__);
	d[1].count = le32_put(0);
	is_bad(__LINE__, "a reference that counts nothing");
}

/* ---- block groups, free space, chunks, devices ---- */

static void make_group(void)
{
	struct btrfs_disk_block_group *d;

	begin(BTRFS_TREE_EXTENT);
	d = add(1 << 20, BTRFS_KEY_BLOCK_GROUP_ITEM, 8 << 20, sizeof(*d));
	d->used_bytes = le64_put(8 << 20);
	d->chunk_objectid = le64_put(BTRFS_OBJ_FIRST_CHUNK);
	d->flags = le64_put(BTRFS_BG_DATA | BTRFS_BG_RAID1);
}

static void make_free(u8 type, u64 len, u32 bytes)
{
	begin(BTRFS_TREE_FREE_SPACE);
	add(1 << 20, type, len, bytes);
}

static void groups(void **state)
{
	(void)state;
#define G ((struct btrfs_disk_block_group *)data)
	GOOD(make_group, );
	BAD(make_group, "a block group of a wrong size", resize(25));
	BAD(make_group, "a block group without a length", key()->offset = le64_put(0));
	BAD(make_group, "a block group of an impossible chunk", G->chunk_objectid = le64_put(1));
	BAD(make_group, "a block group that is more than full", G->used_bytes = le64_put((8 << 20) + 1));
	BAD(make_group, "flags that are not known", G->flags = le64_put(0x801));
	BAD(make_group, "several profiles at once",
	    G->flags = le64_put(BTRFS_BG_DATA | BTRFS_BG_RAID1 | BTRFS_BG_DUP));
	BAD(make_group, "a use that cannot be", G->flags = le64_put(BTRFS_BG_RAID1));
	BAD(make_group, "a use that cannot be", G->flags = le64_put(BTRFS_BG_DATA | BTRFS_BG_SYSTEM));
	GOOD(make_group, G->flags = le64_put(BTRFS_BG_DATA | BTRFS_BG_METADATA));
#undef G
	make_free(BTRFS_KEY_FREE_SPACE_INFO, 1 << 20, 8);
	is_good(__LINE__);
	make_free(BTRFS_KEY_FREE_SPACE_INFO, 1 << 20, 7);
	is_bad(__LINE__, "free space of a wrong size");
	make_free(BTRFS_KEY_FREE_SPACE_EXTENT, 4096, 0);
	is_good(__LINE__);
	make_free(BTRFS_KEY_FREE_SPACE_EXTENT, 4096, 1);
	is_bad(__LINE__, "free space of a wrong size");
	make_free(BTRFS_KEY_FREE_SPACE_EXTENT, 4097, 0);
	is_bad(__LINE__, "free space that is not aligned");
	make_free(BTRFS_KEY_FREE_SPACE_EXTENT, 0, 0);
	is_bad(__LINE__, "free space that is not aligned");
	make_free(BTRFS_KEY_FREE_SPACE_EXTENT, ~0xfffffull + 0x1000, 0);
	is_bad(__LINE__, "free space beyond all addresses");
	make_free(BTRFS_KEY_FREE_SPACE_BITMAP, 256 * 8 * 4096, 256);
	is_good(__LINE__);
	make_free(BTRFS_KEY_FREE_SPACE_BITMAP, 256 * 8 * 4096, 255);
	is_bad(__LINE__, "a bitmap of a wrong size");
	make_free(BTRFS_KEY_FREE_SPACE_BITMAP, 257 * 8 * 4096, 257);
	is_bad(__LINE__, "a bitmap of a wrong size");
}

static void make_chunk(void)
{
	struct btrfs_disk_chunk *d;

	begin(BTRFS_TREE_CHUNK);
	d = add(BTRFS_OBJ_FIRST_CHUNK, BTRFS_KEY_CHUNK_ITEM, 1 << 20, sizeof(*d) + 2 * sizeof(d->stripe[0]));
	d->len_bytes = le64_put(8 << 20);
	d->type = le64_put(BTRFS_BG_METADATA | BTRFS_BG_DUP);
	d->num_stripes = le16_put(2);
}

static void make_device(void)
{
	struct btrfs_disk_dev_item *d;

	begin(BTRFS_TREE_CHUNK);
	d = add(BTRFS_OBJ_DEV_ITEMS, BTRFS_KEY_DEV_ITEM, 2, sizeof(*d));
	d->devid = le64_put(2);
	d->total_bytes = d->bytes_used = le64_put(1 << 30);
}

static void make_dev_extent(void)
{
	struct btrfs_disk_dev_extent *d;

	begin(BTRFS_TREE_DEV);
	d = add(1, BTRFS_KEY_DEV_EXTENT, 1 << 20, sizeof(*d));
	d->chunk_tree = le64_put(BTRFS_TREE_CHUNK);
	d->chunk_objectid = le64_put(BTRFS_OBJ_FIRST_CHUNK);
	d->chunk_offset = d->len_bytes = le64_put(1 << 20);
}

static void devices(void **state)
{
	(void)state;
#define C ((struct btrfs_disk_chunk *)data)
	GOOD(make_chunk, );
	BAD(make_chunk, "a chunk of an impossible object", key()->objectid = le64_put(255));
	BAD(make_chunk, "a chunk of a wrong size", resize(47));
	BAD(make_chunk, "a chunk of a wrong size", resize(48));
	BAD(make_chunk, "a chunk of a wrong size", C->num_stripes = le16_put(1));
	BAD(make_chunk, "a chunk of a wrong size", C->num_stripes = le16_put(65535));
	BAD(make_chunk, "a chunk of a wrong size", (C->num_stripes = le16_put(0), resize(48)));
	BAD(make_chunk, "a chunk that is not aligned", key()->offset = le64_put(1));
	BAD(make_chunk, "a chunk that is not aligned", C->len_bytes = le64_put(1));
	BAD(make_chunk, "a chunk of an impossible length", C->len_bytes = le64_put(0));
	BAD(make_chunk, "a chunk of an impossible length", C->len_bytes = le64_put(~0xfffull));
	BAD(make_chunk, "a use that cannot be", C->type = le64_put(0));
#undef C
#define D ((struct btrfs_disk_dev_item *)data)
	GOOD(make_device, );
	BAD(make_device, "a device of an impossible object", key()->objectid = le64_put(2));
	BAD(make_device, "a device of a wrong size", resize(97));
	BAD(make_device, "a device of another number", D->devid = le64_put(1));
	BAD(make_device, "a device that is more than full", D->bytes_used = le64_put((1 << 30) + 1));
#undef D
#define D ((struct btrfs_disk_dev_extent *)data)
	GOOD(make_dev_extent, );
	BAD(make_dev_extent, "a device extent of a wrong size", resize(49));
	BAD(make_dev_extent, "a device extent of no chunk", D->chunk_tree = le64_put(2));
	BAD(make_dev_extent, "a device extent of no chunk", D->chunk_objectid = le64_put(2));
	BAD(make_dev_extent, "a device extent that is not aligned", D->chunk_offset = le64_put(2));
	BAD(make_dev_extent, "a device extent that is not aligned", D->len_bytes = le64_put(2));
	BAD(make_dev_extent, "a device extent that is not aligned", key()->offset = le64_put(2));
	BAD(make_dev_extent, "a device extent of an impossible length", D->len_bytes = le64_put(0));
	BAD(make_dev_extent, "a device extent of an impossible length", D->len_bytes = le64_put(~0xfffull));
#undef D
}

/* ---- others ---- */

/* Types of which the size is asked, and a size that is right. */
static void sizes(void **state)
{
	static const struct {
		u8 type;
		u32 len;
		const char *why;
	} of[] = {
		{ BTRFS_KEY_ORPHAN_ITEM, 0, "an item of a wrong size" },
		{ BTRFS_KEY_DIR_LOG_ITEM, 8, "an item of a wrong size" },
		{ BTRFS_KEY_DIR_LOG_INDEX, 8, "an item of a wrong size" },
		{ BTRFS_KEY_QGROUP_INFO, 40, "an item of a wrong size" },
		{ BTRFS_KEY_QGROUP_LIMIT, 40, "an item of a wrong size" },
		{ BTRFS_KEY_QGROUP_RELATION, 0, "an item of a wrong size" },
		{ BTRFS_KEY_DEV_REPLACE, 72, "an item of a wrong size" },
		{ BTRFS_KEY_QGROUP_STATUS, 32, "the state of quotas in a wrong size" },
		{ BTRFS_KEY_QGROUP_STATUS, 40, "the state of quotas in a wrong size" },
		{ BTRFS_KEY_VERITY_DESC_ITEM, 25, "a verity item of a wrong size" },
		{ BTRFS_KEY_UUID_SUBVOL, 16, "a list of subvolumes that is cut off" },
		{ BTRFS_KEY_UUID_RECEIVED_SUBVOL, 8, "a list of subvolumes that is cut off" },
	};

	(void)state;
	for (u32 i = 0; i < ARRAY_SIZE(of); i++) {
		begin(BTRFS_TREE_FS);
		add(257, of[i].type, 0, of[i].len);
		is_good(__LINE__);
		begin(BTRFS_TREE_FS);
		add(257, of[i].type, 0, of[i].len + 1);
		is_bad(__LINE__, of[i].why);
	}
	begin(BTRFS_TREE_QUOTA);
	((struct btrfs_disk_qgroup_status *)add(0, BTRFS_KEY_QGROUP_STATUS, 0, 32))->generation =
		le64_put(102);
	is_bad(__LINE__, "the state of quotas from the future");
	begin(BTRFS_TREE_FS);
	((struct btrfs_disk_verity_desc *)add(257, BTRFS_KEY_VERITY_DESC_ITEM, 0, 25))->encryption = 1;
	is_bad(__LINE__, "a verity descriptor that is encrypted");
	begin(BTRFS_TREE_FS);
	add(257, BTRFS_KEY_VERITY_DESC_ITEM, 1, 2048);
	is_good(__LINE__);
	begin(BTRFS_TREE_FS);
	add(257, 254, 7, 77); /* of no known type */
	is_good(__LINE__);
}

/* Items as they may come: of every type, every length, from nothing but chance. The bytes lie at the end of memory of their own. */
static void random_items(void **state)
{
	u32 seed = getenv("SEED") ? (u32)atoi(getenv("SEED")) : (u32)time(NULL);
	u8 *own = malloc(sizeof(leaf));

	(void)state;
	assert_non_null(own);
	print_message("SEED=%u\n", seed);
	srand(seed);
	for (u32 i = 0; i < 60000; i++) {
		u8 type = (u8)(i & 0xff);
		u32 len = (u32)rand() % (rand() % 4 ? 80 : 600);
		u64 objectid = rand() % 2 ? 257 : (u64)rand() << (rand() % 34),
		    offset = rand() % 2 ? 0 : (u64)rand();
		struct btrfs_key k = BTRFS_KEY(objectid, type, offset);
		struct doc *d = doc_new();
		struct text t = { 0 };
		u8 *p;

		begin(BTRFS_TREE_FS);
		if (rand() % 2)
			craft_item(&bs, leaf, k, NULL, (u32)rand() % 60);
		k.offset++;
		p = craft_item(&bs, leaf, k, NULL, len);
		for (u32 b = 0; b < len; b++)
			p[b] = (u8)(rand() % 3 ? 0 : rand());
		/* Where it is alone its bytes end with the memory. */
		memcpy(own, leaf, sizeof(leaf));
		(void)!btrfs_item_wrong(&bs, own, btrfs_nritems(own) - 1);
		p = malloc(len ? len : 1);
		assert_non_null(p);
		memcpy(p, btrfs_item_data(own, btrfs_nritems(own) - 1), len);
		btrfs_item_doc(&bs, &k, p, len, d);
		doc_to_text(d, &t);
		free(p);
		text_free(&t);
		doc_free(d);
	}
	free(own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(inodes),
		cmocka_unit_test(refs),
		cmocka_unit_test(entries),
		cmocka_unit_test(extents),
		cmocka_unit_test(extent_after_inline),
		cmocka_unit_test(csums),
		cmocka_unit_test(roots),
		cmocka_unit_test(tree_blocks),
		cmocka_unit_test(data_extents),
		cmocka_unit_test(data_ref_order),
		cmocka_unit_test(keyed_refs),
		cmocka_unit_test(groups),
		cmocka_unit_test(devices),
		cmocka_unit_test(sizes),
		cmocka_unit_test(random_items),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
