/*
 * The map of one inode, gone through without trust: every node is checked, every block claimed.
 *
 *   - What is on the volume is claimed, whatever else it may be: metadata of groups was claimed first, so who maps it has it twice.
 *   - A node that somebody had before is not followed: each is gone through once, on the whole volume.
 *   - ck->again: nothing is claimed and nothing said; what is claimed twice is counted. Where that is mended (ci->clone) the inode gets its own
 *     copy of what stays with another, and a node that was copied is gone into in the next round.
 *   - Pointers are mended where they stand, trees of extents are built anew.
 */
#include "check.h"

#include "lib/scope.h"
#include <stdarg.h>
#include <stdio.h>

#define DIR_BYTES_MAX (1ull << 31)
#define ANY_DEPTH     (EXT4_EXTENT_DEPTH_MAX + 1)

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

/* Of clusters that were claimed twice, those that stay with somebody else: there are some. */
static bool is_foreign(struct ck *ck, struct ck_inode *ci, u64 from, u64 n)
{
	u64 foreign = ck->again && ck_mends(ck) ? ck_keep(ck, from, n) : 0;

	ci->foreign += foreign;
	return foreign;
}

bool ck_take(struct ck *ck, struct ck_inode *ci, u64 blk)
{
	return claim(ck, ci, ck_cluster(ck, blk), 1, blk);
}

static void remember_block(struct ck *ck, struct ck_inode *ci, u64 lblk, u64 pblk, bool ours)
{
	if (ck->again)
		return;
	ci->holes |= lblk != ci->next_lblk;
	ci->next_lblk = lblk + 1;
	if (!ours) {
		ci->bad = true;
		return;
	}
	if (ck_room(ck, &ck->blk, ck->blks, &ck->blk_room, sizeof(*ck->blk)))
		ck->blk[ck->blks++] = (struct ck_dirblk){ pblk, (u32)lblk };
}

/* What of a run is somebody else's becomes copies. */
static void clone_run(struct ck *ck, struct ck_inode *ci, u64 lblk, u64 pblk, u64 len, bool unwritten)
{
	u64 cluster_blocks = 1ull << ck->es->cluster_bits, last = ci->last_cluster, n;

	for (u64 i = 0; i < len && ck_goes_on(ck); i += n) {
		u64 at = pblk + i, cluster = ck_cluster(ck, at), copy;
		bool same = ck->es->cluster_bits && cluster == last;

		n = MIN(len - i, cluster_blocks - ((at - ck->es->first_data_blk) & (cluster_blocks - 1)));
		last = cluster;
		if (!ci->realign && (same ? cluster != ci->copy_of : !is_foreign(ck, ci, cluster, 1))) {
			ck_run_add(ck, lblk + i, at, n, unwritten);
			continue;
		}
		if (!same && !ci->realign)
			ci->copy_of = ~0ull;
		for (u64 k = 0; k < n; k++) {
			copy = ck_copy(ck, ci, lblk + i + k, at + k);
			ck_run_add(ck, lblk + i + k, copy ? copy : at + k, 1, unwritten);
		}
	}
}

/* With clusters: a run begins in the place of its cluster that it has in the file's, and goes on in a cluster where it does so in the file. */
static void look_askew(struct ck *ck, struct ck_inode *ci, u64 lblk, u64 pblk)
{
	u64 mask = (1ull << ck->es->cluster_bits) - 1, at = pblk - ck->es->first_data_blk;
	bool same = mask && ck_cluster(ck, pblk) == ci->last_cluster,
	     goes_on = ci->last_lblk >= 0 &&
		       (u64)ci->last_lblk >> ck->es->cluster_bits == lblk >> ck->es->cluster_bits;

	/* The list of bad blocks is of blocks, wherever these lie. */
	if (ci->ino == EXT4_INO_BAD)
		return;
	if (!mask || ((lblk ^ at) & mask) || same != goes_on) {
		ci->askew |= mask;
		ck->any_twice |= mask;
	}
}

/* Data: [lblk, lblk + len) lies at pblk, which is on the volume. */
static void run(struct ck *ck, struct ck_inode *ci, u64 lblk, u64 pblk, u64 len, bool unwritten)
{
	u64 first = ck_cluster(ck, pblk), end = ck_cluster(ck, pblk + len - 1) + 1;
	bool ours = true, written = !unwritten;

	look_askew(ck, ci, lblk, pblk);
	if (ci->clone)
		clone_run(ck, ci, lblk, pblk, len, unwritten);
	/* A cluster may be mapped in pieces that follow each other. */
	if (ck->es->cluster_bits && first == ci->last_cluster)
		first++;
	if (first < end)
		ours = claim(ck, ci, first, end - first, pblk);
	if (!ours && !ci->clone)
		(void)is_foreign(ck, ci, first, end - first);
	ci->last_cluster = end - 1;
	ci->last_lblk = MAX(ci->last_lblk, (s64)(lblk + len - 1));
	if (!unwritten)
		ci->last_written = MAX(ci->last_written, (s64)(lblk + len - 1));
	if (!ck->again)
		ck->sum->extents++;
	if (ci->is_dir && unwritten && !ck->again && ci->flags & EXT4_FL_EXTENTS) {
		written = ck_fix(ck, CK_DIR_UNWRITTEN, ci->ino, "block %llu", (unsigned long long)lblk);
		ci->rebuild |= written;
		ci->unwritten |= !written;
	}
	if (ck_mends(ck) && !ck->again && ci->flags & EXT4_FL_EXTENTS)
		ck_run_add(ck, lblk, pblk, len, !written);
	for (u64 i = 0; ci->is_dir && !unwritten && i < len && ck_goes_on(ck); i++)
		remember_block(ck, ci, lblk + i, pblk + i, ours);
}

/* A directory does not go so far: e2fsck bounds those without large_dir to 2 GiB. */
static bool too_far(const struct ck *ck, const struct ck_inode *ci, u64 lblk)
{
	u64 end = ext4_has_incompat(ck->es, EXT4_INCOMPAT_LARGEDIR) ? ck->es->blocks
								    : DIR_BYTES_MAX >> ck->es->block_bits;

	return ci->is_dir && lblk > end + 1;
}

/* ---- extents ---- */

/*
 * As kernels have it, and as e2fsprogs has it: at most two places are missing at a node's end (ext2fs_extent_header_verify), and none but the root is
 * empty.
 */
static const char *head_wrong(const struct ck *ck, const struct ext4_disk_extent_header *h, u32 bytes,
			      u32 depth)
{
	const char *bad = ext4_extent_head_wrong(ck->es, h, bytes, depth);
	u32 places = (bytes - (u32)sizeof(*h)) / (u32)sizeof(struct ext4_disk_extent);

	if (!bad && le16_get(h->max) + 2u < places)
		bad = "too few places";
	else if (!bad && !le16_get(h->entries) && bytes > EXT4_IBLOCK_BYTES)
		bad = "no entries";
	return bad;
}

struct frame {
	struct buffer_head *bh;
	struct ext4_disk_extent_header *h;
	u32 i;    /* the next entry */
	u64 next; /* no entry begins before it */
	u64 end;  /* nor ends behind it */
	bool changed;
};

/* Something is wrong with the map. True: it is to be mended. */
static bool __printf_like(4, 5)
	damage(struct ck *ck, struct ck_inode *ci, enum ck_code code, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	ci->bad = true;
	if (ck->again)
		return false;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return ck_fix(ck, code, ci->ino, "%s", text);
}

/* An extent that is too long, as far as the file's length and its count of blocks go: of these it had been. */
static void save_beginning(struct ck *ck, const struct ck_inode *ci, u64 lblk, u64 pblk, u64 len)
{
	u32 bits = ck->es->block_bits;
	u64 end = DIV_ROUND_UP(ci->size_bytes, 1ull << bits),
	    all = ext4_inode_blocks_512(ck->es, ci->raw) >> (bits - 9);

	if (lblk >= end)
		return;
	len = MIN(len, MIN(end - lblk, all));
	if (len && ext4_blocks_ok(ck->es, pblk, len))
		ck_run_add(ck, lblk, pblk, MIN(len, (u64)EXT4_EXTENT_INIT_MAX), false);
}

/*
 * How many blocks of an extent can be the file's: of one that has more than the file says that it has, and goes on behind its end, those before the
 * end. Both of these are not wrong by chance.
 */
static u64 len_right(const struct ck *ck, const struct ck_inode *ci, u64 lblk, u64 len)
{
	u32 bits = ck->es->block_bits;
	u64 end = DIV_ROUND_UP(ci->size_bytes, 1ull << bits),
	    all = ext4_inode_blocks_512(ck->es, ci->raw) >> (bits - 9);

	if (!all || lblk >= end || lblk + len <= end || len <= all || ci->flags & EXT4_FL_VERITY)
		return len;
	return MIN(end - lblk, all);
}

static void leaf(struct ck *ck, struct ck_inode *ci, struct frame *f)
{
	const struct ext4_disk_extent *e = (const void *)(f->h + 1);

	for (u32 i = 0; i < le16_get(f->h->entries) && ck_goes_on(ck); i++) {
		u64 lblk = le32_get(e[i].lblk), pblk = ext4_extent_start(&e[i]), len = ext4_extent_len(&e[i]);
		u64 before = f->next;
		const char *bad = ext4_extent_wrong(ck->es, ci->ino, &e[i], &f->next);

		if (len && lblk + len <= UINT32_MAX &&
		    (lblk < before || lblk + len > f->end || too_far(ck, ci, lblk + len))) {
			ci->rebuild |= damage(
				ck, ci, CK_EXTENT_ORDER, "%s, file block %llu, block %llu, length %llu",
				bad ? bad : "it goes beyond what can be", (unsigned long long)lblk,
				(unsigned long long)pblk, (unsigned long long)len);
			if (ck_mends(ck) && lblk + len <= EXT4_LBLK_END && on_volume(ck, pblk, len))
				ck_run_add(ck, lblk, pblk, len, ext4_extent_unwritten(&e[i]));
			f->next = MAX(f->next, before);
		} else if (!len || !on_volume(ck, pblk, len) || lblk + len > UINT32_MAX) {
			ci->rebuild |= damage(
				ck, ci, CK_EXTENT_RANGE, "%s, file block %llu, block %llu, length %llu",
				bad ? bad : "it goes beyond what a file can have", (unsigned long long)lblk,
				(unsigned long long)pblk, (unsigned long long)len);
			if (ck_mends(ck) && !ck->again)
				save_beginning(ck, ci, lblk, pblk, len);
		} else {
			u64 right = len_right(ck, ci, lblk, len);

			if (right < len && damage(ck, ci, CK_EXTENT_RANGE,
						  "it is longer than the file, file block %llu, length %llu",
						  (unsigned long long)lblk, (unsigned long long)len)) {
				ci->rebuild = true;
				len = right;
			}
			run(ck, ci, lblk, pblk, len, ext4_extent_unwritten(&e[i]));
		}
	}
}

/* The node was somebody's before. True: it is to be gone into all the same. Where that is mended, *copy is what it is to be instead, else 0. */
static bool taken(struct ck *ck, struct ck_inode *ci, u64 blk, u64 *copy)
{
	bool foreign = is_foreign(ck, ci, ck_cluster(ck, blk), 1);

	*copy = 0;
	if (ck->again && ck_mends(ck) && !foreign)
		return true;
	ci->bad = ci->unread = true;
	ci->copy_of = ~0ull;
	if (ci->clone && ci->ino != EXT4_INO_BAD)
		*copy = ck_copy(ck, ci, 0, blk);
	ci->copy_of = ~0ull;
	return false;
}

/* The index leads to the copy of a node, which gets the inode's seal. */
static void lead_to_copy(struct ck *ck, struct ck_inode *ci, struct frame *f, struct ext4_disk_extent_idx *x,
			 u64 copy, u32 depth)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;

	x->leaf_lo = le32_put((u32)copy);
	x->leaf_hi = le16_put((u16)(copy >> 32));
	f->changed = true;
	if (!ck_read(ck, copy, &bh) || ext4_extent_head_wrong(ck->es, bh->data, bh->size_bytes, depth))
		return;
	ck_extent_seal(ck, ci, bh->data);
	ck_put(ck, bh);
}

/* The node that x, in f, leads to, `depth` above the leaves. */
static bool enter(struct ck *ck, struct ck_inode *ci, struct frame *f, struct ext4_disk_extent_idx *x,
		  u32 depth, struct frame *child)
{
	u64 blk = ext4_extent_child(x), lblk = le32_get(x->lblk), copy = 0;
	const struct ext4_disk_extent *first;
	bool ours = true;
	const char *bad;

	if (!on_volume(ck, blk, 1)) {
		ci->rebuild |= damage(ck, ci, CK_EXTENT_HEAD, "an index points to block %llu",
				      (unsigned long long)blk);
		return false;
	}
	if (!ck_take(ck, ci, blk)) {
		ours = false;
		if (!taken(ck, ci, blk, &copy)) {
			if (copy)
				lead_to_copy(ck, ci, f, x, copy, depth);
			return false;
		}
	}
	if (!ck_read(ck, blk, &child->bh)) {
		ci->bad = ci->unread = true;
		return false;
	}
	child->h = child->bh->data;
	bad = head_wrong(ck, child->h, child->bh->size_bytes, depth);
	if (bad)
		ci->rebuild |= damage(ck, ci, CK_EXTENT_HEAD, "block %llu: %s", (unsigned long long)blk, bad);
	if (ours && ck_mends(ck) && ck_room(ck, &ck->node, ck->nodes, &ck->node_room, sizeof(*ck->node)))
		ck->node[ck->nodes++] = blk;
	if (bad && !(ci->rebuild && ck_head_save(ck, ci, child->h, child->bh->size_bytes, depth))) {
		bh_put(take(child->bh));
		return false;
	}
	if (!ck->again && !bad && !ext4_extent_sum_ok(ck->es, ci->seed, child->h, child->bh->size_bytes))
		child->changed = ck_fix(ck, CK_EXTENT_SUM, ci->ino, "block %llu", (unsigned long long)blk);
	first = (const void *)(child->h + 1);
	if (!ck->again && le16_get(child->h->entries) && le32_get(first->lblk) != lblk)
		ci->rebuild |=
			ck_fix(ck, CK_EXTENT_INDEX, ci->ino, "block %llu, %llu and %u",
			       (unsigned long long)blk, (unsigned long long)lblk, le32_get(first->lblk));
	return true;
}

/* All of a node was gone through. */
static void leave(struct ck *ck, struct ck_inode *ci, struct frame *f)
{
	if (f->changed && f->bh) {
		ck_extent_seal(ck, ci, f->h);
		ck_put(ck, f->bh);
	}
	ci->changed |= f->changed && !f->bh;
	bh_put(take(f->bh));
}

static void walk_tree(struct ck *ck, struct ck_inode *ci, u32 depth)
{
	struct frame frame[EXT4_EXTENT_DEPTH_MAX + 1] = { { .h = (void *)ci->raw->block,
							    .end = EXT4_LBLK_END } };
	u32 level = 0;

	for (;;) {
		struct frame *f = &frame[level], *child = f + 1;
		struct ext4_disk_extent_idx *x = (void *)(f->h + 1);
		u32 n = le16_get(f->h->entries), i = f->i++;
		u64 lblk;

		if (level == depth) {
			leaf(ck, ci, f);
			i = n;
		}
		if (i >= n || !ck_goes_on(ck)) {
			leave(ck, ci, f);
			if (!level)
				return;
			level--;
			continue;
		}
		lblk = le32_get(x[i].lblk);
		if (lblk < f->next || lblk >= f->end) {
			ci->rebuild |= damage(ck, ci, CK_EXTENT_ORDER, "an index, file block %llu",
					      (unsigned long long)lblk);
			if (!ck_mends(ck))
				continue;
		}
		f->next = MAX(f->next, lblk + 1);
		*child = (struct frame){ .next = lblk };
		child->end = i + 1 < n ? MAX(lblk + 1, MIN(f->end, (u64)le32_get(x[i + 1].lblk))) : f->end;
		if (enter(ck, ci, f, &x[i], depth - level - 1, child))
			level++;
	}
}

static void extents(struct ck *ck, struct ck_inode *ci)
{
	struct ext4_disk_extent_header *h = (void *)ci->raw->block;
	u32 depth = le16_get(h->depth);
	const char *bad =
		depth > EXT4_EXTENT_DEPTH_MAX ? "too deep" : head_wrong(ck, h, EXT4_IBLOCK_BYTES, depth);

	ck->runs = ck->nodes = 0;
	if (bad) {
		ci->rebuild |= damage(ck, ci, CK_EXTENT_HEAD, "%s", bad);
		if (ci->rebuild && ck_head_save(ck, ci, h, EXT4_IBLOCK_BYTES, ANY_DEPTH))
			depth = le16_get(h->depth);
		else
			depth = ANY_DEPTH;
	}
	if (depth != ANY_DEPTH)
		walk_tree(ck, ci, depth);
	ck->stale |= ci->rebuild;
	if (ck->err || ci->unread)
		return;
	if (ci->clone ? (ci->foreign || ci->realign) && !ci->bad && !ci->no_room : ci->rebuild)
		ci->changed |= ck_tree_build(ck, ci);
}

/* ---- pointers ---- */

struct level {
	struct buffer_head *bh;
	le32 *ptr;
	u32 i;
	u64 lblk; /* of ptr[0] */
	bool changed;
};

/* What is claimed by somebody else becomes a copy; the list of bad blocks loses it. */
static bool clone_pointer(struct ck *ck, struct ck_inode *ci, le32 *p)
{
	u64 blk = le32_get(*p), copy = 0;

	if (!is_foreign(ck, ci, ck_cluster(ck, blk), 1))
		return false;
	ci->copy_of = ~0ull;
	if (ci->ino != EXT4_INO_BAD) {
		copy = ck_copy(ck, ci, 0, blk);
		if (!copy || copy >> 32)
			return false;
	}
	*p = le32_put((u32)copy);
	return true;
}

/* A pointer to data. True: it was changed. */
static bool pointer(struct ck *ck, struct ck_inode *ci, u64 lblk, le32 *p)
{
	u64 blk = le32_get(*p);

	if (on_volume(ck, blk, 1) && !too_far(ck, ci, lblk)) {
		if (ci->clone)
			return clone_pointer(ck, ci, p);
		run(ck, ci, lblk, blk, 1, false);
		return false;
	}
	if (!damage(ck, ci, CK_MAP_BLOCK, "file block %llu, block %llu", (unsigned long long)lblk,
		    (unsigned long long)blk))
		return false;
	ck->stale = true;
	*p = le32_put(0);
	return true;
}

/* What groups have there is not pointers, too: then it is the one that leads there which is wrong. */
static bool is_only_metadata(struct ck *ck, u64 blk)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const le32 *ptr;

	if (!ext4_zone_meets(&ck->es->zone, blk, 1) || !ck_read(ck, blk, &bh))
		return false;
	ptr = bh->data;
	for (u32 i = 0; i < bh->size_bytes / sizeof(*ptr); i++)
		if (le32_get(ptr[i]) && !on_volume(ck, le32_get(ptr[i]), 1))
			return true;
	return false;
}

/* A block of pointers. *changed: the pointer to it. */
static bool descend(struct ck *ck, struct ck_inode *ci, le32 *p, struct level *to, bool *changed)
{
	u64 blk = le32_get(*p), copy = 0;

	if (!on_volume(ck, blk, 1) || is_only_metadata(ck, blk)) {
		if (damage(ck, ci, CK_MAP_BLOCK, "a block of pointers, block %llu",
			   (unsigned long long)blk)) {
			*p = le32_put(0);
			*changed = ck->stale = true;
		}
		return false;
	}
	if (!ck_take(ck, ci, blk) && !taken(ck, ci, blk, &copy)) {
		if (copy || (ci->clone && ci->ino == EXT4_INO_BAD)) {
			*p = le32_put((u32)copy);
			*changed = true;
		}
		return false;
	}
	if (!ck_read(ck, blk, &to->bh)) {
		ci->bad = true;
		return false;
	}
	to->ptr = to->bh->data;
	return true;
}

/* Below i_block[12], [13] or [14]. */
static void tree(struct ck *ck, struct ck_inode *ci, le32 *root, u32 levels, u64 lblk)
{
	u32 per = ext4_pointers_per_block(ck->es), at = 0;
	u64 width[] = { 1, per, (u64)per * per };
	struct level l[3] = { { .lblk = lblk } };

	if (!descend(ck, ci, root, &l[0], &ci->changed))
		return;
	for (;;) {
		struct level *now = &l[at];
		u32 below = levels - 1 - at, i = now->i++;
		le32 *p = &now->ptr[i];

		if (i == per || !ck_goes_on(ck)) {
			if (now->changed)
				ck_put(ck, now->bh);
			bh_put(take(now->bh));
			if (!at)
				return;
			at--;
			continue;
		}
		if (le32_get(*p) && !below) {
			now->changed |= pointer(ck, ci, now->lblk + i, p);
		} else if (le32_get(*p)) {
			l[at + 1] = (struct level){ .lblk = now->lblk + i * width[below] };
			if (descend(ck, ci, p, &l[at + 1], &now->changed))
				at++;
		}
	}
}

static void pointers(struct ck *ck, struct ck_inode *ci)
{
	u64 per = ext4_pointers_per_block(ck->es), lblk = EXT4_NDIR, width = per;
	le32 *ptr = (void *)ci->raw->block;

	for (u32 i = 0; i < EXT4_NDIR; i++)
		if (le32_get(ptr[i]))
			ci->changed |= pointer(ck, ci, i, &ptr[i]);
	for (u32 levels = 1; levels <= 3; levels++) {
		le32 *p = &ptr[EXT4_NDIR + levels - 1];

		if (le32_get(*p))
			tree(ck, ci, p, levels, lblk);
		lblk += width;
		width *= per;
	}
}

void ck_map_walk(struct ck *ck, struct ck_inode *ci)
{
	ci->last_lblk = ci->last_written = -1;
	ci->last_cluster = ci->copy_of = ~0ull;
	if (ci->flags & EXT4_FL_EXTENTS)
		extents(ck, ci);
	else
		pointers(ck, ci);
}
