"""
btrfs, beyond what a file shows: the ioctls answer as the kernel's, subvolumes are listed as btrfs-progs list them, bad copies of data are
passed over, and what is bad in all of them is refused and nothing else is.
"""
import fcntl, json, os, random, re, struct, subprocess, sys
import pytest
import mounts

sys.path.append(os.path.join(os.path.dirname(__file__), '..', 'image'))
import btrfs_edit

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images'),
    pytest.mark.skipif('btrfs' not in open('/proc/filesystems').read() and subprocess.run(['modprobe', 'btrfs']).returncode != 0,
                       reason='the kernel has no btrfs'),
]

SECTOR = 4096
WERUNOS = mounts.WERUNOS


def ioc(how, nr, size):
    return how << 30 | size << 16 | 0x94 << 8 | nr


RW, R = 3, 2
TREE_SEARCH, INO_LOOKUP, DEV_INFO, ROOTREF = ioc(RW, 17, 4096), ioc(RW, 18, 4096), ioc(RW, 30, 4096), ioc(RW, 61, 4096)
GETFLAGS, FS_INFO, FEATURES, SUBVOL_INFO = ioc(R, 25, 8), ioc(R, 31, 1024), ioc(R, 57, 24), ioc(R, 60, 504)


def ask(path, cmd, arg=b''):
    size = cmd >> 16 & 0x3fff
    buf = bytearray(arg.ljust(size, b'\0'))
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, cmd, buf)
    finally:
        os.close(fd)
    return bytes(buf)


def search(tree, low, high, items=10000, transid=(0, 2**64 - 1)):
    """struct btrfs_ioctl_search_key; low and high are (objectid, type, offset)."""
    return struct.pack('<7Q4I', tree, low[0], high[0], low[2], high[2], *transid, low[1], high[1], items, 0)


def search_all(path, tree):
    """Every item of a tree, as (key, bytes), asked in many steps as programs do."""
    out, low = [], (0, 0, 0)
    while True:
        buf = ask(path, TREE_SEARCH, search(tree, low, (2**64 - 1, 255, 2**64 - 1)))
        n, at = struct.unpack_from('<I', buf, 64)[0], 104
        if not n:
            return out
        for _ in range(n):
            transid, objectid, offset, kind, size = struct.unpack_from('<3Q2I', buf, at)
            out.append((transid, objectid, kind, offset, buf[at + 32:at + 32 + size]))
            at += 32 + size
        low = (objectid, kind, offset + 1) if offset + 1 < 2**64 else (objectid, kind + 1, 0) if kind < 255 else (objectid + 1, 0, 0)


@pytest.fixture(scope='module')
def volume(tmp_path_factory):
    d = tmp_path_factory.mktemp('files')
    (d / 'k').mkdir()
    (d / 'w').mkdir()
    image = d / 'image'
    with open(image, 'wb') as f:
        f.truncate(512 << 20)
    mounts.run('mkfs.btrfs', '-q', '-f', '-d', 'dup', '-m', 'dup', '-L', 'files', '-O', 'no-holes', str(image))
    with mounts.kernel(image, d / 'k') as k:
        for i in range(300):
            os.makedirs('%s/d%d/e%d' % (k, i % 5, i))
            with open('%s/d%d/e%d/f' % (k, i % 5, i), 'wb') as f:
                f.write(b'x' * (i * 37 % 5000))
        mounts.run('btrfs', 'subvolume', 'create', k + '/d1/sub')
        for i in range(20):
            mounts.run('btrfs', 'subvolume', 'create', k + '/d1/sub/s%d' % i)
        mounts.run('btrfs', 'subvolume', 'snapshot', '-r', k + '/d1/sub', k + '/snap')
        mounts.run('btrfs', 'subvolume', 'snapshot', k, k + '/d2/all')
        os.setxattr(k + '/d3', 'user.big', b'v' * 3900)
        mounts.run('btrfs', 'filesystem', 'sync', k)
    yield d
    mounts.unmount(d / 'k')
    mounts.unmount(d / 'w')


@pytest.fixture
def both(volume):
    with mounts.kernel(volume / 'image', volume / 'k', 'ro,loop') as k, mounts.werunos(volume / 'image', volume / 'w', '--ro') as w:
        yield k, w


@pytest.mark.parametrize('tree', [0, 1, 2, 3, 4, 5, 7, 9, 256, 258])
def test_tree_search(both, tree):
    want, got = (search_all(top, tree) for top in both)
    assert got == want and (want or tree == 9)


def test_tree_search_limits(both):
    top = (2**64 - 1, 255, 2**64 - 1)
    for key in (search(5, (256, 0, 0), (256, 255, 2**64 - 1)), search(5, (257, 84, 0), (300, 1, 0), 7), search(5, (0, 0, 0), top, 0),
                search(5, (0, 0, 0), top, transid=(8, 8)), search(5, (300, 0, 0), (200, 0, 0))):
        want, got = (ask(d, TREE_SEARCH, key) for d in both)
        assert got[64:68] == want[64:68] and got[104:] == want[104:]
    for d in both:
        with pytest.raises(FileNotFoundError):
            ask(d, TREE_SEARCH, search(12345, (0, 0, 0), top))


def test_information(both):
    k, w = both
    for cmd in (FS_INFO, FEATURES, SUBVOL_INFO, GETFLAGS):
        for path in ('/', '/d1/sub', '/snap', '/d2/all', '/d1/sub/s3'):
            assert ask(w + path, cmd) == ask(k + path, cmd), (cmd, path)
    for d in both:
        with pytest.raises(OSError):
            ask(d + '/d1', GETFLAGS)
        with pytest.raises(OSError):
            ask(d, DEV_INFO, struct.pack('<Q', 7))
        with pytest.raises(OSError):
            ask(d, ioc(RW, 99, 16))
    want, got = (ask(d, DEV_INFO, struct.pack('<Q', 1)) for d in both)
    assert got[:56] == want[:56] and got[3072:].rstrip(b'\0').endswith(b'/image')


def test_names(both):
    k, w = both
    for path in ('/', '/d1/e1', '/d1/e1/f', '/d1/sub', '/d1/sub/s1', '/snap'):
        assert ask(w + path, INO_LOOKUP, struct.pack('<QQ', 0, 256)) == ask(k + path, INO_LOOKUP, struct.pack('<QQ', 0, 256))
    for path in ('/d1/e1/f', '/d4/e299', '/d2'):
        ino = os.stat(k + path).st_ino
        # Behind the name the kernel leaves what it built it from.
        want, got = (ask(d, INO_LOOKUP, struct.pack('<QQ', 5, ino))[:17 + len(path)] for d in both)
        assert got == want and want[16:].decode() == path[1:] + '/\0'
    for d in both:
        with pytest.raises(FileNotFoundError):
            ask(d, INO_LOOKUP, struct.pack('<QQ', 5, 10**6))
    for path in ('/', '/d1/sub', '/snap'):
        assert ask(w + path, ROOTREF) == ask(k + path, ROOTREF)


def test_who_may_ask(volume):
    """Anybody where he is; only root and who mounted what lies elsewhere."""
    with mounts.werunos(volume / 'image', volume / 'w', '--ro', '-o', 'allow_other') as w:
        os.chmod(volume.parent, 0o755)
        os.chmod(volume, 0o755)
        # Open as root: what may be asked through it is then the question.
        fd = os.open(w, os.O_RDONLY)
        pid = os.fork()
        if not pid:
            answers = []
            os.setresuid(1234, 1234, 1234)
            for cmd, arg in ((TREE_SEARCH, search(5, (0, 0, 0), (9, 9, 9))), (INO_LOOKUP, struct.pack('<QQ', 5, 256)),
                             (INO_LOOKUP, struct.pack('<QQ', 0, 256)), (FS_INFO, b'')):
                try:
                    fcntl.ioctl(fd, cmd, bytearray(arg.ljust(cmd >> 16 & 0x3fff, b'\0')))
                    answers.append(0)
                except OSError as e:
                    answers.append(e.errno)
            os._exit(0 if answers == [1, 1, 0, 0] else 1)
        os.close(fd)
        assert os.waitpid(pid, 0)[1] == 0


def test_subvolume_list(volume):
    got = json.loads(mounts.run(WERUNOS, 'subvolume', 'list', '--json', str(volume / 'image')))['subvolumes']
    with mounts.kernel(volume / 'image', volume / 'k', 'ro,loop') as k:
        out = mounts.run('btrfs', 'subvolume', 'list', '-uqRpcg', k).decode()
        snapshots = re.findall(r'path (\S+)', mounts.run('btrfs', 'subvolume', 'list', '-s', k).decode())
        readonly = re.findall(r'path (\S+)', mounts.run('btrfs', 'subvolume', 'list', '-r', k).decode())
    want = re.findall(r'ID (\d+) gen (\d+) cgen (\d+) parent (\d+) .*parent_uuid (\S+) +received_uuid (\S+) +uuid (\S+) path (\S+)', out)
    assert len(want) == 23 and got[0]['id'] == 5 and got[0]['shown'] and got[0]['path'] == ''
    for w, g in zip(want, got[1:], strict=True):
        assert (w[0], w[1], w[2], w[3], w[6], w[7]) == tuple(str(g[x]) for x in ('id', 'generation', 'created_generation', 'parent', 'uuid', 'path'))
        assert w[4] == g.get('parent_uuid', '-') and w[5] == g.get('received_uuid', '-')
        assert (g['path'] in snapshots, g['path'] in readonly) == (g['snapshot'], g['readonly'])
    table = mounts.run(WERUNOS, 'subvolume', 'list', str(volume / 'image')).decode().splitlines()
    assert len(table) == 25 and table[-1].endswith('/d2/all') and '-rs-' in table[-2]
    r = subprocess.run([WERUNOS, 'subvolume', 'list', 'memfs:8M'], stderr=subprocess.PIPE)
    assert r.returncode == 1 and r.stderr.count(b'\n') == 1


# ---- bad copies of data ----

@pytest.fixture(params=['', 'compress-force=zstd', 'compress-force=lzo', 'compress-force=zlib'], ids=['plain', 'zstd', 'lzo', 'zlib'])
def damaged(request, tmp_path):
    """A volume with two copies of a file's data, and where the parts of both lie: [(file offset, length, [place, place])]."""
    (tmp_path / 'k').mkdir()
    (tmp_path / 'w').mkdir()
    image = tmp_path / 'image'
    with open(image, 'wb') as f:
        f.truncate(256 << 20)
    mounts.run('mkfs.btrfs', '-q', '-f', '-d', 'dup', '-m', 'dup', '-O', 'no-holes', str(image))
    data = b''.join(b'%09d %s\n' % (i, os.urandom(24).hex().encode()) for i in range(30000))[:1 << 20]
    with mounts.kernel(image, tmp_path / 'k', ','.join(filter(None, ['loop', request.param]))) as k:
        with open(k + '/f', 'wb') as f:
            f.write(data)
    with mounts.werunos(image, tmp_path / 'w', '--ro') as w:
        ino = os.stat(w + '/f').st_ino
        extents = [e for e in search_all(w, 5) if e[1] == ino and e[2] == 108]
        chunks = [c for c in search_all(w, 3) if c[2] == 228]
    parts = []
    for e in extents:
        bytenr, size, _, length = struct.unpack_from('<4Q', e[4], 21)
        for c in chunks:
            if c[3] <= bytenr < c[3] + struct.unpack_from('<Q', c[4])[0]:
                parts.append((e[3], length, size, [struct.unpack_from('<Q', c[4], 48 + 32 * i + 8)[0] + bytenr - c[3] for i in (0, 1)]))
    assert parts and len(parts[0][3]) == 2
    return tmp_path, image, data, parts


def put(image, at, content):
    with open(image, 'r+b') as f:
        f.seek(at)
        f.write(content)


def spoil(image, at, n=SECTOR):
    put(image, at, os.urandom(n))


def test_bad_copy_is_passed_over(damaged):
    d, image, data, parts = damaged
    # Of each extent one sector in one copy, of the first one all of it in one.
    for i, (_, _, size, place) in enumerate(parts):
        spoil(image, place[i % 2] + (size // SECTOR // 2) * SECTOR)
    spoil(image, parts[0][3][0], parts[0][2])
    for options in ([], ['--direct']):
        with mounts.werunos(image, d / 'w', '--ro', *options) as w, open(w + '/f', 'rb') as f:
            assert f.read() == data
    with mounts.kernel(image, d / 'k', 'ro,loop') as k, open(k + '/f', 'rb') as f:
        assert f.read() == data


def read_sectors(path, data):
    """Of each sector: True when right, False when it cannot be read."""
    out, fd = [], os.open(path, os.O_RDONLY)
    try:
        for off in range(0, len(data), SECTOR):
            try:
                assert os.pread(fd, SECTOR, off) == data[off:off + SECTOR], off
                out.append(True)
            except OSError as e:
                assert e.errno == 5
                out.append(False)
    finally:
        os.close(fd)
    return out


def test_bad_in_every_copy(damaged):
    d, image, data, parts = damaged
    off, length, size, place = parts[len(parts) // 2]
    for p in place:
        spoil(image, p + SECTOR)
    with mounts.werunos(image, d / 'w', '--ro') as w:
        got = read_sectors(w + '/f', data)
    # A compressed extent is all or nothing.
    bad = range(off, off + length, SECTOR) if size < length else [off + SECTOR]
    assert [i * SECTOR for i, ok in enumerate(got) if not ok] == list(bad)
    r = subprocess.run([WERUNOS, 'cat', str(image) + ':/f'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 1 and b'checksum' in r.stderr and b'inode 257' in r.stderr
    assert data.startswith(r.stdout)
    # Unchecked, it is what is there; compressed noise is refused, or is noise.
    with mounts.werunos(image, d / 'w', '--ro', '-o', 'rescue=ignoredatacsums') as w:
        if size == length:
            with open(w + '/f', 'rb') as f:
                seen = f.read()
            assert seen != data and seen[:off + SECTOR] == data[:off + SECTOR] and seen[off + 2 * SECTOR:] == data[off + 2 * SECTOR:]


def test_hostile_compressed_data(damaged):
    """Damage that no checksum tells of: an answer for each, in time, whatever it unpacks to."""
    d, image, data, parts = damaged
    seed = int(os.environ.get('SEED', random.randrange(10**6)))
    print('SEED=%d' % seed)
    rnd, refused = random.Random(seed), 0
    was = image.read_bytes()
    clean = {at: was[at:at + size] for _, _, size, place in parts for at in place}
    for _ in range(25):
        for at, content in clean.items():
            put(image, at, content)
        for off, length, size, place in rnd.sample(parts, min(len(parts), 3)):
            for at in place:
                spoil(image, at + rnd.choice((0, 0, rnd.randrange(size - 8))), rnd.randrange(1, 8))
        r = subprocess.run([WERUNOS, 'cat', '-o', 'rescue=ignoredatacsums', str(image) + ':/f'], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=60)
        assert r.returncode in (0, 1), r.stderr[-2000:]
        assert len(r.stdout) <= len(data) and (r.returncode or len(r.stdout) == len(data))
        refused += r.returncode
    assert refused or parts[0][1] == parts[0][2]


def test_extents_that_overlap(tmp_path):
    """The last extent of a leaf made to reach over the first of the next: that range is refused, the rest is read."""
    (tmp_path / 'k').mkdir()
    image = tmp_path / 'image'
    with open(image, 'wb') as f:
        f.truncate(256 << 20)
    mounts.run('mkfs.btrfs', '-q', '-f', '-n', '4096', '-s', '4096', '-d', 'single', '-m', 'dup', '-O', 'no-holes', str(image))
    with mounts.kernel(image, tmp_path / 'k') as k, open(k + '/f', 'wb') as f:
        for i in range(300):
            f.seek(i * 2 * SECTOR)
            f.write(b'%4d' % i * 1024)
    v = btrfs_edit.Volume(str(image))
    extents = [(logical, leaf, item) for logical, leaf in v.walk(v.tree(5)) if not v.level(leaf)
               for item in v.items(leaf) if item[0][1] == btrfs_edit.EXTENT_DATA]
    last = [a for a, b in zip(extents, extents[1:]) if a[0] != b[0]][1]
    logical, leaf, (key, off, size) = last
    for field in (8, 29, 45):
        struct.pack_into('<Q', leaf, off + field, 3 * SECTOR)
    v.write(logical, leaf)
    v.close()
    whole = b''.join(b'%4d' % i * 1024 + bytes(SECTOR) for i in range(300))[:-SECTOR]
    # Reading from the start comes to it from the extent before; from the other end each read begins elsewhere.
    for step in (1, -1):
        bad = []
        with mounts.werunos(image, tmp_path / 'k', '--ro') as w, open(w + '/f', 'rb', buffering=0) as f:
            for at in range(0, len(whole), SECTOR)[::step]:
                try:
                    assert os.pread(f.fileno(), SECTOR, at) == whole[at:at + SECTOR], at
                except OSError:
                    bad.append(at)
        assert min(bad) == key[2] and max(bad) <= key[2] + 2 * SECTOR


def test_many_readers(damaged):
    """What many see at once is what one sees, also with bad copies about."""
    d, image, data, parts = damaged
    for i, (_, _, size, place) in enumerate(parts[::3]):
        spoil(image, place[i % 2])
    for options in ([], ['-d']):
        mounts.run(os.path.abspath(mounts.BUILD + '/tests/tools/readers'), *options, 'btrfs', '7', '4', '60', str(image))
