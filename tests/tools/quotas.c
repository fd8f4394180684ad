/*
 * quotas IMAGE SEED OPS
 *
 * Users, groups and projects at the edge of what they may use, on a volume of ext4 with quota files. What everybody uses is known by looking at
 * his files (stat), and whether an operation is refused by the rules of the kernel (fs/quota/dquot.c): hard limits, soft ones with their time,
 * root exempt, EXDEV between projects. After each operation the report must say exactly that, times included; e2fsck
 * judges the volume now and then.
 *
 * How many blocks a map or a directory takes is not known beforehand: between what an operation needs at least and at most it may go either way.
 */
#include "ext4/ext4.h"
#include "support/fsapi.h"
#include "support/programs.h"
#include "vfs/vfs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDS       4u
#define FILES     40u
#define DIRS      4u
#define LARGE     5000u /* of a value that is in an inode of its own */
#define MAP_MOST  6u    /* clusters that a map may need beside the data */
#define LOOK_EACH 400u

/* Of each kind: who is tested. Project 0 is everybody's who has none. */
static const u32 id_of[QUOTA_KINDS][IDS] = { { 1000, 1001, 70000, 16777217 },
					     { 2000, 2001, 2002, 2003 },
					     { 7, 8, 9, 300000 } };

struct known_id {
	struct quota q; /* limits and times, as they must be */
};

struct one {
	bool is_there, is_open; /* it has its name; it is held */
	struct fs_file held;
	u32 dir, values; /* large ones */
	u32 project;
	u64 size;
};

struct test {
	const char *image;
	struct fs *fs;
	struct super_block *sb;
	u64 seed, cluster;
	u32 done, refused, crossed;
	bool has_values, has_projects, has_extents;
	struct known_id id[QUOTA_KINDS][IDS];
	struct quota_grace grace[QUOTA_KINDS];
	u32 dir_project[DIRS]; /* ~0: it does not inherit */
	struct one file[FILES];
	const char *what; /* the operation */
	char *wrong;
};

static u32 below(struct test *t, u32 n)
{
	t->seed ^= t->seed << 13;
	t->seed ^= t->seed >> 7;
	t->seed ^= t->seed << 17;
	return (u32)((t->seed * 0x2545f4914f6cdd1dull >> 32) % n);
}

#define WRONG(t, ...)                                                      \
	do {                                                               \
		if (!(t)->wrong && asprintf(&(t)->wrong, __VA_ARGS__) < 0) \
			abort();                                           \
	} while (0)

static void must(struct test *t, int err)
{
	if (err)
		WRONG(t, "%s: %s (%s)", t->what, strerror(-err), err_text());
}

static void path_of(const struct test *t, u32 f, char *path)
{
	sprintf(path, "d%u/f%u", t->file[f].dir, f);
}

/* ---- what is used ---- */

static struct known_id *known(struct test *t, u32 kind, u32 id)
{
	for (u32 i = 0; i < IDS; i++)
		if (id_of[kind][i] == id)
			return &t->id[kind][i];
	return NULL;
}

static void use(struct test *t, u32 kind, u32 id, u64 bytes, u64 inodes, bool first)
{
	struct known_id *k = known(t, kind, id);

	if (k && first)
		k->q.space_bytes = k->q.inodes = 0;
	if (k) {
		k->q.space_bytes += bytes;
		k->q.inodes += inodes;
	}
}

static void use_all(struct test *t, const struct fs_stat *st, u32 project, u32 values)
{
	use(t, QUOTA_USER, st->uid, st->blocks_512 << 9, 1 + values, false);
	use(t, QUOTA_GROUP, st->gid, st->blocks_512 << 9, 1 + values, false);
	use(t, QUOTA_PROJECT, project, st->blocks_512 << 9, 1 + values, false);
}

static void set_until(u64 used, u64 soft, u32 grace, u64 now, u64 *until)
{
	if (!soft || used <= soft)
		*until = 0;
	else if (!*until)
		*until = now + grace;
}

static u64 kib(u64 bytes)
{
	return (bytes + 1023) / 1024;
}

/* By looking at all files. */
static void look(struct test *t)
{
	u64 now = (u64)t->sb->script.now.sec;
	struct fs_stat st;
	char path[64];

	must(t, FS_CALL(t->fs, sync));
	for (u32 kind = 0; kind < QUOTA_KINDS; kind++)
		for (u32 i = 0; i < IDS; i++)
			use(t, kind, id_of[kind][i], 0, 0, true);
	for (u32 d = 0; d < DIRS; d++) {
		sprintf(path, "d%u", d);
		must(t, FS_CALL(t->fs, stat, path, false, &st));
		use_all(t, &st, t->dir_project[d] == ~0u ? 0 : t->dir_project[d], 0);
	}
	for (u32 f = 0; f < FILES; f++) {
		struct one *o = &t->file[f];

		if (!o->is_there && !o->is_open)
			continue;
		path_of(t, f, path);
		must(t, o->is_open ? FS_CALL(t->fs, fstat, &o->held, &st)
				   : FS_CALL(t->fs, stat, path, false, &st));
		use_all(t, &st, o->project, o->values);
	}
	for (u32 kind = 0; kind < QUOTA_KINDS; kind++)
		for (u32 i = 0; i < IDS; i++) {
			struct quota *q = &t->id[kind][i].q;

			set_until(kib(q->space_bytes), q->space_soft_kib, t->grace[kind].space_sec, now,
				  &q->space_until_sec);
			set_until(q->inodes, q->inodes_soft, t->grace[kind].inodes_sec, now,
				  &q->inodes_until_sec);
		}
}

static bool same(const struct quota *a, const struct quota *b)
{
	return a->space_bytes == b->space_bytes && a->space_soft_kib == b->space_soft_kib &&
	       a->space_hard_kib == b->space_hard_kib && a->space_until_sec == b->space_until_sec &&
	       a->inodes == b->inodes && a->inodes_soft == b->inodes_soft &&
	       a->inodes_hard == b->inodes_hard && a->inodes_until_sec == b->inodes_until_sec;
}

struct report {
	struct test *t;
	u32 kind, seen;
};

static int compare_one(void *ctx, const struct quota *q)
{
	struct report *r = ctx;
	struct known_id *k = known(r->t, r->kind, q->id);

	if (!k)
		return 0;
	r->seen |= 1u << (k - r->t->id[r->kind]);
	if (!same(&k->q, q))
		WRONG(r->t,
		      "after %s: %s %u is said to have %llu bytes until %llu and %llu inodes until %llu, and "
		      "has %llu "
		      "until %llu and %llu until %llu",
		      r->t->what, ext4_quota_name(r->kind), q->id, (unsigned long long)q->space_bytes,
		      (unsigned long long)q->space_until_sec, (unsigned long long)q->inodes,
		      (unsigned long long)q->inodes_until_sec, (unsigned long long)k->q.space_bytes,
		      (unsigned long long)k->q.space_until_sec, (unsigned long long)k->q.inodes,
		      (unsigned long long)k->q.inodes_until_sec);
	return 0;
}

static void compare(struct test *t)
{
	for (u32 kind = 0; kind < QUOTA_KINDS; kind++) {
		struct report r = { .t = t, .kind = kind };
		struct quota_grace grace;

		if (kind == QUOTA_PROJECT && !t->has_projects)
			continue;
		must(t, vfs_quota(t->sb, kind, &grace, compare_one, &r));
		for (u32 i = 0; i < IDS; i++)
			if (!(r.seen & 1u << i) && (t->id[kind][i].q.space_bytes || t->id[kind][i].q.inodes))
				WRONG(t, "after %s: %s %u has no record", t->what, ext4_quota_name(kind),
				      id_of[kind][i]);
	}
}

/* ---- what may be used ---- */

struct need {
	u32 id[QUOTA_KINDS];
	u64 least, most; /* clusters */
	u64 inodes;
};

static bool over(u64 used, u64 soft, u64 hard, u64 until, u64 now)
{
	return (hard && used > hard) || (soft && used > soft && until && now >= until);
}

/* but: of kinds that have it already. */
static bool too_much(struct test *t, const struct need *n, u64 clusters, const u32 *but)
{
	u64 now = (u64)t->sb->script.now.sec, bytes = clusters * t->cluster;

	for (u32 kind = 0; kind < QUOTA_KINDS; kind++) {
		struct known_id *k = known(t, kind, n->id[kind]);

		if (!k || (but && but[kind] == n->id[kind]))
			continue;
		if (bytes && over(kib(k->q.space_bytes + bytes), k->q.space_soft_kib, k->q.space_hard_kib,
				  k->q.space_until_sec, now))
			return true;
		if (n->inodes && over(k->q.inodes + n->inodes, k->q.inodes_soft, k->q.inodes_hard,
				      k->q.inodes_until_sec, now))
			return true;
	}
	return false;
}

/* The operation said err: is that right, given these needs? */
static void judge(struct test *t, int err, bool root, const struct need *n, u32 count, const u32 *but)
{
	bool may = false, shall = false;

	for (u32 i = 0; i < count; i++) {
		may |= too_much(t, &n[i], n[i].most, but);
		shall |= too_much(t, &n[i], n[i].least, but);
	}
	if (err == -EDQUOT)
		t->refused++;
	if (err && err != -EDQUOT)
		must(t, err);
	else if (err && (root || !may))
		WRONG(t, "%s: refused, though there is room", t->what);
	else if (!err && !root && shall)
		WRONG(t, "%s: not refused, though there is no room", t->what);
}

static struct need needs(const struct fs_stat *st, u32 project, u64 least, u64 most, u64 inodes)
{
	return (struct need){
		.id = { st->uid, st->gid, project }, .least = least, .most = most, .inodes = inodes
	};
}

/* Who acts from now on. */
static bool act(struct test *t)
{
	bool root = below(t, 10) == 0;

	FS_CALL(t->fs, as, id_of[QUOTA_USER][below(t, IDS)], id_of[QUOTA_GROUP][below(t, IDS)], 0);
	vfs_set_privileged(root);
	return root;
}

static void act_end(struct test *t)
{
	FS_CALL(t->fs, as, 0, 0, 0);
	vfs_set_privileged(true);
}

/* ---- operations ---- */

static void create(struct test *t, u32 f)
{
	struct one *o = &t->file[f];
	u32 uid = id_of[QUOTA_USER][below(t, IDS)], gid = id_of[QUOTA_GROUP][below(t, IDS)],
	    kind = below(t, 4);
	bool root = below(t, 10) == 0;
	struct fs_stat dir;
	struct fs_file file;
	char path[64], target[200] = "";
	struct need n[2];
	int err;

	t->what = "create";
	*o = (struct one){ .dir = below(t, DIRS) };
	o->project = t->dir_project[o->dir] == ~0u ? 0 : t->dir_project[o->dir];
	sprintf(path, "d%u", o->dir);
	must(t, FS_CALL(t->fs, stat, path, false, &dir));
	path_of(t, f, path);
	memset(target, 'x', 199);
	n[0] = (struct need){ .id = { uid, gid, o->project }, .inodes = 1 };
	n[0].least = n[0].most = kind == 0;
	n[1] = needs(&dir, o->project, 0, 3, 0);
	FS_CALL(t->fs, as, uid, gid, 0);
	vfs_set_privileged(root);
	if (!kind) {
		err = FS_CALL(t->fs, symlink, target, path);
	} else {
		err = fs_open(t->fs, path, O_CREAT | O_EXCL | O_RDWR, 0600, &file);
		if (!err)
			fs_close(t->fs, &file);
	}
	act_end(t);
	judge(t, err, root, n, 2, NULL);
	o->is_there = !err;
	o->size = kind ? 0 : ~0ull;
}

static void grow(struct test *t, u32 f, bool alloc)
{
	struct one *o = &t->file[f];
	u64 count = 1 + below(t, 40), done = 0, off = o->size, len = count * t->cluster, now;
	bool root = act(t);
	struct fs_stat st;
	struct fs_file file;
	char path[64];
	struct need n;
	u8 *bytes = calloc(1, len);
	int err = 0;

	t->what = alloc ? "fallocate" : "write";
	path_of(t, f, path);
	must(t, FS_CALL(t->fs, stat, path, false, &st));
	must(t, fs_open(t->fs, path, O_RDWR, 0, &file));
	n = needs(&st, o->project, count, count + MAP_MOST, 0);
	if (alloc)
		err = FS_CALL(t->fs, fallocate, &file, 0, off, len);
	while (!alloc && done < len && !err) {
		err = FS_CALL(t->fs, pwrite, &file, off + done, bytes + done, len - done, &now);
		done += err ? 0 : now;
	}
	fs_close(t->fs, &file);
	act_end(t);
	judge(t, err, root, &n, 1, NULL);
	must(t, FS_CALL(t->fs, stat, path, false, &st));
	o->size = st.size;
	/* What there was room for was had, less what a map may have taken. */
	n.least = n.most = MAP_MOST + 1;
	free(bytes);
	if (err != -EDQUOT || (alloc && t->wrong))
		return;
	look(t);
	if (!too_much(t, &n, n.most, NULL))
		WRONG(t, "%s: refused, though %u clusters could be had", t->what, MAP_MOST + 1);
	/* The next begins at a whole cluster. */
	o->size = (st.size + t->cluster - 1) / t->cluster * t->cluster;
	must(t, FS_CALL(t->fs, truncate, path, o->size));
}

static void shrink(struct test *t, u32 f)
{
	struct one *o = &t->file[f];
	char path[64];

	t->what = "truncate";
	path_of(t, f, path);
	(void)act(t);
	o->size = o->size / t->cluster / (1 + below(t, 3)) * t->cluster;
	must(t, FS_CALL(t->fs, truncate, path, o->size));
	act_end(t);
}

static void drop(struct test *t, u32 f)
{
	struct one *o = &t->file[f];
	char path[64];

	t->what = "unlink";
	path_of(t, f, path);
	if (!o->is_open && o->size != ~0ull && below(t, 3) == 0) {
		must(t, fs_open(t->fs, path, O_RDWR, 0, &o->held));
		o->is_open = true;
	}
	(void)act(t);
	must(t, FS_CALL(t->fs, unlink, path));
	act_end(t);
	o->is_there = false;
}

static void let_go(struct test *t, u32 f)
{
	t->what = "close";
	fs_close(t->fs, &t->file[f].held);
	t->file[f].is_open = false;
}

static void give(struct test *t, u32 f)
{
	struct one *o = &t->file[f];
	struct fs_stat st;
	char path[64];
	u32 old[QUOTA_KINDS], kind = below(t, t->has_projects ? 3 : 2);
	struct iattr a = { .valid = ATTR_PROJECT };
	struct inode *inode;
	struct need n;
	bool root;
	int err;

	t->what = "another owner";
	path_of(t, f, path);
	must(t, FS_CALL(t->fs, stat, path, false, &st));
	memcpy(old, (u32[]){ st.uid, st.gid, o->project }, sizeof(old));
	n = needs(&st, o->project, st.blocks_512 * 512 / t->cluster, st.blocks_512 * 512 / t->cluster,
		  1 + o->values);
	n.id[kind] = id_of[kind][below(t, IDS)];
	root = act(t);
	if (kind < QUOTA_PROJECT) {
		err = FS_CALL(t->fs, chown, path, kind ? ~0u : n.id[0], kind ? n.id[1] : ~0u);
	} else {
		a.project = n.id[QUOTA_PROJECT];
		err = vfs_path(t->sb, NULL, path, false, &inode);
		if (!err) {
			err = vfs_setattr(inode, &a);
			vfs_iput(inode);
		}
	}
	act_end(t);
	judge(t, err, root, &n, 1, old);
	if (!err && kind == QUOTA_PROJECT)
		o->project = a.project;
}

static void value(struct test *t, u32 f)
{
	struct one *o = &t->file[f];
	bool root, there = o->values;
	u8 bytes[LARGE];
	u64 clusters = (LARGE + t->cluster - 1) / t->cluster;
	struct fs_stat st;
	char path[64];
	struct need n;
	int err;

	if (!t->has_values)
		return;
	path_of(t, f, path);
	if (there && below(t, 2)) {
		t->what = "removexattr";
		must(t, FS_CALL(t->fs, removexattr, path, "user.v"));
		o->values = 0;
		return;
	}
	t->what = "setxattr";
	memset(bytes, (int)below(t, 5), sizeof(bytes));
	must(t, FS_CALL(t->fs, stat, path, false, &st));
	n = needs(&st, o->project, clusters, clusters + 1, 1);
	root = act(t);
	err = FS_CALL(t->fs, setxattr, path, "user.v", bytes, sizeof(bytes), 0);
	act_end(t);
	judge(t, err, root, &n, 1, NULL);
	if (!err)
		o->values = 1;
}

/* Names in a directory of another project. */
static void cross(struct test *t, u32 f)
{
	struct one *o = &t->file[f];
	u32 to = below(t, DIRS);
	bool shall = t->dir_project[to] != ~0u && t->dir_project[to] != o->project, moves = below(t, 2);
	char from[64], path[64];
	int err;

	t->what = moves ? "rename" : "link";
	path_of(t, f, from);
	sprintf(path, "d%u/%s%u", to, moves ? "f" : "l", f);
	if (moves && to == o->dir)
		return;
	err = moves ? FS_CALL(t->fs, rename, from, path, 0) : FS_CALL(t->fs, link, from, path);
	if (shall != (err == -EXDEV))
		WRONG(t, "%s from project %u to %u: %s", t->what, o->project, t->dir_project[to],
		      strerror(-err));
	else if (err != -EXDEV)
		must(t, err);
	t->crossed += err == -EXDEV;
	if (!err && moves)
		o->dir = to;
	else if (!err)
		must(t, FS_CALL(t->fs, unlink, path));
}

/* New limits, near what is used. */
static void limit(struct test *t)
{
	u32 kind = below(t, t->has_projects ? 3 : 2), i = below(t, IDS);
	struct quota *q = &t->id[kind][i].q;
	u64 used = kib(q->space_bytes), unit = t->cluster / 1024;
	struct quota_set s = { .valid = 0xf, .id = id_of[kind][i] };

	t->what = "setting limits";
	if (below(t, 4)) {
		s.space_hard_kib = below(t, 2) ? used + below(t, 60) * unit : 0;
		s.space_soft_kib = below(t, 2) ? used + below(t, 40) * unit : 0;
		s.inodes_hard = below(t, 2) ? q->inodes + below(t, 5) : 0;
		s.inodes_soft = below(t, 2) ? q->inodes + below(t, 4) : 0;
	}
	q->space_soft_kib = s.space_soft_kib;
	q->space_hard_kib = s.space_hard_kib;
	q->inodes_soft = s.inodes_soft;
	q->inodes_hard = s.inodes_hard;
	q->space_until_sec = q->inodes_until_sec = 0;
	must(t, vfs_set_quota(t->sb, kind, &s));
	if (below(t, 4))
		return;
	s = (struct quota_set){ .valid = QUOTA_SET_SPACE_GRACE | QUOTA_SET_INODES_GRACE,
				.space_grace_sec = 10 + below(t, 60),
				.inodes_grace_sec = 10 + below(t, 60) };
	look(t);
	t->grace[kind] = (struct quota_grace){ s.space_grace_sec, s.inodes_grace_sec };
	must(t, vfs_set_quota(t->sb, kind, &s));
}

static void one_op(struct test *t)
{
	u32 f = below(t, FILES), what = below(t, 20);
	struct one *o = &t->file[f];

	t->sb->script.now.sec += below(t, 4);
	if (what < 3)
		limit(t);
	else if (!o->is_there && o->is_open)
		let_go(t, f);
	else if (!o->is_there)
		create(t, f);
	else if (what < 5)
		drop(t, f);
	else if (what < 8)
		give(t, f);
	else if (what < 9)
		cross(t, f);
	else if (o->size == ~0ull)
		return;
	else if (what < 11)
		value(t, f);
	else if (what < 13)
		shrink(t, f);
	else
		grow(t, f, what < 15 && t->has_extents);
}

/* ---- start and end ---- */

static bool mount(struct test *t, u64 now)
{
	struct ext4_super *es;

	if (fs_vfs_new("ext4", t->image, 0, &t->fs)) {
		WRONG(t, "mount: %s", err_text());
		return false;
	}
	t->sb = fs_vfs_sb(t->fs);
	es = ext4_super(t->sb);
	t->sb->script.now.sec = (s64)now;
	t->sb->scripted = true;
	t->cluster = 1ull << (es->block_bits + es->cluster_bits);
	t->has_values = ext4_has_incompat(es, EXT4_INCOMPAT_EA_INODE);
	t->has_extents = ext4_has_incompat(es, EXT4_INCOMPAT_EXTENTS);
	t->has_projects = ext4_has_ro_compat(es, EXT4_RO_COMPAT_PROJECT);
	return true;
}

static void check(struct test *t)
{
	char command[512];
	char *said;

	snprintf(command, sizeof(command), "e2fsck -fn %s", t->image);
	if (program_run(command, &said))
		WRONG(t, "%s: %s", command, said);
	free(said);
}

/* Unmounted, looked at, mounted again. */
static void again(struct test *t)
{
	u64 now = (u64)t->sb->script.now.sec;

	for (u32 f = 0; f < FILES; f++)
		if (t->file[f].is_open)
			let_go(t, f);
	must(t, fs_vfs_end(t->fs));
	t->fs = NULL;
	check(t);
	if (!t->wrong)
		mount(t, now);
}

static void make_dirs(struct test *t)
{
	struct iattr a = { .valid = ATTR_PROJECT | ATTR_FLAGS };
	struct inode *inode;
	char path[64];

	t->what = "mkdir";
	for (u32 d = 0; d < DIRS; d++) {
		sprintf(path, "d%u", d);
		t->dir_project[d] = ~0u;
		must(t, FS_CALL(t->fs, mkdir, path, 0777));
		must(t, FS_CALL(t->fs, chown, path, id_of[QUOTA_USER][d], id_of[QUOTA_GROUP][d]));
		if (d < 2 || !t->has_projects)
			continue;
		must(t, vfs_path(t->sb, NULL, path, false, &inode));
		a.project = t->dir_project[d] = id_of[QUOTA_PROJECT][d];
		a.flags = inode->flags | INO_PROJINHERIT;
		must(t, vfs_setattr(inode, &a));
		vfs_iput(inode);
	}
}

int main(int argc, char **argv)
{
	struct test t = { .what = "nothing" };
	u32 ops;

	if (argc != 4)
		return 2;
	t.image = argv[1];
	t.seed = strtoull(argv[2], NULL, 0) * 2 + 1;
	ops = (u32)strtoul(argv[3], NULL, 0);
	for (u32 kind = 0; kind < QUOTA_KINDS; kind++)
		t.grace[kind] = (struct quota_grace){ 604800, 604800 };
	if (mount(&t, 1700000000))
		make_dirs(&t);
	while (t.done < ops && !t.wrong) {
		look(&t);
		one_op(&t);
		look(&t);
		if (!t.wrong)
			compare(&t);
		if (++t.done % LOOK_EACH == 0 && !t.wrong)
			again(&t);
	}
	if (t.fs && !t.wrong)
		again(&t);
	if (t.fs)
		fs_free(t.fs);
	if (!t.wrong && (t.refused < ops / 50 || (t.has_projects && t.crossed < ops / 500)))
		WRONG(&t, "only %u refusals and %u at the bounds of projects", t.refused, t.crossed);
	if (t.wrong)
		printf("not ok - operation %u of seed %s: %s\n", t.done, argv[2], t.wrong);
	else
		printf("ok - %u operations, %u refused, %u between projects\n", t.done, t.refused, t.crossed);
	return t.wrong != NULL;
}
