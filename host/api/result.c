/* What a call leaves behind: the thread's error, the process's log. Interface: werunos.h, api.h. */
#include "api/api.h"

#include "lib/log.h"
#include <string.h>

static _Thread_local int last_err;

void api_begin(void)
{
	err_clear();
}

int api_end(int err)
{
	/* What a callback ended a listing with is no error. */
	if (err < 0)
		last_err = err;
	return err;
}

const char *werunos_error_text(void)
{
	if (*err_text())
		return err_text();
	return last_err ? strerror(-last_err) : "";
}

const char *werunos_version(void)
{
	return WERUNOS_VERSION;
}

int werunos_log(const char *file)
{
	int err;

	api_begin();
	err = log_open(file);
	if (err)
		return api_end(fail(err, "%s: %s", file, strerror(-err)));
	log_set_level(LOG_LVL_WARN);
	return 0;
}
