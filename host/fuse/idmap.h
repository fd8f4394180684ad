/* Owners as they lie on the disk and as the mount shows them: see idmap.c. */
#ifndef HOST_FUSE_IDMAP_H
#define HOST_FUSE_IDMAP_H

#include "lib/types.h"

#define ID_OVERFLOW 65534u
#define ID_PAIRS    32u

struct id_pair {
	u32 disk, host;
};

/* Users or groups. Zero-initialised: every id is shown as it is. */
struct id_side {
	u32 count;
	struct id_pair pair[ID_PAIRS];
	u32 also_count; /* disk ids that are shown as also_shown too, and cannot be stored */
	u32 also[4], also_shown;
	bool squash; /* an id that no pair names is shown as `shown` and cannot be stored; implied by count */
	u32 shown;   /* with count and without squash: ID_OVERFLOW */
};

struct idmap {
	struct id_side uid, gid;
	u32 fmask, dmask; /* permission bits not shown, of files and of directories */
};

/* -EEXIST: the disk or the host id has a partner already. -E2BIG: too many. */
int id_pair_add(struct id_side *s, u32 disk, u32 host) __must_check;
/* Shows a disk id that has no partner as `host`, too; one that has keeps it. At most four. */
void id_also(struct id_side *s, u32 disk, u32 host);
bool id_is_mapped(const struct id_side *s);
u32 id_show(const struct id_side *s, u32 disk);
/* False: no id on disk stands for it. */
bool id_store(const struct id_side *s, u32 host, u32 *disk) __must_check;
/* For a change of owner: the id to write where `disk_now` is. What is shown already changes nothing. False as id_store. */
bool id_change(const struct id_side *s, u32 disk_now, u32 host, u32 *disk) __must_check;

/* The mode as shown. */
u32 mode_show(const struct idmap *m, u32 mode);
/* Changes the ids in an ACL attribute (linux/posix_acl_xattr.h) in place. What is no ACL stays as it is.
 * -EOVERFLOW: an id cannot be stored. */
int acl_show(const struct idmap *m, void *p, u32 len);
int acl_store(const struct idmap *m, void *p, u32 len) __must_check;

#endif
