/* Directory blocks as bytes: records good and bad, the long block's encoding, tail and index recognised. */
#include "fs/ext4/ext4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>

static u32 put(u8 *block, u32 off, u32 ino, u32 rec_len, const char *name)
{
	struct ext4_disk_dirent *de = (void *)(block + off);

	de->inode = le32_put(ino);
	de->rec_len = le16_put((u16)rec_len);
	de->name_len = (u8)strlen(name);
	de->file_type = 0;
	memcpy(de + 1, name, strlen(name));
	return off + rec_len;
}

static void walks(void **state)
{
	u8 b[1024] = { 0 };
	struct ext4_dirent_iter it;
	const char *bad;
	u32 n = 0, off = put(b, 0, 2, 12, ".");

	(void)state;
	off = put(b, off, 2, 12, "..");
	off = put(b, off, 11, 20, "lost+found");
	put(b, off, 12, 1024 - off, "last");
	ext4_dirent_iter(&it, b, sizeof(b), sizeof(b));
	while (ext4_dirent_next(&it, &bad))
		n++;
	assert_null(bad);
	assert_int_equal(n, 4);
	assert_int_equal(it.next, 1024);
}

static void refuses(void **state)
{
	static const u16 lens[] = { 0, 4, 8, 11, 13, 1020, 1028, 1016, 65532 };
	struct ext4_dirent_iter it;
	const char *bad;
	u8 b[1024];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		memset(b, 0, sizeof(b));
		put(b, 0, 2, lens[i], "a");
		ext4_dirent_iter(&it, b, sizeof(b), sizeof(b));
		while (ext4_dirent_next(&it, &bad))
			;
		assert_non_null(bad);
	}
	memset(b, 0, sizeof(b));
	put(b, 0, 2, 12, "12345");
	ext4_dirent_iter(&it, b, sizeof(b), sizeof(b));
	assert_null(ext4_dirent_next(&it, &bad));
	assert_non_null(bad);
}

/* Whatever the bytes are, the walk stays inside and ends. Run under ASan this proves it. */
static void survives(void **state)
{
	unsigned int seed = 20240611;
	struct ext4_super es = { .metadata_csum = true };

	(void)state;
	print_message("seed %u\n", seed);
	es.vfs.block_bytes = 1024;
	for (u32 round = 0; round < 20000; round++) {
		u32 len = 1024;
		u8 *b = malloc(len); /* exactly, so that ASan sees the first byte beyond */
		struct ext4_dirent_iter it;
		struct ext4_dx dx;
		const char *bad;

		for (u32 i = 0; i < len; i++)
			b[i] = (u8)(rand_r(&seed) & (i % 4 ? 0x0f : 0x3c));
		ext4_dirent_iter(&it, b, len, len);
		for (const struct ext4_disk_dirent *de; (de = ext4_dirent_next(&it, &bad));)
			(void)ext4_dirent_name_ok(de);
		(void)ext4_dir_tail_off(b, len);
		(void)ext4_dx_parse(&es, b, round & 1, &dx);
		free(b);
	}
}

static void long_blocks(void **state)
{
	(void)state;
	assert_int_equal(ext4_rec_len(le16_put(65535), 65536), 65536);
	assert_int_equal(ext4_rec_len(le16_put(0), 65536), 65536);
	assert_int_equal(ext4_rec_len(le16_put(12), 65536), 12);
	assert_int_equal(ext4_rec_len(le16_put(65524), 65536), 65524);
	assert_int_equal(ext4_rec_len(le16_put(4096), 4096), 4096);
	assert_int_equal(ext4_rec_len(le16_put(0), 4096), 0);
	for (u32 len = 12; len <= 65536; len += 4)
		assert_int_equal(ext4_rec_len(ext4_rec_len_put(len), 65536), len);
}

/* ---- leaves that change ---- */

#define LEAF_NAMES 40u

static u32 leaf_name(u32 i, char *s)
{
	u32 len = 1 + i * 37 % 100;

	memset(s, 'a' + (int)(i % 26), len);
	s[0] = (char)(' ' + i);
	return len;
}

/* The records of the leaf: as many as there should be, each once, covering all but the tail. */
static void check_leaf(const struct ext4_super *es, const u8 *b, const bool *is, u32 *offs, u32 *count)
{
	const struct ext4_disk_dirent *de;
	bool seen[LEAF_NAMES] = { false };
	struct ext4_dirent_iter it;
	const char *bad;
	char s[128];

	*count = 0;
	ext4_dirent_iter(&it, b, ext4_leaf_bytes(es), ext4_block_bytes(es));
	while ((de = ext4_dirent_next(&it, &bad))) {
		u32 i = le32_get(de->inode) - 100;

		if (!le32_get(de->inode))
			continue;
		assert_true(i < LEAF_NAMES && is[i] && !seen[i]);
		seen[i] = true;
		assert_int_equal(de->name_len, leaf_name(i, s));
		assert_memory_equal(ext4_dirent_name(de), s, de->name_len);
		offs[(*count)++] = it.off;
	}
	assert_null(bad);
	assert_int_equal(it.next, ext4_leaf_bytes(es));
	assert_memory_equal(is, seen, sizeof(seen));
	assert_int_equal(!!ext4_dir_tail_off(b, ext4_block_bytes(es)), es->metadata_csum);
}

static u32 record_of(const struct ext4_super *es, const u8 *b, u32 ino, u32 *prev)
{
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad;

	*prev = 0;
	ext4_dirent_iter(&it, b, ext4_leaf_bytes(es), ext4_block_bytes(es));
	for (; (de = ext4_dirent_next(&it, &bad)); *prev = it.off)
		if (le32_get(de->inode) == ino)
			return it.off;
	fail_msg("record of %u is gone", ino);
	return 0;
}

static void leaves(void **state)
{
	static const u32 bytes[] = { 1024, 4096, 65536 };
	unsigned int seed = 77;

	(void)state;
	for (u32 k = 0; k < 2 * ARRAY_SIZE(bytes); k++) {
		struct ext4_super es = { .metadata_csum = k & 1, .filetype = true };
		u8 *b = malloc(bytes[k / 2]), *to = malloc(bytes[k / 2]);
		u32 offs[LEAF_NAMES], n, off, prev, before = 0;
		bool is[LEAF_NAMES] = { false };
		const char *bad;

		es.vfs.block_bytes = bytes[k / 2];
		ext4_leaf_init(&es, b);
		for (u32 round = 0; round < 3000; round++) {
			u32 i = (u32)rand_r(&seed) % LEAF_NAMES;
			char s[128];
			const struct name name = { s, leaf_name(i, s) };

			if (is[i]) {
				off = record_of(&es, b, 100 + i, &prev);
				ext4_leaf_del(&es, b, off, prev);
				is[i] = false;
			} else if (ext4_leaf_room(&es, b, ext4_dirent_bytes(name.len), &off, &bad)) {
				ext4_leaf_add(&es, b, off, &name, 100 + i, 1);
				is[i] = true;
			} else {
				assert_null(bad);
				assert_int_equal(bytes[k / 2], 1024);
			}
			check_leaf(&es, b, is, offs, &n);
			ext4_leaf_pack(&es, to, b, offs, n);
			check_leaf(&es, to, is, offs, &before);
			assert_int_equal(n, before);
			if (round % 100 == 99)
				memcpy(b, to, bytes[k / 2]);
		}
		free(b);
		free(to);
	}
}

static void names(void **state)
{
	u8 b[64] = { 0 };

	(void)state;
	put(b, 0, 2, 64, "fine");
	assert_true(ext4_dirent_name_ok((const void *)b));
	put(b, 0, 2, 64, "a/b");
	assert_false(ext4_dirent_name_ok((const void *)b));
	put(b, 0, 2, 64, "");
	assert_false(ext4_dirent_name_ok((const void *)b));
	put(b, 0, 2, 64, "abc");
	b[9] = 0;
	assert_false(ext4_dirent_name_ok((const void *)b));
}

static void index_shape(void **state)
{
	struct ext4_super es = { 0 };
	struct ext4_disk_dx_countlimit *cl;
	struct ext4_dx dx;
	u8 b[1024] = { 0 };

	(void)state;
	es.vfs.block_bytes = sizeof(b);
	put(b, 0, 2, 12, ".");
	put(b, 12, 2, 1012, "..");
	assert_false(ext4_dx_parse(&es, b, true, &dx));
	b[EXT4_DX_INFO_OFF + 5] = 8;
	cl = (void *)(b + EXT4_DX_ROOT_ENTRIES);
	cl->limit = le16_put((1024 - 32) / 8);
	cl->count = le16_put(1);
	assert_true(ext4_dx_parse(&es, b, true, &dx));
	assert_int_equal(dx.count, 1);
	cl->count = le16_put((1024 - 32) / 8 + 1);
	assert_false(ext4_dx_parse(&es, b, true, &dx));
	cl->count = le16_put(0);
	assert_false(ext4_dx_parse(&es, b, true, &dx));
	cl->count = le16_put(1);
	cl->limit = le16_put(500);
	assert_false(ext4_dx_parse(&es, b, true, &dx));
	/* With checksums the last place is the tail's. */
	es.metadata_csum = true;
	cl->limit = le16_put((1024 - 32 - 8) / 8);
	assert_true(ext4_dx_parse(&es, b, true, &dx));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walks),       cmocka_unit_test(refuses), cmocka_unit_test(survives),
		cmocka_unit_test(long_blocks), cmocka_unit_test(names),   cmocka_unit_test(index_shape),
		cmocka_unit_test(leaves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
