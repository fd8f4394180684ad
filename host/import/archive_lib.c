/* Interface: archive_lib.h. */
#include "archive_lib.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

/* The ABI that the headers of libarchive 3 describe. */
#define SONAME "libarchive.so.13"

static struct libarchive calls;
static bool loaded;
static char why[256];

static void load(void)
{
	void *lib = dlopen(SONAME, RTLD_NOW | RTLD_LOCAL);

#define LIBARCHIVE_FIND(call)                                       \
	if (lib) {                                                  \
		calls.call = (__typeof__(call) *)dlsym(lib, #call); \
		if (!calls.call)                                    \
			lib = NULL;                                 \
	}
	LIBARCHIVE_CALLS(LIBARCHIVE_FIND)
#undef LIBARCHIVE_FIND
	loaded = lib;
	if (!lib)
		snprintf(why, sizeof(why), "%s", dlerror());
}

int libarchive(const struct libarchive **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load);
	if (!loaded)
		return fail(-ELIBACC, "archives need libarchive, which cannot be loaded: %s", why);
	*out = &calls;
	return 0;
}
