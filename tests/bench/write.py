#!/usr/bin/python3
"""Writing, side by side: the kernel's loop mount, fuse2fs and werunos on images made alike, in one run.

  write.py [--quick] [--reps N] [--only WORD,...] [--dir DISK_DIR] [--shm TMPFS_DIR] [--json FILE] WERUNOS

Needs root (loop mounts), fuse2fs and tar. Every figure is the median of N runs taken in turn, each on a fresh image; the
time includes the fsync or the unmount that the row names. After each run of werunos `e2fsck -fn` must be clean and what
was written is read back through the kernel. Each row names its mode.
"""
import os, random, shutil, subprocess, sys

from contest import FEATURES, STEP_S, Contestant, drop_caches, head, options, row, run, sh, timed

A = options(__doc__).parse_args()
REPS = A.reps or (1 if A.quick else 3)
BIG_MB = 128 if A.quick else 1024
FILES = 2000 if A.quick else 20000
SYNCS = 100 if A.quick else 500
RANDOM = 2000 if A.quick else 20000
IMAGE_MB = 1024 if A.quick else 4096
MNT = A.dir + '/mnt'
TREE, TAR = A.shm + '/tree', A.shm + '/tree.tar'
BLOCK = os.urandom(1 << 20)


def make_tree():
    """20,000 files of 100 bytes to 16 KB in 500 directories, as a directory and as a tar."""
    if os.path.exists('%s.%d' % (TAR, FILES)):
        return
    shutil.rmtree(TREE, ignore_errors=True)
    for i in range(FILES):
        d = '%s/%03d/%02d' % (TREE, i // 400, i // 40 % 10)
        if i % 40 == 0:
            os.makedirs(d, exist_ok=True)
        with open('%s/file%05d' % (d, i), 'wb') as f:
            f.write(BLOCK[i * 13 % 500000:][:(i * 7919) % 16000 + 100])
    sh('tar', 'cf', TAR, '-C', TREE, '.')
    sh('touch', '%s.%d' % (TAR, FILES))


def fresh(where):
    img = (A.dir if where == 'disk' else A.shm) + '/write.img'
    if os.path.exists(img):
        os.unlink(img)
    with open(img, 'wb') as f:
        f.truncate(IMAGE_MB << 20)
    sh('mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES, '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-N', str(4 * FILES + 9000), img)
    return img


# ---- what is timed: each takes the mount point; those named `prepare` run before ----

def seq_write(m):
    fd = os.open(m + '/big', os.O_CREAT | os.O_WRONLY)
    for _ in range(BIG_MB):
        os.write(fd, BLOCK)
    os.fsync(fd)
    os.close(fd)


def write_fsync(m):
    fd = os.open(m + '/log', os.O_CREAT | os.O_WRONLY)
    for i in range(SYNCS):
        os.write(fd, BLOCK[i * 4096 % 900000:][:4096])
        os.fsync(fd)
    os.close(fd)


def prepare_random(m):
    fd = os.open(m + '/big', os.O_CREAT | os.O_WRONLY)
    for _ in range(BIG_MB // 4):
        os.write(fd, BLOCK)
    os.fsync(fd)
    os.close(fd)


def random_write(m):
    rnd = random.Random(7)
    fd = os.open(m + '/big', os.O_WRONLY)
    for _ in range(RANDOM):
        os.pwrite(fd, BLOCK[:4096], rnd.randrange(BIG_MB // 4 * 256) * 4096)
    os.fsync(fd)
    os.close(fd)


def create_in(d, n):
    os.makedirs(d, exist_ok=True)
    for i in range(n):
        os.close(os.open('%s/file-%06d' % (d, i), os.O_CREAT | os.O_WRONLY))


def create_one(m):
    create_in(m + '/d', FILES)


def create_four(m):
    pids = []
    for k in range(4):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                create_in('%s/d%d' % (m, k), FILES // 4)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    if any(os.waitpid(p, 0)[1] for p in pids):
        raise RuntimeError('a client failed')


def rename_all(m):
    for i in range(FILES):
        os.rename('%s/d/file-%06d' % (m, i), '%s/d/name-%06d' % (m, i))


def unlink_all(m):
    for i in range(FILES):
        os.unlink('%s/d/file-%06d' % (m, i))


def cp_tree(m):
    sh('cp', '-a', TREE, m + '/tree', timeout=STEP_S)


def untar(m):
    os.mkdir(m + '/tree')
    sh('tar', 'xf', TAR, '-C', m + '/tree', timeout=STEP_S)


def rm_tree(m):
    sh('rm', '-rf', m + '/tree', timeout=STEP_S)


# name, where, options of werunos, prepare, what, unmount in the time, how it is checked, bars
ROWS = [
    ('write 1 GiB + fsync, tmpfs', 'shm', '', None, seq_write, False, 'big', (1.0, None, 3)),
    ('write 1 GiB + fsync, disk', 'disk', '', None, seq_write, False, 'big', (1.0, None, 3)),
    ('4K append + fsync each, tmpfs', 'shm', '', None, write_fsync, False, '', (1.5, 1.0)),
    ('4K append + fsync each, disk', 'disk', '', None, write_fsync, False, '', (1.5, 1.0)),
    ('4K random + final fsync', 'shm', '', prepare_random, random_write, False, '', (None, None, 1.5)),
    ('4K random + final fsync, -o writeback', 'shm', 'writeback', prepare_random, random_write, False, '', (2.0, None, 5)),
    ('create, one client', 'shm', '', None, create_one, False, '', (5.0, None, 2.5)),
    ('create, four clients', 'shm', '', None, create_four, False, '', (4.0, None, 3.5)),
    ('rename', 'shm', '', create_one, rename_all, False, '', (None, None, 2.5)),
    ('unlink', 'shm', '', create_one, unlink_all, False, '', (None, None, 2.5)),
    ('cp -a of the tree + unmount', 'shm', '', None, cp_tree, True, 'tree', (4.0, None, 2.5, 4)),
    ('untar + unmount', 'shm', '', None, untar, True, 'tree', (None, None, 5)),
    ('rm -rf of the tree', 'shm', '', cp_tree, rm_tree, False, '', (None, None, 2.5)),
]


def check(img, how):
    """What werunos left: clean for e2fsck, and right for the kernel."""
    r = subprocess.run(['e2fsck', '-fn', img], capture_output=True, text=True)
    if r.returncode:
        raise RuntimeError('e2fsck: %s' % (r.stdout + r.stderr)[-600:])
    if not how:
        return
    c = Contestant('kernel', None)
    try:
        c.mount(img, MNT)
        if how == 'big':
            with open(MNT + '/big', 'rb') as f:
                for _ in range(BIG_MB):
                    if f.read(1 << 20) != BLOCK:
                        raise RuntimeError('wrong data')
        else:
            sh('diff', '-r', '--no-dereference', TREE, MNT + '/tree')
            for path in (MNT + '/tree/000/00/file00001', MNT + '/tree/000/09/file00399'):
                n = sh('filefrag', path).decode()
                if ': 1 extent' not in n:
                    raise RuntimeError('not one extent: ' + n)
    finally:
        c.unmount()


def one(name, what):
    title, where, options, prepare, fn, unmount, how, _ = what
    if options and name == 'fuse2fs':
        options = ''
    c = Contestant(name, A.werunos, write=True, options=options if name == 'werunos' else '')
    img = fresh(where)
    try:
        c.mount(img, MNT)
        if prepare:
            prepare(MNT)
            sh('sync', '-f', MNT)
        drop_caches()
        t = timed(lambda: (fn(MNT), c.unmount() if unmount else None))
        c.unmount()
        if name == 'werunos':
            check(img, how)
        return t
    except (subprocess.TimeoutExpired, RuntimeError, OSError) as e:
        print('  %s: %s: %s' % (name, title, str(e)[:700]), file=sys.stderr)
        return None
    finally:
        c.unmount()


def measure_all(rows):
    make_tree()
    head('seconds')
    return [row(w[0], w[7], REPS, lambda name, w=w: one(name, w)) for w in rows]


if __name__ == '__main__':
    run(A, ROWS, measure_all)
