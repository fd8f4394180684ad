/*
 * What the commands that copy share (cp, unpack, export, mkfs --from): options, progress, signals, report, exit code.
 *
 *   copy_cli_init ─► copy_cli_option … ─► copy_cli_begin ─► a copy of werunos.h, copy_cli_took … ─► copy_cli_end ─► copy_cli_free
 *
 * Exit codes: 0; 1 when anything was not copied, after one line on stderr for each such thing; 64 for wrong usage; 128 and the
 * signal's number when one ended it (130 for ^C).
 */
#ifndef IMPORT_COPY_CLI_H
#define IMPORT_COPY_CLI_H

#include "api/werunos.h"
#include "lib/doc.h"
#include "lib/lock.h"
#include <getopt.h>

/* What getopt_long returns for the rows of COPY_LONG: beyond every character. */
enum copy_cli_opt {
	COPY_OPT_OWNER = 0x100,
	COPY_OPT_MAP,
	COPY_OPT_EXCLUDE,
	COPY_OPT_QUIET,
	COPY_OPT_THREADS,
	COPY_OPT_END,
};
/* Rows of a command's long options; others follow, TOOL_LONG last. */
#define COPY_LONG                                                         \
	{ "owner", required_argument, NULL, COPY_OPT_OWNER },             \
		{ "map", required_argument, NULL, COPY_OPT_MAP },         \
		{ "exclude", required_argument, NULL, COPY_OPT_EXCLUDE }, \
		{ "quiet", no_argument, NULL, COPY_OPT_QUIET },           \
	{                                                                 \
		"threads", required_argument, NULL, COPY_OPT_THREADS      \
	}
/* The same for the table of commands. */
#define COPY_ARGS                                                                                      \
	"[--owner UID[:GID]] [--map uid|gid:FROM=TO[+N]] [--exclude PATTERN] [--threads N] [--quiet] " \
	"[--json]"

struct copy_cli {
	/* For the command: */
	struct werunos_copy_options
		opts;      /* what nobody asked for by an option of COPY_LONG is the command's to set */
	bool json;         /* set by the command before begin: the report is JSON */
	bool stdout_taken; /* set by the command before begin: the report goes to stderr */
	u64 position_all; /* set by the command before the first of several runs: all that their feeds will be; 0: unknown */
	struct werunos_report report; /* of all runs so far */
	/* Its own: */
	bool quiet, on_terminal;
	int err; /* what ended a run */
	char why[512];
	const char **exclude;
	struct werunos_id_map *uid_map, *gid_map;
	struct mutex lock; /* rank LEAF: the members below, and the line on the terminal */
	bool line;         /* there is one */
	struct doc *doc;   /* the report, while it is made */
	struct doc *failures;
	u64 failures_told;
	u64 since_ns;
};

void copy_cli_init(struct copy_cli *c);
/* True: opt is one of COPY_LONG. *code: 0, or after cli_usage the exit code. */
bool copy_cli_option(struct copy_cli *c, int opt, int *code) __must_check;
/* From here on SIGINT, SIGTERM and SIGHUP ask to stop; a second one ends the process. */
void copy_cli_begin(struct copy_cli *c);
/* A signal has asked to stop. */
bool copy_cli_stopped(const struct copy_cli *c);
/* What a copy with c->opts has returned and reported: added to the report; an error is told of by copy_cli_end. Returns err. */
int copy_cli_took(struct copy_cli *c, const struct werunos_report *r, int err);
/* An error, not of one file, between the runs: told of by copy_cli_end. Returns it. */
int copy_cli_failed(struct copy_cli *c, int err);
/* Of the report, while it is made; for what the command has to say besides. Borrowed. */
struct doc *copy_cli_doc(struct copy_cli *c);
/*
 * The report and, where the copy was ended by an error, that. close_code: of what was written to (volume_close), not 0 if it may not be durable.
 * Returns the exit code.
 */
int copy_cli_end(struct copy_cli *c, int close_code);
void copy_cli_free(struct copy_cli *c);

#endif
