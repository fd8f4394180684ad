#!/usr/bin/python3
"""Writing on combinations of features (tests/pairs.py) beside the default volume, in one run.

  combinations.py [--quick] [--reps N] [--only WORD,...] [--kernel] [--dir DISK_DIR] [--shm TMPFS_DIR] [--json FILE] WERUNOS

Three combinations and the default volume at a time: each gets a fresh image and all steps, in turn, N times; a figure is the median of
a combination's time over that of the default volume beside it. The bar is 1.5. --kernel: the kernel's mount instead of ours, on
what it can mount: what a combination costs by its nature. Needs root, for the same reasons as the other benches. After each run of
werunos `e2fsck -fn` must be clean.
"""
import os, random, shutil, statistics, subprocess, sys

from contest import FEATURES, STEP_S, Contestant, drop_caches, options, run, sh, timed

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import pairs

PARSER = options(__doc__)
PARSER.add_argument('--kernel', action='store_true')
A = PARSER.parse_args()
REPS = A.reps or (1 if A.quick else 3)
SCALE = 4 if A.quick else 1
MNT, IMG, TREE, TAR = A.shm + '/mnt', A.shm + '/combination.img', A.shm + '/few', A.shm + '/few.tar'
BLOCK = os.urandom(1 << 20)
BIG_MB, FILES, UNTARRED, RANDOM = 192 // SCALE, 8000 // SCALE, 2000 // SCALE, 2000 // SCALE
BAR = 1.5


def make_tree():
    shutil.rmtree(TREE, ignore_errors=True)
    for i in range(UNTARRED):
        d = '%s/%02d' % (TREE, i // 40)
        os.makedirs(d, exist_ok=True)
        with open('%s/file%05d' % (d, i), 'wb') as f:
            f.write(BLOCK[i * 13 % 500000:][:i * 7919 % 16000 + 100])
    sh('tar', 'cf', TAR, '-C', TREE, '.')
    shutil.rmtree(TREE)


# ---- what is timed: each takes the directory ----

def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def untar(d):
    os.mkdir(d + '/tree')
    sh('tar', 'xf', TAR, '-C', d + '/tree', timeout=STEP_S)
    sync(d + '/tree')


def create(d):
    os.mkdir(d + '/many')
    for i in range(FILES):
        os.close(os.open('%s/many/file-%06d' % (d, i), os.O_CREAT | os.O_WRONLY))
    sync(d + '/many')


def write(d):
    fd = os.open(d + '/big', os.O_CREAT | os.O_WRONLY)
    for _ in range(BIG_MB):
        os.write(fd, BLOCK)
    os.fsync(fd)
    os.close(fd)


def random_write(d):
    rnd = random.Random(7)
    fd = os.open(d + '/big', os.O_WRONLY)
    for i in range(RANDOM):
        os.pwrite(fd, BLOCK[:4096], rnd.randrange(BIG_MB * 256) * 4096)
        if i % 20 == 0:
            os.fsync(fd)
    os.fsync(fd)
    os.close(fd)


STEPS = {'untar': untar, 'create': create, 'write': write, 'random': random_write}


def image_bytes(unit_bytes):
    """Of a sparse image in which each file and directory can have a unit of space."""
    return max(1 << 30, 2 * UNTARRED * unit_bytes)


def rows():
    """(name, words of mke2fs, options of the mount, folds case, bytes of the image)."""
    out = []
    for i, c in enumerate(pairs.rows(48)[0]):
        if A.kernel and (c['fold'] == 'yes' or c['inline'] == 'yes' or c['quota'] != 'none' or pairs.BYTES[c['block']] > pairs.PAGE):
            continue
        opts, ext, _ = pairs.mke2fs(c)
        mode = {'data': 'data=journal', 'writeback': 'data=writeback'}.get(c['journal'], '')
        unit = pairs.BYTES[c['block']] * (1 if c['cluster'] == 'none' else int(c['cluster'][1:]))
        out.append((pairs.name(i, c), opts + (['-E', ','.join(ext)] if ext else []), mode, c['fold'] == 'yes', image_bytes(unit)))
    return out


def one(words, mode, fold, size_bytes):
    """Seconds by step, or None when it failed."""
    c = Contestant('kernel' if A.kernel else 'werunos', A.werunos, write=True, options=mode)
    if os.path.exists(IMG):
        os.unlink(IMG)
    with open(IMG, 'wb') as f:
        f.truncate(size_bytes)
    try:
        sh('mke2fs', '-q', '-F', '-t', 'ext4', *words, '-N', str(FILES + UNTARRED + 4000), IMG)
        c.mount(IMG, MNT)
        if A.kernel and mode:
            sh('umount', MNT)
            sh('mount', '-o', 'loop,' + mode, IMG, MNT)
        d = MNT + '/work'
        os.mkdir(d)
        if fold:
            sh('chattr', '+F', d)
        out = {}
        for name, step in STEPS.items():
            drop_caches()
            out[name] = timed(lambda: step(d))
        c.unmount()
        r = subprocess.run(['e2fsck', '-fn', IMG], capture_output=True, text=True)
        if r.returncode:
            raise RuntimeError('e2fsck: %s' % (r.stdout + r.stderr)[-600:])
        return out
    except (subprocess.TimeoutExpired, RuntimeError, OSError) as e:
        print('  %s: %s' % (' '.join(words), str(e)[:700]), file=sys.stderr)
        return None
    finally:
        c.unmount()


def group(some):
    """Results of some rows, with the default volume beside them."""
    default = ('default', ['-b', '4096', '-O', FEATURES], '', False, image_bytes(4096))
    got = {r[0]: [] for r in [default] + some}
    for _ in range(REPS):
        for name, *how in [default] + some:
            got[name].append(one(*how))
    median = lambda name, step: statistics.median(t[step] for t in got[name]) if all(got[name]) else None
    out = []
    for name, *_ in some:
        ratios, said = {}, []
        for step in STEPS:
            base, t = median('default', step), median(name, step)
            ratios[step] = t / base if base and t else None
            said.append('%8s' % ('failed' if ratios[step] is None else '%.2f' % ratios[step]))
        good = all(r is not None and r <= BAR for r in ratios.values())
        print('%s  %-6s %s' % (' '.join(said), 'met' if good else 'MISSED', name), flush=True)
        out.append({'name': name, 'ratios': ratios, 'met': good,
                    'seconds': {s: [median(name, s), median('default', s)] for s in STEPS}})
    return out


def measure_all(wanted):
    make_tree()
    print(' '.join('%8s' % s for s in STEPS) + '  bar %.1f times the default volume' % BAR)
    out = []
    for at in range(0, len(wanted), 3):
        out += group(wanted[at:at + 3])
    os.unlink(IMG)
    return out


if __name__ == '__main__':
    run(A, rows(), measure_all)
