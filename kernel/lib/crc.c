/* Checksums: crc32c by ISA-L (SSE4.2, AVX-512 where there is), the two others by tables made on first use. */
#include "lib/crc.h"

#include <isa-l/crc.h>
#include <pthread.h>

static u16 crc16_table[256];
static u32 crc32_be_table[256];

static void crc_tables(void)
{
	for (u32 i = 0; i < 256; i++) {
		u32 c = i, d = i << 24;

		for (int k = 0; k < 8; k++) {
			c = c & 1 ? c >> 1 ^ 0xa001 : c >> 1; /* 0x8005 reflected */
			d = d & 0x80000000u ? d << 1 ^ 0x04c11db7u : d << 1;
		}
		crc16_table[i] = (u16)c;
		crc32_be_table[i] = d;
	}
}

static void crc_ready(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, crc_tables);
}

u32 crc32c(u32 crc, const void *p, size_t len_bytes)
{
	u8 *at = (u8 *)(uintptr_t)p; /* the library's parameter lacks a const */

	while (len_bytes) {
		int n = (int)MIN(len_bytes, (size_t)1 << 30);

		crc = crc32_iscsi(at, n, crc);
		at += n;
		len_bytes -= (size_t)n;
	}
	return crc;
}

u32 crc32c_before_zeros(u32 crc, size_t len_bytes)
{
	/* The polynomial, reflected: bit 31 tells whether a step took it away. */
	for (size_t bits = len_bytes * 8; bits; bits--)
		crc = crc >> 31 ? (crc ^ 0x82f63b78u) << 1 | 1 : crc << 1;
	return crc;
}

u16 crc16(u16 crc, const void *p, size_t len_bytes)
{
	const u8 *at = p;

	crc_ready();
	while (len_bytes--)
		crc = (u16)(crc >> 8 ^ crc16_table[(u8)crc ^ *at++]);
	return crc;
}

u32 crc32_be(u32 crc, const void *p, size_t len_bytes)
{
	const u8 *at = p;

	crc_ready();
	while (len_bytes--)
		crc = crc << 8 ^ crc32_be_table[crc >> 24 ^ *at++];
	return crc;
}
