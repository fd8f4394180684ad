#!/usr/bin/python3
"""Copying in and out without a mount, side by side with what else does it: mke2fs -d and debugfs rdump, the kernel's loop mount with cp -a or
tar, fuse2fs with cp -a; and empty volumes, beside mke2fs.

  copies.py [--quick] [--reps N] [--only WORD,...] [--dir DISK_DIR] [--shm TMPFS_DIR] [--json FILE] WERUNOS

Needs root (loop mounts, drop_caches), e2fsprogs, fuse2fs and tar. Every figure is the median of N runs taken in turn. Sources, images and
what is copied out lie on tmpfs, so that no disk is measured; caches are dropped before each run, so that nothing of a volume is
known. A run ends when what was written is durable: with the unmount, with syncfs of where it went to. A mount's time counts, that of the mke2fs before it
does not. After each run the files are counted; after each of werunos e2fsck -fn must be clean and every byte is compared. Bars are of time:
0.67 is one and a half times as fast. No run of werunos may have more than MEMORY_MIB resident.
"""
import collections, os, shutil, subprocess, sys

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../interop'))
import oci
from contest import FEATURES, STEP_S, Contestant, drop_caches, options, run, sample, sh, show_ratio, show_s, timed
from reading import fill_tree, kept

A = options(__doc__).parse_args()
REPS = A.reps or (1 if A.quick else 3)
MIXED_MB = 96 if A.quick else 2048
FILES = 2000 if A.quick else 20000
MEMORY_MIB = 256
LAYERS = 3
MNT, OUT, IMG = A.dir + '/mnt', A.shm + '/copy-out', A.shm + '/copy.img'
MKE2FS = ['mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES]


# ---- sources ----

def fill_mixed(top):
    """A quarter each in files of an eighth of it, of 8 MiB (a few), of 256 KiB, and of 4 to 60 KiB."""
    block = os.urandom(9 << 20)

    def put(name, size, at):
        path = '%s/tree/%s' % (top, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f:
            while size > 0:
                n = min(size, 8 << 20)
                f.write(memoryview(block)[at % (1 << 20):][:n])
                size, at = size - n, at + 4099

    quarter = MIXED_MB << 18
    for i in range(2):
        put('large/%d' % i, quarter // 2, i)
    for i in range(quarter // (8 << 20)):
        put('medium/%03d' % i, 8 << 20, i * 77)
    for i in range(quarter // (256 << 10)):
        put('some/%02d/%04d' % (i // 100, i), 256 << 10, i * 131)
    for i in range(quarter // (32 << 10)):
        put('small/%03d/%05d' % (i // 100, i), (4 << 10) + i * 7919 % (56 << 10), i * 197)


FILLS = {'mixed': (fill_mixed, MIXED_MB, (MIXED_MB,)), 'small': (lambda top: fill_tree(top, FILES), FILES // 60, (FILES,))}


def source(kind):
    """The tree's directory, kept from run to run."""
    fill, _, parameters = FILLS[kind]
    top = '%s/copy-%s.%s' % (A.shm, kind, '-'.join(map(str, parameters)))
    if not os.path.exists(top):
        for old in os.listdir(A.shm):
            if old.startswith('copy-%s.' % kind):
                shutil.rmtree(os.path.join(A.shm, old))
        shutil.rmtree(top + ',new', ignore_errors=True)
        os.makedirs(top + ',new')
        fill(top + ',new')
        os.rename(top + ',new', top)
    return top + '/tree'


def fresh(kind, img=IMG):
    with open(img, 'wb') as f:
        f.truncate(FILLS[kind][1] * 5 // 4 + 512 << 20)
    sh(*MKE2FS, '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-N', str(2 * FILES + MIXED_MB * 40), img)
    return img


def volume(kind):
    """An image that holds the tree, written by the kernel and kept."""
    return kept('%s/copy-volume-%s' % (A.shm, kind), FILLS[kind][2], MNT, lambda img: fresh(kind, img),
                lambda mnt: sh('cp', '-a', source(kind) + '/.', mnt))


def layers():
    """The mixed tree as archives without compression, and as an image of them: kept. (archives, layout)"""
    top = '%s/copy-layers.%d' % (A.shm, MIXED_MB)
    files = ['%s/%d.tar' % (top, i) for i in range(LAYERS)]
    if not os.path.exists(top + '/done'):
        for old in os.listdir(A.shm):
            if old.startswith('copy-layers.'):
                shutil.rmtree(os.path.join(A.shm, old))
        layout = oci.Layout(top + '/layout')
        made = []
        parts = (['medium'], ['some', 'small'], ['large'])
        for path, names in zip(files, parts):
            sh('tar', 'cf', path, '--format=pax', '-C', source('mixed'), *names)
            digest = sh('sha256sum', path).decode().split()[0]
            os.link(path, '%s/blobs/sha256/%s' % (layout.path, digest))
            made.append(({'mediaType': oci.LAYER, 'digest': 'sha256:' + digest, 'size': os.path.getsize(path)}, 'sha256:' + digest))
        layout.add(layout.manifest(made), 'latest')
        open(top + '/done', 'w').close()
    return files, top + '/layout'


# ---- what is timed ----

peak_kib = 0


def ours(*args):
    """Runs werunos to its end; what it had resident at most goes to peak_kib."""
    global peak_kib
    # Its own memory before the exec counts as well: this program's must stay small.
    p = subprocess.Popen(['timeout', str(4 * STEP_S), A.werunos, *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    err = p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        raise RuntimeError('werunos %s: exit %d: %s' % (args[0], p.returncode, err.decode(errors='replace')[-400:]))
    peak_kib = max(peak_kib, usage.ru_maxrss)


def durable(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    sh('sync', '-f', path)


def mounted(name, img, fn, write):
    c = Contestant(name, A.werunos, write=write)
    try:
        c.mount(img, MNT)
        fn()
    finally:
        c.unmount()


def cold(fn):
    drop_caches()
    return timed(fn)


def take_in(kind):
    tree = source(kind)

    def by_mount(name):
        fresh(kind)
        return cold(lambda: mounted(name, IMG, lambda: sh('cp', '-a', tree + '/.', MNT, timeout=STEP_S), True))

    def by_tool():
        size_k = FILLS[kind][1] * 5 // 4 + 512 << 10
        return cold(lambda: sh(*MKE2FS, '-N', str(2 * FILES + MIXED_MB * 40), '-d', tree, IMG, '%dk' % size_k, timeout=4 * STEP_S))

    def by_cp():
        fresh(kind)
        return cold(lambda: ours('cp', '-a', tree + '/.', IMG + ':/'))

    return {'kernel': lambda: by_mount('kernel'), 'fuse2fs': lambda: by_mount('fuse2fs'), 'tool': by_tool,
            'mkfs --from': lambda: cold(lambda: ours('mkfs', 'ext4', IMG, '--from', tree)), 'cp -a': by_cp}, lambda name: check_in(tree, name)


def take_out(kind):
    img, tree = volume(kind), source(kind)

    def into(fn):
        os.makedirs(OUT)
        return cold(lambda: (fn(), durable(OUT)))

    def by_mount(name):
        return into(lambda: mounted(name, img, lambda: sh('cp', '-a', MNT + '/.', OUT, timeout=STEP_S), False))

    # Each name of the top: rdump of the top itself is the same with lost+found.
    return {'kernel': lambda: by_mount('kernel'), 'fuse2fs': lambda: by_mount('fuse2fs'),
            'tool': lambda: into(lambda: sh('debugfs', '-R', 'rdump / %s' % OUT, img, timeout=4 * STEP_S)),
            'cp -a': lambda: into(lambda: ours('cp', '-a', img + ':/.', OUT))}, lambda name: check_out(tree, name)


def export():
    img, tree, archive = volume('mixed'), source('mixed'), OUT + '.tar'

    def by_mount():
        return cold(lambda: (mounted('kernel', img, lambda: sh('tar', 'cf', archive, '--exclude=./lost+found', '-C', MNT, '.'), False),
                             durable(archive)))

    return {'kernel': by_mount, 'export': lambda: cold(lambda: (ours('export', '--exclude', 'lost+found', '-o', archive, img), durable(archive)))}, \
        lambda name: sh('tar', 'df', archive, '-C', tree)


def unpack():
    files, layout = layers()
    tree = source('mixed')

    def by_mount():
        fresh('mixed')
        return cold(lambda: mounted('kernel', IMG, lambda: [sh('tar', 'xf', f, '-C', MNT) for f in files], True))

    def by_unpack(*args):
        fresh('mixed')
        return cold(lambda: ours('unpack', *args))

    return {'kernel': by_mount, 'unpack': lambda: by_unpack(IMG, *files), 'unpack --oci': lambda: by_unpack('--oci', layout + ':latest', IMG)}, \
        lambda name: check_in(tree, name)


def empty(size):
    def by_tool():
        with open(IMG, 'wb') as f:
            f.truncate(size)
        return cold(lambda: sh(*MKE2FS, IMG))

    return {'tool': by_tool, 'mkfs': lambda: cold(lambda: ours('mkfs', 'ext4', IMG, str(size)))}, lambda name: clean(name)


# ---- that it was right ----

OTHERS = ('kernel', 'tool', 'fuse2fs')


def clean(name):
    r = subprocess.run(['e2fsck', '-fn', IMG], capture_output=True, text=True)
    if r.returncode and name not in OTHERS:
        raise RuntimeError('e2fsck: %s' % (r.stdout + r.stderr)[-600:])


def compare(tree, copy, name):
    n, want = (len(sh('find', d, '-type', 'f').splitlines()) for d in (copy, tree))
    if n != want:
        raise RuntimeError('%d files are there, of %d' % (n, want))
    if name not in OTHERS:
        sh('diff', '-r', '--no-dereference', '-x', 'lost+found', tree, copy)
        for args in (['%U %G %m %y %P\n'], ['%T@ %P\n']):
            listed = [sh('find', '.', '-name', 'lost+found', '-prune', '-o', '-mindepth', '1', '-printf', *args, cwd=d) for d in (tree, copy)]
            if sorted(listed[0].splitlines()) != sorted(listed[1].splitlines()):
                raise RuntimeError('owners, modes or times differ')


def check_in(tree, name):
    clean(name)
    mounted('kernel', IMG, lambda: compare(tree, MNT, name), False)


def check_out(tree, name):
    compare(tree, OUT, name)


def clear():
    for path in (IMG, OUT + '.tar'):
        if os.path.exists(path):
            os.unlink(path)
    shutil.rmtree(OUT, ignore_errors=True)


# ---- rows ----

# What is measured together: the contestants by name, and what looks at the outcome.
FAMILIES = {
    'mixed in': lambda: take_in('mixed'), 'mixed out': lambda: take_out('mixed'), 'small in': lambda: take_in('small'),
    'small out': lambda: take_out('small'), 'export': export, 'unpack': unpack, '8G': lambda: empty(8 << 30), '1T': lambda: empty(1 << 40),
}
Row = collections.namedtuple('Row', 'title family way bars')
# Bars: (times the other's time at most, aim).
FAST = {'kernel': (1 / 1.5, 0.5), 'tool': (1 / 1.5, 0.5)}
EVEN = {'kernel': (1.0, None)}
MIXED, SMALL = '%d MiB, large and small files' % MIXED_MB, '%d small files' % FILES
ROWS = [
    Row('%s, in: mkfs --from' % MIXED, 'mixed in', 'mkfs --from', FAST),
    Row('%s, in: cp -a' % MIXED, 'mixed in', 'cp -a', FAST),
    Row('%s, out, cold: cp -a' % MIXED, 'mixed out', 'cp -a', FAST),
    Row('%s, in: mkfs --from' % SMALL, 'small in', 'mkfs --from', EVEN),
    Row('%s, in: cp -a' % SMALL, 'small in', 'cp -a', EVEN),
    Row('%s, out, cold: cp -a' % SMALL, 'small out', 'cp -a', EVEN),
    Row('export to tar, cold', 'export', 'export', EVEN),
    Row('unpack of %d archives' % LAYERS, 'unpack', 'unpack', EVEN),
    Row('unpack --oci, %d layers' % LAYERS, 'unpack', 'unpack --oci', EVEN),
    Row('mkfs of 8 GiB, sparse', '8G', 'mkfs', {'tool': (2.0, None)}),
    Row('mkfs of 1 TiB, sparse', '1T', 'mkfs', {'tool': (2.0, None)}),
]


def verdict(bars, med, way, peak_mib):
    if med[way] is None:
        return 'FAILED'
    ratio = {n: med[way] / med[n] if med.get(n) else 0 for n in bars}
    if any(ratio[n] > must for n, (must, _) in bars.items()) or peak_mib > MEMORY_MIB:
        return 'MISSED'
    if any(aim for _, aim in bars.values()) and all(ratio[n] <= aim for n, (_, aim) in bars.items()):
        return 'aim met'
    return 'met'


def bar_text(bars):
    return ', '.join('<= %.2f x%s%s' % (must, n[0].upper(), ', aim %.1f' % aim if aim else '') for n, (must, aim) in bars.items())


def show(r, med, got, peak_mib):
    w = med[r.way]
    said = verdict(r.bars, med, r.way, peak_mib)
    print('%-55s %s %s %s %s %s %s %5.0f  %s: %s' % (r.title, show_s(med.get('kernel')), show_s(med.get('tool')), show_s(med.get('fuse2fs')),
                                                  show_s(w), show_ratio(w, med.get('kernel')), show_ratio(w, med.get('tool')), peak_mib,
                                                  bar_text(r.bars), said), flush=True)
    return {'row': r.title, 'median_s': {n: med[n] for n in (*(o for o in OTHERS if o in med), r.way)},
            'samples_s': {n: got[n] for n in (*(o for o in OTHERS if o in got), r.way)}, 'peak_mib': peak_mib, 'verdict': said}


def one(fn, check, name, peaks):
    global peak_kib
    peak_kib = 0
    clear()
    try:
        t = fn()
        check(name)
        peaks[name] = max(peaks.get(name, 0), peak_kib / 1024)
        return t
    except (subprocess.TimeoutExpired, RuntimeError, OSError) as e:
        print('  %s: %s' % (name, str(e)[:700]), file=sys.stderr)
        return None
    finally:
        clear()


def measure_all(rows):
    print('%-55s %9s %9s %9s %9s %6s %6s %5s  %s' % ('seconds', 'kernel', 'tool', 'fuse2fs', 'werunos', 'xK', 'xT', 'MiB', 'bar'))
    out = []
    for family in dict.fromkeys(r.family for r in rows):
        mine = [r for r in rows if r.family == family]
        ways, check = FAMILIES[family]()
        who = [n for n in OTHERS if n in ways and (n != 'fuse2fs' or shutil.which(n))] + [r.way for r in mine]
        peaks = {}
        got, med = sample(REPS, lambda name: one(ways[name], check, name, peaks), who)
        out += [show(r, med, got, peaks.get(r.way, 0)) for r in mine]
    return out


if __name__ == '__main__':
    run(A, ROWS, measure_all)
