/*
 * READDIR and READDIRPLUS.
 *
 * A reply is made in two steps. First as many entries as fit are copied out of vfs_readdir, under the directory's
 * lock. Then, without it, each entry's inode is read (READDIRPLUS) and the reply is put together. So a slow or
 * damaged inode neither holds up the directory nor hides its neighbours: an entry whose inode cannot be read goes
 * out bare, and whoever looks it up gets the error.
 */
#include "adapter.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

struct entry {
	u64 ino, next_pos;
	u32 type;
	u32 room_bytes; /* in the reply */
	u32 stride_bytes;
	bool counted; /* the reply counts a lookup */
	char name[];  /* NUL-terminated */
};

struct gather {
	fuse_req_t req;
	char *mem;       /* entries, one after the other */
	u32 used_bytes;  /* of mem; at most what the reply takes */
	u32 reply_bytes; /* the reply so far */
	u32 reply_max;   /* what the kernel asked for */
	bool plus;
};

static int gather_entry(void *ctx, const struct dirent_out *de)
{
	struct gather *g = ctx;
	struct entry *e = (struct entry *)(g->mem + g->used_bytes);
	size_t stride = ALIGN_UP(sizeof(*e) + de->name.len + 1, 8);
	size_t room;

	if (g->used_bytes + stride > REQUEST_MAX)
		return 1;
	/* A name that no path can say, as a damaged volume may have it, would make the kernel refuse them all. */
	if (!de->name.len || memchr(de->name.s, '/', de->name.len) || memchr(de->name.s, 0, de->name.len))
		return 0;
	memcpy(e->name, de->name.s, de->name.len);
	e->name[de->name.len] = 0;
	room = g->plus ? fuse_add_direntry_plus(g->req, NULL, 0, e->name, NULL, 0)
		       : fuse_add_direntry(g->req, NULL, 0, e->name, NULL, 0);
	if (g->reply_bytes + room > g->reply_max)
		return 1;
	e->ino = de->ino;
	e->next_pos = de->next_pos;
	e->type = de->type;
	e->counted = false;
	e->room_bytes = (u32)room;
	e->stride_bytes = (u32)stride;
	g->used_bytes += (u32)stride;
	g->reply_bytes += (u32)room;
	return 0;
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* What READDIRPLUS says of one entry. p->ino 0: no attributes, and no lookup counted. */
static void entry_plus(struct adapter *a, struct inode *dir, struct entry *e, struct fuse_entry_param *p)
{
	scoped(vfs_iputp) struct inode *inode = NULL;

	if (!is_dot(e->name) && !vfs_iget(a->sb, e->ino, &inode) && !node_remember(a->nodes, inode)) {
		entry_fill(a, dir, inode, p);
		e->counted = true;
		return;
	}
	memset(p, 0, sizeof(*p));
	p->attr.st_ino = e->ino;
	p->attr.st_mode = DTTOIF(e->type);
}

static struct entry *entry_at(const struct gather *g, u32 at)
{
	return (struct entry *)(g->mem + at);
}

/* The inodes of all entries are read at once, where the volume is slow. */
static void read_ahead(const struct gather *g, struct adapter *a)
{
	u64 inos[128];
	u32 n = 0;

	for (u32 at = 0; at < g->used_bytes; at += entry_at(g, at)->stride_bytes) {
		inos[n++] = entry_at(g, at)->ino;
		if (n == ARRAY_SIZE(inos)) {
			vfs_readahead_inodes(a->sb, inos, n);
			n = 0;
		}
	}
	vfs_readahead_inodes(a->sb, inos, n);
}

/* Puts the reply together in out. */
static void assemble(const struct gather *g, struct adapter *a, struct inode *dir, char *out)
{
	for (u32 at = 0; at < g->used_bytes; at += entry_at(g, at)->stride_bytes) {
		struct entry *e = entry_at(g, at);
		struct fuse_entry_param p = { .attr.st_ino = e->ino, .attr.st_mode = DTTOIF(e->type) };

		if (g->plus)
			entry_plus(a, dir, e, &p);
		if (g->plus)
			fuse_add_direntry_plus(g->req, out, e->room_bytes, e->name, &p, (off_t)e->next_pos);
		else
			fuse_add_direntry(g->req, out, e->room_bytes, e->name, &p.attr, (off_t)e->next_pos);
		out += e->room_bytes;
	}
}

/* The reply did not arrive: the kernel holds none of the nodes in it. */
static void take_back(const struct gather *g, struct adapter *a)
{
	for (u32 at = 0; at < g->used_bytes; at += entry_at(g, at)->stride_bytes)
		if (entry_at(g, at)->counted)
			node_forget(a->nodes, node_id(a->nodes, entry_at(g, at)->ino), 1);
}

static void list(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t pos, bool plus)
{
	struct adapter *a = req_adapter(req);
	struct worker *w = this_worker;
	struct gather g = { .req = req, .mem = w->names, .plus = plus };
	scoped(vfs_iputp) struct inode *dir = NULL;
	int err = req_inode(req, nodeid, &dir);

	g.reply_max = (u32)MIN(size, (size_t)REQUEST_MAX);
	if (!err)
		err = vfs_readdir(dir, (u64)pos, gather_entry, &g);
	/* What was found before an error goes out first; the next call meets the error again. */
	if (err && !g.used_bytes) {
		reply_err(req, err);
		return;
	}
	if (plus)
		read_ahead(&g, a);
	vfs_accessed(dir);
	assemble(&g, a, dir, w->out);
	if (fuse_reply_buf(req, w->out, g.reply_bytes))
		take_back(&g, a);
}

void ll_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t pos, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, nodeid, size, pos, false);
}

void ll_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t pos, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, nodeid, size, pos, true);
}
