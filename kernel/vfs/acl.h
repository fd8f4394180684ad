/* POSIX ACLs in memory, and the form in which system calls have them. */
#ifndef VFS_ACL_H
#define VFS_ACL_H

#include "lib/types.h"

#define ACL_USER_OBJ  0x01u
#define ACL_USER      0x02u
#define ACL_GROUP_OBJ 0x04u
#define ACL_GROUP     0x08u
#define ACL_MASK      0x10u
#define ACL_OTHER     0x20u

struct acl_entry {
	u16 tag;  /* ACL_* */
	u16 perm; /* rwx */
	u32 id;   /* USER and GROUP */
};
struct acl {
	u32 count;
	struct acl_entry e[];
};
struct acl *acl_new(u32 count);
void acl_free(struct acl *acl);
void acl_freep(struct acl **acl);
/* Order, duplicates, the required entries, permissions. -EINVAL. */
int acl_check(const struct acl *acl) __must_check;
/* The form of system.posix_acl_access (linux/posix_acl_xattr.h). */
int acl_from_xattr(const void *p, u32 len, struct acl **out) __must_check;
int acl_to_xattr(const struct acl *acl, void *buf, u32 size, u32 *len) __must_check;
/* True when the ACL says no more than mode bits can; then *mode has them. */
bool acl_to_mode(const struct acl *acl, u32 *mode);

#endif
