/*
 * Multiple mount protection: a block whose sequence number moves as long as some machine has the volume mounted.
 * A number that stands still for longer than that machine's interval belongs to one that is gone.
 *
 * Reading next to a writer shows a volume that changes underneath, so a volume in use is refused.
 */
#include "ext4.h"

#include "lib/log.h"
#include "lib/os.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define INTERVAL_MIN_S 5u
#define WAIT_MAX_S     60u

const char *ext4_mmp_wrong(const struct ext4_super *es, const struct ext4_disk_mmp *m)
{
	u32 seq = le32_get(m->seq);

	if (le32_get(m->magic) != EXT4_MMP_MAGIC)
		return "wrong magic";
	if (es->metadata_csum && ext4_csum_mmp(es, m) != le32_get(m->checksum))
		return "wrong checksum";
	return seq > EXT4_MMP_SEQ_MAX && seq != EXT4_MMP_SEQ_CLEAN && seq != EXT4_MMP_SEQ_FSCK
		       ? "an unknown operation"
		       : NULL;
}

/* Not through the cache: somebody else may write it. */
static int mmp_read(struct ext4_super *es, void *block)
{
	const struct ext4_disk_mmp *m = block;
	u64 blk = le64_get(es->disk.mmp_block);
	int err;

	if (!ext4_blocks_ok(es, blk, 1))
		return corrupt(&es->vfs.health, "superblock", 0,
			       "the block of multiple mount protection is none");
	err = blkdev_read(es->vfs.dev, blk << es->block_bits, block, ext4_block_bytes(es));
	if (err)
		return err;
	if (ext4_mmp_wrong(es, m))
		return corrupt(&es->vfs.health, "block", blk, "damaged block of multiple mount protection");
	return 0;
}

static int in_use(const struct ext4_super *es, const struct ext4_disk_mmp *m)
{
	time_t sec = (time_t)le64_get(m->time);
	struct text node = { 0 };
	char when[32] = "?";
	struct tm tm;
	int err;

	if (gmtime_r(&sec, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	text_add_name(&node, (const char *)m->nodename,
		      strnlen((const char *)m->nodename, sizeof(m->nodename)));
	if (le32_get(m->seq) == EXT4_MMP_SEQ_FSCK)
		err = fail(-EBUSY, "%s: is being checked on machine \"%s\" (%s)", es->vfs.health.name,
			   text_str(&node), when);
	else
		err = fail(-EBUSY, "%s: is mounted on machine \"%s\" (last sign of life: %s)",
			   es->vfs.health.name, text_str(&node), when);
	text_free(&node);
	return err;
}

int ext4_mmp_check(struct ext4_super *es)
{
	scoped(freep) struct ext4_disk_mmp *m = NULL;
	_Atomic u32 nobody = 0;
	u32 seq, wait_s;
	int err;

	if (!ext4_has_incompat(es, EXT4_INCOMPAT_MMP))
		return 0;
	m = malloc(ext4_block_bytes(es));
	if (!m)
		return fail(-ENOMEM, "no memory for a block");
	err = mmp_read(es, m);
	seq = err ? 0 : le32_get(m->seq);
	if (err || seq == EXT4_MMP_SEQ_CLEAN)
		return err == -EUCLEAN ? 0 : err; /* recorded; it protects against nothing */
	if (seq == EXT4_MMP_SEQ_FSCK)
		return in_use(es, m);
	wait_s = MAX(INTERVAL_MIN_S, (u32)le16_get(m->check_interval));
	wait_s = MIN(wait_s * 2 + 1, wait_s + WAIT_MAX_S);
	log_warn("%s: waiting %u s to see whether another machine has it mounted", es->vfs.health.name,
		 wait_s);
	os_wait(&nobody, 0, wait_s * 1000);
	err = mmp_read(es, m);
	if (err)
		return err;
	return le32_get(m->seq) == seq ? 0 : in_use(es, m);
}
