/*
 * `dump`: objects as they lie on the disk. The volume is opened leniently: what cannot be read is no obstacle, and is shown with its
 * verdict: a node with its verifier's, an item with its own. A node that did not pass is shown as far as its entries lie within it,
 * and nothing in it is followed.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

/* Of one object: entries, and for long ones their bytes; more help nobody. */
#define DUMP_MAX    100000u
#define ENTRY_BYTES 64u

struct dumper {
	struct btrfs_super *bs;
	struct doc *out;
	u32 left; /* of DUMP_MAX */
	u64 nr[2];
};

/* False: that was enough. */
static bool spend(struct dumper *d, u32 bytes)
{
	u32 cost = 1 + bytes / ENTRY_BYTES;

	if (!d->left)
		return false;
	d->left -= MIN(cost, d->left);
	return true;
}

/* ---- nodes ---- */

static const char *tree_name(u64 id)
{
	static const struct {
		u64 id;
		const char *name;
	} names[] = {
		{ BTRFS_TREE_ROOT, "root" },
		{ BTRFS_TREE_EXTENT, "extent" },
		{ BTRFS_TREE_CHUNK, "chunk" },
		{ BTRFS_TREE_DEV, "device" },
		{ BTRFS_TREE_FS, "top-level subvolume" },
		{ BTRFS_TREE_CSUM, "checksum" },
		{ BTRFS_TREE_QUOTA, "quota" },
		{ BTRFS_TREE_UUID, "uuid" },
		{ BTRFS_TREE_FREE_SPACE, "free space" },
		{ BTRFS_TREE_BLOCK_GROUP, "block group" },
		{ BTRFS_TREE_RAID_STRIPE, "raid stripe" },
		{ BTRFS_TREE_REMAP, "remap" },
		{ BTRFS_TREE_LOG, "log" },
		{ BTRFS_TREE_RELOC, "relocation" },
		{ BTRFS_TREE_DATA_RELOC, "data relocation" },
	};

	for (u32 i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].id == id)
			return names[i].name;
	return btrfs_is_subvol(id) ? "subvolume" : "?";
}

static void header_doc(const struct btrfs_super *bs, const struct btrfs_disk_header *h, struct doc *out)
{
	doc_u64(out, "level", h->level);
	doc_u64(out, "entries", le32_get(h->nritems));
	doc_u64(out, "generation", le64_get(h->generation));
	btrfs_doc_id(out, "owner", le64_get(h->owner));
	doc_str(out, "tree", tree_name(le64_get(h->owner)));
	doc_hex(out, "flags", le64_get(h->flags));
	doc_uuid(out, "fsid", h->fsid);
	doc_uuid(out, "chunk_tree_uuid", h->chunk_tree_uuid);
	doc_hexdump(doc_array(out, "checksum"), h->csum, bs->csum_bytes);
}

static void item_doc(struct dumper *d, const struct btrfs_key *key, const void *data, u32 len, struct doc *o)
{
	btrfs_key_doc(key, o);
	doc_u64(o, "len", len);
	if (len)
		btrfs_item_doc(d->bs, key, data, len, doc_object(o, "item"));
}

/* The items of a leaf that lie within it. `sound`: it passed as a node, so its items can be judged. */
static void leaf_doc(struct dumper *d, const void *leaf, bool sound, struct doc *out)
{
	u32 room = d->bs->node_bytes - (u32)sizeof(struct btrfs_disk_header);
	u32 n = MIN(btrfs_nritems(leaf), room / (u32)sizeof(struct btrfs_disk_item));
	struct doc *a = doc_array(out, "items");

	for (u32 i = 0; i < n && spend(d, btrfs_item_len(leaf, i) % d->bs->node_bytes); i++) {
		struct btrfs_key key = btrfs_key_get(&btrfs_item(leaf, i)->key);
		u32 off = le32_get(btrfs_item(leaf, i)->offset_bytes), len = btrfs_item_len(leaf, i);
		const char *bad = sound ? btrfs_item_wrong(d->bs, leaf, i) : NULL;
		struct doc *o = doc_object(a, NULL);

		doc_u64(o, "slot", i);
		if (off > room || len > room - off) {
			bad = "it does not lie within the leaf";
			len = 0;
		}
		if (bad)
			doc_str(o, "error", bad);
		item_doc(d, &key, (const u8 *)leaf + sizeof(struct btrfs_disk_header) + off, len, o);
	}
}

static void pointers_doc(struct dumper *d, const void *node, struct doc *out)
{
	u32 room = d->bs->node_bytes - (u32)sizeof(struct btrfs_disk_header);
	u32 n = MIN(btrfs_nritems(node), room / (u32)sizeof(struct btrfs_disk_ptr));
	struct doc *a = doc_array(out, "pointers");

	for (u32 i = 0; i < n && spend(d, 0); i++) {
		struct btrfs_key key = btrfs_key_get(&btrfs_ptr(node, i)->key);
		struct doc *o = doc_object(a, NULL);

		doc_u64(o, "slot", i);
		btrfs_key_doc(&key, o);
		doc_u64(o, "block", le64_get(btrfs_ptr(node, i)->bytenr));
		doc_u64(o, "generation", le64_get(btrfs_ptr(node, i)->generation));
	}
}

static void copies_doc(struct dumper *d, u64 bytenr, struct doc *out)
{
	struct doc *a = doc_array(out, "copies");
	u64 devid, off, len;

	for (u32 copy = 0; copy < d->bs->vfs.dev->copies; copy++) {
		struct doc *o;

		if (btrfs_volume_where(d->bs->volume, bytenr, copy, &devid, &off, &len)) {
			err_clear();
			continue;
		}
		o = doc_object(a, NULL);
		doc_u64(o, "devid", devid);
		doc_u64(o, "at_byte", off);
	}
}

/* A node with its verdict; NULL after the reading failed, which is noted. */
static struct buffer_head *node_shown(struct dumper *d, u64 bytenr, const struct btrfs_expect *want,
				      bool *sound, struct doc *out)
{
	struct buffer_head *bh = NULL;
	int verdict = 0, err;

	doc_u64(out, "block", bytenr);
	err_clear();
	err = btrfs_node_read_raw(d->bs, bytenr, want, &bh, &verdict);
	if (err || verdict)
		doc_str(out, "error", err_text());
	*sound = !err && !verdict;
	return err ? NULL : bh;
}

static int dump_node(struct dumper *d)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct btrfs_expect want = { 0 };
	struct btrfs_disk_header h;
	bool sound;
	int err = btrfs_chunk_find(d->bs->volume, d->nr[0])
			  ? blkdev_read(d->bs->vfs.dev, d->nr[0], &h, sizeof(h))
			  : fail(-EINVAL, "%llu lies in no chunk", (unsigned long long)d->nr[0]);

	if (err)
		return err;
	want.level = MIN(h.level, BTRFS_LEVELS - 1);
	bh = node_shown(d, d->nr[0], &want, &sound, d->out);
	copies_doc(d, d->nr[0], d->out);
	if (!bh)
		return 0;
	header_doc(d->bs, bh->data, d->out);
	if (btrfs_header(bh->data)->level)
		pointers_doc(d, bh->data, d->out);
	else
		leaf_doc(d, bh->data, sound, d->out);
	return 0;
}

/* ---- trees ---- */

/* A node and all below it. Levels fall by one, so this is at most BTRFS_LEVELS deep. */
static void subtree_doc(struct dumper *d, u64 bytenr, const struct btrfs_expect *want, struct doc *out)
{
	bool sound;
	scoped(bh_putp) struct buffer_head *bh = node_shown(d, bytenr, want, &sound, out);
	struct doc *a;

	if (!bh)
		return;
	header_doc(d->bs, bh->data, out);
	if (!want->level) {
		leaf_doc(d, bh->data, sound, out);
		return;
	}
	if (!sound) {
		pointers_doc(d, bh->data, out);
		return;
	}
	a = doc_array(out, "nodes");
	for (u32 i = 0; i < btrfs_nritems(bh->data) && spend(d, 0); i++) {
		const struct btrfs_disk_ptr *p = btrfs_ptr(bh->data, i);
		const struct btrfs_expect below = {
			.owner = want->owner,
			.level = want->level - 1,
			.generation = le64_get(p->generation),
			.has_key = true,
			.first = btrfs_key_get(&p->key),
		};

		subtree_doc(d, le64_get(p->bytenr), &below, doc_object(a, NULL));
	}
}

static void tree_doc(struct dumper *d, const struct btrfs_root *root, struct doc *out)
{
	const struct btrfs_expect want = {
		.owner = root->id,
		.level = root->level,
		.generation = root->generation,
	};

	subtree_doc(d, root->bytenr, &want, out);
}

static int dump_tree(struct dumper *d)
{
	const struct btrfs_root *root;
	int err = btrfs_root_get(d->bs, d->nr[0], &root);

	if (err == -ENOENT)
		return fail(-ENOENT, "there is no tree %lld", (long long)d->nr[0]);
	if (err)
		return err;
	doc_str(d->out, "name", tree_name(root->id));
	tree_doc(d, root, d->out);
	return 0;
}

static int dump_root(struct dumper *d)
{
	tree_doc(d, &d->bs->tree_root, d->out);
	return 0;
}

static int dump_chunk(struct dumper *d)
{
	tree_doc(d, &d->bs->chunk_root, d->out);
	return 0;
}

static int dump_devices(struct dumper *d)
{
	struct btrfs_root const *root;

	btrfs_devices_doc(d->bs, doc_array(d->out, "devices"));
	if (!btrfs_root_get(d->bs, BTRFS_TREE_DEV, &root))
		tree_doc(d, root, doc_object(d->out, "device_tree"));
	else
		doc_str(d->out, "error", err_text());
	return 0;
}

/* The log: a tree of trees, one for each subvolume. */
static int dump_log(struct dumper *d)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	struct btrfs_root root, log;
	struct doc *a;
	u32 len;
	int err = btrfs_log_root(d->bs, &root);

	if (err)
		return fail(err, "the volume has no log");
	doc_u64(d->out, "generation", root.generation);
	tree_doc(d, &root, doc_object(d->out, "log_root"));
	a = doc_array(d->out, "logs");
	err = btrfs_seek(&root, &BTRFS_KEY(BTRFS_TREE_LOG, BTRFS_KEY_ROOT_ITEM, 0), &p);
	for (; !err && spend(d, 0); err = btrfs_next(&p)) {
		struct btrfs_key key = btrfs_path_key(&p);
		struct doc *o;

		if (key.type != BTRFS_KEY_ROOT_ITEM)
			continue;
		o = doc_object(a, NULL);
		doc_u64(o, "subvolume", key.offset);
		btrfs_log_tree(btrfs_path_item(&p, &len), d->bs, &log);
		tree_doc(d, &log, o);
	}
	if (err && err != -ENOENT)
		doc_str(d->out, "error", err_text());
	return 0;
}

/* ---- items that belong together ---- */

/* The items [from, to) of a tree, with what cannot be read noted where it would stand. False: there is none. */
static bool range_doc(struct dumper *d, const struct btrfs_root *root, const struct btrfs_key *from,
		      u64 objectid, struct doc *array)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	bool any = false;
	int err = btrfs_seek(root, from, &p);

	for (; err != -ENOENT && spend(d, 0); err = btrfs_next(&p)) {
		struct btrfs_key key = btrfs_path_key(&p);
		const void *item;
		struct doc *o;
		u32 len;

		if (key.objectid > objectid)
			break;
		any = true;
		o = doc_object(array, NULL);
		if (err)
			doc_str(o, "error", err_text());
		if (!p.node[0]) {
			btrfs_key_doc(&key, doc_object(o, "from"));
			continue;
		}
		item = btrfs_path_item(&p, &len);
		item_doc(d, &key, item, len, o);
	}
	return any;
}

static int dump_inode(struct dumper *d)
{
	const struct btrfs_root *root;
	int err = btrfs_is_subvol(d->nr[0]) ? btrfs_root_get(d->bs, d->nr[0], &root) : -ENOENT;

	if (err == -ENOENT)
		return fail(-ENOENT, "there is no subvolume %llu", (unsigned long long)d->nr[0]);
	if (err)
		return err;
	if (!range_doc(d, root, &BTRFS_KEY(d->nr[1], 0, 0), d->nr[1], doc_array(d->out, "items")))
		return fail(-ENOENT, "there is no inode %llu in subvolume %llu", (unsigned long long)d->nr[1],
			    (unsigned long long)d->nr[0]);
	return 0;
}

/* The items of the root tree that are about subvolumes. */
static int dump_subvolumes(struct dumper *d)
{
	struct doc *a = doc_array(d->out, "subvolumes");
	u64 id = BTRFS_TREE_FS;

	while (spend(d, 0)) {
		scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
		struct text path = { 0 };
		struct doc *o;
		int err = btrfs_seek(&d->bs->tree_root, &BTRFS_KEY(id, BTRFS_KEY_ROOT_ITEM, 0), &p);

		if (err == -ENOENT || !p.node[d->bs->tree_root.level])
			return err == -ENOENT ? 0 : err;
		for (; err != -ENOENT && !p.node[0] && spend(d, 0); err = btrfs_next(&p))
			doc_str(doc_object(a, NULL), "error", err_text());
		if (!p.node[0])
			break;
		id = btrfs_path_key(&p).objectid;
		if (id == BTRFS_TREE_FS || (btrfs_is_subvol(id) && id >= BTRFS_OBJ_FIRST_FREE)) {
			o = doc_object(a, NULL);
			doc_u64(o, "id", id);
			if (!btrfs_root_path(d->bs, id, &path))
				doc_bytes(o, "path", text_str(&path), path.len_bytes);
			text_free(&path);
			range_doc(d, &d->bs->tree_root, &BTRFS_KEY(id, 0, 0), id, doc_array(o, "items"));
		}
		if (!btrfs_is_subvol(++id))
			id = MAX(id, (u64)BTRFS_OBJ_FIRST_FREE);
		if (id > BTRFS_OBJ_LAST_FREE)
			break;
	}
	return 0;
}

static int dump_backup(struct dumper *d)
{
	btrfs_backups_doc(&d->bs->disk, doc_array(d->out, "backups"));
	return 0;
}

/* ---- words ---- */

static const struct {
	const char *word;
	u32 numbers;
	int (*fn)(struct dumper *d);
} dumps[] = {
	{ "chunk", 0, dump_chunk },   { "devices", 0, dump_devices },
	{ "root", 0, dump_root },     { "tree", 1, dump_tree },
	{ "node", 1, dump_node },     { "log", 0, dump_log },
	{ "inode", 2, dump_inode },   { "subvolumes", 0, dump_subvolumes },
	{ "backup", 0, dump_backup },
};

static int usage(void)
{
	return fail(-EINVAL,
		    "dump what? superblock, backup, chunk, devices, root, subvolumes, log; or tree ID, "
		    "node BYTE, inode SUBVOLUME NUMBER");
}

static int dump_superblock(struct blkdev *dev, const struct mount_opts *opts, struct doc *out)
{
	struct btrfs_disk_super d;
	u32 copy = 0;
	u64 off;
	int mirror = -1, err = btrfs_super_mirror(opts, &mirror);

	if (err)
		return err;
	if (mirror >= 0)
		copy = (u32)mirror;
	else if (btrfs_sb_read(dev, -1, &d, &copy))
		err_clear();
	off = BTRFS_SUPER_OFF(copy);
	/* As it lies, also where nobody would believe it. */
	if (off >= dev->size_bytes || dev->size_bytes - off < sizeof(d))
		return fail(-EINVAL, "%s is too short for superblock %u", dev->name, copy);
	err = blkdev_read(dev, off, &d, sizeof(d));
	if (err)
		return err;
	doc_u64(out, "at_byte", off);
	if (btrfs_sb_read(dev, (int)copy, &(struct btrfs_disk_super){ 0 }, &copy))
		doc_str(out, "error", err_text());
	btrfs_super_doc(&d, out);
	return 0;
}

static int number(const char *word, u64 *out)
{
	char *end;

	errno = 0;
	/* A tree's id may be negative. */
	*out = strtoull(word, &end, 0);
	return *end || errno || end == word ? fail(-EINVAL, "\"%s\" is not a number", word) : 0;
}

static int dump_opened(struct blkdev **devs, u32 n, const struct mount_opts *opts, struct dumper *d,
		       int (*fn)(struct dumper *d))
{
	static const struct fs_type opened = { .name = "btrfs" };
	int err = btrfs_super_open(devs, n, &opened, opts, true, &d->bs);

	if (err)
		return err;
	if (d->bs->vfs.notice[0])
		doc_str(d->out, "notice", d->bs->vfs.notice);
	err = fn(d);
	if (!d->left)
		doc_str(d->out, "cut_off", "there is more than is shown");
	vfs_unmount(&d->bs->vfs);
	return err;
}

int btrfs_dump(struct blkdev **devs, u32 n, const struct mount_opts *opts, u32 words, const char *const *word,
	       struct doc *out)
{
	struct dumper d = { .out = out, .left = DUMP_MAX };

	if (words == 1 && !strcmp(word[0], "superblock"))
		return dump_superblock(devs[0], opts, out);
	for (u32 i = 0; words && i < ARRAY_SIZE(dumps); i++) {
		int err = 0;

		if (strcmp(word[0], dumps[i].word) || words != 1 + dumps[i].numbers)
			continue;
		for (u32 k = 0; k < dumps[i].numbers && !err; k++)
			err = number(word[1 + k], &d.nr[k]);
		return err ? err : dump_opened(devs, n, opts, &d, dumps[i].fn);
	}
	return usage();
}
