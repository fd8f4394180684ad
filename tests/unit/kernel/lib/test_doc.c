/* Documents: both forms of every kind of value, nesting, bytes that are no text, numbers JSON has no room for. */
#include "lib/disk.h"
#include "lib/doc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <jansson.h>
#include <string.h>

static const u8 uuid[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static struct doc *sample(void)
{
	struct doc *d = doc_new(), *o, *a;

	doc_str(d, "name", "a volume");
	doc_u64(d, "blocks", 12);
	doc_s64(d, "delta", -3);
	doc_hex(d, "mask", 0x1f);
	doc_bool(d, "clean", true);
	doc_uuid(d, "uuid", uuid);
	doc_time(d, "made", 0, 5);
	a = doc_array(d, "features");
	doc_str(a, NULL, "extent");
	doc_str(a, NULL, "64bit");
	o = doc_object(d, "group");
	doc_u64(o, "first", 1);
	a = doc_array(d, "parts");
	for (u64 i = 0; i < 2; i++) {
		o = doc_object(a, NULL);
		doc_u64(o, "nr", i);
		doc_object(o, "empty");
	}
	return d;
}

static void as_text(void **state)
{
	struct doc *d = sample();
	struct text t = { 0 };

	(void)state;
	doc_to_text(d, &t);
	assert_string_equal(text_str(&t), "name: a volume\n"
					  "blocks: 12\n"
					  "delta: -3\n"
					  "mask: 0x1f\n"
					  "clean: yes\n"
					  "uuid: 01020304-0506-0708-090a-0b0c0d0e0f10\n"
					  "made: 1970-01-01 00:00:00.000000005 UTC\n"
					  "features:\n"
					  "  - extent\n"
					  "  - 64bit\n"
					  "group:\n"
					  "  first: 1\n"
					  "parts:\n"
					  "  - nr: 0\n"
					  "    empty: none\n"
					  "  - nr: 1\n"
					  "    empty: none\n");
	text_free(&t);
	doc_free(d);
}

static void as_json(void **state)
{
	struct doc *d = sample();
	struct text t = { 0 };
	json_t *j, *want;

	(void)state;
	doc_to_json(d, &t);
	j = json_loads(text_str(&t), 0, NULL);
	want = json_pack("{s:s,s:i,s:i,s:i,s:b,s:s,s:{s:i,s:i},s:[s,s],s:{s:i},s:[{s:i,s:{}},{s:i,s:{}}]}",
			 "name", "a volume", "blocks", 12, "delta", -3, "mask", 0x1f, "clean", 1, "uuid",
			 "01020304-0506-0708-090a-0b0c0d0e0f10", "made", "sec", 0, "nsec", 5, "features",
			 "extent", "64bit", "group", "first", 1, "parts", "nr", 0, "empty", "nr", 1, "empty");
	assert_non_null(j);
	assert_non_null(want);
	assert_true(json_equal(j, want));
	json_decref(j);
	json_decref(want);
	text_free(&t);
	doc_free(d);
}

static void hard_values(void **state)
{
	struct doc *d = doc_new();
	struct text t = { 0 };
	json_t *j;

	(void)state;
	doc_u64(d, "big", ~0ull);
	doc_bytes(d, "bad", "a\xff\x1b", 3);
	doc_bytes(d, "good", "gr\xc3\xbc\x1b", 5);
	doc_bytes(d, "nul", "x\0y", 3);
	doc_time(d, "old", -1, 0);
	doc_to_text(d, &t);
	assert_string_equal(text_str(&t), "big: 18446744073709551615\n"
					  "bad: a\\xff\\x1b\n"
					  "good: gr\xc3\xbc\\x1b\n"
					  "nul: x\\x00y\n"
					  "old: 1969-12-31 23:59:59 UTC\n");
	text_reset(&t);
	doc_to_json(d, &t);
	j = json_loads(text_str(&t), JSON_ALLOW_NUL, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "big")), "18446744073709551615");
	assert_string_equal(json_string_value(json_object_get(j, "bad")), "a\\xff\\x1b");
	assert_string_equal(json_string_value(json_object_get(j, "good")), "gr\xc3\xbc\x1b");
	assert_int_equal(json_string_length(json_object_get(j, "nul")), 3);
	json_decref(j);
	text_free(&t);
	assert_false(doc_oom(d));
	doc_free(d);
}

/* A structure of the disk, of which only the first 29 bytes are there. */
struct disk_thing {
	le32 number;
	le64 mask;
	le32 since;
	u8 name[4];
	u8 seen[9];
	le16 beyond;
};

static void members(void **state)
{
	static const struct doc_member table[] = {
		DOC_MEMBER(struct disk_thing, number, NUMBER), DOC_MEMBER(struct disk_thing, mask, HEX),
		DOC_MEMBER(struct disk_thing, since, TIME),    DOC_MEMBER(struct disk_thing, name, TEXT),
		DOC_MEMBER(struct disk_thing, beyond, NUMBER),
	};
	const struct disk_thing thing = { le32_put(70000), le64_put(1ull << 40), le32_put(60), "ab",
					  { 1 },           le16_put(5) };
	struct doc *d = doc_new();
	struct text t = { 0 };

	(void)state;
	doc_members(d, table, ARRAY_SIZE(table), &thing, 29);
	doc_hexdump(doc_array(d, "bytes"), "0123456789abcde\x7f!", 17);
	doc_to_text(d, &t);
	assert_string_equal(text_str(&t),
			    "number: 70000\n"
			    "mask: 0x10000000000\n"
			    "since: 1970-01-01 00:01:00 UTC\n"
			    "name: ab\n"
			    "bytes:\n"
			    "  - 00000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 7f  0123456789abcde.\n"
			    "  - 00010  21                                               !\n");
	text_free(&t);
	doc_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_text),
		cmocka_unit_test(as_json),
		cmocka_unit_test(hard_values),
		cmocka_unit_test(members),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
