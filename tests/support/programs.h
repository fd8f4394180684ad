/* Running other programs from tests. */
#ifndef SUPPORT_PROGRAMS_H
#define SUPPORT_PROGRAMS_H

/* Through the shell; what it says on stdout and stderr comes in *said (freed by the caller). Its exit code, or -1. */
int program_run(const char *command, char **said);

#endif
