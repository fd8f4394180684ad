/* The volumes that workloads are recorded on: what they are, and how they are made. */
#include "crash.h"

#include "ext4/ext4.h"
#include "jbd2/ondisk.h"
#include "support/programs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Of several groups, so that there is a copy of the superblock. */
static const struct volume table[] = {
	{ .name = "4k",
	  .args = "-b 4096 -g 2048 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize -J size=4 -N 2048",
	  .bytes = 24 << 20 },
	{ .name = "1k",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize -J size=1 -N 2048",
	  .bytes = 12 << 20 },
	{ .name = "orphan-file",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,metadata_csum_seed,orphan_file,dir_index,"
		  "filetype,ext_attr,sparse_super,large_file,huge_file,dir_nlink,extra_isize -J size=1 -N "
		  "1024",
	  .bytes = 12 << 20 },
	{ .name = "ext3",
	  .args = "-b 1024 -I 128 -O none,has_journal,dir_index,filetype,ext_attr,sparse_super,large_file -J "
		  "size=1 -N 1024",
	  .bytes = 12 << 20 },
	{ .name = "clusters",
	  .args = "-b 1024 -C 8192 -g 256 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,bigalloc -J size=1 -N 2048",
	  .bytes = 12 << 20 },
	{ .name = "clusters-4k",
	  .args = "-b 4096 -C 16384 -g 512 -O "
		  "none,has_journal,extent,64bit,metadata_csum,metadata_csum_seed,orphan_file,dir_index,"
		  "filetype,ext_attr,sparse_super,large_file,huge_file,dir_nlink,extra_isize,bigalloc -J "
		  "size=4 -N 2048",
	  .bytes = 24 << 20 },
	{ .name = "8k",
	  .args = "-b 8192 -g 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize -J size=8 -N 2048",
	  .bytes = 32 << 20 },
	{ .name = "64k",
	  .args = "-b 65536 -g 512 -O "
		  "none,has_journal,extent,64bit,metadata_csum,metadata_csum_seed,orphan_file,dir_index,"
		  "filetype,ext_attr,sparse_super,large_file,huge_file,dir_nlink,extra_isize -J size=64 -N "
		  "2048",
	  .bytes = 160 << 20 },
	{ .name = "ea-inode",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,metadata_csum_seed,orphan_file,dir_index,"
		  "large_dir,filetype,ext_attr,ea_inode,sparse_super,large_file,huge_file,dir_nlink,extra_"
		  "isize -J size=1 -N 1024",
	  .bytes = 12 << 20 },
	{ .name = "no-journal",
	  .args = "-b 1024 -O "
		  "none,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_super,large_"
		  "file,huge_file,dir_nlink,extra_isize -N 2048",
	  .bytes = 12 << 20,
	  .unsafe = true },
	{ .name = "data-journal",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize -J size=1 -N 2048",
	  .bytes = 12 << 20,
	  .tune = "-o journal_data" },
	{ .name = "ext3-data-journal",
	  .args = "-b 1024 -I 128 -O none,has_journal,dir_index,filetype,ext_attr,sparse_super,large_file -J "
		  "size=1 -N 1024",
	  .bytes = 12 << 20,
	  .tune = "-o journal_data" },
	{ .name = "some-data-journal",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize -J size=1 -N 2048",
	  .bytes = 12 << 20,
	  .some_journalled = true },
	{ .name = "mmp",
	  .args = "-b 1024 -E mmp_update_interval=1 -O "
		  "none,has_journal,extent,64bit,dir_index,filetype,ext_attr,flex_bg,sparse_super,large_file,"
		  "huge_file,dir_nlink,extra_isize,mmp -J size=1 -N 2048",
	  .bytes = 12 << 20 },
	{ .name = "uninit",
	  .args = "-b 1024 -g 1024 -O "
		  "none,has_journal,extent,uninit_bg,dir_index,filetype,ext_attr,flex_bg,sparse_super,large_"
		  "file,huge_file,dir_nlink,extra_isize -J size=1 -N 2048",
	  .bytes = 12 << 20 },
	{ .name = "no-filetype",
	  .args = "-b 1024 -I 128 -O none,has_journal,ext_attr,sparse_super -J size=1 -N 1024",
	  .bytes = 12 << 20 },
	{ .name = "grow",
	  .args = "-b 1024 -g 512 -G 4 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,resize_inode -J size=1 -N 512",
	  .bytes = 24 << 20,
	  .made_bytes = 6500 << 10,
	  .extended = ",resize=22000" },
	{ .name = "grow-meta",
	  .args = "-b 1024 -g 512 -G 4 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,meta_bg -J size=1 -N 512",
	  .bytes = 16 << 20,
	  .made_bytes = 6500 << 10 },
	{ .name = "grow-old",
	  .args = "-b 1024 -g 512 -I 128 -O "
		  "none,has_journal,dir_index,filetype,ext_attr,sparse_super,large_file,resize_inode -J "
		  "size=1 -N 512",
	  .bytes = 24 << 20,
	  .made_bytes = 6500 << 10,
	  .extended = ",resize=22000" },
	{ .name = "grow-kept",
	  .args = "-b 1024 -g 512 -G 4 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,resize_inode -J size=1 -N 512",
	  .bytes = 24 << 20,
	  .made_bytes = 6500 << 10,
	  .extended = ",resize=2000000" },
	{ .name = "grow-clusters",
	  .args = "-b 1024 -C 4096 -g 256 -G 4 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,resize_inode,bigalloc -J size=1 -N 512",
	  .bytes = 24 << 20,
	  .made_bytes = 7500 << 10,
	  .extended = ",resize=26000" },
	{ .name = "grow-clusters-spread",
	  .args = "-b 1024 -C 8192 -g 256 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,sparse_super,"
		  "large_file,huge_file,dir_nlink,extra_isize,bigalloc -J size=1 -N 512",
	  .bytes = 48 << 20,
	  .made_bytes = 8500 << 10 },
	{ .name = "quota",
	  .args = "-b 1024 -I 256 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,quota,project -J size=1 -N 2048",
	  .bytes = 12 << 20,
	  .extended = ",quotatype=usrquota:grpquota:prjquota" },
	{ .name = "quota-clusters",
	  .args = "-b 1024 -C 8192 -g 256 -I 256 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,bigalloc,quota,project -J size=1 -N 2048",
	  .bytes = 12 << 20,
	  .extended = ",quotatype=usrquota:grpquota:prjquota" },
	{ .name = "quota-ea-inode",
	  .args = "-b 1024 -I 256 -O "
		  "none,has_journal,extent,64bit,metadata_csum,metadata_csum_seed,orphan_file,dir_index,"
		  "large_dir,filetype,ext_attr,ea_inode,sparse_super,large_file,huge_file,dir_nlink,extra_"
		  "isize,quota,project -J size=1 -N 1024",
	  .bytes = 12 << 20,
	  .extended = ",quotatype=usrquota:grpquota:prjquota" },
	{ .name = "casefold",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,casefold -J size=1 -N 2048",
	  .bytes = 12 << 20,
	  .extended = ",encoding=utf8",
	  .fold = true },
	{ .name = "casefold-strict",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,metadata_csum_seed,dir_index,filetype,ext_"
		  "attr,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,casefold,inline_data "
		  "-J size=1 -N 2048",
	  .bytes = 12 << 20,
	  .extended = ",encoding=utf8,encoding_flags=strict",
	  .fold = true },
	{ .name = "log-outside",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize -N 2048",
	  .bytes = 12 << 20,
	  .log_bytes = 2 << 20 },
	{ .name = "grow-log-outside",
	  .args = "-b 1024 -g 512 -G 4 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,resize_inode -N 512",
	  .bytes = 24 << 20,
	  .made_bytes = 6500 << 10,
	  .extended = ",resize=22000",
	  .log_bytes = 2 << 20 },
	{ .name = "log-outside-data",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,dir_index,filetype,ext_attr,flex_bg,sparse_super,large_file,"
		  "huge_file,dir_nlink,extra_isize -N 2048",
	  .bytes = 12 << 20,
	  .log_bytes = 2 << 20,
	  .tune = "-o journal_data" },
	{ .name = "log-sums-v1",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,dir_index,filetype,ext_attr,flex_bg,sparse_super,large_file,"
		  "huge_file,dir_nlink,extra_isize -J size=1 -N 2048",
	  .bytes = 12 << 20,
	  .log_compat = JBD2_COMPAT_CHECKSUM },
	{ .name = "log-async",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,dir_index,filetype,ext_attr,flex_bg,sparse_super,large_file,"
		  "huge_file,dir_nlink,extra_isize -J size=1 -N 2048",
	  .bytes = 12 << 20,
	  .log_compat = JBD2_COMPAT_CHECKSUM,
	  .log_incompat = JBD2_INCOMPAT_ASYNC_COMMIT },
	{ .name = "log-async-v3",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize -J size=1 -N 2048",
	  .bytes = 12 << 20,
	  .log_incompat = JBD2_INCOMPAT_ASYNC_COMMIT },
	{ .name = "fast-commit",
	  .args = "-b 1024 -O "
		  "none,has_journal,extent,64bit,metadata_csum,dir_index,filetype,ext_attr,flex_bg,sparse_"
		  "super,large_file,huge_file,dir_nlink,extra_isize,fast_commit -J size=2 -N 2048",
	  .bytes = 12 << 20 },
	{ .name = NULL },
};

const struct volume *volumes(void)
{
	return table;
}

const struct volume *volume_find(const char *name)
{
	for (const struct volume *v = table; v->name; v++)
		if (!strcmp(v->name, name))
			return v;
	return NULL;
}

/* The log's superblock, wherever it lies: no other block looks like it on a new volume. */
static void set_log_features(const struct volume *v, u8 *image, u64 bytes)
{
	for (u64 at = 0; at + 1024 <= bytes; at += 1024) {
		struct jbd2_disk_super *sb = (void *)(image + at);

		if (be32_get(sb->h.magic) != JBD2_MAGIC || be32_get(sb->h.type) != JBD2_SUPER_V2)
			continue;
		sb->compat = be32_put(be32_get(sb->compat) | v->log_compat);
		sb->incompat = be32_put(be32_get(sb->incompat) | v->log_incompat);
	}
}

/* What a shell does to format the volume at `path`. */
static char *make_command(const struct volume *v, const char *path)
{
	char *command = NULL;
	FILE *f;
	size_t len;

	f = open_memstream(&command, &len);
	if (v->log_bytes)
		fprintf(f,
			"log=$(losetup --show -f -o %llu %s) || exit 99; trap 'losetup -d $log' EXIT; "
			"mke2fs -q -F -O journal_dev -b 1024 $log && ",
			(unsigned long long)v->bytes, path);
	fprintf(f,
		"mke2fs -q -F -t ext4 %s%s -m 1 -e continue -E "
		"nodiscard,lazy_itable_init=0,lazy_journal_init=0%s -U 5e5e5e5e-0000-4000-8000-000000000001 "
		"%s %lluk",
		v->args, v->log_bytes ? " -J device=$log" : "", v->extended ? v->extended : "", path,
		(unsigned long long)(v->made_bytes ? v->made_bytes : v->bytes) >> 10);
	if (v->tune)
		fprintf(f, " && tune2fs %s %s", v->tune, path);
	if (v->fold)
		fprintf(f, " && debugfs -w -R 'set_inode_field / flags 0x%x' %s",
			EXT4_FL_CASEFOLD | (strstr(v->args, "extent") ? EXT4_FL_EXTENTS : 0), path);
	fclose(f);
	return command;
}

/* An image in memory, full of the stamp and then formatted. */
static int format(const struct volume *v, u8 **out)
{
	u64 bytes = v->bytes + v->log_bytes;
	int fd = memfd_create("crash-volume", MFD_CLOEXEC), code;
	char *command, *said = NULL, path[64];
	u8 *p;

	if (fd < 0 || ftruncate(fd, (off_t)bytes))
		return -errno;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	memset(p, STAMP, bytes);
	/* What mke2fs would take for a volume or a partition table must not be there. */
	memset(p, 0, 65536);
	memset(p + v->bytes, 0, MIN(v->log_bytes, 65536ull));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
	command = make_command(v, path);
	code = program_run(command, &said);
	if (code)
		fprintf(stderr, "%s: %s\n", command, said ? said : "");
	free(command);
	free(said);
	if (code)
		return -EIO;
	if (v->log_compat || v->log_incompat)
		set_log_features(v, p, bytes);
	*out = malloc(bytes);
	memcpy(*out, p, bytes);
	munmap(p, bytes);
	close(fd);
	return 0;
}

/* Of a volume with mmp each of the programs waits. */
int volume_make(const struct volume *v, u8 **out)
{
	u64 bytes = v->bytes + v->log_bytes;
	static const struct volume *made;
	static u8 *image;
	int err = 0;

	if (made != v) {
		free(image);
		image = NULL;
		err = format(v, &image);
		made = err ? NULL : v;
	}
	*out = err ? NULL : malloc(bytes);
	if (*out)
		memcpy(*out, image, bytes);
	return *out || err ? err : -ENOMEM;
}
