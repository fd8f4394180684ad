/*
 * Paths of inodes, for people. Where the names of inodes stand of which something is to be said is looked for once, in all directories;
 * the names themselves when they are spoken of. Directories that lie in their inodes are left out.
 */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>

#define DEPTH_MAX 64u
#define LOOKS_MAX (1u << 20) /* blocks; after so many, names are left out */

/* The name by which `dir` leads to ino, appended to *out. */
static bool name_in(struct ck *ck, const struct ck_dir *dir, u64 ino, struct text *out)
{
	struct ext4_super *es = ck->es;

	for (u32 i = 0; i < dir->count && ck->looked < LOOKS_MAX; i++) {
		scoped(bh_putp) struct buffer_head *bh = NULL;
		const struct ext4_disk_dirent *de;
		struct ext4_dirent_iter it;
		const char *bad;

		ck->looked++;
		if (bh_read(ck->dev, ck->blk[dir->first + i].pblk, &ext4_gdt_ops, &(struct bh_ctx){ { 0 } },
			    &bh))
			continue;
		ext4_dirent_iter(&it, bh->data, ext4_block_bytes(es), ext4_block_bytes(es));
		while ((de = ext4_dirent_next(&it, &bad)))
			if (le32_get(de->inode) == ino && de->name_len &&
			    !ext4_is_dot_or_dotdot(ext4_dirent_name(de), de->name_len)) {
				text_add_bytes(out, ext4_dirent_name(de), de->name_len);
				return true;
			}
	}
	return false;
}

static void look_in(struct ck *ck, const struct ck_dir *d, const struct buffer_head *bh)
{
	const struct ext4_disk_dirent *de;
	struct ext4_dirent_iter it;
	const char *bad;

	ext4_dirent_iter(&it, bh->data, ext4_block_bytes(ck->es), ext4_block_bytes(ck->es));
	while ((de = ext4_dirent_next(&it, &bad))) {
		const struct ck_ino *in = ck_ino(ck, le32_get(de->inode));
		u64 *at;

		if (!in || !(in->flags & CK_WANTED) ||
		    ext4_is_dot_or_dotdot(ext4_dirent_name(de), de->name_len))
			continue;
		at = ck_map_at(ck, &ck->parent, le32_get(de->inode));
		if (at && !*at)
			*at = d->ino;
	}
}

void ck_find_names(struct ck *ck)
{
	for (u32 i = 0; ck->waits && i < ck->dirs; i++) {
		const struct ck_dir *d = &ck->dir[i];

		for (u32 k = 0; k < d->count && ck_goes_on(ck); k++) {
			scoped(bh_putp) struct buffer_head *bh = NULL;

			if (!bh_read(ck->dev, ck->blk[d->first + k].pblk, &ext4_gdt_ops,
				     &(struct bh_ctx){ { 0 } }, &bh))
				look_in(ck, d, bh);
		}
	}
	ck_names_known(ck);
}

bool ck_path(struct ck *ck, u64 ino, struct text *out)
{
	struct text part[DEPTH_MAX] = { { 0 } };
	u32 n = 0;
	bool ok = true;

	while (ok && ino != EXT4_INO_ROOT) {
		struct ck_dir *d = ck_dir_of(ck, ino), *up;
		u64 parent = d && d->parent ? d->parent : ck_map_get(&ck->parent, ino);

		up = ck_dir_of(ck, parent);
		ok = up && n < DEPTH_MAX;
		if (ok)
			ok = name_in(ck, up, ino, &part[n++]);
		ino = parent;
	}
	for (u32 i = n; i--;) {
		if (ok)
			text_add(out, "/");
		if (ok && part[i].len_bytes)
			text_add_bytes(out, part[i].buf, part[i].len_bytes);
		text_free(&part[i]);
	}
	if (ok && !n)
		text_add(out, "/");
	return ok;
}
