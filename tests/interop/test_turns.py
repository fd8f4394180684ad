"""
Combinations of features (tests/pairs.py), each as near to itself as the kernel here writes it: the kernel and we take turns on one volume, ten
times over. Who comes finds every byte of who was there before, and works on; some turns end in a crash, and the other applies the log.
"""
import contextlib, fcntl, os, random, struct, subprocess, sys, time
import pytest
import mounts
from turns import many_names, same, seen, work

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + '/tests')
import pairs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')

EXT4_IOC_SHUTDOWN = 0x8004587d
NO_LOG_FLUSH = struct.pack('<I', 2)
LONG = bool(os.environ.get('LONG'))


def near(c):
    """The kernel here has no casefold, no quota files, no blocks above a page; its own writing of inline data has crashed it."""
    c = {**c, 'fold': 'no', 'inline': 'no', 'quota': 'none'}
    if pairs.BYTES[c['block']] > pairs.PAGE:
        c['block'] = {'8k': '2k', '64k': '4k'}[c['block']]
    return c


def distinct():
    out = {}
    for i, c in enumerate(pairs.rows(48)[0]):
        out.setdefault(tuple(near(c).items()), i)
    return {'%02d' % i: dict(c) for c, i in out.items()}


ROWS = distinct()


def first(**want):
    """The first row with these choices in which nobody has to wait for another machine."""
    return next(n for n, c in ROWS.items() if c['mmp'] == 'no' and all(c[k] == v for k, v in want.items()))


SAMPLE = sorted({first(cluster='x2', values='ea_inode'), first(cluster='x16', values='block'), first(map='pointers', journal='data'),
                 first(map='extents', journal='fast_commit')})


def clean(image):
    mounts.run('e2fsck', '-fn', str(image))
    mounts.run(mounts.WERUNOS, 'fsck', '-fn', str(image))


class Volume:
    def __init__(self, tmp, c):
        opts, ext, tune = pairs.mke2fs(c)
        self.image, self.dir = tmp / 'img', tmp / 'd'
        self.dir.mkdir()
        with open(self.image, 'wb') as f:
            f.truncate(384 << 20)
        mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', *opts, '-N', '12000', *(['-E', ','.join(ext)] if ext else []), str(self.image))
        if tune:
            mounts.run('tune2fs', '-o', tune, str(self.image))

    @contextlib.contextmanager
    def kernel(self, crash):
        with mounts.kernel(self.image, self.dir) as root:
            yield root
            if crash:
                fd = os.open(root, os.O_RDONLY)
                fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
                os.close(fd)

    @contextlib.contextmanager
    def ours(self, crash):
        if not crash:
            with mounts.werunos(self.image, self.dir) as root:
                yield root
            return
        p = subprocess.Popen([mounts.WERUNOS, 'mount', str(self.image), str(self.dir)], stderr=subprocess.DEVNULL)
        try:
            # With multiple mount protection it waits for the machine that is gone.
            assert mounts.within(60, lambda: os.path.ismount(self.dir) or p.poll() is not None) and p.poll() is None
            yield str(self.dir)
        finally:
            p.kill()
            p.wait()
            # A mount whose server is gone does not look like one.
            subprocess.run(['umount', '-l', str(self.dir)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fsck(self, crashed, copy):
        if not crashed:
            clean(self.image)
            return
        mounts.run('cp', '--sparse=always', str(self.image), str(copy))
        r = subprocess.run(['e2fsck', '-fp', str(copy)], capture_output=True, text=True)
        assert r.returncode in (0, 1), r.stdout + r.stderr
        clean(copy)


def kept(view):
    """Without what was under way when the power went, all of which must be readable nevertheless."""
    errors = [(p, d['content']) for p, d in view.items() if str(d.get('content', '')).startswith('E')]
    assert not errors, errors
    return {p: d for p, d in view.items() if not p.startswith(b'keep')}


def sync(root):
    """Each file and directory: syncfs does not get through FUSE."""
    for d, _, files in os.walk(root):
        for path in [d] + [os.path.join(d, f) for f in files]:
            if os.path.isfile(path) and not os.path.islink(path) or path == d:
                fd = os.open(path, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)


def unsynced(root, r):
    for i in range(30):
        path = '%s/keep/%d' % (root, r.randrange(12))
        with open(path, 'ab') as f:
            f.write(r.randbytes(r.choice([10, 5000, 90000])))
        if r.random() < 0.3:
            os.rename(path, '%s/keep/%d' % (root, r.randrange(12)))
        if r.random() < 0.2:
            with open(path, 'ab') as f:
                os.fsync(f.fileno())


@pytest.mark.parametrize('row', ROWS if LONG else SAMPLE)
def test_turns(tmp_path, row):
    c = ROWS[row]
    v, r, before = Volume(tmp_path, c), random.Random('turns ' + row), None
    values = (1, 40, 180, 5000, 60000) if c['values'] == 'ea_inode' else (1, 40, 180)
    for turn in range(21 if LONG else 11):
        # The kernel begins and ends; each of the two crashes now and then, seldom where the next one has to wait for that.
        crash = c['journal'] != 'none' and turn % (25 if c['mmp'] == 'yes' else 5) in (2, 3)
        with (v.ours if turn % 2 else v.kernel)(crash) as root:
            if before is None:
                os.mkdir(root + '/keep')
                many_names(root, 1000)
            else:
                same(before, kept(seen(root)))
            work(root, r, 100 if LONG else 60, values)
            if crash:
                sync(root)
            before = kept(seen(root))
            if crash:
                unsynced(root, r)
        # e2fsck 1.47.0 leaves inodes without names when it applies the kernel's fast commits.
        if not (crash and c['journal'] == 'fast_commit' and turn % 2 == 0):
            v.fsck(crash, tmp_path / 'copy')
