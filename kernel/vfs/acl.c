/*
 * POSIX ACLs in memory and in the form that system calls use. Each file system has its own form on disk; this
 * is the common one between them. Format of the extended attribute: linux/posix_acl_xattr.h, version 2.
 */
#include "internal.h"

#include "lib/disk.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ACL_XATTR_VERSION 2u
#define ACL_UNDEFINED_ID  0xffffffffu

struct acl_xattr_entry {
	le16 tag;
	le16 perm;
	le32 id;
};
DISK_SIZE(struct acl_xattr_entry, 8);

struct acl_xattr {
	le32 version;
	struct acl_xattr_entry e[];
};
DISK_SIZE(struct acl_xattr, 4);

struct acl *acl_new(u32 count)
{
	struct acl *acl = calloc(1, sizeof(*acl) + count * sizeof(acl->e[0]));

	if (acl)
		acl->count = count;
	return acl;
}

void acl_free(struct acl *acl)
{
	free(acl);
}

void acl_freep(struct acl **acl)
{
	acl_free(*acl);
}

int acl_check(const struct acl *acl)
{
	bool owner = false, group = false, other = false, mask = false, named = false;

	for (u32 i = 0; i < acl->count; i++) {
		const struct acl_entry *e = &acl->e[i], *before = i ? e - 1 : NULL;

		if (e->perm & ~7u || (before && before->tag > e->tag))
			return -EINVAL;
		switch (e->tag) {
		case ACL_USER_OBJ:
		case ACL_GROUP_OBJ:
		case ACL_MASK:
		case ACL_OTHER:
			if (before && before->tag == e->tag)
				return -EINVAL;
			owner |= e->tag == ACL_USER_OBJ;
			group |= e->tag == ACL_GROUP_OBJ;
			mask |= e->tag == ACL_MASK;
			other |= e->tag == ACL_OTHER;
			break;
		case ACL_USER:
		case ACL_GROUP:
			if (e->id == ACL_UNDEFINED_ID)
				return -EINVAL;
			named = true;
			break;
		default:
			return -EINVAL;
		}
	}
	return owner && group && other && (mask || !named) ? 0 : -EINVAL;
}

int acl_from_xattr(const void *p, u32 len, struct acl **out)
{
	const struct acl_xattr *x = p;
	struct acl *acl;
	int err;

	*out = NULL;
	if (len < sizeof(*x) || (len - sizeof(*x)) % sizeof(x->e[0]))
		return -EINVAL;
	if (le32_get(x->version) != ACL_XATTR_VERSION)
		return -EOPNOTSUPP;
	if (len == sizeof(*x))
		return 0; /* no entries: no ACL */
	acl = acl_new((len - (u32)sizeof(*x)) / (u32)sizeof(x->e[0]));
	if (!acl)
		return -ENOMEM;
	for (u32 i = 0; i < acl->count; i++)
		acl->e[i] = (struct acl_entry){ .tag = le16_get(x->e[i].tag),
						.perm = le16_get(x->e[i].perm),
						.id = le32_get(x->e[i].id) };
	err = acl_check(acl);
	if (err) {
		acl_free(acl);
		return err;
	}
	*out = acl;
	return 0;
}

int acl_to_xattr(const struct acl *acl, void *buf, u32 size, u32 *len)
{
	struct acl_xattr *x = buf;

	*len = (u32)(sizeof(*x) + acl->count * sizeof(x->e[0]));
	if (!size)
		return 0;
	if (size < *len)
		return -ERANGE;
	x->version = le32_put(ACL_XATTR_VERSION);
	for (u32 i = 0; i < acl->count; i++) {
		const struct acl_entry *e = &acl->e[i];
		bool named = e->tag == ACL_USER || e->tag == ACL_GROUP;

		x->e[i].tag = le16_put(e->tag);
		x->e[i].perm = le16_put(e->perm);
		x->e[i].id = le32_put(named ? e->id : ACL_UNDEFINED_ID);
	}
	return 0;
}

bool acl_to_mode(const struct acl *acl, u32 *mode)
{
	u32 bits = 0;
	bool plain = true;
	u16 mask = 7;

	for (u32 i = 0; i < acl->count; i++) {
		const struct acl_entry *e = &acl->e[i];

		switch (e->tag) {
		case ACL_USER_OBJ:
			bits |= (u32)e->perm << 6;
			break;
		case ACL_GROUP_OBJ:
			bits |= (u32)e->perm << 3;
			break;
		case ACL_OTHER:
			bits |= e->perm;
			break;
		case ACL_MASK:
			mask = e->perm;
			plain = false;
			break;
		default:
			plain = false;
		}
	}
	/* Where there is a mask, it is what the group bits of the mode show. */
	if (!plain)
		bits = (bits & ~070u) | (u32)mask << 3;
	*mode = (*mode & ~0777u) | bits;
	return plain;
}

bool acl_cut_by_mode(struct acl *acl, u32 *mode)
{
	struct acl_entry *group = NULL, *mask = NULL;
	bool plain = true;

	for (u32 i = 0; i < acl->count; i++) {
		struct acl_entry *e = &acl->e[i];

		if (e->tag == ACL_USER_OBJ)
			e->perm &= *mode >> 6 & 7;
		else if (e->tag == ACL_OTHER)
			e->perm &= *mode & 7;
		else if (e->tag == ACL_GROUP_OBJ)
			group = e;
		else if (e->tag == ACL_MASK)
			mask = e;
		if (e->tag == ACL_USER || e->tag == ACL_GROUP || e->tag == ACL_MASK)
			plain = false;
	}
	if (mask || group)
		(mask ? mask : group)->perm &= *mode >> 3 & 7;
	acl_to_mode(acl, mode);
	return plain;
}
