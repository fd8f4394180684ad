#!/usr/bin/python3
"""Reading, side by side: the kernel's loop mount, fuse2fs and werunos on the same ext4 image, in one run.

  bench.py [--quick] [--reps N] [--only WORD,...] [--dir DISK_DIR] [--shm TMPFS_DIR] [--json FILE] WERUNOS

Needs root (loop mounts, drop_caches), fuse2fs, fio and tar. Every figure is the median of N runs taken in turn, a
run of each contestant after the other. Cold: mounted anew, and the page cache dropped. Data is verified by hash
after each timed run. werunos runs as `werunos mount IMAGE DIR` with nothing added; each row ends with the bar it is
held to and whether it was met.
"""
import os

from contest import FEATURES, STEP_S, Contestant, names, options, run, sh
from reading import O_DIRECT, compare, fill_tree, find_stat, kept, random_4k, seq_read, tar_out, timed_call

ap = options(__doc__)
ap.add_argument('--million', action='store_true', help='also the memory row over a million files (minutes to build)')
A = ap.parse_args()
REPS = A.reps or (1 if A.quick else 3)
BIG_MB = 64 if A.quick else 1024
FILES = 2000 if A.quick else 20000
LONG = 5000 if A.quick else 50000
RANDOM = 4000 if A.quick else 48000


def fill(mnt):
    """The image's content, written by the kernel."""
    rnd = open('/dev/urandom', 'rb')
    with open(mnt + '/big', 'wb') as f:
        for _ in range(BIG_MB):
            f.write(rnd.read(1 << 20))
    fill_tree(mnt, FILES)
    os.mkdir(mnt + '/long')
    for i in range(LONG):
        os.close(os.open('%s/long/entry-%06d' % (mnt, i), os.O_CREAT | os.O_WRONLY))


def mkfs(img):
    with open(img, 'wb') as f:
        f.truncate((BIG_MB + FILES // 60 + 400) << 20)
    sh('mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES, '-N', str(FILES + LONG + 5000), img)


@timed_call
def ls_long(mnt):
    n = len(sh('ls', '-lU', mnt + '/long', timeout=STEP_S).splitlines())
    assert n == LONG + 1, '%d lines' % n


def seq(m):
    return seq_read(m + '/big')


def rand(jobs, *options):
    return lambda m: random_4k(m + '/big', RANDOM, jobs, *options)


def tree(m):
    return find_stat(m, FILES)


# As `compare` wants them.
ROWS = [
    ('sequential read cold, disk', 'disk', True, seq, 'big', (1.0, 0.6, 3)),
    ('sequential read cold, tmpfs', 'shm', True, seq, 'big', (4.0, None, None)),
    ('sequential read warm', 'shm', False, seq, 'big', (1.3, 1.0, None)),
    ('random 4K cold, 1 thread, disk', 'disk', True, rand(1), 'big', (1.0, 0.5, None)),
    ('random 4K cold, 4 threads, disk', 'disk', True, rand(4), 'big', (1.0, 0.5, None)),
    ('random 4K cold, 1 thread, tmpfs', 'shm', True, rand(1), 'big', (1.0, 0.5, None)),
    ('random 4K cold, 4 threads, tmpfs', 'shm', True, rand(4), 'big', (1.0, 0.5, None)),
    ('O_DIRECT 4K queue depth 16, tmpfs', 'shm', True, rand(1, *O_DIRECT), 'big', (1.5, 1.1, None)),
    ('find + stat cold', 'shm', True, tree, 'tree', (1.5, 1.0, 8)),
    ('find + stat warm', 'shm', False, tree, '', (1.3, None, 50)),
    ('ls -l of a long directory cold', 'shm', True, ls_long, '', (1.5, None, None)),
    ('tar of the tree cold', 'shm', True, tar_out, 'tree', (1.3, 1.0, 4)),
    ('tar of the tree warm', 'shm', False, tar_out, '', (None, None, 7)),
]


def million():
    """Resident memory while a find walks a million files: within --cache + 64 MiB."""
    def mkfs_many(img):
        with open(img, 'wb') as f:
            f.truncate(4 << 30)
        sh('mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES, '-N', '1050000', '-I', '256', img)

    def fill_many(mnt):
        for d in range(1000):
            os.mkdir('%s/%03d' % (mnt, d))
            for i in range(1000):
                os.close(os.open('%s/%03d/%06d' % (mnt, d, i), os.O_CREAT | os.O_WRONLY))

    img, mnt = kept(A.shm + '/million', (1000000,), A.dir + '/fill', mkfs_many, fill_many), A.dir + '/mnt'
    c = Contestant('werunos', A.werunos)
    try:
        c.mount(img, mnt)
        n = len(sh('find', mnt, '-type', 'f', '-printf', '%s\n').splitlines())
        print('find over %d files: peak resident memory %.0f MiB' % (n, c.rss_peak_kib() / 1024))
    finally:
        c.unmount()


def measure_all(rows):
    img = {where: kept(d + '/img', (BIG_MB, FILES, LONG), A.dir + '/fill', mkfs, fill) for where, d in (('disk', A.dir), ('shm', A.shm))}
    out = compare(A, rows, img, REPS, names())
    if A.million:
        million()
    return out


if __name__ == '__main__':
    run(A, ROWS, measure_all)
