"""
peak.py FILE PROGRAM [ARG…]: runs a program, ends with its exit code, and writes to FILE how many KiB it had resident at most.

A child's figure counts what its parent had when it forked, up to the exec: a parent as small as this one does not spoil it.
"""
import os, sys

child = os.spawnvp(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], 'w') as f:
    f.write('%d' % usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
