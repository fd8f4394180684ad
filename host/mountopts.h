/* What a mount is asked to be: the words of -o, and the options of `werunos mount` that mean the same. */
#ifndef HOST_MOUNTOPTS_H
#define HOST_MOUNTOPTS_H

#include "fuse/idmap.h"
#include "lib/text.h"

struct mount_args {
	unsigned long ms_flags; /* MS_* of mount(2), without MS_RDONLY */
	bool rdonly, readwrite; /* asked for in so many words; neither: as it can be */
	bool norecovery;
	bool noopen, writeback;
	bool strictatime, lazytime;
	u32 dev_flags; /* DEV_DIRECT, DEV_BUFFERED, or neither: as is best */
	bool allow_other, allow_root;
	bool map_none;         /* show ids as they are */
	bool has_uid, has_gid; /* show every id as this one */
	u32 uid, gid;
	struct idmap ids; /* pairs of --map, and masks */
	bool has_offset;
	u64 offset_bytes;
	u32 part; /* 0: none chosen */
	bool has_sb;
	u64 sb_block;
	char **device; /* further devices of the volume */
	u32 device_count;
	char *journal; /* of a volume whose journal is elsewhere: where; NULL: not said */
	u64 cache_bytes;
	u32 threads;
	struct text fs_opts; /* for the file system: "name=value,…" */
};

void mount_args_init(struct mount_args *m);
void mount_args_fini(struct mount_args *m);
/* Takes in a list as of mount -o: later words win. -EINVAL. */
int mount_args_add(struct mount_args *m, const char *list) __must_check;
/* One more device of the volume. */
int mount_args_device(struct mount_args *m, const char *spec) __must_check;
/* --map: "none", "uid:DISK=HOST", "gid:DISK=HOST". -EINVAL, -EEXIST, -E2BIG. */
int mount_args_map(struct mount_args *m, const char *s) __must_check;
/*
 * The map to use, given who owns the volume's root directory and who mounts. Root sees ids as they are; another
 * user is shown as owner of what belongs to the root directory's owner, to that very user, to 1000 and to 0; pairs,
 * uid= and gid= come instead of that.
 */
void mount_args_ids(const struct mount_args *m, u32 root_uid, u32 root_gid, u32 my_uid, u32 my_gid,
		    struct idmap *out);

#endif
