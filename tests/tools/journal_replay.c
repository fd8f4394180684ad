/*
 * journal_replay IMAGE BLOCK_BYTES OUT < block numbers of the journal, in order
 * Replays the journal onto an overlay and writes what the volume then is to OUT. Prints what was found.
 */
#include "jbd2/jbd2.h"

#include "support/copy_out.h"
#include <stdio.h>
#include <stdlib.h>

struct list_map {
	u64 *blk;
	u64 count;
};

static int map(void *priv, u64 lblk, u64 *blk, u64 *count)
{
	const struct list_map *m = priv;

	*blk = m->blk[lblk];
	for (*count = 1; lblk + *count < m->count && m->blk[lblk + *count] == *blk + *count;)
		++*count;
	return 0;
}

int main(int argc, char **argv)
{
	struct list_map m = { 0 };
	struct jbd2_where where = { .map = map, .priv = &m };
	struct blkdev *dev, *snap;
	struct jbd2_recovery r;
	struct jbd2 *j;
	unsigned long long blk;
	int err;

	if (argc != 4) {
		fprintf(stderr, "usage: journal_replay IMAGE BLOCK_BYTES OUT < BLOCKS\n");
		return 64;
	}
	while (scanf("%llu", &blk) == 1) {
		u64 *p = realloc(m.blk, (m.count + 1) * sizeof(*p));

		if (!p)
			return 1;
		m.blk = p;
		m.blk[m.count++] = blk;
	}
	if (dev_file_open(argv[1], 0, &dev) || dev_snap_new(dev, &snap)) {
		fprintf(stderr, "%s\n", err_text());
		return 1;
	}
	where.dev = dev;
	where.block_bytes = (u32)strtoul(argv[2], NULL, 0);
	where.blocks = m.count;
	err = jbd2_open(&where, NULL, &j);
	if (!err) {
		const struct jbd2_info *i = jbd2_info(j);

		err = jbd2_recover(j, snap, &r);
		printf("compat=%u incompat=%u start=%llu blocks=%llu first=%u transactions=%u replayed=%llu "
		       "revoked=%llu bad=%d fc=%llu\n",
		       i->compat, i->incompat, (unsigned long long)i->start, (unsigned long long)i->blocks,
		       r.first, r.end - r.first, (unsigned long long)r.replayed,
		       (unsigned long long)r.revoked, r.bad_commit, (unsigned long long)i->fc_count);
		jbd2_close(j);
	}
	if (!err)
		err = copy_out(snap, argv[3]);
	if (err)
		fprintf(stderr, "%s\n", err_text());
	blkdev_put(snap);
	blkdev_put(dev);
	free(m.blk);
	return err ? 1 : 0;
}
