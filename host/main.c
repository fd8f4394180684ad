/* The program's entry: finds the command and runs it. The table is the list of all commands. */
#include "api/werunos.h"
#include "cmd.h"
#include "import/copy_cli.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int cmd_help(int argc, char **argv);

static const struct command commands[] = {
	{ "mount", "[-p N | --offset N] [--device DEV …] [--ro] [-o LIST] [--daemon] [OPTION …] SOURCE DIR",
	  "show a volume at a directory", cmd_mount },
	{ "umount", "[--lazy] [--force] DIR", "end a mount, and wait until all is durable", cmd_umount },
	{ "devices", "[--json] [IMAGE …]", "list disks and partitions, of this machine or of images",
	  cmd_devices },
	{ "info", "[--json] [-p N] [--device DEV …] [--sb N] [-o LIST] IMAGE", "say what a volume is",
	  cmd_info },
	{ "ls", "[-a] [-l] [-R] [--json] [-p N] [--device DEV …] IMAGE[:/PATH] …", "list directories",
	  cmd_ls },
	{ "tree", "[-a] [--json] [-p N] [--device DEV …] IMAGE[:/PATH] …",
	  "list a directory and all below it", cmd_tree },
	{ "stat", "[--extents] [--json] [-p N] [--device DEV …] IMAGE[:/PATH] …",
	  "show all attributes of a file", cmd_stat },
	{ "cat", "[-p N] [--device DEV …] IMAGE:/PATH …", "write files to standard output", cmd_cat },
	{ "dump", "[--json] [-p N] [--device DEV …] [--sb N] [-o LIST] IMAGE WORD …",
	  "show one object as it lies on the disk", cmd_dump },
	{ "subvolume", "list [--json] [-p N] [--device DEV …] IMAGE",
	  "list the subvolumes and snapshots of a btrfs volume", cmd_subvolume },
	{ "quota", "[--user] [--group] [--project] [--json] [--set KIND[:WHO] LIMITS …] [-p N] IMAGE|DIR",
	  "show what users, groups and projects use, and may use; set limits", cmd_quota },
	{ "cp", "[-a] [-L] [-x] " COPY_ARGS " SOURCE … DEST   (either is IMAGE[#pN]:/PATH)",
	  "copy files and trees into a volume, out of one, or from one to another", cmd_cp },
	{ "unpack",
	  "[--layers] " COPY_ARGS
	  " [-p N] IMAGE[#pN][:/PATH] ARCHIVE … | --oci DIR[:TAG] [--platform OS/ARCH] IMAGE[#pN][:/PATH]",
	  "unpack tar archives, or a container image, into a volume", cmd_unpack },
	{ "export", COPY_ARGS " [-p N] [-o ARCHIVE.tar[.gz|.zst|.xz]|DIR|-] IMAGE[#pN][:/PATH]",
	  "write a tree of a volume to a tar archive or a directory", cmd_export },
	{ "rm", "[-r] [-f] [-d] IMAGE:/PATH …", "remove files of a volume that is not mounted", cmd_rm },
	{ "rmdir", "IMAGE:/PATH …", "remove empty directories", cmd_rmdir },
	{ "mkdir", "[-p] [-m MODE] IMAGE:/PATH …", "make directories", cmd_mkdir },
	{ "mv", "[-n] [-f] [-T] IMAGE:/PATH … IMAGE:/PATH", "rename files, or move them into a directory",
	  cmd_mv },
	{ "ln", "[-s] [-f] [-n] [-T] IMAGE:/PATH|TEXT … IMAGE:/PATH", "make hard or symbolic links", cmd_ln },
	{ "chmod", "[-R] MODE IMAGE:/PATH …", "change permissions", cmd_chmod },
	{ "chown", "[-R] [-h] UID:GID IMAGE:/PATH …", "change owners", cmd_chown },
	{ "touch", "[-a] [-c] [-m] IMAGE:/PATH …", "make empty files, or set times to now", cmd_touch },
	{ "truncate", "[-c] -s [+|-]SIZE IMAGE:/PATH …", "make files shorter or longer", cmd_truncate },
	{ "setfattr", "[-h] -n NAME [-v VALUE] | -x NAME IMAGE:/PATH …",
	  "set or remove an extended attribute", cmd_setfattr },
	{ "getfattr", "[-d] [-h] [-m PATTERN | -n NAME] [--json] IMAGE:/PATH …", "show extended attributes",
	  cmd_getfattr },
	{ "label", "[--json] [-p N] IMAGE [NEW]", "show or change a volume's label", cmd_label },
	{ "uuid", "[--json] [-p N] IMAGE [NEW|random]", "show or change a volume's UUID", cmd_uuid },
	{ "resize", "[--json] [-n] [--minimum] [--journal DEV] [-p N] IMAGE|DIR [SIZE]",
	  "make a volume longer, mounted or not, or shorter", cmd_resize },
	{ "defrag", "[-c] [-v] [--json] [-p N] IMAGE[:/PATH] …|DIR [FILE …]",
	  "put files that lie in many pieces into fewer, mounted or not", cmd_defrag },
	{ "mkfs",
	  "[--force] [--dry-run] [--json] [-L LABEL] [-O FEATURES] [OPTION …] [--from DIR|TAR|OCI "
	  "[--shrink]] TYPE IMAGE [SIZE]",
	  "make a new volume, empty or with content", cmd_mkfs },
	{ "fsck",
	  "[-n | -p | -y | --fix] [-f] [-D] [--clear-log] [--journal DEV] [-b SB [-B SIZE]] [--undo FILE] "
	  "[--dry-run] "
	  "[--check-data] "
	  "[--json] [--quiet] [-p N] "
	  "[--device DEV …] IMAGE",
	  "find what is wrong with a volume, and mend it", cmd_fsck },
	{ "undo", "[--force] FILE [IMAGE …]", "put a volume back to what it was before fsck mended it",
	  cmd_undo },
	{ "help", "[COMMAND]", "show the commands, or how one is used", cmd_help },
};

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int help_on(const struct command *c)
{
	printf("usage: werunos %s %s\n%s\n", c->name, c->args, c->help);
	return 0;
}

static int cmd_help(int argc, char **argv)
{
	const struct command *c = argc > 1 ? command_find(argv[1]) : NULL;

	if (argc > 1 && !c)
		return cli_usage("there is no command \"%s\"", argv[1]);
	if (c)
		return help_on(c);
	printf("usage: werunos COMMAND …\n\nReads and writes ext4 and btrfs volumes in user space.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-9s %s\n", commands[i].name, commands[i].help);
	printf("\nThe manual page werunos(1) has the details.\n");
	return 0;
}

/* "mount.werunos", "mount.fuse.werunos", "fsck.werunos": how mount(8) and fsck(8) call their helpers. */
static bool is_helper(const char *argv0, const char *of)
{
	const char *slash = strrchr(argv0, '/');

	return !strncmp(slash ? slash + 1 : argv0, of, strlen(of));
}

/*
 * A standard stream that is closed gets a file: else the next that is opened, a volume perhaps, would have its number, and what is
 * printed would go there. It is one that the stream's use still fails with.
 */
static bool hold_streams(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	const struct command *c;
	const char *name;

	log_set_level(LOG_LVL_WARN);
	if (!hold_streams())
		return EXIT_ERROR;
	cli_begin(command_find("help"));
	if (is_helper(argv[0], "mount.")) {
		cli_begin(command_find("mount"));
		return cmd_mount_helper(argc, argv);
	}
	if (is_helper(argv[0], "fsck.")) {
		cli_begin(command_find("fsck"));
		return cmd_fsck(argc, argv);
	}
	if (argc < 2) {
		cmd_help(1, argv);
		return EXIT_USAGE;
	}
	name = argv[1];
	if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		printf("werunos %s\n", werunos_version());
		return 0;
	}
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	c = command_find(name);
	if (!c)
		return cli_usage("there is no command \"%s\"", name);
	cli_begin(c);
	if (argc > 2 && !strcmp(argv[2], "--help"))
		return help_on(c);
	return c->run(argc - 1, argv + 1);
}
