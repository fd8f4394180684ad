/*
 * Recovery: three passes over the log, from its oldest transaction on.
 *
 *   scan     finds the end: the number of the first transaction that is not wholly there
 *   revoke   collects which blocks were freed, and in which transaction
 *   replay   writes the images, in order, but those that were revoked in the same or a later transaction
 *
 * A pass walks block by block: each must have the magic and the number of the transaction that is due; a
 * descriptor is followed by the images that its tags name, which are stepped over. Anything else is the end.
 *
 * What a wrong checksum means depends on the time in the next commit, as in the kernel. The log is a ring, and what
 * stands behind its end is the remains of former rounds: if the transaction with the wrong sum was committed before
 * its predecessor it is such a remnant, and the log ends quietly. If it is newer, the log is broken: in a commit
 * block the log ends there and bad_commit is set; in a descriptor or revoke block it is an error, and nothing
 * is replayed.
 *
 * Invariants
 * 1. A pass consumes at most as many blocks as the log has; so it ends, whatever the log contains. (An honest log
 *    cannot be longer: it would have overwritten itself.)
 * 2. revoke and replay end at the transaction where scan ended.
 * 3. Nothing outside of the target's size is written.
 */
#include "journal.h"

#include "lib/crc.h"
#include "lib/log.h"
#include "lib/os.h"
#include "lib/trace.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define IMAGES 64u /* read at once */

enum pass { SCAN, REVOKE, REPLAY };

struct walk {
	struct jbd2 *j;
	struct blkdev *target;
	enum pass pass;
	struct revoke_table *revokes;
	u8 *block;  /* the control block in hand */
	u8 *images; /* IMAGES blocks */
	u64 at;     /* the log's block that comes next */
	u64 left;   /* blocks that the pass may still consume */
	u32 due;    /* the transaction that is due */
	u32 end;    /* after scan: the first that is not replayed */
	/* of scan: */
	u32 crc;       /* v1: of the transaction so far */
	u64 time;      /* of the last good commit */
	u64 head;      /* behind the last good commit */
	bool doubtful; /* a block of this transaction had a wrong sum */
	bool ended;    /* `end` is known; whether the log goes on is not */
	bool bad_commit;
	int err; /* of replay: the first; it goes on */
	u64 replayed, revoked;
};

enum step { GO_ON, THE_END };

static const char *pass_name(enum pass p)
{
	static const char *const names[] = { "scan", "revoke", "replay" };

	return names[p];
}

/* ---- moving along the log ---- */

static u64 wrap(const struct jbd2 *j, u64 lblk)
{
	u64 first = j->info.first, end = j->info.end;

	return lblk < end ? lblk : first + (lblk - first) % (end - first);
}

/* Steps over n blocks. False: the log does not have so many. */
static bool consume(struct walk *w, u64 n)
{
	if (n > w->left)
		return false;
	w->left -= n;
	w->at = wrap(w->j, w->at + n);
	return true;
}

/* Reads n blocks of the log, which may wrap. */
static int read_wrapped(struct jbd2 *j, u64 lblk, u64 n, u8 *buf)
{
	u64 now = MIN(n, j->info.end - lblk);
	int err = jbd2_read(j, lblk, now, buf);

	if (err || now == n)
		return err;
	return jbd2_read(j, j->info.first, n - now, buf + now * j->info.block_bytes);
}

/* ---- tags ---- */

struct tag {
	u64 blk;
	u32 flags;
	const u8 *raw;
};

/* The tag at *off of the descriptor in hand; *off moves to the next. False: there is none. */
static bool next_tag(const struct walk *w, u32 *off, struct tag *out)
{
	const struct jbd2 *j = w->j;
	u32 room = j->info.block_bytes - jbd2_tail_bytes(j);
	u32 bytes = jbd2_tag_bytes(j);
	/* blk and the low half of the flags stand at the same place in all kinds. */
	struct jbd2_disk_tag tag = { 0 };

	if (*off > room || bytes > room - *off)
		return false;
	out->raw = w->block + *off;
	memcpy(&tag, out->raw, MIN(bytes, (u32)sizeof(tag)));
	out->flags = be16_get(tag.flags);
	out->blk = be32_get(tag.blk);
	if (jbd2_has(j, JBD2_INCOMPAT_64BIT))
		out->blk |= (u64)be32_get(tag.blk_high) << 32;
	*off += bytes;
	if (!(out->flags & JBD2_TAG_SAME_UUID))
		*off += JBD2_UUID_BYTES;
	if (out->flags & JBD2_TAG_LAST)
		*off = UINT32_MAX;
	return true;
}

static u64 count_tags(const struct walk *w)
{
	u32 off = sizeof(struct jbd2_disk_header);
	struct tag tag;
	u64 n = 0;

	while (next_tag(w, &off, &tag))
		n++;
	return n;
}

/* ---- descriptors ---- */

/* v1: the transaction's sum covers the descriptor and the images. */
static int add_crc(struct walk *w, u64 images)
{
	u64 bytes = w->j->info.block_bytes;

	w->crc = crc32_be(w->crc, w->block, bytes);
	for (u64 done = 0; done < images;) {
		u64 now = MIN(images - done, (u64)IMAGES);
		int err = read_wrapped(w->j, wrap(w->j, w->at + done), now, w->images);

		if (err)
			return err;
		w->crc = crc32_be(w->crc, w->images, now * bytes);
		done += now;
	}
	return 0;
}

static int scan_descriptor(struct walk *w, u64 images)
{
	u32 off = sizeof(struct jbd2_disk_header);
	struct tag tag;
	int err = 0;

	if (!jbd2_tail_good(w->j, w->block))
		w->doubtful = true;
	if (w->j->info.compat & JBD2_COMPAT_CHECKSUM && !w->ended)
		err = add_crc(w, images);
	while (!err && next_tag(w, &off, &tag))
		err = revoke_note(w->revokes, tag.blk);
	return err;
}

/* Writes one image home. */
static int put_image(struct walk *w, const struct tag *tag, u8 *image)
{
	u64 bytes = w->j->info.block_bytes;
	be32 magic = be32_put(JBD2_MAGIC);
	int err;

	if (!jbd2_tag_good(w->j, tag->raw, w->due, image))
		return corrupt(w->j->health, "journal transaction", w->due,
			       "the image of block %llu has a wrong checksum", (unsigned long long)tag->blk);
	if (tag->blk >= w->target->size_bytes / bytes)
		return corrupt(w->j->health, "journal transaction", w->due,
			       "an image of block %llu, which is beyond the end",
			       (unsigned long long)tag->blk);
	if (tag->flags & JBD2_TAG_ESCAPE)
		memcpy(image, &magic, sizeof(magic));
	err = blkdev_write(w->target, tag->blk * bytes, image, bytes, 0);
	if (err)
		return err;
	trace(TRACE_RECOVER, w->due, tag->blk);
	w->replayed++;
	return 0;
}

static void note_err(struct walk *w, int err)
{
	if (err && !w->err)
		w->err = err;
}

/* Puts the images of the descriptor in hand, in portions. What cannot be read or is wrong is left out. */
static void replay_images(struct walk *w, u64 images)
{
	u64 bytes = w->j->info.block_bytes;
	u32 off = sizeof(struct jbd2_disk_header);
	struct tag tag;

	for (u64 done = 0; done < images; done += IMAGES) {
		u64 now = MIN(images - done, (u64)IMAGES), from = wrap(w->j, w->at + done);
		bool all = !read_wrapped(w->j, from, now, w->images);

		for (u64 i = 0; i < now && next_tag(w, &off, &tag); i++) {
			u8 *image = w->images + i * bytes;

			if (revoke_test(w->revokes, tag.blk, w->due)) {
				w->revoked++;
				continue;
			}
			/* One unreadable block must not take its neighbours with it. */
			if (!all) {
				int err = jbd2_read(w->j, wrap(w->j, from + i), 1, image);

				note_err(w, err);
				if (err)
					continue;
			}
			note_err(w, put_image(w, &tag, image));
		}
	}
}

static int on_descriptor(struct walk *w, enum step *step)
{
	u64 images = count_tags(w);
	int err = 0;

	if (images > w->left) {
		*step = THE_END;
		return 0;
	}
	if (w->pass == SCAN) {
		err = scan_descriptor(w, images);
	} else if (w->pass == REPLAY) {
		if (!jbd2_tail_good(w->j, w->block))
			return corrupt(w->j->health, "journal transaction", w->due,
				       "a descriptor has a wrong checksum");
		replay_images(w, images);
	}
	(void)consume(w, images);
	return err;
}

/* ---- commits ---- */

/* v1: true also for a commit that was made before checksums were turned on. */
static bool crc_good(const struct walk *w, const struct jbd2_disk_commit *c)
{
	u32 found = be32_get(c->checksum[0]);

	if (!(w->j->info.compat & JBD2_COMPAT_CHECKSUM))
		return true;
	if (c->checksum_type == JBD2_CSUM_TYPE_CRC32 && c->checksum_bytes == 4)
		return found == w->crc;
	return !c->checksum_type && !c->checksum_bytes && !found;
}

static int scan_commit(struct walk *w, enum step *step)
{
	const struct jbd2_disk_commit *c = (const void *)w->block;
	u64 time = be64_get(c->sec);

	if (w->doubtful) {
		*step = THE_END;
		if (time < w->time)
			return 0;
		return corrupt(w->j->health, "journal transaction", w->due,
			       "a descriptor or revoke block has a wrong checksum");
	}
	if (w->ended) {
		/* A complete transaction behind the bad one: that was not merely the last, cut short. */
		*step = THE_END;
		w->bad_commit = true;
		return 0;
	}
	if (!crc_good(w, c) || !jbd2_commit_good(w->j, w->block)) {
		w->ended = true;
		w->end = w->due;
		/* With asynchronous commits a crash leaves such a transaction at the end. */
		if (time >= w->time && jbd2_has(w->j, JBD2_INCOMPAT_ASYNC_COMMIT))
			return 0;
		*step = THE_END;
		w->bad_commit = time >= w->time;
		return 0;
	}
	w->crc = ~0u;
	w->time = time;
	w->head = w->at;
	return 0;
}

/* ---- revoke blocks ---- */

static int on_revoke(struct walk *w)
{
	const struct jbd2_disk_revoke *r = (const void *)w->block;
	u32 bytes = be32_get(r->bytes), each = jbd2_revoke_bytes(w->j);

	if (w->pass == SCAN && !jbd2_tail_good(w->j, w->block))
		w->doubtful = true;
	if (w->pass != REVOKE)
		return 0;
	if (bytes > w->j->info.block_bytes - jbd2_tail_bytes(w->j))
		return corrupt(w->j->health, "journal transaction", w->due, "a revoke block of %u bytes",
			       bytes);
	for (u32 off = sizeof(*r); off + each <= bytes; off += each) {
		const u8 *p = w->block + off;
		u64 blk = each == 8 ? be64_get(*(const be64 *)p) : be32_get(*(const be32 *)p);

		revoke_set(w->revokes, blk, w->due);
	}
	return 0;
}

/* ---- the walk ---- */

/* Handles the control block in hand, which belongs to the transaction that is due. */
static int on_block(struct walk *w, u32 type, enum step *step)
{
	int err = 0;

	switch (type) {
	case JBD2_DESCRIPTOR:
		return on_descriptor(w, step);
	case JBD2_REVOKE:
		return on_revoke(w);
	case JBD2_COMMIT:
		if (w->pass == SCAN)
			err = scan_commit(w, step);
		if (!err && *step == GO_ON)
			w->due++;
		return err;
	default:
		*step = THE_END;
		return 0;
	}
}

static int walk(struct walk *w, enum pass pass)
{
	const struct jbd2_disk_header *h = (const void *)w->block;
	const struct jbd2_info *i = &w->j->info;
	enum step step = GO_ON;
	int err = 0;

	w->pass = pass;
	w->at = i->start;
	w->left = i->end - i->first;
	w->due = i->sequence;
	w->crc = ~0u;
	while (step == GO_ON && !err && (pass == SCAN || tid_gt(w->end, w->due))) {
		u64 at = w->at;

		if (!consume(w, 1))
			break;
		err = jbd2_read(w->j, at, 1, w->block);
		if (err || be32_get(h->magic) != JBD2_MAGIC || be32_get(h->sequence) != w->due)
			break;
		err = on_block(w, be32_get(h->type), &step);
	}
	if (err)
		return err;
	if (pass == SCAN)
		w->end = w->ended ? w->end : w->due;
	else if (w->end != w->due)
		return fail(-EIO, "journal: the %s pass ended at transaction %u, the scan at %u",
			    pass_name(pass), w->due, w->end);
	return 0;
}

static int run(struct walk *w, struct jbd2_recovery *out)
{
	const struct jbd2_info *i = &w->j->info;
	int err;

	w->head = i->start;
	err = walk(w, SCAN);
	if (err)
		return err;
	out->first = i->sequence;
	out->head = w->head;
	out->bad_commit = w->bad_commit;
	err = walk(w, REVOKE);
	if (err)
		return err;
	err = walk(w, REPLAY);
	out->end = w->end;
	out->replayed = w->replayed;
	out->revoked = w->revoked;
	log_info("journal: transactions %u to %u, %llu blocks, %llu revoked", out->first, out->end - 1,
		 (unsigned long long)w->replayed, (unsigned long long)w->revoked);
	return err ? err : w->err;
}

int jbd2_recover(struct jbd2 *j, struct blkdev *target, struct jbd2_recovery *out)
{
	struct walk w = { .j = j, .target = target };
	u64 bytes = j->info.block_bytes;
	int err;

	*out = (struct jbd2_recovery){ .first = j->info.sequence,
				       .end = j->info.sequence,
				       .head = j->info.first,
				       .has_fast_commits = j->info.fc_count };
	if (!j->info.needs_recovery)
		return 0;
	w.block = os_alloc_aligned(4096, bytes);
	w.images = os_alloc_aligned(4096, IMAGES * bytes);
	err = w.block && w.images ? revoke_new(&w.revokes) : fail(-ENOMEM, "no memory to recover a journal");
	if (!err)
		err = run(&w, out);
	revoke_free(w.revokes);
	free(w.images);
	free(w.block);
	return err;
}
