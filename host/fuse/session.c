/*
 * The session: workers that take requests and answer them, and a controlling thread that waits for signals.
 *
 * Interface: fuse.h.
 *
 * What costs is waking a sleeping CPU, so the aim is that a request meets a thread that is awake, and wakes no
 * other. A worker with nothing to do is one of
 *
 *   watcher   at most one. Looks at the device: first spinning for a moment (while that has paid lately), then
 *             asleep in poll.
 *   deputy    at most one, while there are idle ones or it is the only one. Sleeps, with a clock of 1 ms while
 *             requests come.
 *   idle      any number. Sleep on `calls`.
 *
 * A watcher that gets a request stops watching and serves it. Then nobody watches, which is right when the answer
 * takes microseconds. So that a slow answer does not hold up other requests, one worker is called first when more
 * requests are waiting or the request is of a slow kind; and when the deputy's clock finds the device unwatched
 * with the same request as at its last tick, it calls one too. Called is an idle one, and the deputy itself when
 * there is none. After a while without requests the deputy's clock stops, and the next request starts it again: an
 * unused mount wakes nobody.
 *
 * A lone client is served beside itself, which changes some of this: near.c.
 *
 * Ending. When the mount goes, receive returns 0 to whoever asks. That worker sets `ended` and calls all.
 */
#include "adapter.h"

#include "lib/log.h"
#include "lib/trace.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define SPIN_NS      50000u
#define LUCK_MAX     8u
#define SOON_NS      200000u /* a sleep that was this short might have been a spin */
#define TICK_MS      1u
#define NEAR_TICK_MS 16u /* any thread that wakes moves a lone client away from its worker */
#define QUIET_TICKS  16u
#define WORKERS_MAX  16u

/* ---- who waits how; calling one: calls.c ---- */

static void end(struct adapter *a)
{
	atomic_store(&a->ended, true);
	fuse_session_exit(a->se);
	atomic_fetch_add(&a->calls, 1);
	os_wake_all(&a->calls);
	rouse_deputy(a);
	eventfd_write(a->ended_fd, 1);
}

/* Waits for the device, or moves much. */
static bool may_sleep(const struct worker *w)
{
	const struct fuse_in_header *h = w->buf.mem;

	switch (h->opcode) {
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return true;
	}
	return false;
}

static bool is_slow(const struct worker *w)
{
	const struct fuse_in_header *h = w->buf.mem;

	return may_sleep(w) || h->opcode == FUSE_SETATTR || h->opcode == FUSE_UNLINK ||
	       h->opcode == FUSE_RELEASE;
}

static void serve(struct worker *w)
{
	struct adapter *a = w->a;

	atomic_fetch_add_explicit(&a->received, 1, memory_order_relaxed);
	stat_add(STAT_FUSE_REQUESTS, 1);
	if (atomic_load(&a->deputy_out))
		rouse_deputy(a);
	near_request(w, may_sleep(w));
	if (!atomic_load(&a->watching) && (near_is_on(a) ? may_sleep(w) : is_slow(w) || a->way->pending(a)))
		call_one(a);
	atomic_fetch_add(&a->serving, 1);
	vfs_set_privileged(may_all(((const struct fuse_in_header *)w->buf.mem)->uid));
	if (!raw_request(w))
		fuse_session_process_buf(a->se, &w->buf);
	atomic_fetch_sub(&a->serving, 1);
	err_clear();
}

/* Spins for a request while that has paid lately. As transport.receive. */
static int spin(struct worker *w)
{
	u64 start = os_monotonic_ns();
	int n;

	do {
		n = w->a->way->receive(w);
		if (n != -EAGAIN && n != -EINTR)
			return n;
		sched_yield();
	} while (os_monotonic_ns() - start < SPIN_NS);
	return -EAGAIN;
}

/* Waits for a request as the watcher, until there is one or it is over. As transport.receive. */
static int watch(struct worker *w)
{
	struct adapter *a = w->a;
	u64 start;
	int n;

	near_watch(w);
	if (w->luck && !near_is_on(a)) {
		n = spin(w);
		if (n != -EAGAIN) {
			w->luck = LUCK_MAX;
			return n;
		}
		w->luck--;
	}
	start = os_monotonic_ns();
	do {
		a->way->sleep(a);
		n = a->way->receive(w);
	} while ((n == -EAGAIN || n == -EINTR) && !atomic_load(&a->ended));
	if (os_monotonic_ns() - start < SOON_NS && a->can_spin)
		w->luck = MIN(w->luck + 2, LUCK_MAX);
	return n;
}

/* Sleeps as the deputy until it is called to serve, or the session ends. */
static void stand_by(struct adapter *a)
{
	u64 seen = atomic_load(&a->received);
	u32 quiet = 0;

	while (!atomic_load(&a->ended) && !atomic_exchange(&a->deputy_leave, 0)) {
		u32 word = atomic_load(&a->deputy_calls);
		bool out = quiet >= QUIET_TICKS;
		u64 now;

		atomic_store(&a->deputy_out, out);
		if (atomic_load(&a->received) == seen && !atomic_load(&a->ended))
			os_wait(&a->deputy_calls, word, out ? 0 : near_is_on(a) ? NEAR_TICK_MS : TICK_MS);
		near_tick(a);
		now = atomic_load(&a->received);
		quiet = now == seen ? quiet + 1 : 0;
		seen = now;
		if (quiet && !atomic_load(&a->watching)) {
			quiet = 0;
			call_one(a);
		}
	}
	atomic_store(&a->deputy_out, 0);
}

static void idle(struct adapter *a)
{
	u32 calls = atomic_load(&a->calls);

	if (!atomic_exchange(&a->deputy, 1)) {
		stand_by(a);
		atomic_store(&a->deputy, 0);
		return;
	}
	atomic_fetch_add(&a->sleepers, 1);
	/* Nobody watches: that may be for this worker to do, and call_one may have looked before it counted. */
	if (atomic_load(&a->watching) && !atomic_load(&a->ended))
		os_wait(&a->calls, calls, 0);
	atomic_fetch_sub(&a->sleepers, 1);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	struct adapter *a = w->a;
	int n = 0;

	this_worker = w;
	w->tid = gettid();
	while (!atomic_load(&a->ended)) {
		n = a->way->receive(w);
		if (n == -EAGAIN || n == -EINTR) {
			if (atomic_exchange(&a->watching, 1)) {
				near_rest(w);
				idle(a);
				continue;
			}
			n = watch(w);
			atomic_store(&a->watching, 0);
		}
		if (n > 0)
			serve(w);
		else if (n != -EAGAIN && n != -EINTR)
			break;
	}
	if (n < 0 && n != -EAGAIN && n != -EINTR)
		atomic_store(&a->broken, true);
	end(a);
	near_leave(w);
	return NULL;
}

/* ---- libfuse's door to the device ---- */

/* Adds to INIT's reply what libfuse has no name for. */
static ssize_t send_reply(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_in_header *h = this_worker->buf.mem;
	struct adapter *a = userdata;

	if (h->opcode == FUSE_INIT && count >= 2 &&
	    iov[1].iov_len >= offsetof(struct fuse_init_out, unused) && a->killpriv)
		((struct fuse_init_out *)iov[1].iov_base)->flags |= FUSE_HANDLE_KILLPRIV_V2;
	return near_reply(this_worker, fd, iov, count);
}

static ssize_t receive_bytes(int fd, void *buf, size_t len, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len);
}

static void quiet_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[256];

	(void)level;
	vsnprintf(line, sizeof(line), fmt, ap);
	log_debug("libfuse: %.*s", (int)strcspn(line, "\n"), line);
}

/* ---- life of an adapter ---- */

static int session_new(struct adapter *a)
{
	char *argv[] = { (char *)"werunos", (char *)"-oallow_root", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(a->opts.allow_root ? 2 : 1, argv);

	fuse_set_log_func(quiet_log);
	a->se = fuse_session_new(&args, &adapter_ops, sizeof(adapter_ops), a);
	fuse_opt_free_args(&args);
	return a->se ? 0 : fail(-ENOMEM, "libfuse gives no session");
}

int adapter_new(struct super_block *sb, const struct adapter_opts *opts, struct adapter **out)
{
	struct adapter *a = calloc(1, sizeof(*a));
	int err;

	if (!a)
		return fail(-ENOMEM, "no memory for the FUSE adapter");
	a->sb = sb;
	a->opts = *opts;
	a->opts.noopen |= opts->rdonly;
	a->way = &transport_dev;
	a->can_spin = os_cpus() > 1;
	a->fd = a->ended_fd = a->ready_fd = -1;
	a->worker_count = opts->threads ? opts->threads : MAX(4u, 2 * os_cpus());
	a->worker_count = MIN(a->worker_count, WORKERS_MAX);
	err = nodes_new(sb, &a->nodes);
	if (err)
		goto undo;
	err = session_new(a);
	if (err)
		goto undo;
	a->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	a->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->ended_fd < 0 || a->ready_fd < 0) {
		err = fail(-errno, "no event descriptor: %s", strerror(errno));
		goto undo;
	}
	*out = a;
	return 0;
undo:
	adapter_free(a);
	return err;
}

int adapter_attach(struct adapter *a)
{
	static const struct fuse_custom_io io = { .writev = send_reply, .read = receive_bytes };
	int fd = -1, err;

	err = attach(&a->opts, &fd);
	if (err)
		return err;
	a->fd = fd;
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
		return fail(-errno, "the FUSE descriptor cannot be set up: %s", strerror(errno));
	if (fuse_session_custom_io(a->se, &io, fd))
		return fail(-EIO, "libfuse refuses the FUSE descriptor");
	return 0;
}

void adapter_free(struct adapter *a)
{
	if (!a)
		return;
	if (a->fd >= 0 && !a->detached && (!atomic_load(&a->ended) || atomic_load(&a->broken)) &&
	    fuse_mount_end(a->opts.dir, true))
		log_error("%s", err_text());
	nodes_free(a->nodes);
	/* Closes the descriptor once it is the session's. */
	if (a->se) {
		if (a->fd >= 0 && fuse_session_fd(a->se) != a->fd)
			close(a->fd);
		fuse_session_destroy(a->se);
	}
	if (a->ended_fd >= 0)
		close(a->ended_fd);
	if (a->ready_fd >= 0)
		close(a->ready_fd);
	free(a);
}

/* ---- serving ---- */

static void say_stats(void)
{
	struct text t = { 0 };

	stats_to_text(&t);
	trace_to_text(&t);
	log_warn("state of the program:\n%s", text_str(&t));
	text_free(&t);
}

/* Durable, all of it, before somebody is cut off or goes on unseen. */
static void make_durable(struct adapter *a)
{
	if (vfs_sync(a->sb))
		log_error("%s: not all is durable: %s", a->opts.dir, err_text());
}

/* The user wants the end. The workers go on serving: what is dirty in the kernel comes back to us first. */
static void unmount_now(struct adapter *a)
{
	int err;

	if (a->detached) {
		make_durable(a);
		log_warn("files of %s are cut off", a->opts.dir);
		end(a);
		return;
	}
	err = fuse_mount_end(a->opts.dir, false);
	if (err == -EBUSY) {
		make_durable(a);
		a->detached = true;
		err = fuse_mount_end(a->opts.dir, true);
		if (!err)
			log_warn("%s is in use: it is unmounted, and served until its last file is closed; "
				 "another signal cuts files off",
				 a->opts.dir);
	}
	if (err)
		log_error("%s", err_text());
}

static void on_signal(struct adapter *a, int signal_fd)
{
	struct signalfd_siginfo si;

	if (read(signal_fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGUSR1)
		say_stats();
	else
		unmount_now(a);
}

static void control(struct adapter *a, int signal_fd, void (*ready)(void *ctx), void *ctx)
{
	struct pollfd p[] = {
		{ .fd = a->ended_fd, .events = POLLIN },
		{ .fd = signal_fd, .events = POLLIN },
		{ .fd = a->ready_fd, .events = POLLIN },
	};

	while (!atomic_load(&a->ended)) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0)
			continue;
		if (p[2].revents && p[2].fd >= 0) {
			mount_read_ahead(a->opts.dir);
			if (ready)
				ready(ctx);
			p[2].fd = -1;
		}
		if (p[1].revents)
			on_signal(a, signal_fd);
	}
}

static int workers_start(struct adapter *a)
{
	int err = 0;

	a->workers = calloc(a->worker_count, sizeof(*a->workers));
	if (!a->workers) {
		a->worker_count = 0;
		return fail(-ENOMEM, "no memory for FUSE workers");
	}
	for (u32 i = 0; i < a->worker_count; i++) {
		struct worker *w = &a->workers[i];

		err = worker_init(w, a);
		if (!err)
			err = os_thread(&w->thread, "werunos-fuse", worker_run, w);
		if (err) {
			worker_fini(w);
			a->worker_count = i;
		}
	}
	/* Fewer than wished for will do. */
	return a->worker_count ? 0 : err;
}

static void workers_join(struct adapter *a)
{
	for (u32 i = 0; i < a->worker_count; i++) {
		pthread_join(a->workers[i].thread, NULL);
		worker_fini(&a->workers[i]);
	}
	free(a->workers);
	a->workers = NULL;
}

int adapter_serve(struct adapter *a, void (*ready)(void *ctx), void *ctx)
{
	sigset_t set, old;
	int signal_fd, err;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0) {
		err = fail(-errno, "no signal descriptor: %s", strerror(errno));
		goto unmask;
	}
	labels_find(a);
	near_start(a);
	err = workers_start(a);
	if (!err)
		control(a, signal_fd, ready, ctx);
	workers_join(a);
	near_stop(a);
	close(signal_fd);
unmask:
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}
