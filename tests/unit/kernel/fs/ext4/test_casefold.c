/*
 * Names without regard to case: folded as e2fsprogs folds them, all of Unicode and random sequences; and directories of them changed at random
 * against a model, in every spelling. The kernel here does not know such volumes: e2fsck looks at order and hashes, debugfs at names.
 */
#include "volume.h"

#include <errno.h>
#include <utf8proc.h>

/* ---- one name ---- */

static FILE *ask, *names;
static u32 asked;

static void ask_about(const utf8proc_int32_t *cp, u32 n)
{
	char s[64] = "Ab";
	size_t len = 2;

	for (u32 i = 0; i < n; i++)
		len += (size_t)utf8proc_encode_char(cp[i], (u8 *)s + len);
	s[len++] = 'Z';
	s[len] = 0;
	fprintf(ask, "dx_hash -h half_md4 -c -e utf8 \"%s\"\n", s);
	fprintf(names, "%s\n", s);
	asked++;
}

static void ask_all(void)
{
	/* Of each kind: with case, combining with classes, ignorable, later than 12.1, never used, decomposed. */
	static const utf8proc_int32_t some[] = { 'a',    'B',    0xc5,   0x130,  0x1e9e,  0x345,
						 0x300,  0x316,  0x34f,  0x200d, 0xad,    0x391,
						 0x1fb7, 0xac00, 0x1100, 0x1161, 0x898,   0x8d0,
						 0xa7c7, 0x180f, 0x2065, 0xfff3, 0x11938, 0x1193e,
						 0xfb06, 0x1e08, 0x327,  0x5b0,  0x591,   0x1d15e };

	for (utf8proc_int32_t cp = 0x80; cp < 0x20000; cp++)
		if (cp < 0xd800 || cp >= 0xe000)
			ask_about(&cp, 1);
	for (utf8proc_int32_t cp = 0xe0000; cp < 0xe1000; cp++)
		ask_about(&cp, 1);
	for (u32 i = 0; i < 20000; i++) {
		utf8proc_int32_t cp[6];

		for (u32 k = 0; k < ARRAY_SIZE(cp); k++)
			cp[k] = some[rnd(ARRAY_SIZE(some))];
		ask_about(cp, ARRAY_SIZE(cp));
	}
}

static void as_e2fsprogs(void **state)
{
	char *line = NULL, *answer = NULL;
	size_t room = 0, answer_room = 0;
	struct ext4_super es = { 0 };
	struct ext4_inode dir = { .vfs.sb = &es.vfs, .flags = EXT4_FL_CASEFOLD };
	ssize_t n;
	FILE *said;
	char path[128];

	(void)state;
	rnd_seed();
	es.incompat = EXT4_INCOMPAT_CASEFOLD;
	snprintf(vol_dir, sizeof(vol_dir), "/tmp/test_ext4.XXXXXX");
	assert_non_null(mkdtemp(vol_dir));
	snprintf(path, sizeof(path), "%s/ask", vol_dir);
	ask = fopen(path, "w");
	snprintf(path, sizeof(path), "%s/names", vol_dir);
	names = fopen(path, "w+");
	asked = 0;
	ask_all();
	fclose(ask);
	run("cd %s && debugfs -f ask 2>/dev/null | grep '^Hash of' >said", vol_dir);
	snprintf(path, sizeof(path), "%s/said", vol_dir);
	said = fopen(path, "r");
	rewind(names);
	while ((n = getline(&line, &room, names)) > 0) {
		const char *is;
		struct ext4_hash h;
		u32 hash, minor;

		assert_true(getline(&answer, &answer_room, said) > 0);
		is = strstr(answer, " is 0x");
		assert_non_null(is);
		assert_int_equal(sscanf(is, " is 0x%x (minor 0x%x", &hash, &minor), 2);
		assert_int_equal(ext4_dir_hash(&dir, EXT4_HASH_HALF_MD4, line, (u32)n - 1, &h), 0);
		if (h.hash != hash || h.minor != minor)
			fail_msg("%s is folded otherwise", line);
		asked--;
	}
	assert_int_equal(asked, 0);
	free(line);
	free(answer);
	fclose(said);
	fclose(names);
}

/* ---- directories ---- */

#define NAMES 1500u

static const struct cred root = { 0 };

static struct {
	bool there;
	u64 ino;
	char spelling[64]; /* that it was given */
} model[NAMES];

/* Of name n, in a random spelling. */
static void spell(u32 n, char *out)
{
	static const char *const parts[][4] = { { "a", "A", "a", "A" },
						{ "\xc3\xa9", "\xc3\x89", "e\xcc\x81", "E\xcc\x81" },
						{ "\xc3\x9f", "ss", "SS", "\xe1\xba\x9e" },
						{ "z", "Z", "z\xc2\xad", "Z" } };

	*out = 0;
	for (u32 x = n, i = 0; i < 6; i++, x /= 4)
		strcat(out, parts[x % 4][rnd(4)]);
	sprintf(out + strlen(out), "%s%u", rnd(2) ? "file" : "FiLE", n);
}

static struct inode *dir_get(const char *path)
{
	struct inode *dir;

	assert_int_equal(vfs_path(&vol_es->vfs, NULL, path, false, &dir), 0);
	return dir;
}

static void step(struct inode *dir)
{
	char a[128], b[128], c[128];
	u32 x = rnd(NAMES), y = rnd(NAMES);
	struct inode *inode;
	struct name from, to;
	int err;

	spell(x, a);
	spell(y, b);
	spell(x, c);
	from = (struct name){ a, (u32)strlen(a) };
	to = (struct name){ b, (u32)strlen(b) };
	switch (rnd(6)) {
	case 0:
		err = vfs_unlink(dir, &from);
		assert_int_equal(err, model[x].there ? 0 : -ENOENT);
		model[x].there = false;
		break;
	case 1:
		err = vfs_rename(dir, &from, dir, &to, 0);
		assert_int_equal(err, model[x].there ? 0 : -ENOENT);
		if (err || x == y || (model[y].there && model[y].ino == model[x].ino))
			break;
		if (!model[y].there)
			strcpy(model[y].spelling, b);
		model[y].there = true;
		model[y].ino = model[x].ino;
		model[x].there = false;
		break;
	case 2:
		err = vfs_lookup(dir, &from, &inode);
		assert_int_equal(err, model[x].there ? 0 : -ENOENT);
		if (err)
			break;
		assert_int_equal(inode->ino, model[x].ino);
		err = vfs_link(inode, dir, &to);
		assert_int_equal(err, model[y].there ? -EEXIST : 0);
		if (!err) {
			model[y].there = true;
			model[y].ino = inode->ino;
			strcpy(model[y].spelling, b);
		}
		vfs_iput(inode);
		break;
	case 3:
		err = vfs_rename(dir, &from, dir, &to, 2);
		assert_int_equal(err, model[x].there && model[y].there ? 0 : -ENOENT);
		if (!err) {
			u64 ino = model[x].ino;

			model[x].ino = model[y].ino;
			model[y].ino = ino;
		}
		break;
	default:
		err = vfs_create(dir, &from, S_IFREG | 0644, 0, 0, NULL, &root, &inode);
		assert_int_equal(err, model[x].there ? -EEXIST : 0);
		if (err)
			break;
		model[x].there = true;
		model[x].ino = inode->ino;
		strcpy(model[x].spelling, a);
		vfs_iput(inode);
	}
}

static int count_one(void *ctx, const struct dirent_out *e)
{
	u32 *left = ctx;

	if (e->name.s[0] == '.')
		return 0;
	for (u32 i = 0; i < NAMES; i++)
		if (model[i].there && strlen(model[i].spelling) == e->name.len &&
		    !memcmp(model[i].spelling, e->name.s, e->name.len)) {
			assert_int_equal(e->ino, model[i].ino);
			--*left;
			return 0;
		}
	fail_msg("%.*s is listed", (int)e->name.len, e->name.s);
	return 0;
}

/* Listed are the spellings that were given. */
static void assert_listed(struct inode *dir)
{
	u32 left = 0;

	for (u32 i = 0; i < NAMES; i++)
		left += model[i].there;
	assert_int_equal(vfs_readdir(dir, 0, count_one, &left), 0);
	assert_int_equal(left, 0);
}

static void set_flag(const char *path, bool on, int want)
{
	struct inode *dir = dir_get(path);
	struct iattr a = { .valid = ATTR_FLAGS, .flags = dir->flags };

	a.flags = on ? a.flags | EXT4_FL_CASEFOLD : a.flags & ~EXT4_FL_CASEFOLD;
	assert_int_equal(vfs_setattr(dir, &a), want);
	vfs_iput(dir);
}

static void changed_at_random(void **state)
{
	static const char *const shapes[] = {
		"-t ext4 -b 1024 -O casefold,metadata_csum,^large_dir -E encoding=utf8 -N 4096",
		"-t ext4 -b 1024 -O casefold,large_dir,^has_journal -E encoding=utf8 -N 4096",
		"-t ext4 -b 4096 -O casefold,inline_data -E encoding=utf8-12.1,encoding_flags=strict -N 4096",
		"-t ext4 -b 4096 -O casefold,^dir_index -E encoding=utf8 -N 4096",
		"-t ext4 -b 16384 -O casefold,^has_journal -E encoding=utf8 -N 4096",
	};

	(void)state;
	rnd_seed();
	for (u32 s = 0; s < ARRAY_SIZE(shapes); s++) {
		memset(model, 0, sizeof(model));
		vol_make(shapes[s], 32, "mkdir d e; echo >e/x");
		vol_open();
		set_flag("d", true, 0);
		set_flag("e", true, -ENOTEMPTY);
		set_flag("e/x", true, -ENOTDIR);
		for (u32 round = 0; round < 3; round++) {
			struct inode *dir = dir_get("d");

			for (u32 i = 0; i < 3000; i++)
				step(dir);
			assert_listed(dir);
			vfs_iput(dir);
			vol_close();
			vol_fsck();
			vol_open();
			dir = dir_get("d");
			assert_listed(dir);
			vfs_iput(dir);
		}
		vol_close();
		vol_remove();
	}
}

/* What is below has the flag too; what is not UTF-8 is its own name only, or, where the volume is strict, none. */
static void inherited_and_strict(void **state)
{
	const struct name odd = NAME("\xff\xfeX"), other = NAME("\xff\xfex"), sub = NAME("Sub");

	(void)state;
	for (u32 strict = 0; strict < 2; strict++) {
		struct inode *dir, *inode, *below;

		vol_make(strict ? "-t ext4 -O casefold -E encoding=utf8,encoding_flags=strict"
				: "-t ext4 -O casefold -E encoding=utf8",
			 16, "mkdir d");
		vol_open();
		set_flag("d", true, 0);
		dir = dir_get("d");
		assert_int_equal(vfs_create(dir, &odd, S_IFREG | 0644, 0, 0, NULL, &root, &inode),
				 strict ? -EINVAL : 0);
		if (!strict) {
			vfs_iput(inode);
			assert_int_equal(vfs_lookup(dir, &other, &inode), -ENOENT);
			assert_int_equal(vfs_lookup(dir, &odd, &inode), 0);
			vfs_iput(inode);
		}
		assert_int_equal(vfs_create(dir, &sub, S_IFDIR | 0755, 0, 0, NULL, &root, &below), 0);
		assert_true(below->flags & EXT4_FL_CASEFOLD);
		vfs_iput(below);
		below = dir_get("d/sUB");
		vfs_iput(below);
		set_flag("d/SUB", false, 0);
		set_flag("d/SUB", true, 0);
		set_flag("d", false, -ENOTEMPTY);
		vfs_iput(dir);
		vol_close();
		vol_fsck();
		vol_remove();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(as_e2fsprogs, vol_clean),
		cmocka_unit_test_teardown(changed_at_random, vol_clean),
		cmocka_unit_test_teardown(inherited_and_strict, vol_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
