/* What was seen on the volume: clusters and inodes in use, directories, and tables by number. */
#include "check.h"

#include "lib/hash.h"
#include <errno.h>
#include <stdlib.h>

int ck_seen_new(struct ck *ck)
{
	u32 groups = ck->es->groups;

	ck->used.group = calloc(groups, sizeof(*ck->used.group));
	ck->twice.group = calloc(groups, sizeof(*ck->twice.group));
	ck->ino = calloc(groups, sizeof(*ck->ino));
	if (ck->used.group && ck->twice.group && ck->ino)
		return 0;
	return fail(-ENOMEM, "no memory for checking %u groups", groups);
}

static void map_free(struct ck_map *m)
{
	free(m->key);
	free(m->val);
	*m = (struct ck_map){ 0 };
}

void ck_seen_free(struct ck *ck)
{
	for (u32 i = 0; ck->es && i < ck->es->groups; i++) {
		if (ck->used.group)
			free(ck->used.group[i]);
		if (ck->twice.group)
			free(ck->twice.group[i]);
		if (ck->kept.group)
			free(ck->kept.group[i]);
		if (ck->ino)
			free(ck->ino[i]);
	}
	free(ck->used.group);
	free(ck->twice.group);
	free(ck->kept.group);
	free(ck->ino);
	free(ck->move);
	free(ck->made);
	free(ck->dir);
	free(ck->blk);
	map_free(&ck->dir_of);
	map_free(&ck->parent);
	map_free(&ck->xattr);
	map_free(&ck->moved);
	map_free(&ck->policy);
	free(ck->run);
	free(ck->node);
	free(ck->fresh);
	map_free(&ck->ea);
	for (u32 i = 0; i < ARRAY_SIZE(ck->quota); i++) {
		map_free(&ck->quota[i].of);
		free(ck->quota[i].usage);
	}
	for (u32 i = 0; i < ck->waits; i++)
		free(ck->wait[i].text);
	free(ck->wait);
}

/* ---- clusters ---- */

static u8 *bits_of(struct ck *ck, struct ck_bits *b, u32 group)
{
	if (!b->group[group])
		b->group[group] = calloc(1, DIV_ROUND_UP(ck->es->clusters_per_group, 8u));
	if (!b->group[group])
		ck_no_memory(ck);
	return b->group[group];
}

/* Bits [at, end) of one group. */
static u64 claim_in(struct ck *ck, u32 group, u32 at, u32 end)
{
	u8 *used = bits_of(ck, &ck->used, group), *twice;
	u64 again = 0;

	if (!used)
		return 0;
	while (at < end) {
		if (!(at % 8) && end - at >= 8 && !used[at / 8]) {
			used[at / 8] = 0xff;
			at += 8;
			continue;
		}
		if (used[at / 8] >> at % 8 & 1) {
			twice = bits_of(ck, &ck->twice, group);
			if (!twice)
				return again;
			twice[at / 8] |= (u8)(1u << at % 8);
			ck->any_twice = true;
			again++;
		}
		used[at / 8] |= (u8)(1u << at % 8);
		at++;
	}
	return again;
}

u64 ck_claim(struct ck *ck, u64 from, u64 n)
{
	u32 per = ck->es->clusters_per_group;
	u64 again = 0;

	while (n && !ck->err) {
		u32 at = (u32)(from % per), len = (u32)MIN(n, (u64)(per - at));

		again += claim_in(ck, (u32)(from / per), at, at + len);
		from += len;
		n -= len;
	}
	return again;
}

static bool bit(const struct ck *ck, const struct ck_bits *b, u64 cluster)
{
	u32 per = ck->es->clusters_per_group, at = (u32)(cluster % per);
	const u8 *p = b->group[cluster / per];

	return p && p[at / 8] >> at % 8 & 1;
}

bool ck_is_used(const struct ck *ck, u64 cluster)
{
	return bit(ck, &ck->used, cluster);
}

u64 ck_twice(const struct ck *ck, u64 from, u64 n)
{
	u32 per = ck->es->clusters_per_group;
	u64 again = 0;

	while (n) {
		u64 len = MIN(n, per - from % per);

		if (ck->twice.group[from / per])
			for (u64 i = 0; i < len; i++)
				again += bit(ck, &ck->twice, from + i);
		from += len;
		n -= len;
	}
	return again;
}

/* ---- inodes ---- */

struct ck_ino *ck_ino_make(struct ck *ck, u64 ino)
{
	struct ck_ino **g = &ck->ino[ext4_ino_group(ck->es, ino)];

	if (!*g)
		*g = calloc(ck->es->inodes_per_group, sizeof(**g));
	if (!*g)
		ck_no_memory(ck);
	return *g ? &(*g)[(ino - 1) % ck->es->inodes_per_group] : NULL;
}

/* ---- tables ---- */

static u32 slot_of(const struct ck_map *m, u64 key)
{
	u32 at = (u32)hash_number(key) & (m->cap - 1);

	while (m->key[at] && m->key[at] != key)
		at = (at + 1) & (m->cap - 1);
	return at;
}

static bool grow(struct ck *ck, struct ck_map *m)
{
	struct ck_map to = { .cap = m->cap ? m->cap * 2 : 64 };

	if (m->count * 2 < m->cap)
		return true;
	to.key = calloc(to.cap, sizeof(*to.key));
	to.val = calloc(to.cap, sizeof(*to.val));
	if (!to.cap || !to.key || !to.val) {
		map_free(&to);
		ck_no_memory(ck);
		return false;
	}
	for (u32 i = 0; i < m->cap; i++)
		if (m->key[i]) {
			u32 at = slot_of(&to, m->key[i]);

			to.key[at] = m->key[i];
			to.val[at] = m->val[i];
		}
	to.count = m->count;
	map_free(m);
	*m = to;
	return true;
}

u64 *ck_map_at(struct ck *ck, struct ck_map *m, u64 key)
{
	u32 at;

	if (!grow(ck, m))
		return NULL;
	at = slot_of(m, key);
	if (!m->key[at]) {
		m->key[at] = key;
		m->count++;
	}
	return &m->val[at];
}

u64 ck_map_get(const struct ck_map *m, u64 key)
{
	u32 at;

	if (!m->cap)
		return 0;
	at = slot_of(m, key);
	return m->key[at] ? m->val[at] : 0;
}

struct ck_dir *ck_dir_of(const struct ck *ck, u64 ino)
{
	u64 at = ino ? ck_map_get(&ck->dir_of, ino) : 0;

	return at ? &ck->dir[at - 1] : NULL;
}

/* ---- blocks ---- */

bool ck_read(struct ck *ck, u64 blk, struct buffer_head **out)
{
	int err = bh_read(ck->dev, blk, &ext4_gdt_ops, &(struct bh_ctx){ { 0 } }, out);

	if (!err)
		return true;
	*out = NULL;
	if (err == -ENOMEM)
		ck->err = err;
	else
		ck_say(ck, CK_READ_ERROR, blk, "%s", "");
	return false;
}

void ck_put(struct ck *ck, struct buffer_head *bh)
{
	int err = blkdev_write(ck->dev, bh->blk * bh->size_bytes, bh->data, bh->size_bytes, 0);

	if (err && !ck->err)
		ck->err = err;
}
