#!/usr/bin/python3
"""Reading, side by side: the kernel's loop mount, fuse2fs and werunos on the same ext4 image, in one run.

  bench.py [--quick] [--reps N] [--only WORD,...] [--dir DISK_DIR] [--shm TMPFS_DIR] [--json FILE] WERUNOS

Needs root (loop mounts, drop_caches), fuse2fs, fio and tar. Every figure is the median of N runs taken in turn, a
run of each contestant after the other. Cold: mounted anew, and the page cache dropped. Data is verified by hash
after each timed run. werunos runs as `werunos mount IMAGE DIR` with nothing added; each row ends with the bar it is
held to and whether it was met.
"""
import hashlib, json, os, subprocess, sys

from contest import FEATURES, STEP_S, Contestant, drop_caches, head, options, row, run, sh, timed

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
    block = rnd.read(1 << 20)
    for i in range(FILES):
        d = '%s/tree/%03d/%02d' % (mnt, i // 400, i // 40 % 10)
        if i % 40 == 0:
            os.makedirs(d, exist_ok=True)
        n = (i * 7919) % 16000 + 100
        with open('%s/file%05d' % (d, i), 'wb') as f:
            f.write(block[i * 13 % 500000:][:n])
    os.mkdir(mnt + '/long')
    for i in range(LONG):
        os.close(os.open('%s/long/entry-%06d' % (mnt, i), os.O_CREAT | os.O_WRONLY))


def build(img):
    """Kept from run to run, named by its parameters."""
    stamp = '%s.%d-%d-%d' % (img, BIG_MB, FILES, LONG)
    if os.path.exists(stamp):
        return stamp
    os.makedirs(os.path.dirname(img), exist_ok=True)
    for old in os.listdir(os.path.dirname(img)):
        if old.startswith(os.path.basename(img) + '.'):
            os.unlink(os.path.join(os.path.dirname(img), old))
    size = (BIG_MB + FILES // 60 + 400) << 20
    with open(stamp + '.new', 'wb') as f:
        f.truncate(size)
    sh('mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES, '-N', str(FILES + LONG + 5000), stamp + '.new')
    mnt = A.dir + '/fill'
    os.makedirs(mnt, exist_ok=True)
    sh('mount', '-o', 'loop', stamp + '.new', mnt)
    try:
        fill(mnt)
    finally:
        sh('umount', mnt)
    os.rename(stamp + '.new', stamp)
    return stamp


def sha(path):
    h = hashlib.sha256()
    with open(path, 'rb', buffering=0) as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    return h.hexdigest()


def seq_read(mnt):
    buf = bytearray(1 << 20)
    with open(mnt + '/big', 'rb', buffering=0) as f:
        while f.readinto(buf):
            pass


def fio(mnt, jobs, direct):
    """Seconds per 1,000 random 4 KiB reads, so that smaller is better as everywhere. A fixed number of them, each of another block:
    who is fast would else soon read what he has cached."""
    cmd = ['fio', '--name=r', '--filename=' + mnt + '/big', '--readonly', '--rw=randread', '--bs=4k', '--numjobs=%d' % jobs,
           '--number_ios=%d' % (RANDOM // jobs), '--runtime=%d' % STEP_S, '--output-format=json', '--group_reporting', '--randseed=7',
           '--invalidate=0', '--fadvise_hint=0']
    cmd += ['--direct=1', '--ioengine=libaio', '--iodepth=16'] if direct else ['--ioengine=psync']
    iops = json.loads(sh(*cmd, timeout=STEP_S))['jobs'][0]['read']['iops']
    return 1000 / iops


def find_stat(mnt):
    n = len(sh('find', mnt + '/tree', '-type', 'f', '-printf', '%s %m %T@\n', timeout=STEP_S).splitlines())
    assert n == FILES, '%d files found' % n


def ls_long(mnt):
    n = len(sh('ls', '-lU', mnt + '/long', timeout=STEP_S).splitlines())
    assert n == LONG + 1, '%d lines' % n


def tar_out(mnt):
    sh('sh', '-c', 'cd "$1" && exec tar cf - tree | cat >/dev/null', 'sh', mnt, timeout=STEP_S)


def tree_sum(mnt):
    return sh('sh', '-c', 'cd "$1" && tar cf - --sort=name tree | sha256sum', 'sh', mnt).decode()


# name, where the image lies, cold, what is run, how it is verified ('big', 'tree' or ''), bars: (times the kernel's
# time at most, aim, times faster than fuse2fs at least)
ROWS = [
    ('sequential read cold, disk', 'disk', True, lambda m: timed(lambda: seq_read(m)), 'big', (1.0, 0.6, 3)),
    ('sequential read cold, tmpfs', 'shm', True, lambda m: timed(lambda: seq_read(m)), 'big', (4.0, None, None)),
    ('sequential read warm', 'shm', False, lambda m: timed(lambda: seq_read(m)), 'big', (1.3, 1.0, None)),
    ('random 4K cold, 1 thread, disk', 'disk', True, lambda m: fio(m, 1, False), 'big', (1.0, 0.5, None)),
    ('random 4K cold, 4 threads, disk', 'disk', True, lambda m: fio(m, 4, False), 'big', (1.0, 0.5, None)),
    ('random 4K cold, 1 thread, tmpfs', 'shm', True, lambda m: fio(m, 1, False), 'big', (1.0, 0.5, None)),
    ('random 4K cold, 4 threads, tmpfs', 'shm', True, lambda m: fio(m, 4, False), 'big', (1.0, 0.5, None)),
    ('O_DIRECT 4K queue depth 16, tmpfs', 'shm', True, lambda m: fio(m, 1, True), 'big', (1.5, 1.1, None)),
    ('find + stat cold', 'shm', True, lambda m: timed(lambda: find_stat(m)), 'tree', (1.5, 1.0, 8)),
    ('find + stat warm', 'shm', False, lambda m: timed(lambda: find_stat(m)), '', (1.3, None, 50)),
    ('ls -l of a long directory cold', 'shm', True, lambda m: timed(lambda: ls_long(m)), '', (1.5, None, None)),
    ('tar of the tree cold', 'shm', True, lambda m: timed(lambda: tar_out(m)), 'tree', (1.3, 1.0, 4)),
    ('tar of the tree warm', 'shm', False, lambda m: timed(lambda: tar_out(m)), '', (None, None, 7)),
]


def one(c, what, img, good):
    name, _, cold, fn, verify, _ = what
    mnt = A.dir + '/mnt'
    try:
        c.mount(img, mnt)
        drop_caches()
        if not cold:
            fn(mnt)
        t = fn(mnt)
        if verify == 'big' and sha(mnt + '/big') != good['big']:
            raise RuntimeError('%s: %s: wrong data' % (c.name, name))
        # fuse2fs takes minutes for the tree: its content is not what is tested here
        if verify == 'tree' and c.name != 'fuse2fs' and tree_sum(mnt) != good['tree']:
            raise RuntimeError('%s: %s: wrong content' % (c.name, name))
        return t, c.rss_peak_kib()
    except (subprocess.TimeoutExpired, RuntimeError) as e:
        print('  %s: %s: %s' % (c.name, name, str(e)[:200]), file=sys.stderr)
        return None, 0
    finally:
        c.unmount()


def million():
    """Resident memory while a find walks a million files: within --cache + 64 MiB."""
    img, mnt = A.shm + '/million.img', A.dir + '/mnt'
    if not os.path.exists(img):
        with open(img + '.new', 'wb') as f:
            f.truncate(4 << 30)
        sh('mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES, '-N', '1050000', '-I', '256', img + '.new')
        os.makedirs(mnt, exist_ok=True)
        sh('mount', '-o', 'loop', img + '.new', mnt)
        try:
            for d in range(1000):
                os.mkdir('%s/%03d' % (mnt, d))
                for i in range(1000):
                    os.close(os.open('%s/%03d/%06d' % (mnt, d, i), os.O_CREAT | os.O_WRONLY))
        finally:
            sh('umount', mnt)
        os.rename(img + '.new', img)
    c = Contestant('werunos', A.werunos)
    try:
        c.mount(img, mnt)
        n = len(sh('find', mnt, '-type', 'f', '-printf', '%s\n').splitlines())
        print('find over %d files: peak resident memory %.0f MiB' % (n, c.rss_peak_kib() / 1024))
    finally:
        c.unmount()


def measure_all(rows):
    img = {'disk': build(A.dir + '/img'), 'shm': build(A.shm + '/img')}
    good = {}
    for where in img:
        c = Contestant('kernel', None)
        try:
            c.mount(img[where], A.dir + '/mnt')
            good[where] = {'big': sha(A.dir + '/mnt/big'), 'tree': tree_sum(A.dir + '/mnt')}
        finally:
            c.unmount()
    head('seconds (random: per 1,000 reads)')
    out, rss = [], 0

    def measure(name):
        nonlocal rss
        t, kib = one(Contestant(name, A.werunos), what, img[what[1]], good[what[1]])
        if name == 'werunos':
            rss = max(rss, kib)
        return t

    for what in rows:
        out.append(row(what[0], what[5], REPS, measure))
    print('werunos, peak resident memory over all rows: %.0f MiB' % (rss / 1024))
    if A.million:
        million()
    return out


if __name__ == '__main__':
    run(A, ROWS, measure_all)
