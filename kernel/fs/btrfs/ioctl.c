/*
 * The questions that btrfs-progs and others ask of a mounted volume, with the kernel's numbers and structures
 * (include/uapi/linux/btrfs.h). Only those whose argument has one size: what FUSE carries. Numbers of inodes in answers are those of
 * the format.
 */
#include "btrfs.h"

#include "lib/scope.h"
#include <errno.h>

#define ARGS_BYTES 4096u

#define IOC_WRITE              1u
#define IOC_READ               2u
#define IOC(dir, nr, type)     ((dir) << 30 | (u32)sizeof(type) << 16 | 0x94u << 8 | (nr))
#define IOC_TREE_SEARCH        IOC(IOC_READ | IOC_WRITE, 17u, struct search_args)
#define IOC_INO_LOOKUP         IOC(IOC_READ | IOC_WRITE, 18u, struct ino_lookup_args)
#define IOC_SUBVOL_GETFLAGS    IOC(IOC_READ, 25u, u64)
#define IOC_DEV_INFO           IOC(IOC_READ | IOC_WRITE, 30u, struct dev_info_args)
#define IOC_FS_INFO            IOC(IOC_READ, 31u, struct fs_info_args)
#define IOC_GET_FEATURES       IOC(IOC_READ, 57u, struct features_args)
#define IOC_GET_SUBVOL_INFO    IOC(IOC_READ, 60u, struct subvol_info_args)
#define IOC_GET_SUBVOL_ROOTREF IOC(IOC_READ | IOC_WRITE, 61u, struct rootref_args)

#define SUBVOL_RDONLY 2u

/* Structures of this machine, not of the disk: natural order and alignment. */
struct search_key {
	u64 tree_id;
	u64 min_objectid, max_objectid;
	u64 min_offset, max_offset;
	u64 min_transid, max_transid;
	u32 min_type, max_type;
	u32 nr_items;
	u32 unused;
	u64 unused1[4];
};
struct search_header {
	u64 transid, objectid, offset;
	u32 type, len;
};
struct search_args {
	struct search_key key;
	u8 buf[ARGS_BYTES - sizeof(struct search_key)];
};
_Static_assert(sizeof(struct search_args) == ARGS_BYTES, "as in linux/btrfs.h");

struct ino_lookup_args {
	u64 treeid, objectid;
	char name[ARGS_BYTES - 16];
};
_Static_assert(sizeof(struct ino_lookup_args) == ARGS_BYTES, "as in linux/btrfs.h");

struct dev_info_args {
	u64 devid;
	u8 uuid[16];
	u64 bytes_used, total_bytes;
	u8 fsid[16];
	u64 unused[377];
	u8 path[1024];
};
_Static_assert(sizeof(struct dev_info_args) == ARGS_BYTES, "as in linux/btrfs.h");

struct fs_info_args {
	u64 max_id, num_devices;
	u8 fsid[16];
	u32 nodesize, sectorsize, clone_alignment;
	u16 csum_type, csum_size;
	u64 flags, generation;
	u8 metadata_uuid[16];
	u8 reserved[944];
};
_Static_assert(sizeof(struct fs_info_args) == 1024, "as in linux/btrfs.h");

struct features_args {
	u64 compat, compat_ro, incompat;
};

struct ioctl_time {
	u64 sec;
	u32 nsec;
};
struct subvol_info_args {
	u64 treeid;
	char name[256];
	u64 parent_id, dirid;
	u64 generation, flags;
	u8 uuid[16], parent_uuid[16], received_uuid[16];
	u64 ctransid, otransid, stransid, rtransid;
	struct ioctl_time ctime, otime, stime, rtime;
	u64 reserved[8];
};
_Static_assert(sizeof(struct subvol_info_args) == 504, "as in linux/btrfs.h");

#define ROOTREFS_MAX 255u
struct rootref_args {
	u64 min_treeid;
	struct {
		u64 treeid, dirid;
	} rootref[ROOTREFS_MAX];
	u8 num_items;
	u8 align[7];
};
_Static_assert(sizeof(struct rootref_args) == ARGS_BYTES, "as in linux/btrfs.h");

/* ---- TREE_SEARCH ---- */

static bool in_range(const struct search_key *s, const struct btrfs_key *k)
{
	const struct btrfs_key min = { s->min_objectid, (u8)s->min_type, s->min_offset };
	const struct btrfs_key max = { s->max_objectid, (u8)s->max_type, s->max_offset };

	return btrfs_key_cmp(k, &min) >= 0 && btrfs_key_cmp(k, &max) <= 0;
}

/* 1: the buffer is full. */
static int search_add(struct search_args *a, const struct btrfs_path *p, u32 *used)
{
	struct btrfs_key k = btrfs_path_key(p);
	struct search_header h = { .objectid = k.objectid, .offset = k.offset, .type = k.type };
	const void *item = btrfs_path_item(p, &h.len);

	h.transid = le64_get(btrfs_header(p->node[0]->data)->generation);
	if (h.transid < a->key.min_transid || h.transid > a->key.max_transid)
		return 0;
	if (sizeof(h) + h.len > sizeof(a->buf) - *used) {
		/* An item that fits no buffer is told of, without its bytes; so the kernel does. */
		if (a->key.nr_items || sizeof(h) > sizeof(a->buf))
			return 1;
		h.len = 0;
	}
	memcpy(a->buf + *used, &h, sizeof(h));
	memcpy(a->buf + *used + sizeof(h), item, h.len);
	*used += (u32)sizeof(h) + h.len;
	a->key.nr_items++;
	return 0;
}

static int tree_search(const struct btrfs_inode *bi, struct search_args *a)
{
	struct btrfs_super *bs = btrfs_inode_super(bi);
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_root *root = bi->root;
	u32 wanted = a->key.nr_items, used = 0;
	int err = 0;

	a->key.min_type = MIN(a->key.min_type, 0xffu);
	a->key.max_type = MIN(a->key.max_type, 0xffu);
	if (a->key.tree_id)
		err = btrfs_root_get(bs, a->key.tree_id, &root);
	if (err)
		return err;
	a->key.nr_items = 0;
	memset(a->buf, 0, sizeof(a->buf));
	err = btrfs_seek(root, &BTRFS_KEY(a->key.min_objectid, (u8)a->key.min_type, a->key.min_offset), &p);
	/* Who asks for no item gets one, as from the kernel. */
	while (!err) {
		struct btrfs_key k = btrfs_path_key(&p);

		if (!in_range(&a->key, &k) || search_add(a, &p, &used) || a->key.nr_items >= wanted)
			break;
		err = btrfs_next(&p);
	}
	return err == -ENOENT ? 0 : err;
}

/* ---- INO_LOOKUP ---- */

/* Puts name and '/' in front of what begins at *at. */
static int put_front(char *buf, u32 *at, const void *name, u32 len)
{
	if (len + 1 > *at)
		return -ENAMETOOLONG;
	*at -= len + 1;
	memcpy(buf + *at, name, len);
	buf[*at + len] = '/';
	return 0;
}

/* The path of an inode in its tree, with a slash at the end. Every step takes at least two bytes of the room, so it ends. */
static int path_in_tree(const struct btrfs_root *root, u64 objectid, char *name, u32 room)
{
	u32 at = room - 1;

	name[at] = 0;
	while (objectid != root->dirid) {
		scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
		const struct btrfs_disk_inode_ref *d;
		struct btrfs_key k;
		u32 len;
		int err = btrfs_seek(root, &BTRFS_KEY(objectid, BTRFS_KEY_INODE_REF, 0), &p);

		k = btrfs_path_key(&p);
		if (!err && (k.objectid != objectid || k.type != BTRFS_KEY_INODE_REF))
			err = -ENOENT;
		if (err)
			return err;
		d = btrfs_path_item(&p, &len);
		err = put_front(name, &at, d->name, le16_get(d->name_len));
		if (err)
			return err;
		objectid = k.offset;
	}
	memmove(name, name + at, room - at);
	memset(name + room - at, 0, at);
	return 0;
}

static int ino_lookup(const struct btrfs_inode *bi, bool privileged, struct ino_lookup_args *a)
{
	const struct btrfs_root *root = bi->root;
	int err = 0;

	/* Anybody may ask which subvolume he is in. */
	if (!privileged && (a->treeid || a->objectid != BTRFS_OBJ_FIRST_FREE))
		return -EPERM;
	if (a->treeid)
		err = btrfs_root_get(btrfs_inode_super(bi), a->treeid, &root);
	a->treeid = err ? a->treeid : root->id;
	memset(a->name, 0, sizeof(a->name));
	return err ? err : path_in_tree(root, a->objectid, a->name, sizeof(a->name));
}

/* ---- the volume and its devices ---- */

static void fs_info(struct btrfs_super *bs, struct fs_info_args *a)
{
	*a = (struct fs_info_args){
		.num_devices = le64_get(bs->disk.num_devices),
		.nodesize = bs->node_bytes,
		.sectorsize = bs->sector_bytes,
		.clone_alignment = bs->sector_bytes,
	};
	memcpy(a->fsid, bs->disk.fsid, sizeof(a->fsid));
	for (u32 i = 0; i < btrfs_device_count(bs->volume); i++)
		a->max_id = MAX(a->max_id, btrfs_device_at(bs->volume, i)->devid);
}

/* By id, or by uuid when that is given. */
static bool device_is(const struct btrfs_device *dev, const struct dev_info_args *a)
{
	static const u8 none[16];

	return dev->devid == a->devid &&
	       (!memcmp(a->uuid, none, sizeof(none)) || !memcmp(a->uuid, dev->uuid, sizeof(dev->uuid)));
}

static int dev_info(struct btrfs_super *bs, struct dev_info_args *a)
{
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	const struct btrfs_disk_dev_item *d;
	const struct btrfs_device *dev = NULL;
	u32 len;
	int err;

	for (u32 i = 0; i < btrfs_device_count(bs->volume) && !dev; i++)
		if (device_is(btrfs_device_at(bs->volume, i), a))
			dev = btrfs_device_at(bs->volume, i);
	if (!dev)
		return -ENODEV;
	err = btrfs_find(&bs->chunk_root, &BTRFS_KEY(BTRFS_OBJ_DEV_ITEMS, BTRFS_KEY_DEV_ITEM, dev->devid),
			 &p);
	if (err)
		return err == -ENOENT ? -ENODEV : err;
	d = btrfs_path_item(&p, &len);
	*a = (struct dev_info_args){ .devid = dev->devid,
				     .bytes_used = le64_get(d->bytes_used),
				     .total_bytes = le64_get(d->total_bytes) };
	memcpy(a->uuid, dev->uuid, sizeof(a->uuid));
	memcpy(a->fsid, d->fsid, sizeof(a->fsid));
	if (dev->dev)
		memccpy(a->path, dev->dev->name, 0, sizeof(a->path) - 1);
	return 0;
}

static void features(const struct btrfs_super *bs, struct features_args *a)
{
	*a = (struct features_args){ .compat = le64_get(bs->disk.compat),
				     .compat_ro = le64_get(bs->disk.compat_ro),
				     .incompat = le64_get(bs->disk.incompat) };
}

/* ---- subvolumes ---- */

static int subvol_getflags(const struct btrfs_inode *bi, u64 *flags)
{
	if (!btrfs_is_top(bi))
		return -EINVAL;
	*flags = bi->root->flags & BTRFS_ROOT_RDONLY ? SUBVOL_RDONLY : 0;
	return 0;
}

static struct ioctl_time time_get(const struct btrfs_disk_time *t)
{
	return (struct ioctl_time){ .sec = le64_get(t->sec), .nsec = le32_get(t->nsec) };
}

static int subvol_info(const struct btrfs_inode *bi, struct subvol_info_args *a)
{
	const struct btrfs_disk_root *item = &bi->root->item;
	int err;

	memset(a, 0, sizeof(*a));
	a->treeid = bi->root->id;
	a->generation = bi->root->generation;
	a->flags = bi->root->flags;
	memcpy(a->uuid, item->uuid, sizeof(a->uuid));
	memcpy(a->parent_uuid, item->parent_uuid, sizeof(a->parent_uuid));
	memcpy(a->received_uuid, item->received_uuid, sizeof(a->received_uuid));
	a->ctransid = le64_get(item->ctransid);
	a->otransid = le64_get(item->otransid);
	a->stransid = le64_get(item->stransid);
	a->rtransid = le64_get(item->rtransid);
	a->ctime = time_get(&item->ctime);
	a->otime = time_get(&item->otime);
	a->stime = time_get(&item->stime);
	a->rtime = time_get(&item->rtime);
	err = btrfs_root_parent(btrfs_inode_super(bi), a->treeid, &a->parent_id, &a->dirid, a->name);
	return err == -ENOENT ? 0 : err;
}

/* The subvolumes in this one, from min_treeid on. Where there are more than fit, the kernel says -EOVERFLOW with the first of them. */
static int subvol_rootref(const struct btrfs_inode *bi, struct rootref_args *a, bool *full)
{
	struct btrfs_super *bs = btrfs_inode_super(bi);
	scoped(btrfs_path_putp) struct btrfs_path p = { 0 };
	u64 min = a->min_treeid;
	int err;

	memset(a, 0, sizeof(*a));
	a->min_treeid = min;
	err = btrfs_seek(&bs->tree_root, &BTRFS_KEY(bi->root->id, BTRFS_KEY_ROOT_REF, min), &p);
	for (; !err; err = btrfs_next(&p)) {
		struct btrfs_key k = btrfs_path_key(&p);
		const struct btrfs_disk_root_ref *d;
		u32 len;

		if (k.objectid != bi->root->id || k.type != BTRFS_KEY_ROOT_REF)
			break;
		*full = a->num_items == ROOTREFS_MAX;
		if (*full)
			break;
		d = btrfs_path_item(&p, &len);
		a->rootref[a->num_items].treeid = k.offset;
		a->rootref[a->num_items++].dirid = le64_get(d->dirid);
		a->min_treeid = k.offset + 1;
	}
	return err == -ENOENT ? 0 : err;
}

/* ---- all of them ---- */

union args {
	struct search_args search;
	struct ino_lookup_args ino_lookup;
	struct dev_info_args dev_info;
	struct fs_info_args fs_info;
	struct features_args features;
	struct subvol_info_args subvol_info;
	struct rootref_args rootref;
	u64 flags;
};

static int answer(struct btrfs_inode *bi, u32 cmd, bool privileged, union args *a)
{
	struct btrfs_super *bs = btrfs_inode_super(bi);
	bool full = false;
	int err;

	switch (cmd) {
	case IOC_TREE_SEARCH:
		return privileged ? tree_search(bi, &a->search) : -EPERM;
	case IOC_INO_LOOKUP:
		return ino_lookup(bi, privileged, &a->ino_lookup);
	case IOC_SUBVOL_GETFLAGS:
		return subvol_getflags(bi, &a->flags);
	case IOC_DEV_INFO:
		return dev_info(bs, &a->dev_info);
	case IOC_FS_INFO:
		fs_info(bs, &a->fs_info);
		return 0;
	case IOC_GET_FEATURES:
		features(bs, &a->features);
		return 0;
	case IOC_GET_SUBVOL_INFO:
		return subvol_info(bi, &a->subvol_info);
	case IOC_GET_SUBVOL_ROOTREF:
		err = subvol_rootref(bi, &a->rootref, &full);
		return !err && full ? -EOVERFLOW : err;
	}
	return -ENOTTY;
}

int btrfs_ioctl(struct inode *inode, u32 cmd, bool privileged, const void *in, u32 in_bytes, void *out,
		u32 *out_bytes)
{
	union args a;
	u32 size = cmd >> 16 & 0x3fff;
	bool reads = cmd >> 30 & IOC_WRITE;
	int err;

	if (size > sizeof(a))
		return -ENOTTY;
	memset(&a, 0, sizeof(a));
	if (reads && in_bytes < size)
		return -EINVAL;
	if (reads)
		memcpy(&a, in, size);
	if (size > *out_bytes)
		return -EINVAL;
	err = answer(btrfs_inode(inode), cmd, privileged, &a);
	if (err)
		return err;
	memcpy(out, &a, size);
	*out_bytes = size;
	return 0;
}
