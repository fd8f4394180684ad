/* tar archives, made byte by byte, as the feed gives them out; what is broken, and what lies. */
#include "support/tar_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

static char path[64];

static int setup(void **state)
{
	int fd;

	(void)state;
	snprintf(path, sizeof(path), "/tmp/werunos-tar.XXXXXX");
	fd = mkstemp(path);
	return fd < 0 || close(fd) ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	return unlink(path);
}

/* What comes of it, with an end; m is freed. */
static void reads_as(struct tar_make *m, bool layers, int want_err, const char *want)
{
	struct text got = { 0 };
	int err;

	make_end(m);
	make_write(m, path);
	make_free(m);
	err = make_read(path, layers, &got);
	assert_string_equal(text_str(&got), want);
	assert_int_equal(err, want_err);
	if (err)
		assert_non_null(strstr(err_text(), path));
	text_free(&got);
}

static void link_to(struct tar_make *m, char type, const char *name, const char *target)
{
	struct tar_disk_header *d = make_head(m, type, name, 0);

	memcpy(d->link, target, MIN(strlen(target), sizeof(d->link)));
	make_sum(d);
}

static void paths_are_taken_as_tar_takes_them(void **state)
{
	struct tar_make m = { 0 };

	(void)state;
	make_head(&m, '5', "./", 0);
	make_file(&m, '0', "./a", "hello", 5);
	make_file(&m, '0', "/etc/passwd", "", 0);
	make_file(&m, '\0', "a//b/./c", "xyz", 3);
	make_head(&m, '0', "old/", 0);
	make_file(&m, '7', "together", "1", 1);
	make_file(&m, '0', "a/../../etc/passwd", "evil", 4);
	make_file(&m, '0', "..", "evil", 4);
	make_file(&m, '0', ".", "evil", 4);
	make_file(&m, '0', "a/..b", "", 0);
	make_file(&m, '0', "\xff\xfe\n\xc3\xa9 e\xcc\x81", "", 0);
	reads_as(&m, false, 0,
		 "d  0644 1:2 0 @3\n"
		 "f a 0644 1:2 5 @3 [hello]\n"
		 "f etc/passwd 0644 1:2 0 @3\n"
		 "f a/b/c 0644 1:2 3 @3 [xyz]\n"
		 "d old 0644 1:2 0 @3\n"
		 "f together 0644 1:2 1 @3 [1]\n"
		 "! a/../../etc/passwd: its path leads out of the tree\n"
		 "! ..: its path leads out of the tree\n"
		 "! : it has no name, and is no directory\n"
		 "f a/..b 0644 1:2 0 @3\n"
		 "f \\xff\\xfe\\x0a\xc3\xa9 e\xcc\x81 0644 1:2 0 @3\n");
}

static void long_paths(void **state)
{
	char name[300], want[2000];
	struct tar_disk_header *d;
	struct tar_make m = { 0 };

	(void)state;
	memset(name, 'n', 255);
	name[255] = 0;
	make_pax(&m, 'x', "path", name);
	make_file(&m, '0', "short", "", 0);
	make_file(&m, 'L', "././@LongLink", name, 256);
	make_file(&m, '0', "short", "", 0);
	strcpy(name + 255, "n");
	make_pax(&m, 'x', "path", name);
	make_file(&m, '0', "short", "x", 1);
	d = make_head(&m, '0', "name", 0);
	memcpy(d->prefix, "some/where", 10);
	make_sum(d);
	/* Old star: times behind a shorter prefix. */
	d = make_head(&m, '0', "name", 0);
	memcpy(d->prefix, "star", 4);
	memcpy((char *)d + 476, "00000000001 00000000001 ", 24);
	make_sum(d);
	name[255] = 0;
	snprintf(want, sizeof(want),
		 "f %s 0644 1:2 0 @3\nf %s 0644 1:2 0 @3\n! %sn: a name in its path has more than 255 bytes\n"
		 "f some/where/name 0644 1:2 0 @3\nf star/name 0644 1:2 0 @3\n",
		 name, name, name);
	reads_as(&m, false, 0, want);
}

static void links_and_devices(void **state)
{
	struct tar_disk_header *d;
	struct tar_make m = { 0 };

	(void)state;
	link_to(&m, '2', "s", "../../anywhere/\xff");
	link_to(&m, '1', "h", "./a//b");
	link_to(&m, '1', "h", "/a");
	link_to(&m, '1', "h", "../a");
	link_to(&m, '1', "h", "./");
	link_to(&m, '2', "s", "");
	make_pax(&m, 'x', "linkpath", "far");
	link_to(&m, '2', "s", "near");
	make_file(&m, 'K', "././@LongLink", "longer", 7);
	link_to(&m, '1', "h", "long");
	/* A size says nothing of a link. */
	d = make_head(&m, '1', "h", 4096);
	d->link[0] = 'a';
	make_sum(d);
	d = make_head(&m, '3', "dev/null", 0);
	memcpy(d->dev_major, "0000001", 7);
	memcpy(d->dev_minor, "0000003", 7);
	make_sum(d);
	make_pax(&m, 'x', "SCHILY.devminor", "1048575");
	make_head(&m, '4', "dev/b", 0);
	make_head(&m, '6', "fifo", 0);
	make_file(&m, 'D', "dumped", "names", 5);
	make_file(&m, 'V', "label", "skipped", 7);
	make_file(&m, 'Q', "what", "skipped", 7);
	make_file(&m, 'M', "rest", "skipped", 7);
	make_file(&m, '0', "after", "1", 1);
	reads_as(&m, false, 0,
		 "l s 0644 1:2 0 @3 <../../anywhere/\\xff>\n"
		 "h h 0644 1:2 0 @3 <a/b>\n"
		 "h h 0644 1:2 0 @3 <a>\n"
		 "! h: a hard link to \"../a\", which is outside of the tree\n"
		 "! h: a hard link to \"\", which is outside of the tree\n"
		 "! s: a link to nothing\n"
		 "l s 0644 1:2 0 @3 <far>\n"
		 "h h 0644 1:2 0 @3 <longer>\n"
		 "h h 0644 1:2 0 @3 <a>\n"
		 "c dev/null 0644 1:2 0 @3 1,3\n"
		 "b dev/b 0644 1:2 0 @3 0,1048575\n"
		 "p fifo 0644 1:2 0 @3\n"
		 "d dumped 0644 1:2 0 @3\n"
		 "! what: an entry of type 81, which is not known\n"
		 "! rest: the rest of a file whose beginning is in another archive\n"
		 "f after 0644 1:2 1 @3 [1]\n");
}

static void numbers(void **state)
{
	struct tar_disk_header *d;
	struct tar_make m = { 0 };

	(void)state;
	make_pax(&m, 'x', "mtime", "-1.25");
	make_file(&m, '0', "a", "", 0);
	make_pax(&m, 'x', "mtime", "1234567890.1234567891");
	make_file(&m, '0', "b", "", 0);
	make_pax(&m, 'x', "uid", "4294967294");
	make_file(&m, '0', "c", "", 0);
	make_pax(&m, 'x', "uid", "4294967295");
	make_file(&m, '0', "d", "x", 1);
	make_pax(&m, 'x', "mtime", "soon");
	make_file(&m, '0', "e", "x", 1);
	make_pax(&m, 'x', "atime", "7");
	make_file(&m, '0', "f", "", 0);
	/* Base 256, positive and negative. */
	d = make_head(&m, '0', "g", 0);
	memcpy(d->uid, "\x80\0\0\0\0\x20\0\1", 8);
	memcpy(d->mtime, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 12);
	make_sum(d);
	d = make_head(&m, '0', "h", 0);
	memcpy(d->uid, "\x80\1\0\0\0\0\0\1", 8);
	make_sum(d);
	d = make_head(&m, '0', "i", 0);
	memcpy(d->gid, "12x", 4);
	make_sum(d);
	d = make_head(&m, '0', "j", 0);
	memcpy(d->gid, "   17  ", 8);
	make_sum(d);
	reads_as(&m, false, 0,
		 "f a 0644 1:2 0 @-2.750000000\n"
		 "f b 0644 1:2 0 @1234567890.123456789\n"
		 "f c 0644 4294967294:2 0 @3\n"
		 "! d: a number in its header is none, or is too large\n"
		 "! e: its mtime cannot be understood\n"
		 "f f 0644 1:2 0 @3 a7.000000000\n"
		 "f g 0644 2097153:2 0 @-2\n"
		 "! h: a number in its header is none, or is too large\n"
		 "! i: a number in its header is none, or is too large\n"
		 "f j 0644 1:15 0 @3\n");
}

static void what_holds_for_all(void **state)
{
	struct tar_make m = { 0 };

	(void)state;
	make_pax(&m, 'g', "uid", "77");
	make_pax(&m, 'g', "gid", "78");
	make_file(&m, '0', "a", "", 0);
	make_pax(&m, 'x', "uid", "79");
	make_file(&m, '0', "b", "", 0);
	make_pax(&m, 'x', "uid", "");
	make_file(&m, '0', "c", "", 0);
	make_pax(&m, 'g', "comment", "a commit");
	make_file(&m, '0', "d", "", 0);
	reads_as(&m, false, 0,
		 "f a 0644 77:78 0 @3\nf b 0644 79:78 0 @3\nf c 0644 1:78 0 @3\nf d 0644 77:78 0 @3\n");
}

static void attributes(void **state)
{
	char rec[1000];
	struct tar_make m = { 0 };
	size_t n;

	(void)state;
	n = make_record(rec, "SCHILY.xattr.user.bin", "a\0\nb=\xff", 6);
	n += make_record(rec + n, "SCHILY.xattr.user.a%3Db", "", 0);
	n += make_record(rec + n, "LIBARCHIVE.xattr.user.li%62", "aGVsbG8", 7);
	n += make_record(rec + n, "LIBARCHIVE.xattr.user.bin", "YQAKYj3/", 8);
	n += make_record(rec + n, "RHT.security.selinux", "label", 5);
	make_file(&m, 'x', "pax", rec, n);
	make_file(&m, '0', "a", "", 0);
	make_pax(&m, 'x', "LIBARCHIVE.xattr.user.x", "!!");
	make_file(&m, '0', "b", "x", 1);
	make_pax(&m, 'x', "SCHILY.xattr.", "v");
	make_file(&m, '0', "c", "x", 1);
	make_pax(&m, 'x', "SCHILY.acl.access", "user::rwx,user:who:r-x:1234,group::r--,mask::rwx,other::---");
	make_file(&m, '0', "d", "", 0);
	make_pax(&m, 'x', "SCHILY.acl.default", "u::rwx\ng::r-x\t#effective\no:r--");
	make_head(&m, '5', "e", 0);
	make_pax(&m, 'x', "SCHILY.acl.access",
		 "user::rwx,user:nobody-is-called-so:r-x,group::r--,mask::rwx,other::---");
	make_file(&m, '0', "f", "x", 1);
	make_pax(&m, 'x', "SCHILY.acl.access", "user::rwx,other::---");
	make_file(&m, '0', "g", "x", 1);
	reads_as(&m, false, 0,
		 "f a 0644 1:2 0 @3 {user.bin=a\\x00\\x0ab=\\xff} {user.a=b=} {user.lib=hello} "
		 "{security.selinux=label\\x00}\n"
		 "! b: its attribute user.x is not in base 64\n"
		 "! c: an attribute without a name\n"
		 "f d 0770 1:2 0 @3 "
		 "{system.posix_acl_access=\\x02\\x00\\x00\\x00\\x01\\x00\\x07\\x00\\xff\\xff\\xff\\xff"
		 "\\x02\\x00\\x05\\x00\\xd2\\x04\\x00\\x00\\x04\\x00\\x04\\x00\\xff\\xff\\xff\\xff\\x10\\x00"
		 "\\x07\\x00\\xff\\xff\\xff\\xff"
		 " \\x00\\x00\\x00\\xff\\xff\\xff\\xff}\n"
		 "d e 0644 1:2 0 @3 "
		 "{system.posix_acl_default=\\x02\\x00\\x00\\x00\\x01\\x00\\x07\\x00\\xff\\xff\\xff\\xff"
		 "\\x04\\x00\\x05\\x00\\xff\\xff\\xff\\xff \\x00\\x04\\x00\\xff\\xff\\xff\\xff}\n"
		 "! f: its ACL names the user \"nobody-is-called-so\" without a number, and nobody here is "
		 "called so\n"
		 "! g: its ACL lacks entries, or has one twice\n");
}

/* ---- holes ---- */

static void gnu_head(struct tar_make *m, const char *name, u64 stored, u64 real, const char *const *pieces)
{
	struct tar_disk_header *d = make_head(m, 'S', name, stored);
	char *block = (char *)d;

	memcpy(d->magic, "ustar  ", 8);
	for (u32 i = 0; i < 4 && pieces[i]; i++)
		memcpy(block + 386 + 12 * i, pieces[i], strlen(pieces[i]));
	snprintf(block + 483, 12, "%011llo", (unsigned long long)real);
	make_sum(d);
}

static void sparse_pax(struct tar_make *m, const char *const *kv)
{
	char rec[2000];
	size_t n = 0;

	for (; kv[0]; kv += 2)
		n += make_record(rec + n, kv[0], kv[1], strlen(kv[1]));
	make_file(m, 'x', "pax", rec, n);
}

static void holes(void **state)
{
	static const char *const two[] = { "00000000002", "00000000003", "00000000010", "00000000002" };
	static const char *const v00[] = { "GNU.sparse.size",
					   "9",
					   "GNU.sparse.numblocks",
					   "2",
					   "GNU.sparse.offset",
					   "0",
					   "GNU.sparse.numbytes",
					   "1",
					   "GNU.sparse.offset",
					   "7",
					   "GNU.sparse.numbytes",
					   "1",
					   NULL };
	static const char *const v01[] = {
		"GNU.sparse.size", "9", "GNU.sparse.map", "0,1,7,1,9,0", "GNU.sparse.name", "real", NULL
	};
	static const char *const v10[] = { "GNU.sparse.major",
					   "1",
					   "GNU.sparse.minor",
					   "0",
					   "GNU.sparse.name",
					   "r",
					   "GNU.sparse.realsize",
					   "9",
					   NULL };
	struct tar_make m = { 0 };
	char body[514];

	(void)state;
	gnu_head(&m, "old", 5, 12, two);
	make_bytes(&m, "abcde", 5);
	make_pad(&m);
	sparse_pax(&m, v00);
	make_file(&m, '0', "v00", "ab", 2);
	sparse_pax(&m, v01);
	make_file(&m, '0', "v01", "ab", 2);
	memset(body, 0, sizeof(body));
	memcpy(body, "2\n0\n1\n7\n1\n", 10);
	memcpy(body + 512, "ab", 2);
	sparse_pax(&m, v10);
	make_file(&m, '0', "v10", body, 514);
	memcpy(body, "0\n", 3);
	sparse_pax(&m, v10);
	make_file(&m, '0', "all", body, 512);
	reads_as(&m, false, 0,
		 "f old 0644 1:2 12 @3 [..abc...de..]\n"
		 "f v00 0644 1:2 9 @3 [a......b.]\n"
		 "f real 0644 1:2 9 @3 [a......b.]\n"
		 "f r 0644 1:2 9 @3 [a......b.]\n"
		 "f r 0644 1:2 9 @3 [.........]\n");
}

static void holes_that_lie(void **state)
{
	static const char *const back[] = { "00000000010", "00000000002", "00000000002", "00000000003" };
	static const char *const maps[] = {
		"0,5",     /* more than there is */
		"0,1",     /* less */
		"8,2",     /* beyond the end */
		"4,1,3,1", /* backwards */
		"0,1,0,1", "0,1,2", "9223372036854775807,2", "18446744073709551615,2", "-1,2"
	};
	struct tar_make m = { 0 };
	struct text want = { 0 };

	(void)state;
	gnu_head(&m, "back", 5, 12, back);
	make_bytes(&m, "abcde", 5);
	make_pad(&m);
	text_add(&want, "! back: where its holes are said to be, they cannot be\n");
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		const char *kv[] = { "GNU.sparse.size", "9", "GNU.sparse.map", maps[i], NULL };

		sparse_pax(&m, kv);
		make_file(&m, '0', "lie", "ab", 2);
		text_add(&want, "! lie: where its holes are said to be, they cannot be\n");
	}
	make_pax(&m, 'x', "SCHILY.realsize", "99");
	make_file(&m, '0', "star", "ab", 2);
	make_pax(&m, 'x', "GNU.sparse.major", "2");
	make_file(&m, '0', "new", "ab", 2);
	make_file(&m, '0', "after", "1", 1);
	text_add(&want, "! star: a sparse file in a form of which only star knows\n"
			"! new: a sparse file in a form that is not known\nf after 0644 1:2 1 @3 [1]\n");
	reads_as(&m, false, 0, text_str(&want));
	text_free(&want);
}

/* A map that is longer than any file is given memory for: the file is not to be had, the next is. */
static void a_map_without_end(void **state)
{
	static const char *const v10[] = {
		"GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9999999", NULL
	};
	u32 pieces = 3u << 20;
	struct tar_make m = { 0 };
	char head[16];
	size_t n = (size_t)sprintf(head, "%u\n", pieces);
	struct rusage before, after;

	(void)state;
	sparse_pax(&m, v10);
	make_head(&m, '0', "many", n + 4ul * pieces);
	make_bytes(&m, head, n);
	for (u32 i = 0; i < pieces; i++)
		make_bytes(&m, "1\n0\n", 4);
	make_pad(&m);
	make_file(&m, '0', "after", "1", 1);
	getrusage(RUSAGE_SELF, &before);
	reads_as(&m, false, 0, "! many: a file with more than 1048576 holes\nf after 0644 1:2 1 @3 [1]\n");
	getrusage(RUSAGE_SELF, &after);
	assert_true(after.ru_maxrss - before.ru_maxrss < 100 << 10);
}

/* ---- layers ---- */

static void layers(void **state)
{
	static const char want[] = "w a\n"
				   "w d/e\n"
				   "o d\n"
				   "o \n"
				   "! .wh.: a whiteout of nothing that has a name\n"
				   "! d/.wh...: a whiteout of nothing that has a name\n"
				   "! .wh.d/f: its path goes through something that is gone\n"
				   "! ../.wh.x: its path leads out of the tree\n"
				   "f .whx 0644 1:2 0 @3\n";
	struct tar_make m = { 0 };

	(void)state;
	make_file(&m, '0', ".wh.a", "", 0);
	make_file(&m, '0', "./d/.wh.e", "ignored", 7);
	make_file(&m, '0', "d/.wh..wh..opq", "", 0);
	make_file(&m, '0', ".wh..wh..opq", "", 0);
	make_head(&m, '5', ".wh..wh.plnk/", 0);
	make_file(&m, '0', ".wh..wh.plnk/12.34", "x", 1);
	make_file(&m, '0', "d/.wh..wh.aufs", "x", 1);
	make_file(&m, '0', ".wh.", "", 0);
	make_file(&m, '0', "d/.wh...", "", 0);
	make_file(&m, '0', ".wh.d/f", "", 0);
	make_file(&m, '0', "../.wh.x", "", 0);
	make_file(&m, '0', ".whx", "", 0);
	reads_as(&m, true, 0, want);
	/* Elsewhere they are names like others. */
	make_file(&m, '0', ".wh.a", "", 0);
	reads_as(&m, false, 0, "f .wh.a 0644 1:2 0 @3\n");
}

/* ---- what is broken ---- */

static int try_bytes(const u8 *p, size_t len)
{
	struct tar_make m = { 0 };
	struct text got = { 0 };
	int err;

	make_bytes(&m, p, len);
	make_write(&m, path);
	make_free(&m);
	err = make_read(path, len % 2, &got);
	if (err)
		assert_null(strchr(err_text(), '\n'));
	text_free(&got);
	return err;
}

static void some_of_everything(struct tar_make *m)
{
	static const char *const v10[] = { "GNU.sparse.major",
					   "1",
					   "GNU.sparse.minor",
					   "0",
					   "GNU.sparse.name",
					   "r",
					   "GNU.sparse.realsize",
					   "9",
					   NULL };
	static const char *const two[] = { "00000000002", "00000000003", "00000000010", "00000000002" };
	char body[514] = "2\n0\n1\n7\n1\n";

	make_pax(m, 'g', "comment", "x");
	make_pax(m, 'x', "SCHILY.acl.access", "user::rwx,user:who:r-x:1234,group::r--,mask::rwx,other::---");
	make_file(m, '0', "a", "hello", 5);
	sparse_pax(m, v10);
	make_file(m, '0', "v10", body, 514);
	gnu_head(m, "old", 5, 12, two);
	make_bytes(m, "abcde", 5);
	make_pad(m);
	make_file(m, 'L', "././@LongLink", "longer", 7);
	link_to(m, '1', "h", "long");
	make_end(m);
}

static void cut_off_anywhere(void **state)
{
	struct tar_make m = { 0 };

	(void)state;
	some_of_everything(&m);
	assert_int_equal(try_bytes(m.buf, m.len), 0);
	for (size_t n = 1; n < m.len - 2 * TAR_BLOCK; n += 37)
		if (n % TAR_BLOCK)
			assert_int_equal(try_bytes(m.buf, n), -EBADMSG);
	assert_int_equal(try_bytes(m.buf, 0), -EBADMSG);
	make_free(&m);
}

static void damaged_anywhere(void **state)
{
	const char *env = getenv("SEED");
	u32 seed = env ? (u32)strtoul(env, NULL, 0) : (u32)os_now().nsec;
	struct tar_make m = { 0 };
	u32 noticed = 0;

	(void)state;
	print_message("seed %u\n", seed);
	some_of_everything(&m);
	srand(seed);
	for (int i = 0; i < 3000; i++) {
		size_t at = (size_t)rand() % m.len;
		struct tar_disk_header *d = (void *)(m.buf + at - at % TAR_BLOCK), saved = *d;

		m.buf[at] = (u8)rand();
		noticed += try_bytes(m.buf, m.len) != 0;
		/* With a sum that is right: deeper. */
		if (!memcmp(d->magic, "ustar", 5)) {
			make_sum(d);
			(void)!try_bytes(m.buf, m.len);
		}
		*d = saved;
	}
	assert_true(noticed > 300);
	make_free(&m);
}

static void no_archives(void **state)
{
	static u8 garbage[4096];
	struct tar_make m = { 0 };

	(void)state;
	memset(garbage, 'x', sizeof(garbage));
	assert_int_equal(try_bytes(garbage, sizeof(garbage)), -EBADMSG);
	memcpy(garbage, "\x1f\x8b\x08", 3);
	assert_int_equal(try_bytes(garbage, sizeof(garbage)), -EBADMSG);
	memcpy(garbage, "\x28\xb5\x2f\xfd", 4);
	assert_int_equal(try_bytes(garbage, sizeof(garbage)), -EBADMSG);
	memcpy(garbage,
	       "\xfd"
	       "7zXZ\0",
	       6);
	assert_int_equal(try_bytes(garbage, sizeof(garbage)), -EBADMSG);
	/* Zeros alone are an archive without files. */
	memset(garbage, 0, sizeof(garbage));
	assert_int_equal(try_bytes(garbage, sizeof(garbage)), 0);
	/* What follows a block of zeros would be lost. */
	make_file(&m, '0', "a", "1", 1);
	make_bytes(&m, NULL, TAR_BLOCK);
	make_file(&m, '0', "b", "1", 1);
	reads_as(&m, false, -EBADMSG, "f a 0644 1:2 1 @3 [1]\n");
	/* A size that goes on into the next header. */
	make_head(&m, '0', "a", 500);
	make_file(&m, '0', "b", "1", 1);
	make_file(&m, '0', "c", "2", 1);
	assert_int_equal(try_bytes(m.buf, m.len), -EBADMSG);
	make_free(&m);
	assert_int_equal(make_read("/none", false, &(struct text){ 0 }), -ENOENT);
	assert_int_equal(make_read("/tmp", false, &(struct text){ 0 }), -EISDIR);
}

static void headers_that_ask_for_too_much(void **state)
{
	struct tar_make m = { 0 };
	struct rusage before, after;

	(void)state;
	getrusage(RUSAGE_SELF, &before);
	make_head(&m, 'x', "pax", 077777777777ull);
	reads_as(&m, false, -EBADMSG, "");
	make_head(&m, 'L', "name", 1ull << 30);
	reads_as(&m, false, -EBADMSG, "");
	make_head(&m, 'g', "all", 1ull << 30);
	reads_as(&m, false, -EBADMSG, "");
	make_file(&m, 'x', "pax", "999999 path=x\n", 14);
	make_file(&m, '0', "a", "1", 1);
	reads_as(&m, false, -EBADMSG, "");
	make_file(&m, 'x', "pax", "5 a=\n", 5);
	make_file(&m, '0', "a", "1", 1);
	reads_as(&m, false, 0, "f a 0644 1:2 1 @3 [1]\n");
	make_file(&m, 'x', "pax", "4 =\n", 4);
	make_file(&m, '0', "a", "1", 1);
	reads_as(&m, false, -EBADMSG, "");
	/* Longer than what there is. */
	make_head(&m, '0', "a", 077777777777ull);
	assert_int_equal(try_bytes(m.buf, m.len), -EBADMSG);
	make_free(&m);
	getrusage(RUSAGE_SELF, &after);
	assert_true(after.ru_maxrss - before.ru_maxrss < 64 << 10);
}

static void many_attributes(void **state)
{
	struct tar_make m = { 0 }, body = { 0 };

	(void)state;
	for (int i = 0; i < 5000; i++) {
		char key[64], rec[128];

		snprintf(key, sizeof(key), "SCHILY.xattr.user.%d", i);
		make_bytes(&body, rec, make_record(rec, key, "v", 1));
	}
	make_file(&m, 'x', "pax", body.buf, body.len);
	make_free(&body);
	make_file(&m, '0', "a", "1", 1);
	make_file(&m, '0', "b", "1", 1);
	reads_as(&m, false, 0, "! a: it has more than 4096 attributes\nf b 0644 1:2 1 @3 [1]\n");
}

/* The sum that gzip has at its end is compared; several streams one after the other are one. */
static void gzip(void **state)
{
	struct tar_make m = { 0 }, gz = { 0 };
	static u8 out[1 << 16];

	(void)state;
	some_of_everything(&m);
	for (int half = 0; half < 2; half++) {
		z_stream z = { .next_in = m.buf + (half ? 700 : 0),
			       .avail_in = half ? (u32)m.len - 700 : 700,
			       .next_out = out,
			       .avail_out = sizeof(out) };

		assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
		assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
		make_bytes(&gz, out, sizeof(out) - z.avail_out);
		deflateEnd(&z);
	}
	assert_int_equal(try_bytes(gz.buf, gz.len), 0);
	for (size_t cut = 1; cut < gz.len; cut += 5)
		assert_int_equal(try_bytes(gz.buf, gz.len - cut), -EBADMSG);
	gz.buf[gz.len - 6] ^= 1;
	assert_int_equal(try_bytes(gz.buf, gz.len), -EBADMSG);
	gz.buf[gz.len - 6] ^= 1;
	make_bytes(&gz, NULL, 1000);
	assert_int_equal(try_bytes(gz.buf, gz.len), 0);
	make_free(&gz);
	make_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_are_taken_as_tar_takes_them),
		cmocka_unit_test(long_paths),
		cmocka_unit_test(links_and_devices),
		cmocka_unit_test(numbers),
		cmocka_unit_test(what_holds_for_all),
		cmocka_unit_test(attributes),
		cmocka_unit_test(holes),
		cmocka_unit_test(holes_that_lie),
		cmocka_unit_test(a_map_without_end),
		cmocka_unit_test(layers),
		cmocka_unit_test(cut_off_anywhere),
		cmocka_unit_test(damaged_anywhere),
		cmocka_unit_test(no_archives),
		cmocka_unit_test(headers_that_ask_for_too_much),
		cmocka_unit_test(many_attributes),
		cmocka_unit_test(gzip),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
