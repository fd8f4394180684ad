/*
 * The only user of liburing.
 *
 * A thread's ring is made when it first has something for it, and goes when the thread ends. Only its thread
 * touches it, so it needs no lock and a completion costs no wake-up: the kernel runs it when the thread waits.
 * The background has one ring, which belongs to the reaper thread: others leave their bios in a list and, if
 * nobody did before them, write to an eventfd on which the ring has a read under way. If they submitted to that ring themselves, the
 * kernel would interrupt them with each completion.
 * Where the kernel refuses (seccomp, an old kernel, limits) the queue functions say so and the caller takes the pool.
 *
 * Invariants
 * 1. in_flight counts the entries given to a ring for bios and not reaped; at most DEPTH, so the completion queue
 *    cannot overflow and a free submission entry is there whenever in_flight < DEPTH, and one more for the
 *    eventfd. Further bios wait in `waiting`.
 * 2. A ring is touched by one thread only, the one that made it.
 */
#include "uring.h"

#include "io_pool.h"
#include "lib/lock.h"
#include "lib/log.h"
#include "lib/os.h"
#include "xfer.h"
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ENTRIES 128
#define DEPTH   (ENTRIES - 1)

struct ring {
	struct io_uring uring;
	u32 in_flight;
	struct list waiting;
};

static _Thread_local struct ring *own;
static _Thread_local bool own_refused;
static pthread_key_t own_key; /* [const after own_once] */
static pthread_once_t own_once = PTHREAD_ONCE_INIT;

enum shared_state { SHARED_NONE, SHARED_STARTING, SHARED_UP, SHARED_REFUSED };

static struct {
	pthread_mutex_t life; /* orders get, put and the start; taken above everything */
	u32 users;            /* [life] */
	pthread_t reaper;     /* [life] */
	_Atomic u32 state;    /* enum shared_state; changes under life, STARTING is ended by the reaper */
	int event_fd;         /* [const while UP] */
	struct mutex lock;
	struct list incoming; /* [lock] */
	bool told;            /* [lock] the eventfd was written to since incoming was last taken */
	bool stop;            /* [lock] */
} shared = {
	.life = PTHREAD_MUTEX_INITIALIZER,
	.lock = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = RANK_RING },
	.incoming = LIST_INIT(shared.incoming),
};

/* A ring that may be made may still be forbidden to be entered (seccomp): only a round trip proves it. */
static int prove(struct io_uring *u)
{
	struct io_uring_cqe *cqe;
	int err;

	io_uring_prep_nop(io_uring_get_sqe(u));
	err = io_uring_submit_and_wait(u, 1);
	if (err < 0)
		return err;
	err = io_uring_peek_cqe(u, &cqe);
	if (err)
		return err;
	io_uring_cqe_seen(u, cqe);
	return 0;
}

static int ring_init(struct ring *r)
{
	/* What newer kernels do better; the last is what each has. */
	const unsigned flags[] = { IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
				   IORING_SETUP_COOP_TASKRUN, 0 };
	int err = -ENOSYS;

	r->in_flight = 0;
	list_init(&r->waiting);
	for (u32 i = 0; i < ARRAY_SIZE(flags); i++) {
		err = io_uring_queue_init(ENTRIES, &r->uring, flags[i]);
		if (err != -EINVAL)
			break;
	}
	if (err)
		return err;
	/* This feature came with the plain READ and WRITE operations. */
	err = r->uring.features & IORING_FEAT_RW_CUR_POS ? prove(&r->uring) : -ENOSYS;
	if (err)
		io_uring_queue_exit(&r->uring);
	return err;
}

/* Gives the bio's next transfer to the ring, or keeps the bio until there is room. */
static void ring_start(struct ring *r, struct bio *bio)
{
	struct io_uring_sqe *sqe;
	struct xfer x;

	if (r->in_flight == DEPTH) {
		list_add_tail(&r->waiting, &bio->link);
		return;
	}
	r->in_flight++;
	xfer_ops(bio)->next(bio, &x);
	sqe = io_uring_get_sqe(&r->uring);
	if (x.iov_count == 1 && x.write)
		io_uring_prep_write(sqe, x.fd, x.iov->iov_base, (unsigned)x.iov->iov_len, x.off_bytes);
	else if (x.iov_count == 1)
		io_uring_prep_read(sqe, x.fd, x.iov->iov_base, (unsigned)x.iov->iov_len, x.off_bytes);
	else if (x.write)
		io_uring_prep_writev(sqe, x.fd, x.iov, x.iov_count, x.off_bytes);
	else
		io_uring_prep_readv(sqe, x.fd, x.iov, x.iov_count, x.off_bytes);
	sqe->rw_flags = x.rw_flags;
	io_uring_sqe_set_data(sqe, bio);
}

/* An entry came back: the next that waits takes its place. */
static void ring_ended(struct ring *r)
{
	struct list *l;

	r->in_flight--;
	l = list_pop(&r->waiting);
	if (l)
		ring_start(r, list_entry(l, struct bio, link));
}

/* True: the bio has more to do in the ring. */
static bool bio_ended(struct bio *bio, s32 res)
{
	if (res == -EINTR)
		return true;
	if (res == -EAGAIN) {
		io_pool_queue(bio);
		return false;
	}
	return xfer_ops(bio)->ended(bio, res);
}

/* Submits, waits for one completion or more, and handles what has come. `event`: called for the eventfd's. */
static void ring_reap(struct ring *r, void (*event)(struct ring *))
{
	struct io_uring_cqe *cqe;
	int err;

	err = io_uring_submit_and_wait(&r->uring, 1);
	/* Only a lack of memory or of completion room stops a submission that was proved to work: both pass. */
	if (err < 0 && err != -EINTR && err != -EBUSY)
		usleep(1000);
	while (!io_uring_peek_cqe(&r->uring, &cqe)) {
		struct bio *bio = io_uring_cqe_get_data(cqe);
		s32 res = cqe->res;

		io_uring_cqe_seen(&r->uring, cqe);
		if (!bio) {
			event(r);
			continue;
		}
		ring_ended(r);
		if (bio_ended(bio, res))
			ring_start(r, bio);
	}
}

/* ---- a thread's own ring ---- */

static void own_free(void *p)
{
	struct ring *r = p;

	io_uring_queue_exit(&r->uring);
	free(r);
}

static void own_key_new(void)
{
	if (pthread_key_create(&own_key, own_free))
		log_warn("no thread key left: rings live until the process ends");
}

static bool own_new(void)
{
	struct ring *r = own_refused ? NULL : malloc(sizeof(*r));
	int err;

	own_refused = true;
	if (!r)
		return false;
	err = ring_init(r);
	if (err) {
		log_debug("no io_uring (%s): using threads", err_name(err));
		free(r);
		return false;
	}
	pthread_once(&own_once, own_key_new);
	pthread_setspecific(own_key, r);
	own = r;
	return true;
}

bool uring_queue(struct bio *bio)
{
	if (unlikely(!own) && !own_new())
		return false;
	ring_start(own, bio);
	return true;
}

bool uring_reap(void)
{
	if (!own || !own->in_flight)
		return false;
	ring_reap(own, NULL);
	return true;
}

/* ---- the shared ring ---- */

static void watch_event(struct ring *r)
{
	static u64 count; /* what the kernel puts there is of no interest */
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);

	io_uring_prep_read(sqe, shared.event_fd, &count, sizeof(count), 0);
	io_uring_sqe_set_data(sqe, NULL);
}

/* Starts what others left. False: the reaper is to end. */
static bool take_incoming(struct ring *r)
{
	struct list bios = LIST_INIT(bios), *l;
	bool stop;

	mutex_lock(&shared.lock);
	list_splice_tail(&bios, &shared.incoming);
	shared.told = false;
	stop = shared.stop;
	mutex_unlock(&shared.lock);
	while ((l = list_pop(&bios)))
		ring_start(r, list_entry(l, struct bio, link));
	return !stop;
}

static void *reap_shared(void *arg)
{
	struct ring ring;
	int err = ring_init(&ring);

	atomic_store(&shared.state, err ? SHARED_REFUSED : SHARED_UP);
	os_wake_all(&shared.state);
	if (err) {
		log_debug("no io_uring in the background (%s): using threads", err_name(err));
		return arg;
	}
	watch_event(&ring);
	while (take_incoming(&ring))
		ring_reap(&ring, watch_event);
	io_uring_queue_exit(&ring.uring);
	return arg;
}

static void tell_reaper(void)
{
	const u64 one = 1;

	/* Fails only when the count would overflow, and then the reaper has been told often enough. */
	if (write(shared.event_fd, &one, sizeof(one)) < 0)
		log_debug("eventfd: errno %d", errno);
}

static void shared_start(void)
{
	pthread_mutex_lock(&shared.life);
	if (shared.state != SHARED_NONE)
		goto unlock;
	shared.state = SHARED_REFUSED;
	shared.event_fd = eventfd(0, EFD_CLOEXEC);
	if (shared.event_fd < 0)
		goto unlock;
	shared.stop = false;
	shared.state = SHARED_STARTING;
	if (os_thread(&shared.reaper, "werunos-reap", reap_shared, NULL)) {
		shared.state = SHARED_REFUSED;
		close(shared.event_fd);
		goto unlock;
	}
	while (shared.state == SHARED_STARTING)
		os_wait(&shared.state, SHARED_STARTING, 0);
	if (shared.state == SHARED_REFUSED) {
		pthread_join(shared.reaper, NULL);
		close(shared.event_fd);
	}
unlock:
	pthread_mutex_unlock(&shared.life);
}

void uring_get(void)
{
	pthread_mutex_lock(&shared.life);
	shared.users++;
	pthread_mutex_unlock(&shared.life);
}

void uring_put(void)
{
	pthread_mutex_lock(&shared.life);
	if (!--shared.users) {
		if (shared.state == SHARED_UP) {
			mutex_lock(&shared.lock);
			shared.stop = true;
			mutex_unlock(&shared.lock);
			tell_reaper();
			pthread_join(shared.reaper, NULL);
			close(shared.event_fd);
		}
		shared.state = SHARED_NONE;
	}
	pthread_mutex_unlock(&shared.life);
}

bool uring_queue_background(struct bio *bio)
{
	bool told;

	if (unlikely(shared.state == SHARED_NONE))
		shared_start();
	if (shared.state != SHARED_UP)
		return false;
	mutex_lock(&shared.lock);
	list_add_tail(&shared.incoming, &bio->link);
	told = shared.told;
	shared.told = true;
	mutex_unlock(&shared.lock);
	if (!told)
		tell_reaper();
	return true;
}
