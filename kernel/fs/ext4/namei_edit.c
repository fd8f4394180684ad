/*
 * Operations on names: create, link, unlink, rename. Each is one handle, so that a crash leaves all of it or nothing.
 *
 *   - What may fail without harm comes first: new inodes, blocks read and joined, the name that needs room. What fails
 *     after the first name changed aborts the journal.
 *   - A new inode that got no name is put on the orphan list in the same handle; its last vfs_iput frees it.
 *   - An inode whose last name goes is put on the orphan list in the handle that takes the name.
 *   - A directory's links are itself, its name and its subdirectories; with dir_nlink, 1 means that there were too
 *     many to count, and stays.
 */
#include "ext4.h"

#include <errno.h>

#define LINK_MAX_EXT4 65000u

static const struct name dotdot = { "..", 2 };

/* chattr +D or +S */
static bool is_sync(const struct ext4_inode *dir)
{
	return dir->flags & (EXT4_FL_SYNC | EXT4_FL_DIRSYNC);
}

/* Ends a change of names in `dir`; where that is synchronous the change is durable then. */
static int end(struct ext4_handle *h, const struct ext4_inode *dir, int err)
{
	struct jbd2 *journal = h->es->journal;
	u32 tid = h->jh.tid;

	err = ext4_end(h, err);
	if (err || !journal || !is_sync(dir))
		return err;
	return jbd2_commit(journal, tid);
}

static void set_links(struct inode *inode, u32 n)
{
	mutex_lock(&inode->attr);
	inode->nlink = n;
	mutex_unlock(&inode->attr);
}

/* The directory cannot have another subdirectory. */
static bool links_full(const struct ext4_inode *dir)
{
	return dir->vfs.nlink >= LINK_MAX_EXT4 &&
	       !(ext4_has_ro_compat(ext4_inode_super(dir), EXT4_RO_COMPAT_DIR_NLINK) &&
		 ext4_dir_is_indexed(dir));
}

static void gain_subdir(struct ext4_inode *dir)
{
	u32 n = dir->vfs.nlink + 1;

	if (ext4_dir_is_indexed(dir) && (n > LINK_MAX_EXT4 || n == 2))
		n = 1;
	set_links(&dir->vfs, n);
}

static void lose_subdir(struct ext4_inode *dir)
{
	if (dir->vfs.nlink > 2)
		set_links(&dir->vfs, dir->vfs.nlink - 1);
}

/* A name of the inode went: if it was the last one, it waits to be freed. */
static int lose_name(struct ext4_handle *h, struct ext4_inode *ei)
{
	int err = 0;

	inode_touch(&ei->vfs, ATTR_CTIME);
	set_links(&ei->vfs, is_dir(&ei->vfs) || !ei->vfs.nlink ? 0 : ei->vfs.nlink - 1);
	if (is_dir(&ei->vfs))
		atomic_store_explicit(&ei->vfs.size_bytes, 0, memory_order_relaxed);
	if (!ei->vfs.nlink)
		err = ext4_orphan_add(h, ei);
	return err ? err : ext4_inode_write(h, ei);
}

/* The directory's names changed; other directories are another call. */
static int names_changed(struct ext4_handle *h, struct ext4_inode *dir)
{
	inode_touch(&dir->vfs, ATTR_MTIME | ATTR_CTIME);
	return ext4_inode_write(h, dir);
}

/* Adds a name. When that fails the directory may have grown all the same. */
static int add_name(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name,
		    const struct ext4_inode *ei)
{
	int err = ext4_dir_add(h, dir, name, ei->vfs.ino, ei->vfs.mode), written;

	if (!err)
		return 0;
	written = ext4_inode_write(h, dir);
	return written ? ext4_abort(h->es, written) : err;
}

/* Without its key an encrypted directory can only lose names, by those that it shows. */
static int check_key(const struct ext4_inode *dir)
{
	if (dir->flags & EXT4_FL_ENCRYPT)
		return fail(-ENOKEY, "directory %llu is encrypted, and its key is not known",
			    (unsigned long long)dir->vfs.ino);
	return 0;
}

static int check_project(const struct ext4_inode *dir, const struct ext4_inode *ei)
{
	if (dir->vfs.flags & INO_PROJINHERIT && dir->vfs.project != ei->vfs.project)
		return fail(-EXDEV, "directory %llu is for files of project %u only",
			    (unsigned long long)dir->vfs.ino, dir->vfs.project);
	return 0;
}

/* ---- new inodes ---- */

/* In the handle that made it: an inode that has no name is to be freed, or, unnamed on purpose, to be after a crash. */
static int leave_unnamed(struct ext4_handle *h, struct ext4_inode *ei)
{
	int err;

	set_links(&ei->vfs, 0);
	err = ext4_orphan_add(h, ei);
	if (!err)
		err = ext4_inode_write(h, ei);
	return err ? ext4_abort(h->es, err) : 0;
}

/* After the handle: others may have the new inode; when what it is for failed, it is freed. NULL: there is none. */
static void finish_new(struct ext4_inode *ei, int err)
{
	if (!ei)
		return;
	inode_ready(&ei->vfs, 0);
	if (err)
		vfs_iput(&ei->vfs);
}

/* The new inode's first name. */
static int give_name(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name,
		     struct ext4_inode *ei)
{
	bool sub = is_dir(&ei->vfs);
	int err = sub ? ext4_dir_init(h, ei, dir->vfs.ino) : 0;

	if (!err)
		err = add_name(h, dir, name, ei);
	if (err)
		return err;
	set_links(&ei->vfs, sub ? 2 : 1);
	if (sub)
		gain_subdir(dir);
	err = ext4_inode_write(h, ei);
	if (!err)
		err = names_changed(h, dir);
	return err ? ext4_abort(h->es, err) : 0;
}

/* The owner of what is to be made has records, and one inode of his quota is held for it. */
static int hold_one(struct ext4_super *es, const struct new_inode *what, struct ext4_use *held)
{
	int err;

	*held = (struct ext4_use){ .owner.id = { what->uid, what->gid, what->project }, .inodes = 1 };
	err = ext4_quota_attach(es, &held->owner);
	return err ? err : ext4_quota_hold(es, held);
}

static int create_once(struct ext4_inode *dir, const struct name *name, const struct new_inode *what,
		       struct ext4_inode **out)
{
	u32 credits = EXT4_CREDITS_NEW_INODE + EXT4_CREDITS_ORPHAN + EXT4_CREDITS_INODE;
	struct ext4_super *es = ext4_inode_super(dir);
	struct ext4_inode *ei = NULL;
	struct ext4_handle h;
	int err;

	credits += ext4_acl_credits(es, what->acl) + ext4_acl_credits(es, what->default_acl);
	if (name)
		credits += EXT4_CREDITS_DIR_ADD;
	if (S_ISDIR(what->mode))
		credits += EXT4_CREDITS_INSERT + EXT4_CREDITS_GROUP;
	err = ext4_begin(es, credits, EXT4_REVOKES_NEW_INODE + 1, &h);
	if (err)
		return err;
	err = ext4_inode_create(&h, dir, what, &ei);
	if (err)
		ei = NULL;
	else if (name)
		err = give_name(&h, dir, name, ei);
	if (ei && (err || !name)) {
		int unnamed = leave_unnamed(&h, ei);

		err = err ? err : unnamed;
	}
	err = end(&h, dir, err);
	finish_new(ei, err);
	*out = ei;
	return err;
}

int ext4_create(struct inode *dir, const struct name *name, const struct new_inode *what, struct inode **out)
{
	struct ext4_inode *ei = NULL;
	struct ext4_use held;
	bool tried = false;
	int err = check_key(ext4_inode(dir));

	if (err)
		return err;
	if (S_ISDIR(what->mode) && links_full(ext4_inode(dir)))
		return fail(-EMLINK, "directory %llu has %u subdirectories", (unsigned long long)dir->ino,
			    LINK_MAX_EXT4 - 2);
	err = hold_one(ext4_super(dir->sb), what, &held);
	if (err)
		return err;
	do
		err = create_once(ext4_inode(dir), name, what, &ei);
	while (ext4_retry(ext4_super(dir->sb), err, &tried));
	ext4_quota_release(ext4_super(dir->sb), &held);
	if (!err)
		*out = &ei->vfs;
	return err;
}

/* ---- link, unlink ---- */

static int link_once(struct ext4_inode *dir, const struct name *name, struct ext4_inode *ei)
{
	struct ext4_handle h;
	bool unnamed = !ei->vfs.nlink;
	int err = ext4_begin(ext4_inode_super(dir),
			     EXT4_CREDITS_DIR_ADD + EXT4_CREDITS_ORPHAN + 2 * EXT4_CREDITS_INODE, 1, &h);

	if (err)
		return err;
	err = add_name(&h, dir, name, ei);
	if (err)
		return ext4_end(&h, err);
	set_links(&ei->vfs, ei->vfs.nlink + 1);
	inode_touch(&ei->vfs, ATTR_CTIME);
	if (unnamed)
		err = ext4_orphan_del(&h, ei);
	if (!err)
		err = ext4_inode_write(&h, ei);
	if (!err)
		err = names_changed(&h, dir);
	return end(&h, dir, err ? ext4_abort(h.es, err) : 0);
}

int ext4_link(struct inode *dir, const struct name *name, struct inode *inode)
{
	bool tried = false;
	int err = check_key(ext4_inode(dir));

	if (err)
		return err;
	if (inode->nlink >= LINK_MAX_EXT4)
		return fail(-EMLINK, "inode %llu has %u names", (unsigned long long)inode->ino, inode->nlink);
	err = check_project(ext4_inode(dir), ext4_inode(inode));
	if (err)
		return err;
	do
		err = link_once(ext4_inode(dir), name, ext4_inode(inode));
	while (ext4_retry(ext4_super(dir->sb), err, &tried));
	return err;
}

/* -ENOTEMPTY: a directory that has names in it. */
static int check_empty(struct ext4_inode *ei)
{
	int empty = is_dir(&ei->vfs) ? ext4_dir_is_empty(ei) : 1;

	return empty < 0 ? empty : empty ? 0 : -ENOTEMPTY;
}

int ext4_unlink(struct inode *inode_dir, const struct name *name, struct inode *inode)
{
	struct ext4_inode *dir = ext4_inode(inode_dir), *ei = ext4_inode(inode);
	struct ext4_handle h;
	int err = check_empty(ei);

	if (!err)
		err = ext4_begin(ext4_inode_super(dir),
				 EXT4_CREDITS_DIR_DEL + EXT4_CREDITS_ORPHAN + 2 * EXT4_CREDITS_INODE, 0, &h);
	if (err)
		return err;
	err = ext4_dir_del(&h, dir, name);
	if (err)
		return ext4_end(&h, err);
	if (is_dir(inode))
		lose_subdir(dir);
	err = lose_name(&h, ei);
	if (!err)
		err = names_changed(&h, dir);
	return end(&h, dir, err ? ext4_abort(h.es, err) : 0);
}

/* ---- rename ---- */

struct move {
	struct ext4_inode *dir[2]; /* old, new */
	const struct name *name[2];
	struct ext4_inode *ei[2]; /* what the names mean; [1] NULL: the new one is free */
	struct ext4_inode *whiteout;
	bool exchange;
};

/* ei[i] is a directory that comes to lie in another one. */
static bool gets_new_parent(const struct move *m, u32 i)
{
	return m->dir[0] != m->dir[1] && m->ei[i] && is_dir(&m->ei[i]->vfs) && (!i || m->exchange);
}

static int check_move(const struct move *m)
{
	int err = check_key(m->dir[0]);

	if (!err)
		err = check_key(m->dir[1]);
	if (!err)
		err = check_project(m->dir[1], m->ei[0]);
	if (!err && m->exchange)
		err = check_project(m->dir[0], m->ei[1]);
	if (!err && m->ei[1] && !m->exchange)
		err = check_empty(m->ei[1]);
	for (u32 i = 0; i < 2 && !err; i++) {
		const struct ext4_inode *to = m->dir[!i], *there = m->ei[!i];

		/* Where a directory takes a directory's place, the count stays. */
		if (gets_new_parent(m, i) && !(there && is_dir(&there->vfs)) && links_full(to))
			err = fail(-EMLINK, "directory %llu has %u subdirectories",
				   (unsigned long long)to->vfs.ino, LINK_MAX_EXT4 - 2);
	}
	return err;
}

/* All that the change will need is in memory and joined. */
static int join_all(struct ext4_handle *h, const struct move *m)
{
	int err = ext4_dir_join(h, m->dir[0], m->name[0]);

	if (!err && m->ei[1])
		err = ext4_dir_join(h, m->dir[1], m->name[1]);
	for (u32 i = 0; i < 2 && !err; i++)
		if (gets_new_parent(m, i))
			err = ext4_dir_join(h, m->ei[i], &dotdot);
	return err;
}

static int set_name(struct ext4_handle *h, struct ext4_inode *dir, const struct name *name,
		    const struct ext4_inode *ei)
{
	return ext4_dir_set(h, dir, name, ei->vfs.ino, ei->vfs.mode);
}

/* The old name, after the new one means what it meant. */
static int change_old_name(struct ext4_handle *h, const struct move *m)
{
	if (m->exchange)
		return set_name(h, m->dir[0], m->name[0], m->ei[1]);
	if (m->whiteout) {
		set_links(&m->whiteout->vfs, 1);
		return set_name(h, m->dir[0], m->name[0], m->whiteout);
	}
	return ext4_dir_del(h, m->dir[0], m->name[0]);
}

/* What follows from the names: parents, links, times. */
static int settle(struct ext4_handle *h, const struct move *m)
{
	int err = 0;

	if (m->ei[1] && !m->exchange) {
		if (is_dir(&m->ei[1]->vfs))
			lose_subdir(m->dir[1]);
		err = lose_name(h, m->ei[1]);
	}
	for (u32 i = 0; i < 2 && !err; i++) {
		if (i && !m->exchange)
			break;
		if (gets_new_parent(m, i)) {
			err = set_name(h, m->ei[i], &dotdot, m->dir[!i]);
			lose_subdir(m->dir[i]);
			gain_subdir(m->dir[!i]);
		}
		inode_touch(&m->ei[i]->vfs, ATTR_CTIME);
		if (!err)
			err = ext4_inode_write(h, m->ei[i]);
	}
	if (!err && m->whiteout)
		err = ext4_inode_write(h, m->whiteout);
	if (!err)
		err = names_changed(h, m->dir[0]);
	if (!err && m->dir[1] != m->dir[0])
		err = names_changed(h, m->dir[1]);
	return err;
}

static int rename_in_handle(struct ext4_handle *h, struct move *m, const struct new_inode *whiteout)
{
	int err = 0;

	if (whiteout)
		err = ext4_inode_create(h, m->dir[0], whiteout, &m->whiteout);
	if (err) {
		m->whiteout = NULL;
		return err;
	}
	err = join_all(h, m);
	if (!err)
		err = m->ei[1] ? set_name(h, m->dir[1], m->name[1], m->ei[0])
			       : add_name(h, m->dir[1], m->name[1], m->ei[0]);
	if (err) {
		int unnamed = m->whiteout ? leave_unnamed(h, m->whiteout) : 0;

		return unnamed ? unnamed : err;
	}
	err = change_old_name(h, m);
	if (!err)
		err = settle(h, m);
	return err ? ext4_abort(h->es, err) : 0;
}

static int rename_once(struct move *m, const struct new_inode *whiteout)
{
	/* Leaves of both names, two "..", four inodes, one that loses its last name. */
	u32 credits = EXT4_CREDITS_DIR_ADD + EXT4_CREDITS_DIR_DEL + 2 + 4 * EXT4_CREDITS_INODE +
		      EXT4_CREDITS_ORPHAN;
	struct ext4_handle h;
	int err;

	if (whiteout)
		credits += EXT4_CREDITS_NEW_INODE + EXT4_CREDITS_ORPHAN;
	err = ext4_begin(ext4_inode_super(m->dir[0]), credits, 1 + (whiteout ? EXT4_REVOKES_NEW_INODE : 0),
			 &h);
	if (err)
		return err;
	m->whiteout = NULL;
	err = rename_in_handle(&h, m, whiteout);
	err = end(&h, m->dir[is_sync(m->dir[1])], err);
	finish_new(m->whiteout, err);
	if (m->whiteout && !err)
		vfs_iput(&m->whiteout->vfs);
	return err;
}

int ext4_rename(struct inode *dir, const struct name *name, struct inode *inode, struct inode *new_dir,
		const struct name *new_name, struct inode *victim, bool exchange,
		const struct new_inode *whiteout)
{
	struct move m = { .dir = { ext4_inode(dir), ext4_inode(new_dir) },
			  .name = { name, new_name },
			  .ei = { ext4_inode(inode), victim ? ext4_inode(victim) : NULL },
			  .exchange = exchange };
	struct ext4_use held;
	bool tried = false;
	int err = check_move(&m);

	if (!err && whiteout)
		err = hold_one(ext4_super(dir->sb), whiteout, &held);
	if (err)
		return err;
	do
		err = rename_once(&m, whiteout);
	while (ext4_retry(ext4_super(dir->sb), err, &tried));
	if (whiteout)
		ext4_quota_release(ext4_super(dir->sb), &held);
	return err;
}
