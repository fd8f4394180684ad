/* Is there a way from the root to every directory, a name for every inode, and does each inode count its names? */
#include "check.h"

#include <stdlib.h>

#define LINKS_MAX 65000u /* of a directory, before it says 1 for "many" */

enum { NEW, UNDER_WAY, REACHED, LOST };

/* The way up from a directory ends at the root; what was met on it is known then. No step is taken twice. */
static void follow(struct ck *ck, u8 *state, u32 from)
{
	u32 at = from, result;

	for (;;) {
		const struct ck_dir *d = &ck->dir[at], *up = ck_dir_of(ck, d->parent);

		if (d->ino == EXT4_INO_ROOT || state[at] == REACHED) {
			result = REACHED;
			break;
		}
		if (state[at] != NEW || !up) {
			result = LOST;
			break;
		}
		state[at] = UNDER_WAY;
		at = (u32)(up - ck->dir);
	}
	state[at] = (u8)result;
	for (at = from; state[at] == UNDER_WAY;) {
		state[at] = (u8)result;
		at = (u32)(ck_dir_of(ck, ck->dir[at].parent) - ck->dir);
	}
}

static void check_dirs(struct ck *ck)
{
	u8 *state = calloc(ck->dirs + 1ul, 1);

	if (!state) {
		ck_no_memory(ck);
		return;
	}
	for (u32 i = 0; i < ck->dirs && ck_goes_on(ck); i++) {
		const struct ck_dir *d = &ck->dir[i];
		u32 want = d->ino == EXT4_INO_ROOT ? EXT4_INO_ROOT : d->parent;

		if (state[i] == NEW)
			follow(ck, state, i);
		if (state[i] == LOST && !d->parent)
			ck_say(ck, CK_UNCONNECTED, d->ino, "it has no name, its \"..\" is %u", d->dotdot);
		else if (state[i] == LOST && d->parent)
			ck_say(ck, CK_UNCONNECTED, d->ino, "its name is in directory %u", d->parent);
		if (want && d->dotdot && d->dotdot != want)
			ck_say(ck, CK_DIR_DOTDOT, d->ino, "%u, its name is in %u", d->dotdot, want);
	}
	free(state);
}

/* Some have no name, and need none. */
static bool is_nameless(const struct ck *ck, u64 ino, const struct ck_ino *in)
{
	return (ino != EXT4_INO_ROOT && !ext4_ino_public(ck->es, ino)) || in->flags & CK_ORPHAN ||
	       (in->flags & CK_EA && ck_map_get(&ck->ea, ino));
}

static void check_inode(struct ck *ck, u64 ino, const struct ck_ino *in)
{
	bool dir = in->kind == S_IFDIR >> 12;
	u32 names = in->found;

	if (!(in->flags & CK_USED) || is_nameless(ck, ino, in))
		return;
	if (!names || (dir && ino != EXT4_INO_ROOT && !(in->flags & CK_PARENT))) {
		/* Of directories it was said. */
		if (!dir)
			ck_say(ck, CK_NO_NAME, ino, "%s", "");
		return;
	}
	if (dir && names > LINKS_MAX) {
		if (!ext4_has_ro_compat(ck->es, EXT4_RO_COMPAT_DIR_NLINK))
			ck_say(ck, CK_LINKS, ino,
			       "%u, more than a directory may have where dir_nlink is not set", names);
		names = 1;
	} else if (dir && in->links == 1 && ext4_has_ro_compat(ck->es, EXT4_RO_COMPAT_DIR_NLINK)) {
		/* Once there were many. */
		return;
	}
	if (in->links != names)
		ck_say(ck, CK_LINKS, ino, "%u, there are %u", in->links, names);
}

void ck_links(struct ck *ck)
{
	const struct ext4_super *es = ck->es;

	check_dirs(ck);
	for (u32 g = 0; g < es->groups && ck_goes_on(ck); g++) {
		ck_progress(ck, "links", g, es->groups);
		for (u32 i = 0; ck->ino[g] && i < es->inodes_per_group && !ck->err; i++) {
			ck->sum->links += ck->ino[g][i].found;
			check_inode(ck, (u64)g * es->inodes_per_group + i + 1, &ck->ino[g][i]);
		}
	}
}
