/*
 * The map of one inode, gone through without trust: every node is checked, every block claimed.
 *
 *   - What is on the volume is claimed, whatever else it may be: metadata of groups was claimed first, so who maps it has it twice.
 *   - A node that somebody had before is not followed: each is gone through once, on the whole volume.
 *   - ck->again: nothing is claimed and nothing said; what is claimed twice is counted.
 */
#include "check.h"

#include "lib/scope.h"
#include <stdarg.h>
#include <stdio.h>

static bool on_volume(const struct ck *ck, u64 blk, u64 len)
{
	const struct ext4_super *es = ck->es;

	return blk > 0 && blk >= es->first_data_blk && blk < es->blocks && len <= es->blocks - blk;
}

/* False: at least one of them was somebody's already. */
static bool claim(struct ck *ck, struct ck_inode *ci, u64 from, u64 n, u64 blk)
{
	u64 twice = ck->again ? ck_twice(ck, from, n) : ck_claim(ck, from, n);

	ci->clusters += n;
	if (twice && !ci->twice)
		ci->first_twice = blk;
	ci->twice += twice;
	return !twice;
}

bool ck_take(struct ck *ck, struct ck_inode *ci, u64 blk)
{
	return claim(ck, ci, ck_cluster(ck, blk), 1, blk);
}

static void remember_block(struct ck *ck, struct ck_inode *ci, u64 lblk, u64 pblk, bool ours)
{
	if (ck->again)
		return;
	if (lblk != ci->next_lblk && !ci->bad)
		ci->bad = true;
	ci->next_lblk = lblk + 1;
	if (!ours) {
		ci->bad = true;
		return;
	}
	if (ck_room(ck, &ck->blk, ck->blks, &ck->blk_room, sizeof(*ck->blk)))
		ck->blk[ck->blks++] = (struct ck_dirblk){ pblk, (u32)lblk };
}

/* Data: [lblk, lblk + len) lies at pblk, which is on the volume. */
static void run(struct ck *ck, struct ck_inode *ci, u64 lblk, u64 pblk, u64 len, bool unwritten)
{
	u64 first = ck_cluster(ck, pblk), end = ck_cluster(ck, pblk + len - 1) + 1;
	bool ours = true;

	/* A cluster may be mapped in pieces that follow each other. */
	if (ck->es->cluster_bits && first == ci->last_cluster)
		first++;
	if (first < end)
		ours = claim(ck, ci, first, end - first, pblk);
	ci->last_cluster = end - 1;
	ci->last_lblk = MAX(ci->last_lblk, (s64)(lblk + len - 1));
	if (!unwritten)
		ci->last_written = MAX(ci->last_written, (s64)(lblk + len - 1));
	if (!ck->again)
		ck->sum->extents++;
	if (!ci->is_dir)
		return;
	if (unwritten) {
		if (!ck->again)
			ck_say(ck, CK_DIR_UNWRITTEN, ci->ino, "block %llu", (unsigned long long)lblk);
		return;
	}
	for (u64 i = 0; i < len && ck_goes_on(ck); i++)
		remember_block(ck, ci, lblk + i, pblk + i, ours);
}

/* ---- extents ---- */

struct frame {
	struct buffer_head *bh;
	const struct ext4_disk_extent_header *h;
	u32 i;    /* the next entry */
	u64 next; /* no entry begins before it */
	u64 end;  /* nor ends behind it */
};

static void __printf_like(4, 5)
	say(struct ck *ck, struct ck_inode *ci, enum ck_code code, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	ci->bad = true;
	if (ck->again)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ck_say(ck, code, ci->ino, "%s", text);
}

static void leaf(struct ck *ck, struct ck_inode *ci, struct frame *f)
{
	const struct ext4_disk_extent *e = (const void *)(f->h + 1);

	for (u32 i = 0; i < le16_get(f->h->entries) && ck_goes_on(ck); i++) {
		u64 lblk = le32_get(e[i].lblk), pblk = ext4_extent_start(&e[i]), len = ext4_extent_len(&e[i]);
		u64 before = f->next;
		const char *bad = ext4_extent_wrong(ck->es, ci->ino, &e[i], &f->next);

		if (len && (lblk < before || lblk + len > f->end)) {
			say(ck, ci, CK_EXTENT_ORDER, "%s, file block %llu, block %llu, length %llu",
			    bad ? bad : "it goes beyond what the index says", (unsigned long long)lblk,
			    (unsigned long long)pblk, (unsigned long long)len);
			f->next = MAX(f->next, before);
		} else if (!len || !on_volume(ck, pblk, len)) {
			say(ck, ci, CK_EXTENT_RANGE, "%s, file block %llu, block %llu, length %llu", bad,
			    (unsigned long long)lblk, (unsigned long long)pblk, (unsigned long long)len);
		} else {
			run(ck, ci, lblk, pblk, len, ext4_extent_unwritten(&e[i]));
		}
	}
}

/* The node at blk, `depth` above the leaves, whose range begins at lblk. */
static bool enter(struct ck *ck, struct ck_inode *ci, u64 blk, u32 depth, u64 lblk, struct frame *f)
{
	const struct ext4_disk_extent *first;
	const char *bad;

	if (!on_volume(ck, blk, 1)) {
		say(ck, ci, CK_EXTENT_HEAD, "an index points to block %llu", (unsigned long long)blk);
		return false;
	}
	if (!ck_take(ck, ci, blk)) {
		ci->bad = true;
		return false;
	}
	if (!ck_read(ck, blk, &f->bh)) {
		ci->bad = true;
		return false;
	}
	f->h = f->bh->data;
	bad = ext4_extent_head_wrong(ck->es, f->h, f->bh->size_bytes, depth);
	if (bad) {
		say(ck, ci, CK_EXTENT_HEAD, "block %llu: %s", (unsigned long long)blk, bad);
		bh_put(take(f->bh));
		return false;
	}
	if (!ck->again && !ext4_extent_sum_ok(ck->es, ci->seed, f->h, f->bh->size_bytes))
		ck_say(ck, CK_EXTENT_SUM, ci->ino, "block %llu", (unsigned long long)blk);
	first = (const void *)(f->h + 1);
	if (!ck->again && le16_get(f->h->entries) && le32_get(first->lblk) != lblk)
		ck_say(ck, CK_EXTENT_INDEX, ci->ino, "block %llu, %llu and %u", (unsigned long long)blk,
		       (unsigned long long)lblk, le32_get(first->lblk));
	return true;
}

static void extents(struct ck *ck, struct ck_inode *ci)
{
	struct frame frame[EXT4_EXTENT_DEPTH_MAX + 1] = { { .h = (const void *)ci->raw->block } };
	u32 depth = le16_get(frame[0].h->depth), level = 0;
	const char *bad = depth > EXT4_EXTENT_DEPTH_MAX
				  ? "too deep"
				  : ext4_extent_head_wrong(ck->es, frame[0].h, EXT4_IBLOCK_BYTES, depth);

	if (bad) {
		say(ck, ci, CK_EXTENT_HEAD, "%s", bad);
		return;
	}
	frame[0].end = EXT4_LBLK_END;
	for (;;) {
		struct frame *f = &frame[level], *child = f + 1;
		const struct ext4_disk_extent_idx *x = (const void *)(f->h + 1);
		u32 n = le16_get(f->h->entries), i = f->i++;
		u64 lblk;

		if (level == depth) {
			leaf(ck, ci, f);
			i = n;
		}
		if (i >= n || !ck_goes_on(ck)) {
			bh_put(take(f->bh));
			if (!level)
				return;
			level--;
			continue;
		}
		lblk = le32_get(x[i].lblk);
		if (lblk < f->next || lblk >= f->end) {
			say(ck, ci, CK_EXTENT_ORDER, "an index, file block %llu", (unsigned long long)lblk);
			continue;
		}
		f->next = lblk + 1;
		*child = (struct frame){ .next = lblk };
		child->end = i + 1 < n ? MAX(lblk + 1, MIN(f->end, (u64)le32_get(x[i + 1].lblk))) : f->end;
		if (enter(ck, ci, ext4_extent_child(&x[i]), depth - level - 1, lblk, child))
			level++;
	}
}

/* ---- pointers ---- */

struct level {
	struct buffer_head *bh;
	const le32 *ptr;
	u32 i;
	u64 lblk; /* of ptr[0] */
};

/* A pointer to data. */
static void pointer(struct ck *ck, struct ck_inode *ci, u64 lblk, u64 blk)
{
	if (on_volume(ck, blk, 1))
		run(ck, ci, lblk, blk, 1, false);
	else
		say(ck, ci, CK_MAP_BLOCK, "file block %llu, block %llu", (unsigned long long)lblk,
		    (unsigned long long)blk);
}

/* A block of pointers. */
static bool descend(struct ck *ck, struct ck_inode *ci, u64 blk, struct level *to)
{
	if (!on_volume(ck, blk, 1)) {
		say(ck, ci, CK_MAP_BLOCK, "a block of pointers, block %llu", (unsigned long long)blk);
		return false;
	}
	if (!ck_take(ck, ci, blk) || !ck_read(ck, blk, &to->bh)) {
		ci->bad = true;
		return false;
	}
	to->ptr = to->bh->data;
	return true;
}

/* Below i_block[12], [13] or [14]. */
static void tree(struct ck *ck, struct ck_inode *ci, u64 blk, u32 levels, u64 lblk)
{
	u32 per = ext4_block_bytes(ck->es) / (u32)sizeof(le32), at = 0;
	u64 width[] = { 1, per, (u64)per * per };
	struct level l[3] = { { .lblk = lblk } };

	if (!descend(ck, ci, blk, &l[0]))
		return;
	for (;;) {
		struct level *now = &l[at];
		u32 below = levels - 1 - at, i = now->i++;
		u64 p;

		if (i == per || !ck_goes_on(ck)) {
			bh_put(take(now->bh));
			if (!at)
				return;
			at--;
			continue;
		}
		p = le32_get(now->ptr[i]);
		if (p && !below) {
			pointer(ck, ci, now->lblk + i, p);
		} else if (p) {
			l[at + 1] = (struct level){ .lblk = now->lblk + i * width[below] };
			if (descend(ck, ci, p, &l[at + 1]))
				at++;
		}
	}
}

static void pointers(struct ck *ck, struct ck_inode *ci)
{
	u64 per = ext4_block_bytes(ck->es) / sizeof(le32), lblk = EXT4_NDIR, width = per;
	const le32 *ptr = (const void *)ci->raw->block;

	for (u32 i = 0; i < EXT4_NDIR; i++)
		if (le32_get(ptr[i]))
			pointer(ck, ci, i, le32_get(ptr[i]));
	for (u32 levels = 1; levels <= 3; levels++) {
		u64 blk = le32_get(ptr[EXT4_NDIR + levels - 1]);

		if (blk)
			tree(ck, ci, blk, levels, lblk);
		lblk += width;
		width *= per;
	}
}

void ck_map_walk(struct ck *ck, struct ck_inode *ci)
{
	ci->last_lblk = ci->last_written = -1;
	ci->last_cluster = ~0ull;
	if (ci->flags & EXT4_FL_EXTENTS)
		extents(ck, ci);
	else
		pointers(ck, ci);
}
