/* Checksums as the formats store them: raw state in, raw state out, no final inversion. */
#ifndef LIB_CRC_H
#define LIB_CRC_H

#include "lib/types.h"

/* CRC-32C (Castagnoli), reflected; start with ~0u unless the format says otherwise. */
u32 crc32c(u32 crc, const void *p, size_t len_bytes);
/* The state from which len_bytes zeros lead to crc: so the four bytes x, little endian, lead from state s to crc when s ^ x is this for 4. */
u32 crc32c_before_zeros(u32 crc, size_t len_bytes);
/* CRC-16 (polynomial 0x8005, reflected), as group descriptors with gdt_csum use it; start with ~0. */
u16 crc16(u16 crc, const void *p, size_t len_bytes);
/* CRC-32 (polynomial 0x04c11db7), most significant bit first: jbd2's checksum v1; start with ~0u. */
u32 crc32_be(u32 crc, const void *p, size_t len_bytes);

#endif
