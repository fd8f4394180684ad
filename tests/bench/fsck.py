#!/usr/bin/python3
"""Checking, side by side: werunos fsck beside e2fsck -fn on ext4, and beside btrfs check on btrfs, with and without data.

  fsck.py [--quick] [--reps N] [--only WORD,...] [--dir DISK_DIR] [--shm TMPFS_DIR] [--json FILE] WERUNOS

Needs root (loop mounts, drop_caches), e2fsprogs and btrfs-progs. The volumes are filled by the kernel and kept. Every figure is the median of
N runs taken in turn, caches dropped before each. Each run has to find the volume sound, and must not change it. Bars are of time: 1.3 is a third
longer than the other takes. The last figures are what each had resident at most.
"""
import collections, os, random, subprocess, sys

from contest import FEATURES, STEP_S, drop_caches, options, run, sample, sh, show_ratio, show_s, timed
from reading import fill_tree, kept

A = options(__doc__).parse_args()
REPS = A.reps or (1 if A.quick else 3)
FILES = 4000 if A.quick else 100000
BIG_MB = 64 if A.quick else 2048
PEAK = [sys.executable, '-S', os.path.join(os.path.dirname(os.path.abspath(__file__)), '../support/peak.py')]


# ---- the volumes ----

def room(img):
    with open(img, 'wb') as f:
        f.truncate((2 * BIG_MB + FILES // 20 + 512) << 20)


def mkfs_ext4(img):
    room(img)
    sh('mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES, '-E', 'lazy_itable_init=0', '-N', str(2 * FILES + 10000), img)


def mkfs_btrfs(img):
    room(img)
    sh('mkfs.btrfs', '-q', '-f', '-d', 'single', '-m', 'dup', '-n', '16384', '-s', '4096', '--csum', 'crc32c',
       '-O', 'no-holes,skinny-metadata,extref', '-R', 'free-space-tree', img)


def fill(mnt):
    """Small files, a large directory, a large file in many pieces, and one with many holes."""
    fill_tree(mnt, FILES)
    os.mkdir(mnt + '/many')
    for i in range(FILES // 4):
        os.close(os.open('%s/many/a-name-of-some-length-%06d' % (mnt, i), os.O_CREAT | os.O_WRONLY))
    block, rnd = os.urandom(1 << 20), random.Random(7)
    with open(mnt + '/big', 'wb') as f:
        for i in range(BIG_MB):
            f.write(block[i % 1000:] + block[:i % 1000])
    with open(mnt + '/holes', 'wb') as f:
        for i in range(FILES // 10):
            f.seek((2 * i + rnd.randrange(2)) * 8192)
            f.write(b'here')


MKFS = {'ext4': mkfs_ext4, 'btrfs': mkfs_btrfs}


def volume(kind, where):
    return kept('%s/fsck-%s' % ({'disk': A.dir, 'tmpfs': A.shm}[where], kind), (BIG_MB, FILES), A.dir + '/fill', MKFS[kind], fill)


# ---- rows ----

Row = collections.namedtuple('Row', 'title kind where ours theirs bars')
E2FSCK, BTRFS = ['e2fsck', '-fn'], ['btrfs', 'check', '--readonly']
DATA = (1 / 1.4, 1 / 1.8)
ROWS = [
    Row('ext4, disk', 'ext4', 'disk', [], E2FSCK, (1.3, 1.0)),
    Row('ext4, tmpfs', 'ext4', 'tmpfs', [], E2FSCK, (1.3, 1.0)),
    Row('btrfs, disk', 'btrfs', 'disk', [], BTRFS, ()),
    Row('btrfs, tmpfs', 'btrfs', 'tmpfs', [], BTRFS, ()),
    Row('btrfs with data, disk', 'btrfs', 'disk', ['--check-data'], [*BTRFS, '--check-data-csum'], DATA),
    Row('btrfs with data, tmpfs', 'btrfs', 'tmpfs', ['--check-data'], [*BTRFS, '--check-data-csum'], DATA),
]


def verdict(bars, med):
    ours, theirs = med['werunos'], med['other']
    if ours is None:
        return 'FAILED'
    if not bars or theirs is None:
        return 'measured'
    ratio = ours / theirs
    return 'MISSED' if ratio > bars[0] else 'aim met' if ratio <= bars[1] else 'met'


def once(cmd, peaks, name):
    """Seconds of one run; its peak memory goes to `peaks`."""
    note = A.dir + '/peak'
    drop_caches()
    try:
        t = timed(lambda: sh(*PEAK, note, *cmd, timeout=10 * STEP_S))
    except (subprocess.TimeoutExpired, RuntimeError) as e:
        print('  %s: %s' % (name, str(e)[:700]), file=sys.stderr)
        return None
    with open(note) as f:
        peaks[name] = max(peaks.get(name, 0), int(f.read()))
    return t


def measure(r):
    img, peaks = volume(r.kind, r.where), {}
    before = os.stat(img).st_mtime_ns
    cmd = {'werunos': [A.werunos, 'fsck', '-f', '--quiet', *r.ours, img], 'other': [*r.theirs, img]}
    got, med = sample(REPS, lambda name: once(cmd[name], peaks, name), ['other', 'werunos'])
    said = verdict(r.bars, med)
    if os.stat(img).st_mtime_ns != before:
        said = 'FAILED: the volume was changed'
    print('%-26s %s %s %s %7.0f %7.0f  %s: %s' % (
        r.title, show_s(med['other']), show_s(med['werunos']), show_ratio(med['werunos'], med['other']), peaks.get('other', 0) / 1024,
        peaks.get('werunos', 0) / 1024, '<= %.2f, aim %.2f' % r.bars if r.bars else 'no bar', said), flush=True)
    return {'row': r.title, 'median_s': med, 'samples_s': got, 'peak_kib': peaks, 'verdict': said}


def measure_all(rows):
    print('%-26s %9s %9s %6s %7s %7s  %s' % ('seconds, cold', 'other', 'werunos', 'ratio', 'MiB', 'MiB', 'bar'))
    return [measure(r) for r in rows]


if __name__ == '__main__':
    run(A, ROWS, measure_all)
