/* A worker's memory, and how the requests it serves find it. */
#include "adapter.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <unistd.h>

_Thread_local struct worker *this_worker;

const void *req_body(void)
{
	return (const char *)this_worker->buf.mem + sizeof(struct fuse_in_header);
}

/* libfuse reads up to 256 pages and a header's 4 KiB at a time. WRITE's payload follows two headers. */
int worker_init(struct worker *w, struct adapter *a)
{
	const size_t heads = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	w->a = a;
	w->cpu = -1;
	w->recv_mem = os_alloc_aligned(page, page + 256 * page + 4096 + page);
	w->out = os_alloc_aligned(page, REQUEST_MAX);
	w->names = os_alloc_aligned(page, REQUEST_MAX);
	if (!w->recv_mem || !w->out || !w->names)
		return fail(-ENOMEM, "no memory for a FUSE worker");
	w->buf.mem = (char *)w->recv_mem + page - heads;
	return 0;
}

void worker_fini(struct worker *w)
{
	free(w->recv_mem);
	free(w->out);
	free(w->names);
}
