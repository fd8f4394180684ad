/*
 * Where the bytes of a chunk lie. Pure functions of the chunk, the address, the copy, and which stripes can be read.
 *
 * Copies, as a reader counts them. Mirrors: those that are there, in the order of the chunk, those that
 * are behind after the others; then nothing. RAID5 and RAID6: the
 * stripe itself (if it is there); made from the others; RAID6 also: made from the others without trusting one of them, each in
 * turn, P first. A stripe that is behind comes after what is made from the others, when enough of them are not behind. So copy 0 can be had
 * whenever any can.
 *
 * Roles of stripes in a row of RAID5 and RAID6: data 0 …, P, Q; from row to row they move on by one stripe.
 */
#include "volume.h"

#include <errno.h>

#define STRIPE ((u64)BTRFS_STRIPE_BYTES)

typedef enum btrfs_there (*state_fn)(const void *ctx, const struct btrfs_chunk *c, u32 stripe);

u32 btrfs_stripe_of_role(const struct btrfs_chunk *c, u32 row, u32 role)
{
	return (u32)(((u64)role + row) % c->num_stripes);
}

/* The nth of `count` stripes from `first` on that is there. */
static int mirror(const struct btrfs_chunk *c, u32 first, u32 count, u32 nth, state_fn state, const void *ctx,
		  u32 *stripe)
{
	for (enum btrfs_there want = BTRFS_THERE; want != BTRFS_MISSING; want--)
		for (u32 i = first; i < first + count; i++)
			if (state(ctx, c, i) == want && !nth--) {
				*stripe = i;
				return 0;
			}
	return -EIO;
}

/* Enough stripes are neither missing nor behind to make the others from. */
static bool others_do(const struct btrfs_chunk *c, state_fn state, const void *ctx)
{
	u32 bad = 0;

	for (u32 i = 0; i < c->num_stripes; i++)
		bad += state(ctx, c, i) != BTRFS_THERE;
	return bad <= btrfs_chunk_parity(c);
}

static int in_parity_chunk(const struct btrfs_chunk *c, u64 nr, u32 copy, state_fn state, const void *ctx,
			   struct btrfs_piece *out)
{
	u32 data = btrfs_chunk_data_stripes(c), parity = btrfs_chunk_parity(c);
	enum btrfs_there own;

	out->row = (u32)(nr / data % c->num_stripes);
	out->data = (u32)(nr % data);
	out->stripe = btrfs_stripe_of_role(c, out->row, out->data);
	out->in_stripe += nr / data * STRIPE;
	own = state(ctx, c, out->stripe);
	if (own == BTRFS_MISSING)
		copy++;
	else if (own == BTRFS_BEHIND && copy < 2 && others_do(c, state, ctx))
		copy = !copy;
	out->rebuild = copy > 0;
	if (copy < 2)
		return 0;
	/* P, then the other data stripes. */
	copy -= 2;
	if (parity < 2 || copy >= data)
		return -EIO;
	out->other = !copy ? data : copy - 1 < out->data ? copy - 1 : copy;
	return 0;
}

int btrfs_piece_find(const struct btrfs_chunk *c, u64 logical, u64 len_bytes, u32 copy, state_fn state,
		     const void *ctx, struct btrfs_piece *out)
{
	u64 off = logical - c->logical, nr = off / STRIPE;
	u32 data = btrfs_chunk_data_stripes(c);

	*out = (struct btrfs_piece){ .other = BTRFS_NO_STRIPE };
	len_bytes = MIN(len_bytes, c->len_bytes - off);
	if (!(c->type & (BTRFS_BG_RAID0 | BTRFS_BG_RAID10 | BTRFS_BG_RAID5 | BTRFS_BG_RAID6))) {
		out->len_bytes = len_bytes;
		out->in_stripe = off;
		return mirror(c, 0, c->num_stripes, copy, state, ctx, &out->stripe);
	}
	out->len_bytes = MIN(len_bytes, STRIPE - off % STRIPE);
	out->in_stripe = off % STRIPE;
	if (btrfs_chunk_parity(c))
		return in_parity_chunk(c, nr, copy, state, ctx, out);
	out->in_stripe += nr / data * STRIPE;
	return mirror(c, (u32)(nr % data) * c->sub_stripes, c->sub_stripes, copy, state, ctx, &out->stripe);
}
