/*
 * On-disk integers. Each is a struct holding bytes: alignment 1, so a format struct needs no packing
 * attribute and an unaligned read is defined; and a disk integer can be mixed neither with a host integer
 * nor with one of the other byte order, because that does not compile.
 *
 * Below each struct of a format's ondisk.h stand DISK_SIZE and, for the fields that matter, DISK_FIELD;
 * DISK_SIZE also proves that no host integer slipped in, since that would raise the alignment.
 */
#ifndef LIB_DISK_H
#define LIB_DISK_H

#include "lib/types.h"
#include <string.h>

typedef struct {
	u8 b[2];
} le16;
typedef struct {
	u8 b[4];
} le32;
typedef struct {
	u8 b[8];
} le64;
typedef struct {
	u8 b[2];
} be16;
typedef struct {
	u8 b[4];
} be32;
typedef struct {
	u8 b[8];
} be64;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define DISK_LE(bits, x) (x)
#define DISK_BE(bits, x) __builtin_bswap##bits(x)
#else
#define DISK_LE(bits, x) __builtin_bswap##bits(x)
#define DISK_BE(bits, x) (x)
#endif

#define DISK_INT(type, host, bits, order)     \
	static inline host type##_get(type v) \
	{                                     \
		host x;                       \
		memcpy(&x, v.b, sizeof(x));   \
		return order(bits, x);        \
	}                                     \
	static inline type type##_put(host x) \
	{                                     \
		type v;                       \
		x = order(bits, x);           \
		memcpy(v.b, &x, sizeof(x));   \
		return v;                     \
	}

DISK_INT(le16, u16, 16, DISK_LE)
DISK_INT(le32, u32, 32, DISK_LE)
DISK_INT(le64, u64, 64, DISK_LE)
DISK_INT(be16, u16, 16, DISK_BE)
DISK_INT(be32, u32, 32, DISK_BE)
DISK_INT(be64, u64, 64, DISK_BE)

#define DISK_SIZE(type, bytes)                                                  \
	_Static_assert(sizeof(type) == (bytes), #type " has its on-disk size"); \
	_Static_assert(_Alignof(type) == 1, #type " holds disk integers only")
#define DISK_FIELD(type, field, at) \
	_Static_assert(offsetof(type, field) == (at), #type "." #field " is at its on-disk offset")

#endif
