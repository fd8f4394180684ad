/* Extended attributes and ACLs of the memory file system: a list per inode, and two ACLs as they are. */
#include "memfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

static struct memfs_xattr **find(struct memfs_inode *mi, const char *name)
{
	struct memfs_xattr **p = &mi->xattr;

	while (*p && strcmp((*p)->name, name) != 0)
		p = &(*p)->next;
	return p;
}

static void xattr_free(struct memfs_xattr *x)
{
	if (x)
		free(x->name);
	free(x);
}

int memfs_getxattr(struct inode *inode, const char *name, void *buf, u32 size, u32 *len)
{
	const struct memfs_xattr *x = *find(memfs_i(inode), name);

	if (!x)
		return -ENODATA;
	*len = x->len;
	if (!size)
		return 0;
	if (size < x->len)
		return -ERANGE;
	memcpy(buf, x->value, x->len);
	return 0;
}

int memfs_setxattr(struct inode *inode, const char *name, const void *value, u32 len, u32 flags)
{
	struct memfs_xattr **p = find(memfs_i(inode), name), *old = *p, *x;

	if (old && flags & XATTR_CREATE)
		return -EEXIST;
	if (!old && (flags & XATTR_REPLACE || !value))
		return -ENODATA;
	if (value) {
		x = malloc(sizeof(*x) + len);
		if (!x)
			return -ENOMEM;
		x->name = strdup(name);
		if (!x->name) {
			free(x);
			return -ENOMEM;
		}
		x->len = len;
		memcpy(x->value, value, len);
		x->next = old ? old->next : NULL;
		*p = x;
	} else {
		*p = old->next;
	}
	xattr_free(old);
	inode_touch(inode, ATTR_CTIME);
	return 0;
}

int memfs_listxattr(struct inode *inode, xattr_name_fn emit, void *ctx)
{
	int err = 0;

	for (const struct memfs_xattr *x = memfs_i(inode)->xattr; x && !err; x = x->next)
		err = emit(ctx, x->name);
	return err;
}

static int acl_copy(const struct acl *acl, struct acl **out)
{
	*out = NULL;
	if (!acl)
		return 0;
	*out = acl_new(acl->count);
	if (!*out)
		return -ENOMEM;
	memcpy((*out)->e, acl->e, acl->count * sizeof(acl->e[0]));
	return 0;
}

int memfs_get_acl(struct inode *inode, bool is_default, struct acl **out)
{
	return acl_copy(memfs_i(inode)->acl[is_default], out);
}

int memfs_set_acl(struct inode *inode, bool is_default, const struct acl *acl, u32 mode)
{
	struct memfs_inode *mi = memfs_i(inode);
	struct acl *copy;
	int err = acl_copy(acl, &copy);

	if (err)
		return err;
	acl_free(mi->acl[is_default]);
	mi->acl[is_default] = copy;
	if (!is_default)
		inode_apply(inode, &(struct iattr){ .valid = ATTR_MODE, .mode = mode & 07777 });
	inode_touch(inode, ATTR_CTIME);
	return 0;
}

void memfs_xattr_free(struct memfs_inode *mi)
{
	for (struct memfs_xattr *x = mi->xattr, *next; x; x = next) {
		next = x->next;
		xattr_free(x);
	}
	acl_free(mi->acl[0]);
	acl_free(mi->acl[1]);
}
