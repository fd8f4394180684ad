/*
 * Multiple mount protection: a block whose sequence number moves as long as some machine has the volume mounted.
 * A number that stands still for longer than that machine's interval belongs to one that is gone.
 *
 *   take:  read ─ in use or unknown: wait, read again ─ write a number of our own ─ when we had to wait: wait, read again
 *   held:  a thread writes the next number every update interval
 *   given back: CLEAN
 *
 * Reading next to a writer shows a volume that changes underneath, so a volume in use is refused to readers too.
 *
 * A volume that is held is written through a device of its own (struct mmp), which lets a write pass only as long as nobody else can have
 * taken the volume: up to the check interval after the last number was written. A write that comes later (the program was stopped,
 * the machine slept) waits until the thread has found our last number in the block and written the next one. Is it another's,
 * every write fails from then on.
 */
#include "ext4.h"

#include "lib/log.h"
#include "lib/os.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* As the kernel has them. */
#define UPDATE_MAX_S 300u
#define CHECK_MIN_S  5u
#define CHECK_MAX_S  300u
#define CHECK_FACTOR 2u
#define WAIT_MAX_S   60u

struct mmp {
	struct blkdev dev;           /* the volume, as who holds it sees it */
	struct blkdev *lower;        /* [const] referenced */
	u64 off_bytes;               /* [const] of the block */
	u32 block_bytes, seed;       /* [const] */
	bool csum;                   /* [const] */
	u32 update_s, check_s;       /* [const] */
	struct ext4_disk_mmp *block; /* [thread] as it was written last; block_bytes */
	struct ext4_disk_mmp *found; /* [thread] as it was read last */
	_Atomic u64 until_ns;        /* os_boottime_ns: up to then it is ours */
	_Atomic bool lost;
	_Atomic u32 round; /* changes with each of the two */
	_Atomic u32 stop;
	bool runs; /* [const once the device is seen] there is a thread */
	pthread_t thread;
	struct mutex lock;
	struct ext4_super *es; /* [lock] whom to tell that the volume is lost; NULL: nobody */
};

/* ---- the block ---- */

const char *ext4_mmp_wrong(u32 seed, bool csum, const struct ext4_disk_mmp *m)
{
	u32 seq = le32_get(m->seq);

	if (le32_get(m->magic) != EXT4_MMP_MAGIC)
		return "wrong magic";
	if (csum && ext4_csum_mmp(seed, m) != le32_get(m->checksum))
		return "wrong checksum";
	return seq > EXT4_MMP_SEQ_MAX && seq != EXT4_MMP_SEQ_CLEAN && seq != EXT4_MMP_SEQ_FSCK
		       ? "an unknown operation"
		       : NULL;
}

/* Not through the cache: somebody else may write it. */
static int block_read(const struct mmp *m, struct ext4_disk_mmp *to)
{
	int err = blkdev_read(m->lower, m->off_bytes, to, m->block_bytes);

	if (err)
		return err;
	if (ext4_mmp_wrong(m->seed, m->csum, to))
		return fail(-EUCLEAN, "%s: the block of multiple mount protection is damaged: check it first",
			    m->lower->name);
	return 0;
}

static int block_write(struct mmp *m, u32 seq)
{
	struct ext4_disk_mmp *b = m->block;

	b->seq = le32_put(seq);
	b->time = le64_put((u64)os_now().sec);
	if (m->csum)
		b->checksum = le32_put(ext4_csum_mmp(m->seed, b));
	return blkdev_write(m->lower, m->off_bytes, b, m->block_bytes, 0);
}

static u32 seq_new(void)
{
	u32 seq;

	os_random(&seq, sizeof(seq));
	return seq % EXT4_MMP_SEQ_MAX + 1;
}

/* Who we are. */
static void sign(struct mmp *m)
{
	struct ext4_disk_mmp *b = m->block;
	const char *name = strrchr(m->lower->name, '/');

	name = name ? name + 1 : m->lower->name;
	memset(b->nodename, 0, sizeof(b->nodename));
	memset(b->bdevname, 0, sizeof(b->bdevname));
	os_nodename((char *)b->nodename, sizeof(b->nodename));
	memcpy(b->bdevname, name, MIN(strlen(name), sizeof(b->bdevname) - 1));
	b->check_interval = le16_put((u16)m->check_s);
}

static void text_add_field(struct text *t, const u8 *field, size_t room)
{
	text_add_name(t, (const char *)field, strnlen((const char *)field, room));
}

/* Who it was that wrote m->found: node, device, time. */
static void text_add_who(struct text *t, const struct mmp *m)
{
	time_t sec = (time_t)le64_get(m->found->time);
	char when[32] = "?";
	struct tm tm;

	if (gmtime_r(&sec, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	text_add(t, "machine \"");
	text_add_field(t, m->found->nodename, sizeof(m->found->nodename));
	text_add(t, "\", device \"");
	text_add_field(t, m->found->bdevname, sizeof(m->found->bdevname));
	text_add(t, "\" (last sign of life: %s)", when);
}

static int in_use(const struct mmp *m)
{
	struct text who = { 0 };
	int err;

	text_add_who(&who, m);
	if (le32_get(m->found->seq) == EXT4_MMP_SEQ_FSCK)
		err = fail(-EBUSY,
			   "%s: is being checked on %s: wait for its end; after a check that broke off, "
			   "\"tune2fs -f -E clear_mmp\" frees it",
			   m->lower->name, text_str(&who));
	else
		err = fail(-EBUSY, "%s: is mounted on %s: unmount it there first", m->lower->name,
			   text_str(&who));
	text_free(&who);
	return err;
}

/* ---- taking ---- */

static void wait_s(u32 s)
{
	_Atomic u32 nobody = 0;
	u64 end = os_boottime_ns() + s * 1000000000ull, now;

	while ((now = os_boottime_ns()) < end)
		os_wait(&nobody, 0, (u32)((end - now) / 1000000 + 1));
}

/* As check_summary.still. */
static u64 still_of(u32 seq)
{
	return (u64)seq + 1;
}

/* Has somebody the volume who is alive? *pause_s: how long it takes to find that out. check: what its caller knows; NULL: nothing. */
static int look(struct mmp *m, const struct fs_claim *check, u32 *pause_s)
{
	u32 check_s, seq;
	int err = block_read(m, m->found);

	*pause_s = 0;
	if (err)
		return err;
	seq = le32_get(m->found->seq);
	if (seq == EXT4_MMP_SEQ_CLEAN)
		return 0;
	if (seq == EXT4_MMP_SEQ_FSCK)
		return in_use(m);
	check_s = MAX(m->check_s, MIN((u32)le16_get(m->found->check_interval), CHECK_MAX_S));
	*pause_s = MIN(check_s * 2 + 1, check_s + WAIT_MAX_S);
	if (check && (check->trial || check->still == still_of(seq)))
		return 0;
	log_warn("%s: waiting %u s to see whether another machine has it mounted", m->lower->name, *pause_s);
	wait_s(*pause_s);
	err = block_read(m, m->found);
	if (err)
		return err;
	return le32_get(m->found->seq) == seq ? 0 : in_use(m);
}

static void hold_until(struct mmp *m, u64 since_ns)
{
	atomic_store(&m->until_ns, since_ns + m->check_s * 1000000000ull);
	atomic_fetch_add(&m->round, 1);
	os_wake_all(&m->round);
}

/* check: it is claimed for a check; NULL: for a mount. */
static int seize(struct mmp *m, const struct fs_claim *check)
{
	u32 pause_s;
	u64 since_ns;
	int err = look(m, check, &pause_s);

	if (err)
		return err;
	memcpy(m->block, m->found, m->block_bytes);
	sign(m);
	since_ns = os_boottime_ns();
	err = block_write(m, check ? EXT4_MMP_SEQ_FSCK : seq_new());
	/* Who came at the same moment, having waited like us, finds our number, or we find his. */
	if (!err && pause_s && !(check && check->trial)) {
		wait_s(pause_s);
		err = block_read(m, m->found);
		if (!err && memcmp(m->found, m->block, sizeof(*m->found)) != 0)
			err = in_use(m);
		since_ns = os_boottime_ns();
	}
	if (!err)
		hold_until(m, since_ns);
	return err;
}

/* ---- holding ---- */

/* Who writes the volume is told. Locks: m->lock. */
static void shut_down(struct mmp *m)
{
	if (!m->es || !atomic_load(&m->lost))
		return;
	if (m->es->journal)
		jbd2_abort(m->es->journal, -EBUSY);
	health_raise(&m->es->vfs.health, HEALTH_ABORTED);
}

/* No write passes any more. */
static void lose(struct mmp *m)
{
	atomic_store(&m->lost, true);
	atomic_fetch_add(&m->round, 1);
	os_wake_all(&m->round);
	mutex_lock(&m->lock);
	shut_down(m);
	mutex_unlock(&m->lock);
}

/* The block has what we wrote last. */
static bool still_ours(struct mmp *m)
{
	struct text who = { 0 };
	bool ours;

	if (block_read(m, m->found)) {
		log_error("%s: whether another machine took the volume cannot be told (%s): it is written no "
			  "more",
			  m->lower->name, err_text());
		return false;
	}
	ours = !memcmp(m->found, m->block, sizeof(*m->found));
	if (!ours) {
		text_add_who(&who, m);
		log_error("%s: was taken meanwhile by %s: it is written no more here", m->lower->name,
			  text_str(&who));
		text_free(&who);
	}
	return ours;
}

static void refresh(struct mmp *m)
{
	u64 now = os_boottime_ns();
	u32 seq = le32_get(m->block->seq);
	bool ours = still_ours(m);

	/* A check's number stands still, and is never waited for. Who mends may write the block along with its neighbours, as he found it. */
	if (ours && seq != EXT4_MMP_SEQ_FSCK && block_write(m, seq >= EXT4_MMP_SEQ_MAX ? 1 : seq + 1)) {
		log_error("%s: its block of multiple mount protection cannot be written (%s): it is written "
			  "no more",
			  m->lower->name, err_text());
		ours = false;
	}
	if (ours)
		hold_until(m, now);
	else
		lose(m);
}

static void *work(void *arg)
{
	struct mmp *m = arg;

	for (;;) {
		u64 next_ns = os_boottime_ns() + m->update_s * 1000000000ull, now;

		while (!atomic_load(&m->stop) && (now = os_boottime_ns()) < next_ns)
			os_wait(&m->stop, 0, (u32)((next_ns - now) / 1000000 + 1));
		if (atomic_load(&m->stop) || atomic_load(&m->lost))
			return NULL;
		refresh(m);
	}
}

/* ---- the device ---- */

static struct mmp *to_mmp(struct blkdev *dev)
{
	return container_of(dev, struct mmp, dev);
}

static bool may_write(struct mmp *m)
{
	for (;;) {
		u32 round = atomic_load(&m->round);

		if (atomic_load(&m->lost))
			return false;
		if (os_boottime_ns() <= atomic_load(&m->until_ns))
			return true;
		os_wait(&m->round, round, 1000);
	}
}

static void mmp_submit(struct blkdev *dev, struct bio *bio)
{
	struct mmp *m = to_mmp(dev);

	if (bio->op != BIO_READ && bio->op != BIO_FLUSH && !may_write(m))
		bio_complete(bio, -EIO);
	else
		bio_pass(bio, m->lower, bio->at_bytes);
}

static void mmp_will_need(struct blkdev *dev, u64 off_bytes, u64 len_bytes)
{
	blkdev_will_need(to_mmp(dev)->lower, off_bytes, len_bytes);
}

static void mmp_release(struct blkdev *dev)
{
	struct mmp *m = to_mmp(dev);

	if (m->runs) {
		atomic_store(&m->stop, 1);
		os_wake_all(&m->stop);
		pthread_join(m->thread, NULL);
		if (!atomic_load(&m->lost) && still_ours(m) && block_write(m, EXT4_MMP_SEQ_CLEAN))
			log_error("%s: still looks as if it were mounted: %s", dev->name, err_text());
	}
	blkdev_put(m->lower);
	blkdev_fini(dev);
	mutex_fini(&m->lock);
	free(m->block);
	free(m->found);
	free(m);
}

static int mmp_grow(struct blkdev *dev, u64 size_bytes)
{
	struct blkdev *lower = to_mmp(dev)->lower;
	int err = blkdev_grow(lower, size_bytes);

	atomic_store(&dev->size_bytes, lower->size_bytes);
	return err;
}

static void mmp_cut_back(struct blkdev *dev)
{
	struct blkdev *lower = to_mmp(dev)->lower;

	blkdev_cut_back(lower);
	atomic_store(&dev->size_bytes, lower->size_bytes);
}

static const struct blkdev_ops mmp_ops = {
	.kind = "mmp",
	.submit = mmp_submit,
	.will_need = mmp_will_need,
	.grow = mmp_grow,
	.cut_back = mmp_cut_back,
	.release = mmp_release,
};

static int mmp_new(struct ext4_super *es, struct mmp **out)
{
	struct blkdev *lower = es->vfs.dev;
	struct mmp *m = calloc(1, sizeof(*m));
	int err = m ? blkdev_init(&m->dev, &mmp_ops, lower->name, lower->size_bytes) : -ENOMEM;

	if (err) {
		free(m);
		return fail(err, "no memory for a device");
	}
	m->dev.sector_bytes = lower->sector_bytes;
	m->dev.physical_bytes = lower->physical_bytes;
	m->dev.flags = lower->flags;
	m->dev.copies = lower->copies;
	m->lower = blkdev_get(lower);
	mutex_init(&m->lock, RANK_STAGE);
	m->off_bytes = le64_get(es->disk.mmp_block) << es->block_bits;
	m->block_bytes = ext4_block_bytes(es);
	m->seed = es->csum_seed;
	m->csum = es->metadata_csum;
	m->update_s = MAX(1u, MIN((u32)le16_get(es->disk.mmp_update_interval), UPDATE_MAX_S));
	m->check_s = MIN(MAX(m->update_s * CHECK_FACTOR, CHECK_MIN_S), CHECK_MAX_S);
	m->block = malloc(m->block_bytes);
	m->found = malloc(m->block_bytes);
	*out = m;
	if (m->block && m->found)
		return 0;
	blkdev_put(&m->dev);
	return fail(-ENOMEM, "no memory for a block");
}

static bool protected(const struct ext4_super *es)
{
	return ext4_has_incompat(es, EXT4_INCOMPAT_MMP);
}

static bool has_place(const struct ext4_super *es)
{
	return ext4_blocks_ok(es, le64_get(es->disk.mmp_block), 1);
}

int ext4_mmp_check(struct ext4_super *es, u64 *still)
{
	struct mmp *m;
	u32 pause_s;
	int err;

	*still = 0;
	if (!protected(es))
		return 0;
	if (!has_place(es)) {
		(void)!corrupt(&es->vfs.health, "superblock", 0,
			       "the block of multiple mount protection is none");
		return 0;
	}
	err = mmp_new(es, &m);
	if (err)
		return err;
	err = look(m, NULL, &pause_s);
	if (!err && pause_s)
		*still = still_of(le32_get(m->found->seq));
	if (err == -EUCLEAN) {
		/* It protects against nothing. */
		(void)!corrupt(&es->vfs.health, "block", le64_get(es->disk.mmp_block),
			       "damaged block of multiple mount protection");
		err = 0;
	}
	blkdev_put(&m->dev);
	return err;
}

int ext4_mmp_take(struct ext4_super *es, const struct fs_claim *check, struct blkdev **out)
{
	struct mmp *m;
	int err;

	*out = NULL;
	if (!protected(es))
		return 0;
	if (!has_place(es))
		return fail(-EUCLEAN, "%s: the block of multiple mount protection is none: check it first",
			    es->vfs.health.name);
	err = mmp_new(es, &m);
	if (err)
		return err;
	err = seize(m, check);
	if (!err)
		err = os_thread(&m->thread, "ext4-mmp", work, m);
	m->runs = !err;
	if (err)
		blkdev_put(&m->dev);
	else
		*out = &m->dev;
	return err;
}

void ext4_mmp_watch(struct ext4_super *es, bool watch)
{
	struct mmp *m;

	if (es->vfs.dev->ops != &mmp_ops)
		return;
	m = to_mmp(es->vfs.dev);
	mutex_lock(&m->lock);
	m->es = watch ? es : NULL;
	shut_down(m);
	mutex_unlock(&m->lock);
}
