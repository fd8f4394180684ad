/*
 * Inodes as they live: attributes set, made durable, and the end.
 *
 *   ext4_evict_inode   nobody has it any more and it has no link:  noted as an orphan ─ blocks cut, in as many handles as it takes ─
 *                      attributes, number and note go, in one handle
 *   ext4_orphan_cleanup  the same for what a crash left; what has links is cut to its length instead
 *
 * Invariants
 *  1. Between two handles of an eviction the inode is an orphan on the volume: a crash there is finished at the next mount.
 *  2. After the number is free no handle begins on the inode's behalf: see ialloc.c.
 *  3. The cleanup ends on any volume: each step takes one inode off the list and writes its dtime anew, so no number is met through the
 *     same link twice; a list that leads to what is no orphan is given up and left to e2fsck.
 */
#include "ext4.h"

#include "lib/log.h"
#include "lib/scope.h"
#include <errno.h>

#define SHED_TRIES 2u

/* ---- attributes ---- */

/* Whether case matters is a matter of directories that have no names yet. */
static int check_casefold(struct ext4_inode *ei)
{
	int empty;

	if (!ext4_has_incompat(ext4_inode_super(ei), EXT4_INCOMPAT_CASEFOLD))
		return -EOPNOTSUPP;
	if (!is_dir(&ei->vfs))
		return -ENOTDIR;
	if (ei->flags & EXT4_FL_ENCRYPT)
		return -EOPNOTSUPP;
	empty = ext4_dir_is_empty(ei);
	return empty < 0 ? empty : empty ? 0 : -ENOTEMPTY;
}

/* What chattr may change here. *visible: what is shown then. */
static int new_flags(struct ext4_inode *ei, u32 asked, u32 *flags)
{
	/* A map is not rewritten into another kind. */
	const u32 fixed = EXT4_FL_EXTENTS, mine = EXT4_FL_USER_MODIFIABLE & ~fixed;
	int err = (asked ^ ei->flags) & EXT4_FL_CASEFOLD ? check_casefold(ei) : 0;

	if (err)
		return err;

	if (asked & ~EXT4_FL_USER_VISIBLE || (asked ^ ei->flags) & fixed)
		return -EOPNOTSUPP;
	asked &= mine;
	if (ext4_flags_of_type(ei->vfs.mode, asked) != asked)
		return -EOPNOTSUPP;
	*flags = (ei->flags & ~mine) | asked;
	return 0;
}

static int check_attr(struct ext4_inode *ei, struct iattr *a, u32 *flags)
{
	int err;

	*flags = ei->flags;
	if (a->valid & ATTR_PROJECT && !ext4_has_ro_compat(ext4_inode_super(ei), EXT4_RO_COMPAT_PROJECT) &&
	    a->project)
		return -EOPNOTSUPP;
	if (a->valid & ATTR_PROJECT && a->project != ei->vfs.project &&
	    EXT4_INODE_BYTES_OLD + ei->extra_isize < sizeof(struct ext4_disk_inode))
		return fail(-EOVERFLOW, "inode %llu has no room for a project",
			    (unsigned long long)ei->vfs.ino);
	if (a->valid & ATTR_FLAGS) {
		err = new_flags(ei, a->flags, flags);
		if (err)
			return err;
		a->flags = *flags & EXT4_FL_USER_VISIBLE;
	}
	ext4_time_clamp(ei, &a->atime);
	ext4_time_clamp(ei, &a->mtime);
	ext4_time_clamp(ei, &a->ctime);
	ext4_time_clamp(ei, &a->btime);
	return 0;
}

/* +j goes: from now on the file's data is written past the journal. Locks: vfs.lock W. */
static int jdata_off(struct ext4_inode *ei)
{
	int err;

	rw_write_lock(&ei->vfs.map_lock);
	err = ext4_jdata_end(ei);
	rw_write_unlock(&ei->vfs.map_lock);
	return err;
}

/* Another owner has records, and room in his quota. Until ext4_quota_move_end. */
static int begin_move(struct ext4_inode *ei, const struct iattr *a, struct ext4_quota_move *m)
{
	struct ext4_super *es = ext4_inode_super(ei);
	const struct ext4_owner old = ext4_owner(ei);
	struct ext4_owner new = old;
	bool tried = false;
	u32 values;
	int err;

	*m = (struct ext4_quota_move){ 0 };
	if (!es->quotas)
		return 0;
	if (a->valid & ATTR_UID)
		new.id[QUOTA_USER] = a->uid;
	if (a->valid & ATTR_GID)
		new.id[QUOTA_GROUP] = a->gid;
	if (a->valid & ATTR_PROJECT)
		new.id[QUOTA_PROJECT] = a->project;
	if (!memcmp(&old, &new, sizeof(old)))
		return 0;
	err = ext4_quota_attach(es, &new);
	if (!err)
		err = ext4_xattr_values(ei, &values);
	if (err)
		return err;
	do
		err = ext4_quota_move_begin(ei, &new, values, m);
	while (ext4_retry(es, err, &tried));
	return err;
}

static int change(struct ext4_inode *ei, const struct iattr *a, u32 flags)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	struct ext4_handle h;
	int err = ext4_begin(ext4_inode_super(ei), EXT4_CREDITS_INODE, 0, &h);

	if (err)
		return err;
	err = ext4_inode_slot(&h, ei->vfs.ino, &bh, &raw);
	if (!err) {
		inode_apply(&ei->vfs, a);
		ei->flags = flags;
		if (flags & EXT4_FL_CASEFOLD)
			ei->vfs.iflags |= I_NO_DCACHE;
		err = ext4_inode_write(&h, ei);
	}
	return ext4_end(&h, err);
}

int ext4_setattr(struct inode *inode, const struct iattr *attr)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_quota_move move;
	struct iattr a = *attr;
	u32 flags;
	int err = check_attr(ei, &a, &flags);

	if (!err && ext4_jdata(ei) && (flags ^ ei->flags) & EXT4_FL_JOURNAL_DATA &&
	    ext4_inode_super(ei)->data_mode != EXT4_DATA_JOURNAL)
		err = jdata_off(ei);
	if (!err)
		err = begin_move(ei, &a, &move);
	if (err)
		return err;
	err = change(ei, &a, flags);
	ext4_quota_move_end(ei, &move);
	return err;
}

/* ---- durability ---- */

/*
 * What was written over blocks that the file had before is in no transaction: a flush brings it along. A commit of the running transaction
 * flushes; one that is under way may have done so before the last write.
 */
static int sync_transaction(struct ext4_super *es, u32 tid)
{
	bool flushes = jbd2_is_running(es->journal, tid);
	int err = 0;

	if (!jbd2_is_durable(es->journal, tid))
		err = jbd2_commit(es->journal, tid);
	else
		flushes = false;
	if (!err && !flushes)
		err = ext4_flush(es);
	return err;
}

int ext4_fsync(struct inode *inode, bool data_only)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_super *es = ext4_inode_super(ei);
	int err;

	if (es->journal)
		return sync_transaction(es, atomic_load(data_only ? &ei->data_tid : &ei->tid));
	err = bcache_sync(es->vfs.dev);
	return err ? err : ext4_flush(es);
}

/* ---- the end ---- */

static bool has_map(const struct ext4_inode *ei)
{
	if (ei->flags & EXT4_FL_INLINE_DATA)
		return false;
	return is_reg(&ei->vfs) || is_dir(&ei->vfs) ||
	       (is_symlink(&ei->vfs) && !ext4_inode_is_fast_symlink(ei));
}

/* An inode that a crash would leave without a name and with blocks is noted before it loses the first. */
static int note(struct ext4_super *es, struct ext4_inode *ei)
{
	struct ext4_handle h;
	int err;

	if (!es->journal || ext4_orphan_noted(ei))
		return 0;
	err = ext4_begin(es, EXT4_CREDITS_INODE + EXT4_CREDITS_ORPHAN, 0, &h);
	if (err)
		return err;
	err = ext4_orphan_add(&h, ei);
	return ext4_end(&h, err);
}

/* All that is left of it, its note included, in one handle. As ext4_xattr_drop. */
static int bury(struct ext4_handle *h, struct ext4_inode *ei, enum ext4_xattr_drop how)
{
	int err = ext4_xattr_drop(h, ei, how);

	if (err == -EAGAIN)
		return err;
	if (!err)
		err = ext4_orphan_del(h, ei);
	if (!err)
		err = ext4_inode_write(h, ei);
	if (!err)
		err = ext4_inode_set_dtime(h, ei->vfs.ino, (u32)super_now(&h->es->vfs).sec);
	if (!err)
		err = ext4_quota_gone(h, ei);
	if (!err)
		err = ext4_ino_free(h, ei->vfs.ino, is_dir(&ei->vfs));
	return err && err != -EUCLEAN ? ext4_abort(h->es, err) : err;
}

int ext4_evict_inode(struct inode *inode)
{
	struct ext4_inode *ei = ext4_inode(inode);
	struct ext4_super *es = ext4_inode_super(ei);
	struct ext4_handle h;
	u32 tries = SHED_TRIES;
	int err;

	ext4_window_drop(ei);
	/* It stays an orphan on the volume. */
	if (es->vfs.rdonly || health_state(&es->vfs.health) >= HEALTH_ABORTED)
		return 0;
	err = has_map(ei) || ext4_has_incompat(es, EXT4_INCOMPAT_EA_INODE) ? note(es, ei) : 0;
	if (err)
		return err;
	if (has_map(ei)) {
		inode_set_size(inode, 0);
		err = ext4_map_cut(ei, 0);
		if (err)
			return err;
	}
	/* Once more for a block that was shared until now. */
	do {
		err = ext4_xattr_shed(ei);
		if (!err)
			err = ext4_begin(es,
					 EXT4_CREDITS_INODE + EXT4_CREDITS_ORPHAN + EXT4_CREDITS_GROUP +
						 EXT4_CREDITS_XATTR,
					 1, &h);
		if (err)
			return err;
		err = ext4_end(&h, bury(&h, ei, tries ? EXT4_DROP_SHED : EXT4_DROP_ANYWAY));
	} while (err == -EAGAIN && tries--);
	return err;
}

/* ---- after a crash ---- */

static int not_orphan(struct ext4_super *es, u64 ino, const char *why)
{
	return corrupt(&es->vfs.health, "inode", ino, "noted as an orphan, but %s", why);
}

static int load(struct ext4_super *es, struct inode *inode)
{
	struct ext4_inode *ei = ext4_inode(inode);
	int err = ext4_inode_load_orphan(ei);

	if (err)
		return err == -ESTALE ? not_orphan(es, inode->ino, "it was never used") : err;
	if (ei->flags & EXT4_FL_EA_INODE && inode->nlink)
		return not_orphan(es, inode->ino, "it holds an attribute's value");
	es->set_ops(inode);
	return 0;
}

/* The inode, referenced. *next: its dtime. */
static int get(struct ext4_super *es, u64 ino, struct ext4_inode **out, u32 *next)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	struct inode *inode;
	bool taken;
	int err;

	if (ino == EXT4_INO_ROOT || !ext4_ino_public(es, ino))
		return not_orphan(es, ino, "it is none of the files'");
	err = ext4_ino_is_taken(es, ino, &taken);
	if (err)
		return err;
	if (!taken)
		return not_orphan(es, ino, "it is free");
	err = ext4_raw_inode_get(es, ino, &bh, &raw);
	if (err)
		return err;
	*next = le32_get(raw->dtime);
	err = inode_new(&es->vfs, ino, &inode);
	if (err)
		return err;
	err = load(es, inode);
	inode_ready(inode, err);
	if (err)
		vfs_iput(inode);
	else
		*out = ext4_inode(inode);
	return err;
}

/* A file that was being cut: what lies behind its end goes. */
static int cut(struct ext4_super *es, struct ext4_inode *ei)
{
	u64 end = DIV_ROUND_UP(ext4_size(ei), (u64)ext4_block_bytes(es));
	struct ext4_handle h;
	int err = 0;

	/* A verity file has its hash tree there. */
	if (is_reg(&ei->vfs) && has_map(ei) && !(ei->flags & EXT4_FL_VERITY))
		err = ext4_map_cut(ei, end);
	if (!err)
		err = ext4_begin(es, EXT4_CREDITS_INODE + EXT4_CREDITS_ORPHAN, 0, &h);
	if (err)
		return err;
	err = ext4_orphan_del(&h, ei);
	return ext4_end(&h, err);
}

/* The inode was found at that place (counted from 1) of the file, or, 0, at the head of the list. */
static int finish(struct ext4_super *es, struct ext4_inode *ei, u32 place, u32 next)
{
	int err = 0;

	ext4_orphan_found(ei, place, next);
	if (ei->vfs.nlink)
		err = cut(es, ei);
	vfs_iput(&ei->vfs); /* without links: its end */
	return err;
}

static int give_up_list(struct ext4_super *es)
{
	struct ext4_handle h;
	int err = ext4_begin(es, EXT4_CREDITS_ORPHAN, 0, &h);

	if (err)
		return err;
	log_warn("%s: the rest of its list of orphans is left to e2fsck", es->vfs.health.name);
	err = ext4_orphan_give_up(&h);
	return ext4_end(&h, err);
}

static int cleanup_list(struct ext4_super *es, u32 *count)
{
	u32 ino, next;

	while ((ino = ext4_orphan_head(es))) {
		struct ext4_inode *ei;
		int err = get(es, ino, &ei, &next);

		if (!err) {
			err = finish(es, ei, 0, next);
			++*count;
		}
		if (health_state(&es->vfs.health) >= HEALTH_ABORTED)
			return fail(-EROFS, "%s: its orphans cannot be dealt with", es->vfs.health.name);
		/* An inode that leads to itself, or could not be brought to its end. */
		if (err || ext4_orphan_head(es) == ino)
			return give_up_list(es);
	}
	return 0;
}

static int clear_place(struct ext4_super *es, u32 place)
{
	struct ext4_handle h;
	int err = ext4_begin(es, EXT4_CREDITS_ORPHAN, 0, &h);

	if (err)
		return err;
	err = ext4_orphan_clear(&h, place);
	return ext4_end(&h, err);
}

static int cleanup_file(struct ext4_super *es, u32 *count)
{
	u32 places = ext4_orphan_places(es), ino = 0, next;
	int err = 0;

	for (u32 i = 0; i < places && !err; i++) {
		struct ext4_inode *ei;

		err = ext4_orphan_at(es, i, &ino);
		if (err || !ino)
			continue;
		if (get(es, ino, &ei, &next)) {
			err = clear_place(es, i);
			continue;
		}
		/* What cannot be finished keeps its place, for e2fsck. */
		(void)!finish(es, ei, i + 1, 0);
		++*count;
		if (health_state(&es->vfs.health) >= HEALTH_ABORTED)
			err = fail(-EROFS, "%s: its orphans cannot be dealt with", es->vfs.health.name);
	}
	return err;
}

int ext4_orphan_cleanup(struct ext4_super *es, u32 *count)
{
	int err;

	*count = 0;
	/* Where errors were found before, nothing is freed by what the volume says of itself. */
	if (le16_get(es->disk.state) & EXT4_STATE_ERROR)
		return ext4_orphan_head(es) ? give_up_list(es) : 0;
	err = cleanup_list(es, count);
	return err ? err : cleanup_file(es, count);
}
