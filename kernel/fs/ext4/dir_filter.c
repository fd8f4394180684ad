/*
 * "No such name" without looking: a filter of the names in a directory (a Bloom filter whose bits for one name lie in one word). A create asks
 * for its name first, and without an index, or with long blocks, the answer would cost more than all the rest.
 *
 *   - It has every name that the directory has, and others: those that went, and names of the same bits. What it does not have is not there.
 *   - It is made from all blocks, none of which could not be read: when a name was looked for in vain in a directory without an index, and
 *     when a directory becomes hashed. From then on ext4_dir_add puts in every name that comes, under the lock under which it comes.
 *   - One that is full gets a newer one of twice the size in front of it, until it would be too large: then it goes, and a directory without
 *     an index gets one again, of the names that it has by then. It is gone with its inode.
 *   - Case: names are in it as they are compared. A directory that begins or ends to fold is empty then.
 *   - Locks: those who look hold the directory shared. Each may make a filter, for himself until it is whole; the first one's counts. It is
 *     changed and freed only under the directory's lock exclusive, or with the inode.
 */
#include "ext4.h"

#include "lib/crc.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define NAMES_PER_WORD 4u   /* then one of a hundred names that are not there is looked for all the same */
#define NAMES_MIN      256u /* fewer are looked through as fast */
#define NAMES_MAX      (1u << 22) /* 8 MiB */
#define DIR_BYTES_MIN  8192u
#define DIR_BYTES_MAX  (32u << 20) /* has less than NAMES_MAX names */
#define BYTES_MAX \
	(16ull    \
	 << 20) /* of a volume's filters. None is begun when half of it is used: so each that is begun fits */

struct ext4_dir_filter {
	struct ext4_dir_filter *older; /* of half the size, full; NULL: none */
	u32 names, words;              /* that were put in; a power of two */
	u64 word[];
};

static u64 bytes_of(u32 words)
{
	return sizeof(struct ext4_dir_filter) + words * (u64)sizeof(u64);
}

static void free_all(struct ext4_super *es, struct ext4_dir_filter *f)
{
	while (f) {
		struct ext4_dir_filter *older = f->older;

		atomic_fetch_sub_explicit(&es->filter_bytes, bytes_of(f->words), memory_order_relaxed);
		free(f);
		f = older;
	}
}

/* NULL: too large, or no memory. */
static struct ext4_dir_filter *make(struct ext4_super *es, u32 words, struct ext4_dir_filter *older)
{
	u64 bytes = bytes_of(words);
	struct ext4_dir_filter *f;

	if (words > NAMES_MAX / NAMES_PER_WORD)
		return NULL;
	if (atomic_fetch_add_explicit(&es->filter_bytes, bytes, memory_order_relaxed) + bytes > BYTES_MAX)
		f = NULL;
	else
		f = calloc(1, bytes);
	if (!f) {
		atomic_fetch_sub_explicit(&es->filter_bytes, bytes, memory_order_relaxed);
		return NULL;
	}
	f->older = older;
	f->words = words;
	return f;
}

/* ---- names as bits ---- */

/* Of a name as it is compared. */
static u32 sum_of(const struct ext4_want *want)
{
	return want->kind == EXT4_WANT_FOLDED ? crc32c(~0u, want->folded.s, want->folded.len)
					      : crc32c(~0u, want->name.s, want->name.len);
}

static u64 *word_of(struct ext4_dir_filter *f, u32 sum)
{
	return &f->word[sum * 0x9e3779b97f4a7c15ull >> 32 & (f->words - 1)];
}

static u64 bits_of(u32 sum)
{
	return 1ull << (sum & 63) | 1ull << (sum >> 6 & 63) | 1ull << (sum >> 12 & 63);
}

/* False: there is no room for it, *f is as it was. */
static bool put(struct ext4_super *es, struct ext4_dir_filter **f, u32 sum)
{
	if ((*f)->names == (*f)->words * NAMES_PER_WORD) {
		struct ext4_dir_filter *newer = make(es, 2 * (*f)->words, *f);

		if (!newer)
			return false;
		*f = newer;
	}
	*word_of(*f, sum) |= bits_of(sum);
	(*f)->names++;
	return true;
}

/* ---- from the blocks ---- */

/* Counts the names; f: and puts them in. False: not all of them. */
static bool take_names(struct ext4_inode *dir, struct ext4_dir_filter **f, u32 *count)
{
	u64 blocks = DIV_ROUND_UP(ext4_size(dir), (u64)dir->vfs.sb->block_bytes);
	bool all = true;

	for (u64 lblk = 0; lblk < blocks && all; lblk++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		const struct ext4_disk_dirent *de;
		struct ext4_dirent_iter it;
		struct ext4_want want;
		const char *bad;
		int err = ext4_dir_block(dir, lblk, true, &bh);

		if (err == -ENOENT)
			continue;
		if (err)
			return false;
		ext4_dirent_iter(&it, bh->data, bh->size_bytes, bh->size_bytes);
		while (all && (de = ext4_dirent_next(&it, &bad))) {
			const struct name name = { ext4_dirent_name(de), de->name_len };

			if (!le32_get(de->inode))
				continue;
			++*count;
			if (f && ext4_want(dir, &name, &want))
				all = put(ext4_inode_super(dir), f, sum_of(&want));
		}
		all = all && !bad;
	}
	return all;
}

void ext4_dir_filter_make(struct ext4_inode *dir)
{
	struct ext4_super *es = ext4_inode_super(dir);
	struct ext4_dir_filter *f = NULL, *none = NULL;
	u64 size_bytes = ext4_size(dir);
	u32 names = 0;

	if (dir->flags & (EXT4_FL_ENCRYPT | EXT4_FL_INLINE_DATA) || atomic_load(&dir->filter) ||
	    size_bytes < DIR_BYTES_MIN || size_bytes > DIR_BYTES_MAX ||
	    atomic_load_explicit(&es->filter_bytes, memory_order_relaxed) > BYTES_MAX / 2)
		return;
	if (!take_names(dir, NULL, &names) || names < NAMES_MIN)
		return;
	f = make(es, (2u << ilog2(names)) / NAMES_PER_WORD, NULL);
	if (!f)
		return;
	if (!take_names(dir, &f, &names) || !atomic_compare_exchange_strong(&dir->filter, &none, f))
		free_all(es, f);
}

/* ---- the directory's ---- */

bool ext4_dir_filter_excludes(struct ext4_inode *dir, const struct ext4_want *want)
{
	struct ext4_dir_filter *f = atomic_load_explicit(&dir->filter, memory_order_acquire);
	u32 sum;

	if (!f || want->kind == EXT4_WANT_NOKEY)
		return false;
	sum = sum_of(want);
	for (; f; f = f->older)
		if (!(bits_of(sum) & ~*word_of(f, sum)))
			return false;
	return true;
}

void ext4_dir_filter_put(struct ext4_inode *dir, const struct name *name)
{
	struct ext4_dir_filter *f = atomic_load_explicit(&dir->filter, memory_order_relaxed);
	struct ext4_want want;

	if (!f)
		return;
	if (!ext4_want(dir, name, &want) || !put(ext4_inode_super(dir), &f, sum_of(&want)))
		ext4_dir_filter_drop(dir);
	else
		atomic_store_explicit(&dir->filter, f, memory_order_release);
}

void ext4_dir_filter_drop(struct ext4_inode *dir)
{
	struct ext4_dir_filter *f = atomic_exchange(&dir->filter, NULL);

	if (f)
		free_all(ext4_inode_super(dir), f);
}
