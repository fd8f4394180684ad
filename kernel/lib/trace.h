/*
 * Typed trace ring of the process: the last TRACE_RING events, each with two numbers. Cheap enough to stay
 * on; a dump shows what led to an error. Counters live beside it.
 */
#ifndef LIB_TRACE_H
#define LIB_TRACE_H

#include "lib/text.h"
#include "lib/types.h"

/* X(name, format of its two u64) */
#define TRACE_EVENTS(X)                                         \
	X(DEV_ERROR, "device error %llu at byte %llu")          \
	X(BH_BAD, "block %llu failed verification (size %llu)") \
	X(BH_WRITE, "block %llu written (size %llu)")           \
	X(IGET, "inode %llu read (generation %llu)")            \
	X(EVICT, "inode %llu evicted (links %llu)")             \
	X(MAP, "inode %llu mapped at %llu")                     \
	X(RECOVER, "journal transaction %llu, block %llu")      \
	X(CORRUPT, "corruption at %llu (count %llu)")

/* X(name, what it counts) */
#define STATS(X)                                              \
	X(DEV_READS, "device reads")                          \
	X(DEV_READ_BYTES, "bytes read from devices")          \
	X(DEV_WRITES, "device writes")                        \
	X(DEV_WRITE_BYTES, "bytes written to devices")        \
	X(DEV_FLUSHES, "device flushes")                      \
	X(DEV_WRITE_OUTS, "write-outs asked of the host")     \
	X(DEV_ERRORS, "device errors")                        \
	X(BH_HITS, "buffer cache hits")                       \
	X(BH_MISSES, "buffer cache misses")                   \
	X(BH_EVICTED, "buffers evicted")                      \
	X(BH_HEALED, "bad copies rewritten from a good one")  \
	X(BH_BAD, "blocks that failed verification")          \
	X(DATA_BAD, "data sectors with a wrong checksum")     \
	X(DATA_HEALED, "of them, read from another copy")     \
	X(UNPACKED, "extents unpacked")                       \
	X(UNPACKED_HITS, "reads of extents already unpacked") \
	X(INODE_HITS, "inode cache hits")                     \
	X(INODE_READS, "inodes read")                         \
	X(DENTRY_HITS, "name cache hits")                     \
	X(DENTRY_MISSES, "name cache misses")                 \
	X(STAGE_HITS, "reads served from the read stage")     \
	X(TAIL_PUTS, "pieces taken by the tail stage")        \
	X(TAIL_WRITES, "blocks written by the tail stage")    \
	X(FUSE_REQUESTS, "FUSE requests")                     \
	X(FUSE_NEAR, "replies beside a lone client")

#define TRACE_ENUM(name, text) TRACE_##name,
enum trace_event { TRACE_EVENTS(TRACE_ENUM) TRACE_EVENT_COUNT };
#define STAT_ENUM(name, text) STAT_##name,
enum stat_id { STATS(STAT_ENUM) STAT_COUNT };

extern _Atomic u64 stat_counters[STAT_COUNT];

static inline void stat_add(enum stat_id id, u64 n)
{
	atomic_fetch_add_explicit(&stat_counters[id], n, memory_order_relaxed);
}

static inline u64 stat_get(enum stat_id id)
{
	return atomic_load_explicit(&stat_counters[id], memory_order_relaxed);
}

void trace(enum trace_event ev, u64 a, u64 b);
/* The ring, oldest first, one line an event. */
void trace_to_text(struct text *t);
/* The counters, one line each. */
void stats_to_text(struct text *t);

#endif
