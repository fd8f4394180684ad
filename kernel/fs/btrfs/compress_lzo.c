/*
 * Extents that LZO compressed. The frame (fs/btrfs/lzo.c of the kernel describes it): 4 bytes with the length of everything, themselves
 * included, then segments: 4 bytes with the length of what follows, which unpacks to at most a sector. Where less than 4 bytes of
 * a sector are left the next length begins with the next sector.
 *
 * A segment is a stream of LZO1X instructions, as Documentation/staging/lzo.rst of the kernel describes them: each copies bytes that were
 * unpacked before (a match), then up to three from the input (literals); or many literals. How many literals came last (`state`: 0 to 3, or 4 for
 * many) says what the smallest codes mean.
 */
#include "btrfs.h"

#include <errno.h>

#define LENGTH_BYTES 4u
/* Copies go in steps of so many bytes, where input and room reach that far. */
#define STEP 16u

/* Where unpacking a segment stands. */
struct stream {
	const u8 *in, *in_end;
	u8 *out, *start, *end; /* end: of the room */
	bool bad, full;
};

static void literals(struct stream *z, u32 n)
{
	u32 room = (u32)(z->end - z->out);

	if (n > (u32)(z->in_end - z->in)) {
		z->bad = true;
		return;
	}
	if (n <= STEP && room >= STEP && z->in_end - z->in >= STEP) {
		memcpy(z->out, z->in, STEP);
	} else {
		z->full |= n > room;
		n = MIN(n, room);
		memcpy(z->out, z->in, n);
	}
	z->out += n;
	z->in += n;
}

static void match(struct stream *z, u32 distance, u32 n)
{
	u32 room = (u32)(z->end - z->out);
	const u8 *from = z->out - distance;
	u8 *out = z->out, *end;

	if (distance > (u32)(z->out - z->start)) {
		z->bad = true;
		return;
	}
	z->full |= n > room;
	n = MIN(n, room);
	end = out + n;
	z->out = end;
	if (distance >= STEP && room - n >= STEP) {
		for (; out < end; out += STEP, from += STEP)
			memcpy(out, from, STEP);
	} else if (distance >= 8 && room - n >= 8) {
		for (; out < end; out += 8, from += 8)
			memcpy(out, from, 8);
	} else if (distance == 1) {
		memset(out, *from, n);
	} else {
		/* What is copied may be what was just written. */
		while (out < end)
			*out++ = *from++;
	}
}

/* The next byte; 0 and bad behind the end. */
static u32 byte(struct stream *z)
{
	if (z->in < z->in_end)
		return *z->in++;
	z->bad = true;
	return 0;
}

static u32 word(struct stream *z)
{
	u32 low = byte(z);

	return low | byte(z) << 8;
}

/* A length whose `most` in the instruction was not enough: zero bytes count 255 each. */
static u32 length(struct stream *z, u32 in_code, u32 most)
{
	u32 n = most, b;

	if (in_code)
		return in_code;
	while (!(b = byte(z)) && !z->bad)
		n += 255;
	return n + b;
}

/* One instruction other than many literals. Returns how many literals followed; 5: it was the end. */
static u32 instruction(struct stream *z, u32 code, u32 state)
{
	u32 n, distance, more = code & 3;

	if (code >= 64) {
		n = code >= 128 ? 5 + (code >> 5 & 3) : 3 + (code >> 5 & 1);
		distance = (byte(z) << 3) + (code >> 2 & 7) + 1;
	} else if (code >= 32) {
		n = 2 + length(z, code & 31, 31);
		distance = word(z);
		more = distance & 3;
		distance = (distance >> 2) + 1;
	} else if (code >= 16) {
		n = 2 + length(z, code & 7, 7);
		distance = word(z);
		more = distance & 3;
		distance = 16384 + ((code & 8) << 11) + (distance >> 2);
		if (distance == 16384)
			return 5;
	} else {
		n = state == 4 ? 3 : 2;
		distance = (byte(z) << 2) + (code >> 2) + (state == 4 ? 2049 : 1);
	}
	if (z->bad)
		return 0;
	match(z, distance, n);
	if (more && !z->bad)
		literals(z, more);
	return more;
}

/* What the instructions of run take and make at most, with what is copied too much. */
#define RUN_IN  40u
#define RUN_OUT 80u

static void copy_short(u8 *out, u32 distance, u32 n)
{
	const u8 *from = out - distance;

	if (distance >= STEP) {
		memcpy(out, from, STEP);
		for (u32 i = STEP; i < n; i += STEP)
			memcpy(out + i, from + i, STEP);
	} else if (distance >= 8) {
		for (u32 i = 0; i < n; i += 8)
			memcpy(out + i, from + i, 8);
	} else {
		for (u32 i = 0; i < n; i++)
			out[i] = from[i];
	}
}

/*
 * The frequent instructions, as long as neither end is near, so that no copy needs to be looked at. Goes on up to one that is
 * not among them, or cannot be. Returns the state.
 */
static u32 run(struct stream *z, u32 state)
{
	const u8 *in = z->in;
	u8 *out = z->out;

	while (z->in_end - in >= RUN_IN && z->end - out >= RUN_OUT) {
		u32 code = *in, n, distance, more = code & 3, taken = 2;

		if (code >= 64) {
			n = code >= 128 ? 5 + (code >> 5 & 3) : 3 + (code >> 5 & 1);
			distance = ((u32)in[1] << 3) + (code >> 2 & 7) + 1;
		} else if (code > 32) {
			n = 2 + (code & 31);
			distance = in[1] | (u32)in[2] << 8;
			more = distance & 3;
			distance = (distance >> 2) + 1;
			taken = 3;
		} else if (code < 16 && !state && code) {
			memcpy(out, in + 1, STEP);
			memcpy(out + STEP, in + 1 + STEP, STEP);
			out += 3 + code;
			in += 4 + code;
			state = 4;
			continue;
		} else if (code < 16 && state) {
			n = state == 4 ? 3 : 2;
			distance = ((u32)in[1] << 2) + (code >> 2) + (state == 4 ? 2049 : 1);
		} else {
			break;
		}
		if (distance > (u32)(out - z->start))
			break;
		copy_short(out, distance, n);
		out += n;
		in += taken;
		memcpy(out, in, 4);
		out += more;
		in += more;
		state = more;
	}
	z->in = in;
	z->out = out;
	return state;
}

/* False: damaged. z->full: there was more than room. */
static bool unpack_segment(struct stream *z)
{
	u32 state = 0;

	/* The first code has another meaning: literals, since nothing could be matched. */
	if (z->in<z->in_end && * z->in> 17) {
		state = *z->in++ - 17u;
		literals(z, state);
		state = MIN(state, 4u);
	}
	while (!z->bad && !z->full) {
		u32 code;

		state = run(z, state);
		code = byte(z);
		if (z->bad)
			break;
		if (code < 16 && !state) {
			u32 n = 3 + length(z, code, 15);

			if (!z->bad)
				literals(z, n);
			state = 4;
			continue;
		}
		state = instruction(z, code, state);
		if (state == 5)
			return !z->bad && z->in == z->in_end;
	}
	return !z->bad;
}

static u32 length_at(const u8 *p)
{
	le32 v;

	memcpy(&v, p, sizeof(v));
	return le32_get(v);
}

int btrfs_lzo_unpack(u32 sector_bytes, const void *src, u32 src_bytes, void *dst, u32 room_bytes, u32 *done)
{
	const u8 *p = src;
	u32 end, at = LENGTH_BYTES, out = 0;

	if (src_bytes < LENGTH_BYTES)
		return fail(-EIO, "data compressed by LZO are cut off");
	end = length_at(p);
	/* Not a sector of the extent is for nothing. */
	if (end < LENGTH_BYTES || end > src_bytes || ALIGN_UP((u64)end, (u64)sector_bytes) < src_bytes)
		return fail(-EIO, "data compressed by LZO are of another length than the extent");
	while (out < room_bytes && end - at >= LENGTH_BYTES) {
		u32 len = length_at(p + at), room = MIN(room_bytes - out, sector_bytes), left;
		struct stream z = { .out = (u8 *)dst + out };

		at += LENGTH_BYTES;
		if (len > end - at)
			return fail(-EIO, "data compressed by LZO are cut off");
		z.in = p + at;
		z.in_end = z.in + len;
		z.start = z.out;
		z.end = z.out + room;
		if (!unpack_segment(&z) || z.out == z.start || (z.full && room < room_bytes - out))
			return fail(-EIO, "data compressed by LZO are damaged");
		at += len;
		out += (u32)(z.out - z.start);
		left = sector_bytes - at % sector_bytes;
		if (left < LENGTH_BYTES)
			at += MIN(left, end - at);
	}
	*done = out;
	return 0;
}
