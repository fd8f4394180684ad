/* The process's log. One line a message, written whole, so that threads do not mix. */
#include "lib/log.h"

#include "lib/lock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static _Atomic u32 log_level = LOG_LVL_NONE;
static _Atomic int log_fd = STDERR_FILENO;
static _Atomic bool log_to_syslog;

void log_set_level(enum log_level level)
{
	atomic_store(&log_level, level);
}

int log_open(const char *path)
{
	int fd, old;

	if (!strcmp(path, "syslog")) {
		openlog("werunos", LOG_PID, LOG_DAEMON);
		atomic_store(&log_to_syslog, true);
		return 0;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	old = atomic_exchange(&log_fd, fd);
	if (old != STDERR_FILENO)
		close(old);
	atomic_store(&log_to_syslog, false);
	return 0;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	static const char *const word[] = { "", "error", "warning", "info", "debug" };
	static const int prio[] = { LOG_ERR, LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
	char line[4096]; /* room for all counters, which are one message */
	int fd = atomic_load(&log_fd), n = 0, m;
	va_list ap;

	if (level > atomic_load_explicit(&log_level, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	if (atomic_load(&log_to_syslog)) {
		vsyslog(prio[level], fmt, ap);
		va_end(ap);
		return;
	}
	if (fd != STDERR_FILENO) {
		struct timespec now;
		struct tm tm;

		clock_gettime(CLOCK_REALTIME, &now);
		localtime_r(&now.tv_sec, &tm);
		n = (int)strftime(line, sizeof(line), "%F %T ", &tm);
	}
	n += snprintf(line + n, sizeof(line) - (size_t)n, "werunos: %s: ", word[level]);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	n = MIN(n + MAX(m, 0), (int)sizeof(line) - 2);
	line[n++] = '\n';
	if (write(fd, line, (size_t)n) < 0)
		return; /* nowhere left to complain */
}
