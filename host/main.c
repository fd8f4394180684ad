/* The program's entry: finds the command and runs it. The table is the list of all commands. */
#include "cmd.h"

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
	{ "mkfs", "[--force] [--dry-run] [--json] [-L LABEL] [-O FEATURES] [OPTION …] TYPE IMAGE [SIZE]",
	  "make a new volume", cmd_mkfs },
	{ "help", "[COMMAND]", "show the commands, or how one is used", cmd_help },
};

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int cmd_help(int argc, char **argv)
{
	const struct command *c = argc > 1 ? command_find(argv[1]) : NULL;

	if (argc > 1 && !c)
		return cli_usage("there is no command \"%s\"", argv[1]);
	if (c) {
		printf("usage: werunos %s %s\n%s\n", c->name, c->args, c->help);
		return 0;
	}
	printf("usage: werunos COMMAND …\n\nReads and writes ext4 and btrfs volumes in user space.\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-9s %s\n", commands[i].name, commands[i].help);
	printf("\nThe manual page werunos(1) has the details.\n");
	return 0;
}

/* "mount.werunos", "mount.fuse.werunos": how mount(8) calls its helpers. */
static bool is_mount_helper(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');

	return !strncmp(slash ? slash + 1 : argv0, "mount.", 6);
}

int main(int argc, char **argv)
{
	const struct command *c;
	const char *name;

	cli_begin(command_find("help"));
	if (is_mount_helper(argv[0])) {
		cli_begin(command_find("mount"));
		return cmd_mount_helper(argc, argv);
	}
	if (argc < 2) {
		cmd_help(1, argv);
		return EXIT_USAGE;
	}
	name = argv[1];
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	c = command_find(name);
	if (!c)
		return cli_usage("there is no command \"%s\"", name);
	cli_begin(c);
	return c->run(argc - 1, argv + 1);
}
