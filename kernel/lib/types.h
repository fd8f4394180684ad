/* Fixed-width names and the handful of macros every layer uses. */
#ifndef LIB_TYPES_H
#define LIB_TYPES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define __must_check        __attribute__((warn_unused_result))
#define __printf_like(f, a) __attribute__((format(printf, f, a)))
#define __cold              __attribute__((cold))
#define __unused            __attribute__((unused))

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Each argument is evaluated once; the counter keeps nested uses from shadowing each other. */
#define MIN(a, b)          PICK(<, a, b, __COUNTER__)
#define MAX(a, b)          PICK(>, a, b, __COUNTER__)
#define PICK(op, a, b, id) PICK_NAMED(op, a, b, id)
#define PICK_NAMED(op, a, b, id)                                        \
	({                                                              \
		__auto_type pick_a_##id = (a);                          \
		__typeof__(pick_a_##id) pick_b_##id = (b);              \
		pick_a_##id op pick_b_##id ? pick_a_##id : pick_b_##id; \
	})

/* `a` is a power of two. */
#define ALIGN_UP(x, a)     (((x) + ((__typeof__(x))(a)-1)) & ~((__typeof__(x))(a)-1))
#define ALIGN_DOWN(x, a)   ((x) & ~((__typeof__(x))(a)-1))
#define IS_ALIGNED(x, a)   (((x) & ((__typeof__(x))(a)-1)) == 0)
#define DIV_ROUND_UP(x, d) (((x) + (d)-1) / (d))

static inline bool is_pow2(u64 x)
{
	return x && !(x & (x - 1));
}

/* Floor of the base-2 logarithm; x must not be 0. */
static inline u32 ilog2(u64 x)
{
	return 63 - (u32)__builtin_clzll(x);
}

#endif
