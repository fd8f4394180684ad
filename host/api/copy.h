/* What options of werunos.h say to the engine. */
#ifndef API_COPY_H
#define API_COPY_H

#include "import/import.h"

/* o NULL: the defaults. */
struct copy_opts api_copy_opts(const struct werunos_copy_options *o);
struct select api_select(const struct werunos_copy_options *o);

#endif
