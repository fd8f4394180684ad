/* Is there a way from the root to every directory, a name for every inode, and does each inode count its names? */
#include "check.h"

#include "lib/scope.h"
#include <stdlib.h>

#define LINKS_MAX 65000u /* of a directory, before it says 1 for "many" */

enum { NEW, UNDER_WAY, REACHED, LOST, LOOPED };

static u32 parent_of(const struct ck *ck, u32 at)
{
	return (u32)(ck_dir_of(ck, ck->dir[at].parent) - ck->dir);
}

/* The way up from a directory ends at the root; what was met on it is known then. No step is taken twice. */
static void follow(struct ck *ck, u8 *state, u32 from)
{
	u32 at = from, result, loop = 0;
	bool looped = false;

	for (;;) {
		const struct ck_dir *d = &ck->dir[at], *up = ck_dir_of(ck, d->parent);

		if (d->ino == EXT4_INO_ROOT || state[at] == REACHED) {
			result = REACHED;
			break;
		}
		if (state[at] != NEW || !up) {
			looped = state[at] == UNDER_WAY;
			loop = at;
			result = LOST;
			break;
		}
		state[at] = UNDER_WAY;
		at = (u32)(up - ck->dir);
	}
	state[at] = (u8)result;
	for (at = from; state[at] == UNDER_WAY; at = parent_of(ck, at))
		state[at] = (u8)result;
	for (at = loop; looped && state[at] != LOOPED; at = parent_of(ck, at))
		state[at] = LOOPED;
}

/* No way leads from the root to the directory, and it has no name: it gets one. */
static void nameless_dir(struct ck *ck, const struct ck_dir *d)
{
	u32 ino = d->ino;

	if (ck_fix(ck, CK_UNCONNECTED, ino, "it has no name, its \"..\" is %u", d->dotdot) &&
	    !ck_connect(ck, ino))
		ck_not_mended(ck, CK_UNCONNECTED, ino, "it cannot be given a name");
}

/* Of a loop, the one whose name says otherwise than its "..", if there is one. The loop is done with. */
static u32 where_to_cut(const struct ck *ck, u8 *state, u32 i)
{
	u32 cut = i;

	for (; state[i] == LOOPED; i = parent_of(ck, i)) {
		if (ck->dir[i].dotdot != ck->dir[i].parent)
			cut = i;
		state[i] = REACHED;
	}
	return cut;
}

/* Directories that are below themselves. */
static void cut_loop(struct ck *ck, u8 *state, u32 i)
{
	const struct ck_dir *d = &ck->dir[where_to_cut(ck, state, i)];
	u32 ino = d->ino, parent = d->parent;

	if (!ck_fix(ck, CK_UNCONNECTED, ino, "its name is in directory %u", parent))
		return;
	if (ck_drop_name(ck, ck_dir_of(ck, parent), ino))
		ck_ino(ck, ino)->found--;
	if (!ck_connect(ck, ino))
		ck_not_mended(ck, CK_UNCONNECTED, ino, "it cannot be given a name");
}

static void check_dotdot(struct ck *ck, struct ck_dir *d)
{
	u32 want = d->ino == EXT4_INO_ROOT ? EXT4_INO_ROOT : d->parent, ino = d->ino;

	if (!want || !d->dotdot || d->dotdot == want)
		return;
	if (ck_fix(ck, CK_DIR_DOTDOT, ino, "%u, its name is in %u", d->dotdot, want) &&
	    !ck_move_dotdot(ck, d, want))
		ck_not_mended(ck, CK_DIR_DOTDOT, ino, "it cannot be written");
}

static void check_dirs(struct ck *ck)
{
	u8 *state;

	/* Those that get a name here take what is below them along. lost+found may come to them. */
	for (u32 i = 0, n = ck->dirs; i < n && ck_goes_on(ck); i++)
		if (!ck->dir[i].parent && ck->dir[i].ino != EXT4_INO_ROOT)
			nameless_dir(ck, &ck->dir[i]);
	state = calloc(ck->dirs + 1ul, 1);
	if (!state) {
		ck_no_memory(ck);
		return;
	}
	for (u32 i = 0, n = ck->dirs; i < n && ck_goes_on(ck); i++) {
		if (state[i] == NEW)
			follow(ck, state, i);
		/* Where a loop is cut, that is said, and those below it are found again. */
		if (state[i] == LOOPED && ck_mends(ck))
			cut_loop(ck, state, i);
		else if ((state[i] == LOST || state[i] == LOOPED) && ck->dir[i].parent && !ck_mends(ck))
			ck_say(ck, CK_UNCONNECTED, ck->dir[i].ino, "its name is in directory %u",
			       ck->dir[i].parent);
		check_dotdot(ck, &ck->dir[i]);
	}
	free(state);
}

/* Some have no name, and need none. */
static bool is_nameless(const struct ck *ck, u64 ino, const struct ck_ino *in)
{
	return (ino != EXT4_INO_ROOT && !ext4_ino_public(ck->es, ino)) || in->flags & CK_ORPHAN ||
	       (in->flags & CK_EA && ck_map_get(&ck->ea, ino));
}

/* Nobody can miss it. */
static bool is_empty(const struct ck_inode *ci)
{
	return S_ISREG(ci->mode) && !ci->size_bytes && !le32_get(ci->raw->size_hi) &&
	       !le32_get(ci->raw->blocks_lo) && !le32_get(ci->raw->file_acl_lo) &&
	       !(ci->flags & EXT4_FL_INLINE_DATA);
}

/* No links, no name: it is deleted. */
static void deleted_inode(struct ck *ck, u64 ino, struct ck_ino *in)
{
	struct ck_inode ci;
	scoped(freep) void *raw = NULL;

	if (!ck_fix(ck, CK_INODE_DTIME, ino, "%s", "deleted, but without one"))
		return;
	raw = ck_inode_load(ck, ino, &ci);
	if (!raw)
		return;
	ci.raw->dtime = le32_put((u32)super_now(&ck->es->vfs).sec);
	ck_inode_put(ck, &ci);
	*in = (struct ck_ino){ 0 };
	ck->stale = true;
}

static void nameless_inode(struct ck *ck, u64 ino)
{
	struct ck_inode ci;
	scoped(freep) void *raw = NULL;

	if (!ck_fix(ck, CK_NO_NAME, ino, "%s", ""))
		return;
	raw = ck_inode_load(ck, ino, &ci);
	if (raw && is_empty(&ci)) {
		ck_inode_forget(ck, &ci);
		ck_inode_put(ck, &ci);
	} else if (!ck_connect(ck, ino)) {
		ck_not_mended(ck, CK_NO_NAME, ino, "it cannot be given a name");
	}
}

static void wrong_links(struct ck *ck, u64 ino, struct ck_ino *in, u32 names)
{
	struct ck_inode ci;
	scoped(freep) void *raw = NULL;

	if (names > UINT16_MAX) {
		ck_say(ck, CK_LINKS, ino, "%u, more than an inode can count", names);
		return;
	}
	if (!ck_fix(ck, CK_LINKS, ino, "%u, there are %u", in->links, names))
		return;
	raw = ck_inode_load(ck, ino, &ci);
	if (!raw)
		return;
	in->links = (u16)names;
	ci.raw->links_count = le16_put(in->links);
	ck_inode_put(ck, &ci);
}

static void check_inode(struct ck *ck, u64 ino, struct ck_ino *in)
{
	bool dir = in->kind == S_IFDIR >> 12;
	u32 names;

	if (!(in->flags & CK_USED) || is_nameless(ck, ino, in))
		return;
	/* Of directories it was said. */
	if (dir && ino != EXT4_INO_ROOT && !(in->flags & CK_PARENT))
		return;
	if (!in->found && !dir && in->flags & CK_UNSURE)
		deleted_inode(ck, ino, in);
	else if (!in->found && !dir)
		nameless_inode(ck, ino);
	names = in->found;
	if (!names)
		return;
	if (dir && names > LINKS_MAX) {
		if (!ext4_has_ro_compat(ck->es, EXT4_RO_COMPAT_DIR_NLINK)) {
			if (!ck_fix(ck, CK_LINKS, ino,
				    "%u, more than a directory may have where dir_nlink is not set", names))
				return;
			ck_feature_set(ck, 0, EXT4_RO_COMPAT_DIR_NLINK);
		}
		names = 1;
	} else if (dir && in->links == 1 && ext4_has_ro_compat(ck->es, EXT4_RO_COMPAT_DIR_NLINK) &&
		   ck_dir_of(ck, ino) && ck_dir_of(ck, ino)->flags & EXT4_FL_INDEX) {
		/* Once there were many, which takes an index. */
		return;
	}
	if (in->links != names)
		wrong_links(ck, ino, in, names);
}

/* Some directories' names are not known as long as their maps are not mended. */
static bool any_partial(const struct ck *ck)
{
	for (u32 i = 0; i < ck->dirs; i++)
		if (ck->dir[i].partial)
			return true;
	return false;
}

void ck_links(struct ck *ck)
{
	const struct ext4_super *es = ck->es;

	/* Mending gives back names, and takes some: they count in a round in which nothing was mended that has to do with them. */
	if (ck->names_mended || (ck->sum->mended && any_partial(ck)))
		return;
	if (ck_lost_missing(ck) && ck_fix(ck, CK_LOST_MISSING, EXT4_INO_ROOT, "%s", "") && !ck_lost_found(ck))
		ck_not_mended(ck, CK_LOST_MISSING, EXT4_INO_ROOT, "there is no room for it");
	check_dirs(ck);
	for (u32 g = 0; g < es->groups && ck_goes_on(ck); g++) {
		ck_progress(ck, "links", g, es->groups);
		for (u32 i = 0; ck->ino[g] && i < es->inodes_per_group && !ck->err; i++) {
			ck->sum->links += ck->ino[g][i].found;
			check_inode(ck, (u64)g * es->inodes_per_group + i + 1, &ck->ino[g][i]);
		}
	}
	ck_lost_end(ck);
}
