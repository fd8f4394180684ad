/*
 * Interface: slab.h. Under AddressSanitizer each object is malloc's own, so that one that is used after it was put back is found.
 */
#include "lib/slab.h"

#include "lib/os.h"
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (64u << 10) /* the first */
#define HUGE_BYTES  (2u << 20)
#define ALIGN_BYTES 4096u

#ifdef __SANITIZE_ADDRESS__
#define OBJECTS_ALONE true
#else
#define OBJECTS_ALONE false
#endif

void slab_init(struct slab *s, u32 obj_bytes)
{
	*s = (struct slab){ .obj_bytes = obj_bytes };
	mutex_init(&s->lock, RANK_LEAF);
}

/* Locks: s. */
static void give_back(struct slab *s)
{
	for (u32 i = 0; i < s->chunks; i++)
		free(s->chunk[i]);
	free(s->chunk);
	s->chunk = NULL;
	s->chunks = s->room = 0;
	s->free = NULL;
	s->fresh = s->end = NULL;
}

void slab_fini(struct slab *s)
{
	give_back(s);
	mutex_fini(&s->lock);
}

/* Locks: s. */
static bool grow(struct slab *s)
{
	u64 bytes = MIN((u64)CHUNK_BYTES << MIN(s->chunks, 8u), (u64)HUGE_BYTES);
	void *chunk;

	bytes = MAX(bytes, (u64)s->obj_bytes);
	if (s->chunks == s->room) {
		u32 room = s->room ? s->room * 2 : 16;
		void **more = reallocarray(s->chunk, room, sizeof(*more));

		if (!more)
			return false;
		s->chunk = more;
		s->room = room;
	}
	chunk = os_alloc_aligned(bytes < HUGE_BYTES ? ALIGN_BYTES : HUGE_BYTES, bytes);
	if (!chunk)
		return false;
	if (bytes >= HUGE_BYTES)
		os_huge_pages(chunk, bytes);
	s->chunk[s->chunks++] = chunk;
	s->fresh = chunk;
	s->end = s->fresh + bytes / s->obj_bytes * s->obj_bytes;
	return true;
}

void *slab_get(struct slab *s)
{
	void *obj = NULL;

	if (OBJECTS_ALONE)
		return os_alloc_aligned(MIN(s->obj_bytes & -s->obj_bytes, ALIGN_BYTES), s->obj_bytes);
	mutex_lock(&s->lock);
	if (s->free) {
		obj = s->free;
		s->free = *(void **)obj;
	} else if (s->fresh != s->end || grow(s)) {
		obj = s->fresh;
		s->fresh += s->obj_bytes;
	}
	s->used += obj != NULL;
	mutex_unlock(&s->lock);
	return obj;
}

void *slab_get_zeroed(struct slab *s)
{
	void *obj = slab_get(s);

	return obj ? memset(obj, 0, s->obj_bytes) : NULL;
}

void slab_put(struct slab *s, void *obj)
{
	if (OBJECTS_ALONE) {
		free(obj);
		return;
	}
	mutex_lock(&s->lock);
	*(void **)obj = s->free;
	s->free = obj;
	if (!--s->used)
		give_back(s);
	mutex_unlock(&s->lock);
}
