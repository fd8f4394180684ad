/*
 * Fuzz targets for ext4, one per kind of block and one for whole volumes; which one, FUZZ_TARGET says:
 *
 *   super inode extent dir xattr journal fastcommit verity   the input lies over one block of that kind in a sound volume
 *   image                                  the input is a list of patches anywhere in a sound volume
 *
 * The sound volumes are the files of the folder FUZZ_IMAGES (tests/fuzz/images.sh makes them). Checksums count as
 * valid (valid_sums.c). An input is: volume, which block of the kind, then the block's bytes; or: volume, then
 * records of offset (4 bytes), length (1 byte), bytes.
 *
 * With FUZZ_WRITE_SEEDS=DIR the program writes the target's seeds, the blocks as they are, and ends.
 */
#include "support/explore.h"

#include "lib/disk.h"
#include "lib/log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGES_MAX 64u
#define SPOTS_MAX  256u

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct image {
	u8 *bytes;
	u32 len;
	u32 block;
	u32 spot[SPOTS_MAX]; /* offsets of blocks of the target's kind */
	u32 spot_bytes, spots;
};

static struct image image[IMAGES_MAX];
static u32 images;
static const char *target;

static u32 get32(const u8 *p)
{
	return le32_get(*(const le32 *)p);
}

static bool kind_matches(const u8 *p, u32 block)
{
	static const u8 tail[] = { 0, 0, 0, 0, 12, 0, 0, 0xde };

	if (!strcmp(target, "extent"))
		return p[0] == 0x0a && p[1] == 0xf3;
	if (!strcmp(target, "xattr"))
		return get32(p) == 0xea020000;
	if (!strcmp(target, "journal"))
		return get32(p) == 0x98393bc0; /* big endian */
	if (!strcmp(target, "fastcommit"))
		return get32(p) == 0x00080009; /* a head of 8 bytes */
	if (!strcmp(target, "verity"))
		return get32(p) == 0x040a0201 && !get32(p + 4); /* SHA-512 of 1 KiB with 4 bytes of salt */
	if (!strcmp(target, "dir"))
		return (get32(p) && p[4] == 12 && p[6] == 1 && p[8] == '.') ||
		       !memcmp(p + block - 12, tail, sizeof(tail));
	return false;
}

/* Finds the target's blocks by what they look like. */
static void find_spots(struct image *im)
{
	const u8 *super = im->bytes + 1024;
	u32 inode_bytes = get32(super + 76) ? (u32)super[88] | (u32)super[89] << 8 : 128;

	im->block = 1024u << MIN(get32(super + 24), 6u);
	im->spot_bytes = im->block;
	if (!strcmp(target, "super")) {
		im->spot[im->spots++] = 1024;
		im->spot_bytes = 1024;
	} else if (!strcmp(target, "inode")) {
		u32 gdt = (get32(super + 20) + 1) * im->block;
		u32 table = get32(im->bytes + gdt + 8) * im->block;

		for (u32 i = 0; i < 32 && table + (i + 1) * inode_bytes <= im->len; i++)
			im->spot[im->spots++] = table + i * inode_bytes;
		im->spot_bytes = inode_bytes;
	} else {
		for (u32 at = 0; at + im->block <= im->len && im->spots < SPOTS_MAX; at += im->block)
			if (kind_matches(im->bytes + at, im->block))
				im->spot[im->spots++] = at;
	}
}

static void load(const char *dir, const char *name)
{
	struct image *im = &image[images];
	char path[4096];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size < 4096) {
		if (fd >= 0)
			close(fd);
		return;
	}
	im->len = (u32)st.st_size;
	im->bytes = malloc(im->len);
	if (!im->bytes || read(fd, im->bytes, im->len) != (ssize_t)im->len)
		exit(2);
	close(fd);
	find_spots(im);
	/* A volume without a block of this kind has nothing to say to the target. */
	if (!im->spots && strcmp(target, "image") != 0) {
		free(im->bytes);
		*im = (struct image){ 0 };
		return;
	}
	images++;
}

static void write_seed(const char *dir, u32 i, u32 spot)
{
	const struct image *im = &image[i];
	char path[4096];
	u8 head[2] = { (u8)i, (u8)spot };
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s-%u-%u", dir, target, i, spot);
	f = fopen(path, "w");
	if (!f)
		exit(2);
	fwrite(head, 1, strcmp(target, "image") ? 2 : 1, f);
	if (im->spots)
		fwrite(im->bytes + im->spot[spot], 1, im->spot_bytes, f);
	fclose(f);
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
	n = scandir(dir, &e, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (images < IMAGES_MAX)
			load(dir, e[i]->d_name);
		free(e[i]);
	}
	if (n >= 0)
		free(e);
	if (!images) {
		fprintf(stderr, "%s holds no volume for target %s\n", dir, target);
		exit(2);
	}
	if (seeds) {
		for (u32 i = 0; i < images; i++)
			for (u32 s = 0; s < MAX(image[i].spots, 1u); s++)
				write_seed(seeds, i, s);
		exit(0);
	}
	return 0;
}

static void patch(const struct image *im, struct blkdev *dev, const u8 *p, size_t size)
{
	while (size > 5) {
		u32 off = get32(p) % im->len, n = MIN((u32)p[4] + 1, (u32)(size - 5));

		n = MIN(n, im->len - off);
		if (blkdev_write(dev, off, p + 5, n, 0))
			abort();
		p += 5 + n;
		size -= 5 + n;
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	bool whole = !strcmp(target, "image");
	const struct image *im;
	struct blkdev *dev;

	if (size < 3)
		return -1;
	im = &image[data[0] % images];
	if (dev_mem_new("fuzz", im->len, 1, &dev))
		return -1;
	if (blkdev_write(dev, 0, im->bytes, im->len, 0))
		abort();
	if (whole)
		patch(im, dev, data + 1, size - 1);
	else if (blkdev_write(dev, im->spot[data[1] % im->spots], data + 2,
			      MIN(size - 2, (size_t)im->spot_bytes), 0))
		abort();
	/* Any answer will do: what matters is that there is one. */
	if (explore(dev, true))
		err_clear();
	blkdev_put(dev);
	return 0;
}
