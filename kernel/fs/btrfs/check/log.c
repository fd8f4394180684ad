/* The log: what was synced after the last commit. The next writer replays it; here its nodes are looked at, and that its data have checksums. */
#include "check.h"

#include <errno.h>
#include <stdlib.h>

struct logged {
	struct ck_ranges csums;
	u64 subvolume;
	u64 ino;
	bool nodatasum;
	bool csums_only; /* the first walk */
	u32 inodes;      /* met in it */
};

struct logs {
	struct ck_tree *at; /* one for each subvolume that has a log */
	u64 *subvolume;
	u32 count;
};

static void take_log(struct ck *c, void *ctx, const struct ck_item *it)
{
	struct logs *l = ctx;
	struct btrfs_root root;
	struct ck_tree *more;
	u64 *ids;

	if (it->key.type != BTRFS_KEY_ROOT_ITEM)
		return;
	more = realloc(l->at, (l->count + 1) * sizeof(*more));
	if (more)
		l->at = more;
	ids = realloc(l->subvolume, (l->count + 1) * sizeof(*ids));
	if (ids)
		l->subvolume = ids;
	if (!more || !ids) {
		btrfs_ck_oom(c);
		return;
	}
	btrfs_log_tree(it->data, c->bs, &root);
	ids[l->count] = it->key.offset;
	more[l->count++] = (struct ck_tree){ .id = root.id,
					     .bytenr = root.bytenr,
					     .generation = root.generation,
					     .level = root.level,
					     .log = true };
}

static void take_item(struct ck *c, void *ctx, const struct ck_item *it)
{
	struct logged *l = ctx;
	const struct btrfs_disk_file_extent *d = it->data;
	u64 from, len;

	if (it->key.type == BTRFS_KEY_EXTENT_CSUM && l->csums_only) {
		from = it->key.offset;
		len = (u64)(it->len / c->bs->csum_bytes) * c->bs->sector_bytes;
		if (btrfs_ck_range_add(&l->csums, from, from + len))
			btrfs_ck_oom(c);
	}
	if (l->csums_only) {
		l->inodes += it->key.type == BTRFS_KEY_INODE_ITEM;
		return;
	}
	if (it->key.type == BTRFS_KEY_INODE_ITEM) {
		l->ino = it->key.objectid;
		l->nodatasum =
			le64_get(((const struct btrfs_disk_inode *)it->data)->flags) & BTRFS_INODE_NODATASUM;
	}
	if (it->key.type != BTRFS_KEY_EXTENT_DATA || d->kind != BTRFS_EXTENT_REG ||
	    !le64_get(d->disk_bytenr) || (l->ino == it->key.objectid && l->nodatasum))
		return;
	from = le64_get(d->disk_bytenr);
	len = le64_get(d->disk_bytes);
	if (d->compression == BTRFS_COMPRESS_NONE) {
		from += le64_get(d->offset_bytes);
		len = le64_get(d->num_bytes);
	}
	if (btrfs_ck_range_covered(&l->csums, from, from + len) < len && !c->csums_partial &&
	    btrfs_ck_range_covered(&c->csums, from, from + len) < len)
		btrfs_ck_found(c, CK_CSUM_MISSING, "inode", it->key.objectid, NULL,
			       "in the log of subvolume %llu, at byte %llu", (unsigned long long)l->subvolume,
			       (unsigned long long)it->key.offset);
}

/* How many inodes are in it. */
static u32 check_log(struct ck *c, const struct ck_tree *t, u64 subvolume)
{
	struct logged l = { .subvolume = subvolume, .csums_only = true };
	struct ck_walk w = { t, take_item, &l, 0, 0, 0 };

	(void)!btrfs_ck_walk(c, &w);
	btrfs_ck_range_sort(&l.csums);
	l.csums_only = false;
	if (btrfs_ck_whole(c, &w, "data of a log") && !c->err)
		(void)!btrfs_ck_walk(c, &w);
	btrfs_ck_ranges_free(&l.csums);
	return l.inodes;
}

/* It is dropped only for who asked for that. */
static void say_log(struct ck *c, const struct btrfs_root *root, u32 inodes)
{
	unsigned long long generation = root->generation;

	if (!c->opts->clear_log || !c->super_ok) {
		btrfs_ck_found(c, CK_LOG, "superblock", 0, NULL, "of generation %llu, with %u inodes",
			       generation, inodes);
	} else if (btrfs_ck_fix(c, CK_LOG, "superblock", 0, NULL, "of generation %llu, with %u inodes",
				generation, inodes)) {
		c->super.log_root = le64_put(0);
		c->super.log_root_level = 0;
		c->super_changed = c->log_dropped = true;
	}
}

void btrfs_ck_log(struct ck *c)
{
	struct btrfs_root root;
	struct logs l = { 0 };
	struct ck_tree t;
	struct ck_walk w = { &t, take_log, &l, 0, 0, 0 };
	u32 inodes = 0;

	if (btrfs_log_root(c->bs, &root))
		return;
	t = (struct ck_tree){ .id = root.id,
			      .bytenr = root.bytenr,
			      .generation = root.generation,
			      .level = root.level,
			      .log = true };
	(void)!btrfs_ck_walk(c, &w);
	(void)btrfs_ck_whole(c, &w, "logs");
	for (u32 i = 0; i < l.count && !c->err; i++)
		inodes += check_log(c, &l.at[i], l.subvolume[i]);
	say_log(c, &root, inodes);
	free(l.at);
	free(l.subvolume);
}
