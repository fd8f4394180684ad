"""What the benches of reading share: images that are kept, what is read from them, and that it was right."""
import functools, hashlib, json, os, subprocess, sys

from contest import STEP_S, Contestant, drop_caches, head, row, sh, timed

# Options of fio for random_4k.
O_DIRECT = ['--direct=1', '--ioengine=libaio', '--iodepth=16']


def kept(img, parameters, mnt, mkfs, fill):
    """An image filled through the kernel, kept from run to run under the parameters that it was made with. mkfs(IMG), fill(MNT)."""
    stamp = '%s.%s' % (img, '-'.join(map(str, parameters)))
    if os.path.exists(stamp):
        return stamp
    os.makedirs(os.path.dirname(img), exist_ok=True)
    for old in os.listdir(os.path.dirname(img)):
        if old.startswith(os.path.basename(img) + '.'):
            os.unlink(os.path.join(os.path.dirname(img), old))
    mkfs(stamp + '.new')
    os.makedirs(mnt, exist_ok=True)
    sh('mount', '-o', 'loop', stamp + '.new', mnt)
    try:
        fill(mnt)
    finally:
        sh('umount', mnt)
    os.rename(stamp + '.new', stamp)
    return stamp


def fill_tree(mnt, files):
    """Small files, 40 to a directory, of 100 bytes to 16 KiB."""
    block = os.urandom(1 << 20)
    for i in range(files):
        d = '%s/tree/%03d/%02d' % (mnt, i // 400, i // 40 % 10)
        if i % 40 == 0:
            os.makedirs(d, exist_ok=True)
        n = (i * 7919) % 16000 + 100
        with open('%s/file%05d' % (d, i), 'wb') as f:
            f.write(block[i * 13 % 500000:][:n])


# ---- what is run; each gives seconds ----

def timed_call(fn):
    return functools.wraps(fn)(lambda *args: timed(lambda: fn(*args)))


@timed_call
def seq_read(path):
    buf = bytearray(1 << 20)
    with open(path, 'rb', buffering=0) as f:
        while f.readinto(buf):
            pass


def random_4k(path, count, jobs, *options):
    """Seconds per 1,000 random 4 KiB reads, so that smaller is better as everywhere. A fixed number of them, each of another block:
    who is fast would else soon read what he has cached."""
    cmd = ['fio', '--name=r', '--filename=' + path, '--readonly', '--rw=randread', '--bs=4k', '--numjobs=%d' % jobs,
           '--number_ios=%d' % (count // jobs), '--runtime=%d' % STEP_S, '--output-format=json', '--group_reporting', '--randseed=7',
           '--invalidate=0', '--fadvise_hint=0', *(options or ['--ioengine=psync'])]
    iops = json.loads(sh(*cmd, timeout=2 * STEP_S))['jobs'][0]['read']['iops']
    return 1000 / iops


@timed_call
def find_stat(mnt, files):
    n = len(sh('find', mnt + '/tree', '-type', 'f', '-printf', '%s %m %T@\n', timeout=STEP_S).splitlines())
    assert n == files, '%d files found' % n


@timed_call
def tar_out(mnt):
    sh('sh', '-c', 'cd "$1" && exec tar cf - tree | cat >/dev/null', 'sh', mnt, timeout=STEP_S)


# ---- that it was right ----

def content_sum(mnt, what):
    """Of 'tree', or of the file of this name."""
    if what == 'tree':
        return sh('sh', '-c', 'cd "$1" && tar cf - --sort=name tree | sha256sum', 'sh', mnt).decode()
    h = hashlib.sha256()
    with open('%s/%s' % (mnt, what), 'rb', buffering=0) as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    return h.hexdigest()


def kernels_sums(img, mnt, what):
    c = Contestant('kernel', None)
    try:
        c.mount(img, mnt)
        return {w: content_sum(mnt, w) for w in what}
    finally:
        c.unmount()


def one(c, what, img, mnt, good):
    """(seconds, or None when it failed; peak resident KiB)."""
    name, _, cold, fn, verify, _ = what
    try:
        c.mount(img, mnt)
        drop_caches()
        if not cold:
            fn(mnt)
        t = fn(mnt)
        # fuse2fs takes minutes for the tree: its content is not what is tested here
        if verify and not (verify == 'tree' and c.name == 'fuse2fs') and content_sum(mnt, verify) != good[verify]:
            raise RuntimeError('wrong content')
        return t, c.rss_peak_kib()
    except (subprocess.TimeoutExpired, RuntimeError, AssertionError, OSError) as e:
        print('  %s: %s: %s' % (c.name, name, str(e)[:200]), file=sys.stderr)
        return None, 0
    finally:
        c.unmount()


def compare(args, rows, img, reps, who):
    """Prints and returns all rows, each measured for each contestant of `who` in turn. A row: name, which image (a key of `img`), cold,
    fn(MNT) that gives seconds, what is verified afterwards ('tree', a file's name or ''), bars as `verdict` has them."""
    mnt = args.dir + '/mnt'
    good = {w: kernels_sums(img[w], mnt, {r[4] for r in rows if r[1] == w and r[4]}) for w in {r[1] for r in rows}}
    head('seconds (random: per 1,000 reads)')
    out, rss = [], 0

    def measure(name):
        nonlocal rss
        t, kib = one(Contestant(name, args.werunos), what, img[what[1]], mnt, good[what[1]])
        if name == 'werunos':
            rss = max(rss, kib)
        return t

    for what in rows:
        out.append(row(what[0], what[5], reps, measure, who))
    print('werunos, peak resident memory over all rows: %.0f MiB' % (rss / 1024))
    return out
