/*
 * Fuzz targets for btrfs; which one, FUZZ_TARGET says:
 *
 *   super        the input lies over the superblock, its array of system chunks included
 *   node log     over a whole node of any tree; of a log tree
 *   item         over the data of one item
 *   zlib lzo zstd   the input is a compressed extent
 *   volume       a list of patches anywhere in a sound volume
 *
 * The sound volumes are the files of the folder FUZZ_IMAGES (images_btrfs.sh makes them). Checksums of nodes and superblocks count as valid
 * (btrfs_sums.c). An input is: volume (the top bit: print what there is, too), which node, which item (item only), then the bytes. Volumes are mostly zeros, so only their other pages
 * are kept.
 *
 * With FUZZ_WRITE_SEEDS=DIR the program writes the target's seeds, what lies there as it is, and ends.
 */
#include "btrfs/btrfs.h"
#include "lib/log.h"
#include "support/explore.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGES_MAX 32u
#define SPOTS_MAX  1024u
#define PAGE       4096u
#define SEEDS_MAX  12u /* of a volume */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct image {
	u64 len;
	u8 *page; /* those that are not zeros, one behind the other */
	u64 *at;  /* [pages] where each lies */
	u32 pages;
	u32 spot[SPOTS_MAX]; /* indices of pages at which a node of the target's kind begins */
	u32 spots, node_bytes;
};

static struct image image[IMAGES_MAX];
static u32 images;
static const char *target;

static bool is_target(const char *name)
{
	return !strcmp(target, name);
}

static bool is_node(const struct image *im, u32 page, const struct btrfs_disk_super *super)
{
	const struct btrfs_disk_header *h = (const void *)(im->page + (size_t)page * PAGE);

	if (memcmp(h->fsid, super->fsid, sizeof(h->fsid)) ||
	    le64_get(*(const le64 *)((const u8 *)h + 0x40)) == BTRFS_MAGIC ||
	    page + im->node_bytes / PAGE > im->pages ||
	    im->at[page + im->node_bytes / PAGE - 1] != im->at[page] + im->node_bytes - PAGE)
		return false;
	if (is_target("log"))
		return le64_get(h->owner) == BTRFS_TREE_LOG;
	return is_target("node") || (is_target("item") && !h->level && le32_get(h->nritems));
}

static void find_spots(struct image *im)
{
	const struct btrfs_disk_super *super = NULL;

	for (u32 i = 0; i < im->pages; i++)
		if (im->at[i] == BTRFS_SUPER_OFF(0))
			super = (const void *)(im->page + (size_t)i * PAGE);
	if (!super)
		exit(2);
	im->node_bytes = le32_get(super->node_bytes);
	for (u32 i = 0; i < im->pages && im->spots < SPOTS_MAX; i++)
		if (is_target("super") ? im->at[i] == BTRFS_SUPER_OFF(0) : is_node(im, i, super))
			im->spot[im->spots++] = i;
}

static void load(const char *dir, const char *name)
{
	static const u8 zeros[PAGE];
	struct image *im = &image[images];
	char path[4096];
	u8 buf[PAGE];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		return;
	}
	im->len = (u64)st.st_size;
	for (u64 at = 0; at < im->len; at += PAGE) {
		if (pread(fd, buf, PAGE, (off_t)at) != PAGE)
			exit(2);
		if (!memcmp(buf, zeros, PAGE))
			continue;
		im->page = realloc(im->page, (size_t)(im->pages + 1) * PAGE);
		im->at = realloc(im->at, (im->pages + 1) * sizeof(u64));
		if (!im->page || !im->at)
			exit(2);
		memcpy(im->page + (size_t)im->pages * PAGE, buf, PAGE);
		im->at[im->pages++] = at;
	}
	close(fd);
	find_spots(im);
	if (im->spots || is_target("volume")) {
		images++;
		return;
	}
	free(im->page);
	free(im->at);
	*im = (struct image){ 0 };
}

/* The item's bytes in the leaf that begins at a page; false: it has none. */
static bool item_place(const struct image *im, u32 spot, u32 item, u64 *at, u32 *len)
{
	const u8 *leaf = im->page + (size_t)im->spot[spot] * PAGE;
	const struct btrfs_disk_item *it = btrfs_item(leaf, item % btrfs_nritems(leaf));

	*len = le32_get(it->len_bytes);
	*at = sizeof(struct btrfs_disk_header) + le32_get(it->offset_bytes);
	return *len != 0;
}

static void write_seed(const char *dir, u32 i, u32 spot, u32 item)
{
	const struct image *im = &image[i];
	u8 head[3] = { (u8)(i | (item ^ spot) << 7), (u8)spot, (u8)item };
	const u8 *from = im->page + (size_t)(im->spots ? im->spot[spot] : 0) * PAGE;
	u32 len = is_target("super") ? PAGE : is_target("volume") ? 0 : im->node_bytes;
	char path[4096];
	u64 at = 0;
	FILE *f;

	if (is_target("item") && !item_place(im, spot, item, &at, &len))
		return;
	snprintf(path, sizeof(path), "%s/%s-%u-%u-%u", dir, target, i, spot, item);
	f = fopen(path, "w");
	if (!f)
		exit(2);
	fwrite(head, 1, is_target("item") ? 3 : is_target("volume") ? 1 : 2, f);
	fwrite(from + at, 1, len, f);
	fclose(f);
}

/* Each seed costs a run: of items one of each type in each volume, of nodes a few. */
static void write_seeds(const char *dir)
{
	for (u32 i = 0; i < images; i++) {
		bool seen[256] = { false };

		for (u32 s = 0; s < MIN(MAX(image[i].spots, 1u), 256u); s++) {
			const u8 *leaf =
				image[i].page + (size_t)(image[i].spots ? image[i].spot[s] : 0) * PAGE;

			if (!is_target("item") && s < SEEDS_MAX)
				write_seed(dir, i, s, 0);
			for (u32 k = 0; is_target("item") && k < MIN(btrfs_nritems(leaf), 256u); k++) {
				u8 type = btrfs_item(leaf, k)->key.type;

				if (!seen[type])
					write_seed(dir, i, s, k);
				seen[type] = true;
			}
		}
	}
}

static bool is_compression(void)
{
	return is_target("zlib") || is_target("lzo") || is_target("zstd");
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *dir = getenv("FUZZ_IMAGES"), *seeds = getenv("FUZZ_WRITE_SEEDS");
	struct dirent **e;
	int n;

	(void)argc, (void)argv;
	log_set_level(LOG_LVL_ERROR);
	target = getenv("FUZZ_TARGET");
	if (!target || !dir) {
		fprintf(stderr, "FUZZ_TARGET and FUZZ_IMAGES must be set: see make fuzz\n");
		exit(2);
	}
	n = is_compression() ? 0 : scandir(dir, &e, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (images < IMAGES_MAX)
			load(dir, e[i]->d_name);
		free(e[i]);
	}
	if (n > 0)
		free(e);
	if (!images && !is_compression()) {
		fprintf(stderr, "%s holds no volume for target %s\n", dir, target);
		exit(2);
	}
	if (seeds) {
		write_seeds(seeds);
		exit(0);
	}
	return 0;
}

/* A compressed extent; memory of exactly its size, so that a byte too far is found. */
static int unpack(const u8 *data, size_t size)
{
	u32 room = ((u32)data[0] + 1) * 512, done;
	void *ctx = NULL, *src = malloc(size - 1), *dst = malloc(room);
	int err = 0;

	if (src && dst) {
		memcpy(src, data + 1, size - 1);
		if (is_target("zlib"))
			err = btrfs_zlib_unpack(&ctx, src, (u32)size - 1, dst, room, &done);
		else if (is_target("zstd"))
			err = btrfs_zstd_unpack(&ctx, src, (u32)size - 1, dst, room, &done);
		else
			err = btrfs_lzo_unpack(4096, src, (u32)size - 1, dst, room, &done);
		if (!err && done > room)
			abort();
	}
	if (is_target("zlib"))
		btrfs_zlib_free(ctx);
	else if (is_target("zstd"))
		btrfs_zstd_free(ctx);
	free(src);
	free(dst);
	err_clear();
	return 0;
}

static void put(struct blkdev *dev, u64 at, const void *p, u64 len)
{
	if (at < dev->size_bytes && blkdev_write(dev, at, p, MIN(len, dev->size_bytes - at), 0))
		abort();
}

static void lay_over(const struct image *im, struct blkdev *dev, const u8 *data, size_t size)
{
	u32 spot, len;
	u64 at;

	if (is_target("volume")) {
		for (data++, size--; size > 5;) {
			u32 n = MIN((u32)data[4] + 1, (u32)(size - 5));
			u32 where = le32_get(*(const le32 *)data);

			/* Where something is: an address among zeros changes nothing. */
			put(dev, im->at[where / PAGE % im->pages] + where % PAGE, data + 5, n);
			data += 5 + n;
			size -= 5 + n;
		}
		return;
	}
	spot = data[1] % im->spots;
	at = im->at[im->spot[spot]];
	if (is_target("item")) {
		u64 within;

		if (item_place(im, spot, data[2], &within, &len))
			put(dev, at + within, data + 3, MIN(size - 3, (size_t)len));
		return;
	}
	/* Nodes keep their identity: without it nobody would look at the rest. */
	len = is_target("super") ? PAGE : im->node_bytes;
	put(dev, at, data + 2, MIN(size - 2, (size_t)len));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct image *im;
	struct blkdev *dev;

	if (size < 4)
		return -1;
	if (is_compression())
		return unpack(data, size);
	im = &image[(data[0] & 0x7f) % images];
	if (dev_mem_new("fuzz", im->len, 1, &dev))
		return -1;
	for (u32 i = 0; i < im->pages; i++)
		put(dev, im->at[i], im->page + (size_t)i * PAGE, PAGE);
	lay_over(im, dev, data, size);
	/* Any answer will do: what matters is that there is one. */
	if (explore(dev, data[0] & 0x80))
		err_clear();
	blkdev_put(dev);
	return 0;
}
