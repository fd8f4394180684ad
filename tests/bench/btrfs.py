#!/usr/bin/python3
"""Reading btrfs, side by side: the kernel's loop mount and werunos on the same image, in one run; plain and compressed data.

  btrfs.py [--quick] [--reps N] [--only WORD,...] [--dir DISK_DIR] [--shm TMPFS_DIR] [--json FILE] WERUNOS

Needs root (loop mounts, drop_caches), btrfs-progs, fio and tar; medians, cold, verification and bars are as in bench.py.
Both contestants check the checksum of all that they read. Compressed rows read text, 2 to 3 times as long as it lies on the disk.
"""
import os, random, re

from contest import options, run, sh
from reading import compare, fill_tree, find_stat, kept, random_4k, seq_read, tar_out

A = options(__doc__).parse_args()
REPS = A.reps or (1 if A.quick else 3)
BIG_MB = 64 if A.quick else 1024
FILES = 2000 if A.quick else 20000
RANDOM = 2000 if A.quick else 24000
KINDS = ('plain', 'zstd', 'zlib', 'lzo')
EXTENT = 128 << 10  # what is compressed as one


def mkfs(img):
    with open(img, 'wb') as f:
        f.truncate((4 * BIG_MB + FILES // 20 + 1024) << 20)
    sh('mkfs.btrfs', '-q', '-f', '-d', 'single', '-m', 'dup', '-n', '16384', '-s', '4096', '--csum', 'crc32c',
       '-O', 'no-holes,skinny-metadata,extref', '-R', 'free-space-tree', img)


def text(n):
    """Phrases, words and numbers: n bytes in which each EXTENT is another."""
    rnd = random.Random(7)
    words = [''.join(rnd.choices('etaoinshrdlu', k=rnd.randint(2, 9))) for _ in range(2000)]
    phrases = [' '.join(rnd.choices(words, k=rnd.randint(2, 6))) for _ in range(1000)]
    out, size = [], 0
    while size < n:
        at = rnd.random()
        out.append(rnd.choice(phrases) if at < 0.6 else rnd.choice(words) if at < 0.9 else str(rnd.getrandbits(20)))
        size += len(out[-1]) + 1
    return (' '.join(out) + ' ').encode()[:n]


def fill(mnt):
    block = {'plain': os.urandom(8 << 20)}
    for kind in KINDS:
        path = '%s/%s' % (mnt, kind)
        with open(path, 'wb') as f:
            if kind != 'plain':
                sh('btrfs', 'property', 'set', path, 'compression', kind)
            data = block.get(kind) or block.setdefault('text', text(8 << 20))
            for i in range(BIG_MB // 8):
                f.write(data[i * 4099:] + data[:i * 4099])
            os.fsync(f.fileno())
        encoded = len(re.findall('encoded', sh('filefrag', '-v', path).decode()))
        # Some the kernel leaves as they are.
        if (encoded > 0) == (kind == 'plain') or (encoded and encoded < 0.9 * (BIG_MB << 20) / EXTENT):
            raise RuntimeError('%s: %d compressed extents' % (path, encoded))
    fill_tree(mnt, FILES)


def seq(kind):
    return lambda m: seq_read('%s/%s' % (m, kind))


def rand(kind, jobs):
    return lambda m: random_4k('%s/%s' % (m, kind), RANDOM, jobs)


def tree(m):
    return find_stat(m, FILES)


SEQ_COLD = {'plain': (1.2, 0.8), 'zstd': (1.3, 1.0), 'zlib': (1.3, 1.0), 'lzo': (2.0,)}

# As `compare` wants them.
ROWS = [('btrfs: sequential %s cold, disk' % k, 'disk', True, seq(k), k, SEQ_COLD[k]) for k in KINDS]
ROWS += [('btrfs: sequential %s cold, tmpfs' % k, 'shm', True, seq(k), k, SEQ_COLD[k] if k != 'plain' else ()) for k in KINDS]
ROWS += [('btrfs: sequential %s warm' % k, 'shm', False, seq(k), k, (1.3,) if k == 'plain' else ()) for k in KINDS]
ROWS += [
    ('btrfs: random 4K plain cold, 1 thread, disk', 'disk', True, rand('plain', 1), 'plain', (1.0,)),
    ('btrfs: random 4K plain cold, 4 threads, disk', 'disk', True, rand('plain', 4), 'plain', (1.0,)),
    ('btrfs: random 4K plain cold, 4 threads, tmpfs', 'shm', True, rand('plain', 4), 'plain', (1.0,)),
]
ROWS += [('btrfs: random 4K %s cold, 1 thread, tmpfs' % k, 'shm', True, rand(k, 1), k, (1.0,)) for k in KINDS]
ROWS += [('btrfs: random 4K %s warm, 1 thread' % k, 'shm', False, rand(k, 1), k, ()) for k in KINDS]
ROWS += [
    ('btrfs: find + stat cold', 'shm', True, tree, 'tree', (1.5,)),
    ('btrfs: tar of the tree cold', 'shm', True, tar_out, 'tree', (1.5, 1.0)),
]


def measure_all(rows):
    img = {where: kept(d + '/btrfs', (BIG_MB, FILES), A.dir + '/fill', mkfs, fill) for where, d in (('disk', A.dir), ('shm', A.shm))}
    return compare(A, rows, img, REPS, ['kernel', 'werunos'])


if __name__ == '__main__':
    run(A, ROWS, measure_all)
