/*
 * Identity: the kernel judges permissions on the ids that the mount shows, and these are not always the ids on
 * the disk. A user who mounts his own volume wants to be its owner, whatever number its owner has elsewhere.
 *
 * Interface: idmap.h. The adapter passes every id that crosses it through here: attributes, the caller of a
 * request, ACL entries.
 *
 * A side (users or groups) is a set of pairs, in which each disk id and each host id has at most one partner. A
 * side without pairs and squash changes nothing. Otherwise an id on disk without a partner is shown as one fixed
 * id (the overflow id, or the squash target; a few ids may be shown as the mounter), which cannot be told back into an id on disk; so it is never
 * written: a change of owner to what is shown already changes nothing, and any other is refused.
 */
#include "idmap.h"

#include "lib/disk.h"
#include "lib/err.h"
#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/stat.h>

bool id_is_mapped(const struct id_side *s)
{
	return s->count || s->squash;
}

int id_pair_add(struct id_side *s, u32 disk, u32 host)
{
	for (u32 i = 0; i < s->count; i++)
		if (s->pair[i].disk == disk || s->pair[i].host == host)
			return fail(-EEXIST, "%u=%u: one of the two is mapped already", disk, host);
	if (s->count == ID_PAIRS)
		return fail(-E2BIG, "more than %u pairs of one kind", ID_PAIRS);
	s->pair[s->count++] = (struct id_pair){ disk, host };
	return 0;
}

void id_also(struct id_side *s, u32 disk, u32 host)
{
	s->also_shown = host;
	if (s->also_count < ARRAY_SIZE(s->also))
		s->also[s->also_count++] = disk;
}

u32 id_show(const struct id_side *s, u32 disk)
{
	for (u32 i = 0; i < s->count; i++)
		if (s->pair[i].disk == disk)
			return s->pair[i].host;
	for (u32 i = 0; i < s->also_count; i++)
		if (s->also[i] == disk)
			return s->also_shown;
	if (s->squash)
		return s->shown;
	return s->count ? ID_OVERFLOW : disk;
}

bool id_store(const struct id_side *s, u32 host, u32 *disk)
{
	for (u32 i = 0; i < s->count; i++) {
		if (s->pair[i].host != host)
			continue;
		*disk = s->pair[i].disk;
		return true;
	}
	*disk = host;
	return !id_is_mapped(s);
}

bool id_change(const struct id_side *s, u32 disk_now, u32 host, u32 *disk)
{
	if (id_show(s, disk_now) == host) {
		*disk = disk_now;
		return true;
	}
	return id_store(s, host, disk);
}

u32 mode_show(const struct idmap *m, u32 mode)
{
	return mode & ~(S_ISDIR(mode) ? m->dmask : S_ISLNK(mode) ? 0 : m->fmask);
}

/* ---- ACL attributes ---- */

struct acl_xattr_entry {
	le16 tag, perm;
	le32 id;
};
DISK_SIZE(struct acl_xattr_entry, 8);

static int acl_each(const struct idmap *m, void *p, u32 len, bool store)
{
	struct acl_xattr_entry *e = (struct acl_xattr_entry *)((u8 *)p + sizeof(le32));
	u32 count;

	if (len < sizeof(le32) || (len - sizeof(le32)) % sizeof(*e) ||
	    le32_get(*(le32 *)p) != POSIX_ACL_XATTR_VERSION)
		return 0;
	count = (u32)((len - sizeof(le32)) / sizeof(*e));
	for (u32 i = 0; i < count; i++, e++) {
		u16 tag = le16_get(e->tag);
		const struct id_side *s = tag == ACL_USER ? &m->uid : tag == ACL_GROUP ? &m->gid : NULL;
		u32 id = le32_get(e->id);

		if (!s)
			continue;
		if (!store)
			id = id_show(s, id);
		else if (!id_store(s, id, &id))
			return fail(-EOVERFLOW, "the ACL names id %u, which has no partner on the volume",
				    id);
		e->id = le32_put(id);
	}
	return 0;
}

int acl_show(const struct idmap *m, void *p, u32 len)
{
	return acl_each(m, p, len, false);
}

int acl_store(const struct idmap *m, void *p, u32 len)
{
	return acl_each(m, p, len, true);
}
