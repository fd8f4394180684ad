/* Permissions as people write them: chmod(1)'s words. */
#ifndef HOST_MODE_H
#define HOST_MODE_H

#include "lib/types.h"

/*
 * What becomes of the permissions `old` (07777) by "644", "u+rwX,go-w", "=" and the like, as GNU chmod has it: without who, bits of the umask stay
 * as they are; of a directory set-id bits stay unless they are named or the octal number has five digits. False: no such words.
 */
bool mode_change(const char *words, u32 old, bool is_dir, u32 umask, u32 *out) __must_check;

#endif
