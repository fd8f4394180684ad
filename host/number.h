/* Numbers as people write them. */
#ifndef HOST_NUMBER_H
#define HOST_NUMBER_H

#include "lib/types.h"

/* A number of bytes: digits with K, M, G or T (powers of 1024). False when it is none. */
bool size_parse(const char *s, u64 *out) __must_check;
/* An unsigned number, decimal or 0x. False when it is none or above max. */
bool number_parse(const char *s, u64 max, u64 *out) __must_check;

#endif
