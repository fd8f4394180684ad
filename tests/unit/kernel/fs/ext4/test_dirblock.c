/* A name is looked for among the records of a region: found by its bytes, or by its folded form, exactly where a plain comparison finds it. */
#include "fs/ext4/ext4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#define REGION_BYTES 1024u
#define RECORDS      12u

static unsigned int seed = 5;

static u32 rnd(u32 n)
{
	return (u32)rand_r(&seed) % n;
}

/* Of few letters, so that names often are the same; some with letters whose folded forms have other lengths. */
static u32 draw_name(char *s)
{
	static const char *const letters[] = { "a", "A", "a",        "A",        "@",           "[",
					       "z", "Z", "\xc3\xa9", "\xc3\x9f", "\xe2\x84\xaa" };
	u32 pieces = rnd(2) ? 1 + rnd(3) : 6 + rnd(5), ascii = rnd(4) ? 8 : ARRAY_SIZE(letters), len = 0;

	for (u32 i = 0; i < pieces; i++) {
		const char *l = letters[i + 2 < pieces ? 0 : rnd(ascii)];

		memcpy(s + len, l, strlen(l));
		len += (u32)strlen(l);
	}
	return len;
}

static void put_record(u8 *b, u32 off, u32 rec_len, u32 ino, const char *s, u32 len)
{
	struct ext4_disk_dirent *de = (void *)(b + off);

	de->inode = le32_put(ino);
	de->rec_len = le16_put((u16)rec_len);
	de->name_len = (u8)len;
	de->file_type = 1;
	memcpy(de + 1, s, len);
}

/* By the definition. */
static bool is_same(const struct ext4_want *want, const struct ext4_disk_dirent *de)
{
	const char *s = ext4_dirent_name(de);
	char folded[EXT4_FOLD_MAX];
	u32 len;

	if (want->kind == EXT4_WANT_BYTES)
		return de->name_len == want->name.len && !memcmp(s, want->name.s, de->name_len);
	return ext4_casefold(s, de->name_len, folded, &len) && len == want->folded.len &&
	       !memcmp(folded, want->folded.s, len);
}

static void check_search(struct ext4_inode *dir, const u8 *b, const char *s, u32 len)
{
	const struct name name = { s, len };
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	struct ext4_place at;
	struct ext4_want want;
	const char *bad;
	u32 prev = 0;
	int found;

	assert_true(ext4_want(dir, &name, &want));
	found = ext4_dirent_search(dir, b, REGION_BYTES, &want, &at);
	ext4_dirent_iter(&it, b, REGION_BYTES, REGION_BYTES);
	for (; (de = ext4_dirent_next(&it, &bad)); prev = it.off)
		if (le32_get(de->inode) && is_same(&want, de))
			break;
	assert_int_equal(found, bad ? -EUCLEAN : !!de);
	if (!de)
		return;
	assert_int_equal(at.ino, le32_get(de->inode));
	assert_int_equal(at.off, it.off);
	assert_int_equal(at.prev, prev);
}

static void searches(void **state)
{
	struct ext4_super es = { .first_ino = 11, .inodes = 1000, .incompat = EXT4_INCOMPAT_CASEFOLD };
	struct ext4_inode dir = { .vfs.sb = &es.vfs };

	(void)state;
	print_message("seed %u\n", seed);
	es.vfs.block_bytes = REGION_BYTES;
	health_init(&es.vfs.health, "test");
	for (u32 round = 0; round < 30000; round++) {
		u8 *b = malloc(REGION_BYTES); /* exactly, so that ASan sees the first byte beyond */
		u32 off = 0;
		char s[64];

		/* What is behind a name, and in an unused record, is nobody's. */
		for (u32 i = 0; i < REGION_BYTES; i++)
			b[i] = (u8)("aAzZ"[rnd(4)]);
		dir.flags = round & 1 ? EXT4_FL_CASEFOLD : 0;
		for (u32 i = 0; i < RECORDS; i++) {
			u32 len = draw_name(s), rec_len = ext4_dirent_bytes(len) + 4 * rnd(3);

			if (i + 1 == RECORDS)
				rec_len = REGION_BYTES - off;
			if (!rnd(200))
				rec_len = rnd(2) ? 8 : 2 * REGION_BYTES;
			put_record(b, off, rec_len, rnd(6) ? 11 + i : 0, s, rnd(50) ? len : 0);
			if (rec_len % REGION_BYTES < EXT4_DIRENT_MIN)
				break;
			off += rec_len;
		}
		for (u32 i = 0; i < 4; i++)
			check_search(&dir, b, s, draw_name(s));
		free(b);
	}
	health_fini(&es.vfs.health);
}

static void no_name(void **state)
{
	struct ext4_super es = { 0 };
	struct ext4_inode dir = { .vfs.sb = &es.vfs };
	const struct name name = { "", 0 };
	struct ext4_want want;

	(void)state;
	assert_false(ext4_want(&dir, &name, &want));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(searches),
		cmocka_unit_test(no_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
