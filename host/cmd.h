/*
 * The command line: what every command shares. A command is one row of main.c's table and one function
 * cmd_NAME(argc, argv) in cmd_NAME.c, with argv[0] its own name.
 *
 * Exit codes: 0; 1 after one line on stderr that says what happened and what to do; 64 for wrong usage.
 */
#ifndef HOST_CMD_H
#define HOST_CMD_H

#include "lib/types.h"
#include "number.h"

#define EXIT_ERROR 1
#define EXIT_USAGE 64

struct command {
	const char *name;
	const char *args; /* "SOURCE DIR" */
	const char *help; /* one line */
	int (*run)(int argc, char **argv);
};

/* What the process is about: cli_usage speaks of it. */
void cli_begin(const struct command *c);

/* "werunos: …" on stderr, one line. Returns EXIT_ERROR. */
int cli_fail(const char *fmt, ...) __printf_like(1, 2);
/* The same for an error that came up from below: its own sentence, or what the errno means. */
int cli_error(int err, const char *what);
/* "werunos COMMAND: …" and how the command is used. Returns EXIT_USAGE. fmt NULL: the usage alone. */
int cli_usage(const char *fmt, ...) __printf_like(1, 2);
/* A UUID as people write it. False when it is none. */
bool cli_uuid(const char *s, u8 out[16]) __must_check;

int cmd_mount(int argc, char **argv);
/* The form mount(8) calls: mount.werunos SOURCE DIR [-o LIST]. */
int cmd_mount_helper(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_devices(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_tree(int argc, char **argv);
int cmd_stat(int argc, char **argv);
int cmd_cat(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_subvolume(int argc, char **argv);
int cmd_quota(int argc, char **argv);
int cmd_cp(int argc, char **argv);
int cmd_unpack(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_rmdir(int argc, char **argv);
int cmd_mkdir(int argc, char **argv);
int cmd_mv(int argc, char **argv);
int cmd_ln(int argc, char **argv);
int cmd_chmod(int argc, char **argv);
int cmd_chown(int argc, char **argv);
int cmd_touch(int argc, char **argv);
int cmd_truncate(int argc, char **argv);
int cmd_setfattr(int argc, char **argv);
int cmd_getfattr(int argc, char **argv);
int cmd_label(int argc, char **argv);
int cmd_uuid(int argc, char **argv);
int cmd_resize(int argc, char **argv);
int cmd_defrag(int argc, char **argv);
int cmd_mkfs(int argc, char **argv);
int cmd_fsck(int argc, char **argv);
int cmd_undo(int argc, char **argv);

#endif
