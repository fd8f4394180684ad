/*
 * libarchive, loaded by the first archive and not with the program: what it brings along (libxml2, ICU, libstdc++) is more than all
 * else that werunos is linked to, and half of the time that a command takes to start on a cold machine.
 */
#ifndef IMPORT_ARCHIVE_LIB_H
#define IMPORT_ARCHIVE_LIB_H

#include <archive.h>
#include <archive_entry.h>

#include "lib/err.h"

#define LIBARCHIVE_CALLS(X)                      \
	X(archive_entry_free)                    \
	X(archive_entry_new)                     \
	X(archive_entry_set_filetype)            \
	X(archive_errno)                         \
	X(archive_error_string)                  \
	X(archive_read_data_block)               \
	X(archive_read_free)                     \
	X(archive_read_new)                      \
	X(archive_read_next_header)              \
	X(archive_read_open)                     \
	X(archive_read_support_filter_bzip2)     \
	X(archive_read_support_filter_compress)  \
	X(archive_read_support_filter_lz4)       \
	X(archive_read_support_filter_lzma)      \
	X(archive_read_support_filter_xz)        \
	X(archive_read_support_filter_zstd)      \
	X(archive_read_support_format_raw)       \
	X(archive_set_error)                     \
	X(archive_write_add_filter_gzip)         \
	X(archive_write_add_filter_xz)           \
	X(archive_write_add_filter_zstd)         \
	X(archive_write_close)                   \
	X(archive_write_data)                    \
	X(archive_write_free)                    \
	X(archive_write_header)                  \
	X(archive_write_new)                     \
	X(archive_write_open)                    \
	X(archive_write_set_bytes_in_last_block) \
	X(archive_write_set_bytes_per_block)     \
	X(archive_write_set_filter_option)       \
	X(archive_write_set_format_raw)

struct libarchive {
#define LIBARCHIVE_MEMBER(call) __typeof__(call) *call;
	LIBARCHIVE_CALLS(LIBARCHIVE_MEMBER)
#undef LIBARCHIVE_MEMBER
};

/* Its functions under their own names, until the program ends. -ELIBACC: it cannot be loaded. */
int libarchive(const struct libarchive **out) __must_check;

#endif
