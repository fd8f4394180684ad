/*
 * From a moment to an image. Up to the cut, what a flush covers and what was written with FUA is there. Of the rest each sector has
 * any of the bytes that some request wrote to it since, or what is durable: requests may be dropped, reordered and torn. A request
 * is covered by a flush that was submitted after it had ended.
 */
#include "crash.h"

#include "ext4/ext4.h"

#include "lib/crc.h"
#include "lib/hash.h"
#include <stdlib.h>
#include <string.h>

int replay_init(struct replay *p, const struct run *r)
{
	*p = (struct replay){ .run = r, .count = dev_fault_records(r->fault), .durable = malloc(r->bytes) };
	if (!p->durable)
		return -ENOMEM;
	memcpy(p->durable, r->before, r->bytes);
	return 0;
}

void replay_free(struct replay *p)
{
	free(p->durable);
}

static struct fault_record record(const struct replay *p, u64 i)
{
	struct fault_record f = { 0 };

	if (dev_fault_record(p->run->fault, i, &f))
		abort();
	return f;
}

/* Of which of the two devices a record is. */
static u32 device(const struct replay *p, const struct fault_record *f)
{
	return p->run->split_bytes && f->off_bytes >= p->run->split_bytes;
}

/* Records [0, durable) of each device are durable when the power goes at the cut. A flush is of one device alone. */
static void durable_at(const struct replay *p, u64 cut, u64 durable[2])
{
	durable[0] = p->applied[0];
	durable[1] = p->applied[1];
	for (u64 i = MIN(durable[0], durable[1]); i < cut; i++) {
		struct fault_record f = record(p, i);
		u32 dev = device(p, &f);

		if (f.op == FAULT_FLUSH)
			durable[dev] = MAX(durable[dev], f.covers);
	}
}

static bool changes(const struct fault_record *f)
{
	return f->op == FAULT_WRITE || f->op == FAULT_DISCARD;
}

u32 replay_pending(const struct replay *p, u64 cut)
{
	u64 durable[2];
	u32 n = 0;

	durable_at(p, cut, durable);
	for (u64 i = MIN(durable[0], durable[1]); i < cut; i++) {
		struct fault_record f = record(p, i);

		n += i >= durable[device(p, &f)] && changes(&f) && !(f.flags & BIO_FUA);
	}
	return n;
}

/* What a discarded range reads as is anybody's guess: zeros here. */
static void put(u8 *image, const struct fault_record *f, u64 from, u64 len)
{
	if (f->op == FAULT_WRITE)
		memcpy(image + f->off_bytes + from, (const u8 *)f->data + from, len);
	else
		memset(image + f->off_bytes + from, 0, len);
}

static void advance(struct replay *p, const u64 to[2])
{
	for (u64 i = MIN(p->applied[0], p->applied[1]); i < MAX(to[0], to[1]); i++) {
		struct fault_record f = record(p, i);
		u32 dev = device(p, &f);

		if (i >= p->applied[dev] && i < to[dev] && changes(&f))
			put(p->durable, &f, 0, f.len_bytes);
	}
	p->applied[0] = to[0];
	p->applied[1] = to[1];
}

struct choice {
	enum state_kind kind;
	u64 seed;
	u32 nr, count; /* of uncovered requests */
	u32 odd;       /* BUT_ONE: which */
};

static bool chosen(const struct choice *c, u64 sector)
{
	switch (c->kind) {
	case STATE_ALL:
		return true;
	case STATE_NONE:
		return false;
	case STATE_SOME:
		return hash_u64(c->seed ^ c->nr) & 1;
	case STATE_TORN:
		return hash_u64(c->seed ^ hash_u64(((u64)c->nr << 40) ^ sector)) & 1;
	case STATE_LAST:
		return c->nr + 1 == c->count;
	default:
		return c->nr != c->odd;
	}
}

static u32 csum_seed(const struct ext4_disk_super *d)
{
	return le32_get(d->feature_incompat) & EXT4_INCOMPAT_CSUM_SEED
		       ? le32_get(d->checksum_seed)
		       : crc32c(~0u, d->uuid, sizeof(d->uuid));
}

/* With multiple mount protection whoever mounts it next would wait: it is told that the machine which died had been gone for long. */
static void forget_machine(u8 *image, u64 bytes)
{
	const struct ext4_disk_super *d = (const void *)(image + EXT4_SUPER_OFF);
	u64 at = le64_get(d->mmp_block) << (EXT4_BLOCK_BITS_MIN + le32_get(d->log_block_size));
	struct ext4_disk_mmp *m;

	if (!(le32_get(d->feature_incompat) & EXT4_INCOMPAT_MMP) || !at || at >= bytes)
		return;
	m = (struct ext4_disk_mmp *)(image + at);
	m->seq = le32_put(EXT4_MMP_SEQ_CLEAN);
	m->checksum = le32_put(ext4_csum_mmp(csum_seed(d), m));
}

void replay_make(struct replay *p, const struct state *s, u8 *image)
{
	struct choice c = { .kind = s->kind, .seed = hash_u64(s->seed + 1) };
	u64 durable[2];

	durable_at(p, s->cut, durable);
	advance(p, durable);
	c.count = replay_pending(p, s->cut);
	c.odd = c.count ? (u32)(hash_u64(c.seed) % c.count) : 0;
	memcpy(image, p->durable, p->run->bytes);
	/*
	 * In order, so that a sector's last chosen writer wins: which of several that is, chance decides. What FUA wrote is there
	 * in any case, and what came before it on the same sectors is not.
	 */
	for (u64 i = MIN(durable[0], durable[1]); i < s->cut; i++) {
		struct fault_record f = record(p, i);

		if (i < durable[device(p, &f)] || !changes(&f))
			continue;
		if (f.flags & BIO_FUA) {
			put(image, &f, 0, f.len_bytes);
			continue;
		}
		for (u64 at = 0; at < f.len_bytes; at += SECTOR)
			if (chosen(&c, (f.off_bytes + at) / SECTOR))
				put(image, &f, at, MIN((u64)SECTOR, f.len_bytes - at));
		c.nr++;
	}
	forget_machine(image, p->run->bytes);
}
