/* A directory and what should be in it: a set of numbered names. Names are added to it in handles of their own. */
#ifndef TEST_DIRMODEL_H
#define TEST_DIRMODEL_H

#include "volume.h"

#include "lib/crc.h"
#include <errno.h>

#define MODEL_FILES 8u /* inodes that names mean: f0, f1, … of the root */

struct dirmodel {
	struct ext4_inode *dir;
	u64 file[MODEL_FILES]; /* their numbers */
	u32 n;                 /* names there could be */
	u8 *is;                /* [n] 0: absent; else 1 + which file it means */
	u32 present;
	/* The name of number i, at most 255 bytes; NULL: model_name. */
	u32 (*name_of)(u32 i, char *out);
};

/* Names of all lengths, most of them short. */
static inline u32 model_name(u32 i, char *out)
{
	u32 x = crc32c(~0u, &i, sizeof(i)), len = x % 16 ? x % 40 : x / 16 % 255;
	u32 n = (u32)sprintf(out, "%x", i);

	if (n < len)
		out[n++] = '.'; /* no digit: the names stay different */
	for (; n < len; n++)
		out[n] = (char)('a' + (x / (n + 1)) % 26);
	return n;
}

static inline struct name model_name_of(const struct dirmodel *m, u32 i, char buf[256])
{
	return (struct name){ buf, m->name_of ? m->name_of(i, buf) : model_name(i, buf) };
}

/* Finds its inodes again after a mount. path: of the directory. */
static inline void model_attach(struct dirmodel *m, const char *path)
{
	struct inode *inode;
	char name[16];

	for (u32 i = 0; i < MODEL_FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(vfs_path(&vol_es->vfs, NULL, name, true, &inode), 0);
		m->file[i] = inode->ino;
		vfs_iput(inode);
	}
	assert_int_equal(vfs_path(&vol_es->vfs, NULL, path, true, &inode), 0);
	m->dir = ext4_inode(inode);
}

static inline void model_detach(struct dirmodel *m)
{
	vfs_iput(&m->dir->vfs);
	m->dir = NULL;
}

static inline void model_init(struct dirmodel *m, u32 n)
{
	*m = (struct dirmodel){ .n = n, .is = calloc(n, 1) };
	assert_non_null(m->is);
	model_attach(m, "d");
}

enum model_op { MODEL_ADD, MODEL_DEL, MODEL_SET };

/* One change; its result. The model follows when it succeeded. */
static inline int model_change(struct dirmodel *m, enum model_op op, u32 i, u32 file)
{
	struct ext4_handle h;
	char buf[256];
	struct name name = model_name_of(m, i, buf);
	int err, end;

	rw_write_lock(&m->dir->vfs.lock);
	err = ext4_begin(vol_es, EXT4_CREDITS_DIR_ADD + EXT4_CREDITS_INODE, 0, &h);
	assert_int_equal(err, 0);
	if (op == MODEL_ADD)
		err = ext4_dir_add(&h, m->dir, &name, m->file[file], S_IFREG);
	else if (op == MODEL_DEL)
		err = ext4_dir_del(&h, m->dir, &name);
	else
		err = ext4_dir_set(&h, m->dir, &name, m->file[file], S_IFREG);
	end = ext4_inode_write(&h, m->dir);
	assert_int_equal(end, 0);
	err = ext4_end(&h, err);
	rw_write_unlock(&m->dir->vfs.lock);
	if (err)
		return err;
	m->present += op == MODEL_ADD;
	m->present -= op == MODEL_DEL;
	m->is[i] = op == MODEL_DEL ? 0 : (u8)(file + 1);
	return 0;
}

static inline void model_must(struct dirmodel *m, enum model_op op, u32 i, u32 file)
{
	int err = model_change(m, op, i, file);

	if (err)
		fail_msg("operation %d on name %u: %d, %s", op, i, err, err_text());
}

/* ---- what is there ---- */

static inline void model_check_lookup(struct dirmodel *m, u32 i)
{
	char buf[256];
	struct name name = model_name_of(m, i, buf);
	u64 ino = 0;
	int err;

	rw_read_lock(&m->dir->vfs.lock);
	err = ext4_lookup(&m->dir->vfs, &name, &ino);
	rw_read_unlock(&m->dir->vfs.lock);
	if (!m->is[i] && err != -ENOENT)
		fail_msg("name %u is found, %d", i, err);
	if (m->is[i] && (err || ino != m->file[m->is[i] - 1]))
		fail_msg("name %u is not found, %d: %s", i, err, err_text());
}

struct model_listing {
	struct dirmodel *m;
	u32 left, tops, listed; /* entries until the call ends */
	u64 pos;
	u8 *seen; /* [n] */
	u32 *by_hash, mask;
};

static inline u32 model_find(struct model_listing *l, const struct name *name)
{
	u32 at = crc32c(~0u, name->s, name->len) & l->mask;
	char buf[256];

	for (; l->by_hash[at]; at = (at + 1) & l->mask) {
		struct name other = model_name_of(l->m, l->by_hash[at] - 1, buf);

		if (other.len == name->len && !memcmp(other.s, name->s, name->len))
			return l->by_hash[at] - 1;
	}
	fail_msg("a name that never was is listed: %.*s", (int)name->len, name->s);
	return 0;
}

static inline int model_emit(void *ctx, const struct dirent_out *de)
{
	struct model_listing *l = ctx;
	u32 i;

	if (!l->left)
		return 1;
	l->left--;
	assert_true(de->next_pos > l->pos && de->next_pos <= INT64_MAX);
	l->pos = de->next_pos;
	if (ext4_is_dot_or_dotdot(de->name.s, de->name.len)) {
		l->tops++;
		return 0;
	}
	i = model_find(l, &de->name);
	if (l->seen[i]++)
		fail_msg("name %u is listed twice", i);
	if (l->m->is[i])
		assert_int_equal(de->ino, l->m->file[l->m->is[i] - 1]);
	l->listed++;
	return 0;
}

static inline void listing_init(struct model_listing *l, struct dirmodel *m)
{
	u32 room = 16, at;
	char buf[256];

	while (room < 4 * m->n)
		room *= 2;
	*l = (struct model_listing){ .m = m, .mask = room - 1 };
	l->seen = calloc(m->n, 1);
	l->by_hash = calloc(room, sizeof(u32));
	assert_true(l->seen && l->by_hash);
	for (u32 i = 0; i < m->n; i++) {
		struct name name = model_name_of(m, i, buf);

		for (at = crc32c(~0u, name.s, name.len) & l->mask; l->by_hash[at]; at = (at + 1) & l->mask)
			;
		l->by_hash[at] = i + 1;
	}
}

static inline void listing_fini(struct model_listing *l)
{
	free(l->seen);
	free(l->by_hash);
}

/* Up to n more entries. True: there were some. */
static inline bool listing_go_on(struct model_listing *l, u32 n)
{
	int err;

	l->left = n;
	err = vfs_readdir(&l->m->dir->vfs, l->pos, model_emit, l);
	if (err)
		fail_msg("readdir: %d %s", err, err_text());
	return l->left < n;
}

/* Lookups of every name, and a listing in pieces of 1 to `piece` entries. */
static inline void model_check(struct dirmodel *m, u32 piece)
{
	struct model_listing l;

	for (u32 i = 0; i < m->n; i++)
		model_check_lookup(m, i);
	listing_init(&l, m);
	while (listing_go_on(&l, 1 + rnd(piece)))
		;
	assert_int_equal(l.tops, 2);
	assert_int_equal(l.listed, m->present);
	for (u32 i = 0; i < m->n; i++)
		if (!l.seen[i] != !m->is[i])
			fail_msg("name %u is %slisted", i, m->is[i] ? "not " : "");
	listing_fini(&l);
}

/* ---- the end ---- */

/* The link counts of the files that the names mean become right. */
static inline void model_settle(struct dirmodel *m)
{
	for (u32 f = 0; f < MODEL_FILES; f++) {
		struct inode *inode;
		struct ext4_handle h;
		u32 links = 1;

		for (u32 i = 0; i < m->n; i++)
			links += m->is[i] == f + 1;
		assert_int_equal(vfs_iget(&vol_es->vfs, m->file[f], &inode), 0);
		inode->nlink = links;
		assert_int_equal(ext4_begin(vol_es, EXT4_CREDITS_INODE, 0, &h), 0);
		assert_int_equal(ext4_inode_write(&h, ext4_inode(inode)), 0);
		assert_int_equal(ext4_end(&h, 0), 0);
		vfs_iput(inode);
	}
}

/* e2fsck, a read-only mount of ours and, as root, one of the kernel agree with the model, which ends. */
static inline void model_end(struct dirmodel *m)
{
	/* It mounts no blocks that are longer than a page. */
	bool kernel = vol_kernel_can() && (long)ext4_block_bytes(vol_es) <= sysconf(_SC_PAGESIZE);
	char path[128], buf[256];
	FILE *f;

	model_settle(m);
	model_detach(m);
	vol_close();
	vol_fsck();
	vol_open_rdonly();
	model_attach(m, "d");
	model_check(m, 50);
	model_detach(m);
	vol_close();
	snprintf(path, sizeof(path), "%s/names", vol_dir);
	f = fopen(path, "w");
	assert_non_null(f);
	for (u32 i = 0; i < m->n; i++)
		if (m->is[i]) {
			struct name name = model_name_of(m, i, buf);

			assert_int_equal(fprintf(f, "%.*s", (int)name.len, name.s), name.len);
			fputc(0, f);
		}
	fclose(f);
	free(m->is);
	if (kernel) {
		vol_kernel("img", "ro");
		run("cd %s && LC_ALL=C sort -z names >want && (cd mnt/d && find . -mindepth 1 -printf "
		    "'%%f\\0' | "
		    "LC_ALL=C sort -z) >got && cmp want got && cd mnt/d && xargs -0r stat -c %%i -- "
		    "<../../names "
		    ">/dev/null",
		    vol_dir);
		vol_kernel_end();
	}
	vol_remove();
}

/* A volume with the directory "d", empty, and the files that names will mean, open for writing. tune: for tune2fs, "" for nothing. */
static inline void model_start(struct dirmodel *m, const char *mke2fs_args, const char *tune, u32 mib,
			       u32 names)
{
	print_message("%s %s\n", mke2fs_args, tune);
	vol_make(mke2fs_args, mib, "mkdir d && touch f0 f1 f2 f3 f4 f5 f6 f7");
	if (*tune)
		run("tune2fs %s %s/img >/dev/null && { e2fsck -fy %s/img >/dev/null 2>&1; test $? -le 1; }",
		    tune, vol_dir, vol_dir);
	vol_open();
	model_init(m, names);
}

#endif
