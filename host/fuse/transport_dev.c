/*
 * The transport over /dev/fuse: one read of a non-blocking descriptor is one request.
 */
#include "adapter.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

static int dev_receive(struct worker *w)
{
	return fuse_session_receive_buf(w->a->se, &w->buf);
}

static bool dev_pending(struct adapter *a)
{
	struct pollfd p = { .fd = fuse_session_fd(a->se), .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static void dev_sleep(struct adapter *a)
{
	struct pollfd p[] = {
		{ .fd = fuse_session_fd(a->se), .events = POLLIN },
		{ .fd = a->ended_fd, .events = POLLIN },
	};

	poll(p, ARRAY_SIZE(p), -1);
}

const struct transport transport_dev = {
	.name = "/dev/fuse",
	.receive = dev_receive,
	.pending = dev_pending,
	.sleep = dev_sleep,
};
