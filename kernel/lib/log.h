/* Leveled log of the process: stderr, a file or syslog. Safe from any thread. */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include "lib/types.h"

enum log_level { LOG_LVL_NONE, LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

/* What is above `level` is dropped. Default: everything; where it goes then is stderr. */
void log_set_level(enum log_level level);
/* Appends to `path` instead of stderr; "syslog" means syslog(3). 0 or -errno (the old target stays). */
int log_open(const char *path) __must_check;
void log_msg(enum log_level level, const char *fmt, ...) __printf_like(2, 3);

#define log_error(...) log_msg(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_LVL_DEBUG, __VA_ARGS__)

#endif
