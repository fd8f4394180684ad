"""
Ways of journalling: the kernel and we take turns on one volume, and each turn ends in a crash. Whoever comes next applies the journal of the
other, and finds all that was synced, exactly; e2fsck finds nothing but what a journal mends.
"""
import contextlib, fcntl, os, random, struct, subprocess, time
import pytest
import mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')

EXT4_IOC_SHUTDOWN = 0x8004587d
NO_LOG_FLUSH = struct.pack('<I', 2)
JOURNAL_DATA = 0x4000
BASE = 'none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize'
CSUM = BASE + ',metadata_csum'
EXT3 = 'none,has_journal,ext_attr,dir_index,filetype,sparse_super,large_file'
TURNS = 20 if os.environ.get('LONG') else 4

# mke2fs's words, the kernel's options, ours, whether the journal is a device
KINDS = {
    'ordered': (['-O', CSUM, '-b', '4096'], '', '', False),
    'data': (['-O', CSUM], 'data=journal', 'data=journal', False),
    'data-ours': (['-O', CSUM, '-b', '1024', '-J', 'size=1'], 'data=ordered', 'data=journal', False),
    'data-theirs': (['-O', BASE, '-b', '1024'], 'data=journal', 'data=ordered', False),
    'data-ext3': (['-O', EXT3, '-I', '128', '-b', '1024'], 'data=journal', 'data=journal', False),
    'writeback': (['-O', CSUM], 'data=writeback', 'data=writeback', False),
    'async': (['-O', CSUM], 'data=writeback,journal_async_commit', '', False),
    'async-v1': (['-O', BASE], 'data=writeback,journal_async_commit', '', False),
    'checksum-v1': (['-O', BASE, '-b', '1024'], 'journal_checksum', '', False),
    'checksum-v1-32': (['-O', EXT3], 'journal_checksum', '', False),
    'fast': (['-O', CSUM + ',fast_commit'], '', '', False),
    'fast-plain': (['-O', BASE + ',fast_commit', '-b', '1024', '-J', 'size=4'], '', '', False),
    'fast-data': (['-O', CSUM + ',fast_commit'], '', 'data=journal', False),
    'huge': (['-O', CSUM, '-b', '4096', '-J', 'size=256'], '', '', False),
    'outside': (['-O', CSUM], '', '', True),
    'outside-plain': (['-O', BASE], '', '', True),
    'outside-data': (['-O', CSUM], 'data=journal', 'data=journal', True),
    'outside-async': (['-O', BASE], 'data=writeback,journal_async_commit', '', True),
}
QUICK = ['data', 'data-ours', 'async-v1', 'fast', 'outside']


class Volume:
    def __init__(self, tmp, kind):
        self.image, self.journal, self.dir = tmp / 'img', None, tmp / 'd'
        words, self.theirs, self.ours, outside = KINDS[kind]
        self.dir.mkdir()
        with open(self.image, 'wb') as f:
            f.truncate((600 if kind == 'huge' else 64) << 20)
        if outside:
            self.journal = tmp / 'journal'
            with open(self.journal, 'wb') as f:
                f.truncate(8 << 20)
            with mounts.loop(self.journal) as dev:
                mounts.run('mke2fs', '-q', '-F', '-b', '4096', '-O', 'journal_dev', dev)
                mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-J', 'device=' + dev, *words, str(self.image))
        else:
            mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', *words, str(self.image))

    @contextlib.contextmanager
    def journal_dev(self):
        if self.journal:
            with mounts.loop(self.journal) as dev:
                yield dev
        else:
            yield None

    @contextlib.contextmanager
    def kernel(self):
        with self.journal_dev() as dev:
            words = ['loop', self.theirs, 'journal_path=' + dev if dev else '']
            mounts.run('mount', '-t', 'ext4', '-o', ','.join(w for w in words if w), str(self.image), str(self.dir))
            try:
                yield str(self.dir)
                fd = os.open(self.dir, os.O_RDONLY)
                fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
                os.close(fd)
            finally:
                mounts.unmount(self.dir)

    @contextlib.contextmanager
    def killed(self):
        words = ['-o', 'rw' + (',' + self.ours if self.ours else '')] + (['--journal', str(self.journal)] if self.journal else [])
        p = subprocess.Popen([mounts.WERUNOS, 'mount', *words, str(self.image), str(self.dir)], stderr=subprocess.PIPE)
        try:
            end = time.monotonic() + 20
            while not os.path.ismount(self.dir):
                assert p.poll() is None, p.stderr.read().decode()
                assert time.monotonic() < end
                time.sleep(0.01)
            yield str(self.dir)
        finally:
            p.kill()
            p.wait()
            p.stderr.close()
            # A mount whose server is gone does not look like one.
            subprocess.run(['umount', '-l', str(self.dir)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fsck(self, copy):
        """Of a copy: the journal is applied, and then nothing is wrong."""
        mounts.run('cp', '--sparse=always', str(self.image), str(copy))
        with contextlib.ExitStack() as stack:
            words = []
            if self.journal:
                mounts.run('cp', '--sparse=always', str(self.journal), str(copy) + '.j')
                words = ['-j', stack.enter_context(mounts.loop(str(copy) + '.j'))]
            r = subprocess.run(['e2fsck', '-fp', *words, str(copy)], capture_output=True, text=True)
            assert r.returncode in (0, 1), r.stdout + r.stderr
            mounts.run('e2fsck', '-fn', *words, str(copy))


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def check(root, want):
    assert sorted(n for n in os.listdir(root) if n != 'lost+found') == sorted(want)
    for name, data in want.items():
        with open(os.path.join(root, name), 'rb') as f:
            assert f.read() == data, name


def work(root, r, want, turn):
    """Changes, each of them synced; some files are overwritten again and again, some blocks change from one use to another."""
    for i in range(60):
        kind, old = r.randrange(8), r.choice(sorted(want)) if want else None
        new = '%d-%d' % (turn, i)
        if kind < 3 or not old:
            want[new] = r.randbytes(r.choice([0, 30, 5000, 70000, 200000]))
            # What looks like a block of a journal has to be escaped.
            if kind == 2:
                want[new] = (b'\xc0\x3b\x39\x98' + r.randbytes(1020)) * 20
            with open(os.path.join(root, new), 'wb') as f:
                f.write(want[new])
            path = new
        elif kind < 6:
            at, data = r.randrange(100000), r.randbytes(r.randrange(1, 20000))
            if kind == 5:
                at = at // 4096 * 4096
            before = want[old].ljust(at, b'\0')
            want[old] = before[:at] + data + before[at + len(data):]
            with open(os.path.join(root, old), 'r+b') as f:
                f.seek(at)
                f.write(data)
            path = old
        elif kind == 6:
            os.rename(os.path.join(root, old), os.path.join(root, new))
            want[new] = want.pop(old)
            path = ''
        else:
            os.unlink(os.path.join(root, old))
            del want[old]
            path = ''
        sync(os.path.join(root, path))
        sync(root)


@pytest.mark.parametrize('kind', list(KINDS) if os.environ.get('LONG') else QUICK)
def test_crashes_by_turns(tmp_path, kind):
    v, want, r = Volume(tmp_path, kind), {}, random.Random('modes ' + kind)
    for turn in range(TURNS):
        with (v.kernel() if turn % 2 else v.killed()) as root:
            check(root, want)
            work(root, r, want, turn)
        v.fsck(tmp_path / 'copy')
    with v.killed() as root:
        check(root, want)


def log_of(image):
    """Offset and length of the journal."""
    out = subprocess.run(['debugfs', '-R', 'stat <8>', str(image)], capture_output=True, text=True).stdout
    first, last = out.split('EXTENTS:\n(0-')[1].split('):')[1].split('\n')[0].split(', ')[0].split('-')
    return int(first) * 4096, (int(last) - int(first) + 1) * 4096


@pytest.mark.parametrize('how', ['mount', 'file', 'neither'])
def test_data_is_in_the_log(tmp_path, how):
    v = Volume(tmp_path, 'ordered')
    v.ours = 'data=journal' if how == 'mount' else ''
    with v.killed() as root:
        path = os.path.join(root, 'f')
        with open(path, 'wb') as f:
            if how == 'file':
                subprocess.run(['chattr', '+j', path], check=True)
            f.write(b'to be found' * 10000)
            f.flush()
            os.fsync(f.fileno())
    at, length = log_of(v.image)
    with open(v.image, 'rb') as f:
        f.seek(at)
        assert (b'to be found' * 300 in f.read(length)) == (how != 'neither')


def test_attribute_comes_and_goes(tmp_path):
    """What is written past the journal after chattr -j is not undone by what the journal has of before."""
    v, r = Volume(tmp_path, 'ordered'), random.Random(7)
    data = [r.randbytes(40960) for _ in range(8)]
    with v.killed() as root:
        path = os.path.join(root, 'f')
        with open(path, 'wb+', buffering=0) as f:
            for i, d in enumerate(data):
                subprocess.run(['chattr', '-j' if i % 2 else '+j', path], check=True)
                os.pwrite(f.fileno(), d, 0)
                os.fsync(f.fileno())
                assert os.pread(f.fileno(), 40960, 0) == d
            os.pwrite(f.fileno(), b'new' * 1000, 5000)
            os.fsync(f.fileno())
    want = data[-1][:5000] + b'new' * 1000 + data[-1][8000:]
    v.fsck(tmp_path / 'copy')
    with v.kernel() as root:
        check(root, {'f': want})


def test_no_journal_no_choice(tmp_path):
    image = tmp_path / 'img'
    with open(image, 'wb') as f:
        f.truncate(16 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', BASE.replace('has_journal,', ''), str(image))
    (tmp_path / 'd').mkdir()
    r = subprocess.run([mounts.WERUNOS, 'mount', '-o', 'rw,data=journal', str(image), str(tmp_path / 'd')], capture_output=True, text=True)
    assert r.returncode and 'no journal' in r.stderr


def test_journal_of_another_volume(tmp_path):
    a, b = [(tmp_path / n) for n in 'ab']
    for d in (a, b):
        d.mkdir()
    one, other = Volume(a, 'outside'), Volume(b, 'outside')
    with one.killed() as root:
        work(root, random.Random(1), {}, 0)
    r = subprocess.run([mounts.WERUNOS, 'mount', '--journal', str(other.journal), str(one.image), str(one.dir)], capture_output=True, text=True)
    assert r.returncode and 'is the journal of another volume' in r.stderr
    r = subprocess.run([mounts.WERUNOS, 'mount', '-o', 'rw', str(one.image), str(one.dir)], capture_output=True, text=True)
    assert r.returncode and '--journal' in r.stderr, r.stderr
