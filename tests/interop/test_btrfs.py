"""
btrfs as the kernel shows it and as we do: volumes of many profiles and features, filled by the kernel's mount with all that a
long life leaves behind, must look the same in every name, type, mode, owner, time, link count, attribute, target, byte and hole, in every
subvolume.
"""
import contextlib, fcntl, hashlib, os, shutil, struct, subprocess
import pytest
import fill, manifest, mounts

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images'),
    pytest.mark.skipif('btrfs' not in open('/proc/filesystems').read() and subprocess.run(['modprobe', 'btrfs']).returncode != 0,
                       reason='the kernel has no btrfs'),
]

INO = (1 << 40) - 1  # the part of our inode numbers that is the file's number within its subvolume
NEW = 'no-holes,skinny-metadata,extref,free-space-tree'
# What mkfs.btrfs takes by -R and not by -O.
RUNTIME = ('free-space-tree', 'quota')


class Kind:
    def __init__(self, devices=1, data='single', meta='single', features=NEW, node=16384, csum='crc32c', mount='', extra=(), mib=0):
        self.devices, self.data, self.meta, self.features = devices, data, meta, features
        self.node, self.csum, self.mount, self.extra = node, csum, mount, list(extra)
        self.mib = mib or (640 if devices == 1 else 512)


MATRIX = {
    'default': Kind(meta='dup'),
    'quota': Kind(meta='dup', features=NEW + ',quota', csum='xxhash', mount='compress=zstd'),
    'old': Kind(features='^no-holes,^skinny-metadata,^extref,^free-space-tree', mount='compress=lzo'),
    'holes': Kind(features='^no-holes,skinny-metadata,extref,free-space-tree', mount='compress-force=zlib'),
    'no-fst': Kind(features='no-holes,skinny-metadata,extref,^free-space-tree', mount='space_cache=v1'),
    'node-4k': Kind(node=4096, meta='dup', mount='compress=zlib'),
    'node-8k': Kind(node=8192, csum='blake2', mount='compress=zstd:15'),
    'node-32k': Kind(node=32768, csum='sha256', mount='compress-force=zstd:1'),
    'node-64k': Kind(node=65536, csum='xxhash', mount='compress=lzo'),
    'mixed': Kind(data='single', meta='single', node=4096, extra=['--mixed'], features=NEW + ',mixed-bg'),
    'mixed-dup': Kind(data='dup', meta='dup', node=4096, extra=['--mixed'], features=NEW + ',mixed-bg', mount='compress=zstd', mib=1024),
    'dup-dup': Kind(data='dup', meta='dup', csum='sha256', mib=1024),
    'nodatasum': Kind(mount='nodatasum'),
    'nodatacow': Kind(mount='nodatacow'),
    'inline-off': Kind(mount='max_inline=0'),
    'raid0': Kind(2, 'raid0', 'raid1'),
    'raid0-3': Kind(3, 'raid0', 'raid0', csum='xxhash', mount='compress=zstd'),
    'raid1': Kind(2, 'raid1', 'raid1', mount='compress=lzo'),
    'raid1-3': Kind(3, 'raid1', 'raid1', csum='sha256'),
    'raid1c3': Kind(3, 'raid1c3', 'raid1c3', features=NEW + ',raid1c34', mib=1024),
    'raid1c4': Kind(4, 'raid1c4', 'raid1c4', features=NEW + ',raid1c34', mount='compress=zlib', mib=1024),
    'raid10': Kind(4, 'raid10', 'raid10'),
    'raid10-2': Kind(2, 'raid10', 'raid10', csum='blake2'),
    'raid5': Kind(3, 'raid5', 'raid5', features=NEW + ',raid56'),
    'raid5-5': Kind(5, 'raid5', 'raid1', features=NEW + ',raid56', mount='compress=zstd'),
    'raid6': Kind(4, 'raid6', 'raid6', features=NEW + ',raid56'),
    'raid6-3': Kind(3, 'raid6', 'raid1c3', features=NEW + ',raid56,raid1c34', node=32768, mib=1024),
    'single-2': Kind(2, 'single', 'raid1'),
}

QUICK = ['default', 'quota', 'holes', 'node-64k', 'mixed', 'raid10', 'raid6']
names = list(MATRIX) if os.environ.get('LONG') else QUICK

# Directories that stand where a snapshot does not contain a subvolume: the kernel gives them the time of day.
PLACEHOLDERS = [b'snap-ro/' + x for x in (b'sub', b'gone', b'empty', b'snap-ro')] + [b'snap-rw/inner']

BTRFS_IOC_CLONE_RANGE = 0x4020940d
FIDEDUPERANGE = 0xc0189436


# ---- making volumes ----

def images(d, name):
    return [d / ('%s.%d.img' % (name, i)) for i in range(MATRIX[name].devices)]


def mkfs(d, name):
    kind, paths = MATRIX[name], images(d, name)
    for p in paths:
        with open(p, 'wb') as f:
            f.truncate(kind.mib << 20)
    off = [f for f in kind.features.split(',') if f.lstrip('^') not in RUNTIME]
    on = [f for f in kind.features.split(',') if f.lstrip('^') in RUNTIME]
    mounts.run('mkfs.btrfs', '-q', '-f', '-d', kind.data, '-m', kind.meta, '-n', str(kind.node), '-s', '4096', '--csum', kind.csum,
               '-O', ','.join(off), '-R', ','.join(on), *kind.extra, *map(str, paths))


@contextlib.contextmanager
def kernel(paths, d, options=''):
    """The kernel's mount of a volume on several images."""
    with contextlib.ExitStack() as stack:
        # Not read-only: the space of groups on such devices would count as not available.
        devs = [stack.enter_context(mounts.loop(p)) for p in paths]
        words = ['device=' + x for x in devs] + ([options] if options else [])
        mounts.run('mount', '-t', 'btrfs', '-o', ','.join(words), devs[0], str(d))
        try:
            yield str(d)
        finally:
            mounts.unmount(d)
            mounts.forget(devs)


def btrfs(*words):
    return mounts.run('btrfs', *map(str, words)).decode()


def clone(src, dst, src_off, length, dst_off):
    with open(src, 'rb') as a, open(dst, 'r+b' if os.path.exists(dst) else 'w+b') as b:
        fcntl.ioctl(b, BTRFS_IOC_CLONE_RANGE, struct.pack('<qQQQ', a.fileno(), src_off, length, dst_off))


def dedupe(src, dst, length):
    with open(src, 'rb') as a, open(dst, 'r+b') as b:
        arg = bytearray(struct.pack('<QQHHI', 0, length, 1, 0, 0) + struct.pack('<qQQiI', b.fileno(), 0, 0, 0, 0))
        fcntl.ioctl(a, FIDEDUPERANGE, arg)
        assert struct.unpack_from('<i', arg, 24 + 24)[0] == 0


def words(n, seed):
    """Text that compresses."""
    out = b' '.join(b'word%d is %d' % (i * seed % 977, i) for i in range(n // 8 + 2))
    return out[:n]


def fill_data(root):
    noise = os.urandom(1 << 20)
    for n in (1, 100, 2000, 2048, 2049, 4095, 4096, 4097, 12288, 131071, 131072, 131073, 262144, 1000000, 5000001):
        fill.put('%s/text-%d' % (root, n), words(n, 7))
    fill.put(root + '/mixed-content', b''.join(words(70000, i) + noise[i * 50000:][:50000] for i in range(1, 12)))
    fill.put(root + '/zeros', bytes(3 << 20))
    # Overwritten in parts after it was on the disk: extents of which only a middle or an end is used.
    for f in ('text-1000000', 'text-5000001', 'mixed-content'):
        path = '%s/%s' % (root, f)
        fd = os.open(path, os.O_RDWR)
        os.fsync(fd)
        for at in range(4096, os.path.getsize(path) - 9000, 200000):
            os.pwrite(fd, b'over' * 1500, at + at % 3)
        os.fsync(fd)
        os.close(fd)
    mounts.run('cp', '--reflink=always', root + '/text-5000001', root + '/reflink')
    clone(root + '/text-1000000', root + '/reflink-part', 8192, 409600, 16384)
    clone(root + '/mixed-content', root + '/reflink-part', 0, 131072, 1 << 30)
    fill.put(root + '/same-1', noise[:524288])
    fill.put(root + '/same-2', noise[:524288])
    for f in ('same-1', 'same-2'):
        fd = os.open('%s/%s' % (root, f), os.O_RDWR)
        os.fsync(fd)
        os.close(fd)
    dedupe(root + '/same-1', root + '/same-2', 524288)
    with open(root + '/same-2', 'r+b') as f:
        f.seek(100000)
        f.write(b'not the same any more')
    fill.fallocate(root + '/text-5000001', 3, 1 << 20, 1 << 19)
    os.mkdir(root + '/nocow')
    mounts.run('chattr', '+C', root + '/nocow')
    fill.put(root + '/nocow/file', noise + words(200000, 3))
    fill.fallocate(root + '/nocow/prealloc', 0, 0, 1 << 20)
    fd = os.open(root + '/nocow/prealloc', os.O_RDWR)
    os.pwrite(fd, noise[:50000], 300000)
    os.fsync(fd)
    os.close(fd)


def fill_many_names(root):
    d = root + '/collide'
    os.mkdir(d)
    for a, b in (('mtwjgxhjk', 'cyvilpkff'), ('czjtyhies', 'ijzdzcsss'), ('elgugfpel', 'kenjanciq'), ('vzkomuwwn', 'mnoaojkyu')):
        fill.put('%s/%s' % (d, a), a.encode())
        fill.put('%s/%s' % (d, b), b.encode())
    os.unlink(d + '/elgugfpel')
    for a, b in (('user.xozzksmdq', 'user.wffnyhasa'), ('user.oasuzgbwy', 'user.osvsyydtn')):
        os.setxattr(d, a, a.encode())
        os.setxattr(d, b, b.encode())
    # More names than one item holds, in one directory and in several.
    fill.put(root + '/hard-many', b'linked')
    for i in range(4):
        os.mkdir('%s/links%d' % (root, i))
        for k in range(200 if i == 0 else 30):
            try:
                os.link(root + '/hard-many', '%s/links%d/%s-%03d' % (root, i, 'l' * 150, k))
            except OSError:
                break  # without extref an item is all there is
    os.mkdir(root + '/flags')
    for letter in 'iaAdSDcm':
        fill.put('%s/flags/%s' % (root, letter), b'flag')
        subprocess.run(['chattr', '+' + letter, '%s/flags/%s' % (root, letter)], stderr=subprocess.DEVNULL)


def fill_subvolumes(root):
    for s in ('sub', 'sub/inner', 'gone', 'empty'):
        btrfs('subvolume', 'create', '%s/%s' % (root, s))
    fill.put(root + '/sub/file', b'in a subvolume')
    fill.put(root + '/sub/inner/file', words(300000, 5))
    for i in range(300):
        fill.put('%s/gone/%d' % (root, i), words(5000, i + 1))
    os.mkdir(root + '/sub/dir')
    fill.put(root + '/sub/dir/deep', b'deep')
    btrfs('subvolume', 'snapshot', '-r', root, root + '/snap-ro')
    btrfs('subvolume', 'snapshot', root + '/sub', root + '/snap-rw')
    fill.put(root + '/snap-rw/file', b'changed in the snapshot')
    fill.put(root + '/sub/file', b'changed after the snapshot')
    os.unlink(root + '/names/' + 'n' * 255)
    btrfs('subvolume', 'delete', root + '/gone')


def age(root, kind):
    btrfs('filesystem', 'sync', root)
    if kind.devices == 1:
        btrfs('filesystem', 'defragment', '-r', *(['-czstd'] if 'zstd' in kind.mount else []), root + '/sub')
    # Where there is no room for it, what it did until then counts.
    subprocess.run(['btrfs', 'balance', 'start', '-musage=50', '-dusage=50', root], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    btrfs('filesystem', 'sync', root)


def build(work, name):
    kind, paths = MATRIX[name], images(work, name)
    if not paths[0].exists():
        mkfs(work, name)
        with kernel(paths, work / 'k', kind.mount) as root:
            fill.fill(root, 4096)
            fill_data(root)
            fill_many_names(root)
            fill_subvolumes(root)
            age(root, kind)
    return paths


# ---- comparing ----

@pytest.fixture(scope='module')
def work(tmp_path_factory):
    d = tmp_path_factory.mktemp('btrfs')
    (d / 'k').mkdir()
    (d / 'w').mkdir()
    yield d
    mounts.unmount(d / 'k')
    mounts.unmount(d / 'w')


def view(root):
    """What is seen, with inode numbers as they are within their subvolume."""
    seen = manifest.take(root)
    for path, d in seen.items():
        d['ino'] &= INO
        if path in PLACEHOLDERS:
            for k in ('ino', 'atime', 'mtime', 'ctime'):
                del d[k]
    return seen


def kernel_view(work, paths, options='ro'):
    with kernel(paths, work / 'k', options):
        return view(work / 'k'), os.statvfs(work / 'k')


def compare(want, got):
    diff = manifest.differences(want, got)
    assert not diff, '\n'.join(diff)


def unique_inodes(root):
    """Of all files with one name, no two have one number."""
    seen = {}
    for top, dirs, files in os.walk(os.fsencode(str(root))):
        for n in dirs + files:
            st = os.lstat(os.path.join(top, n))
            if st.st_nlink == 1:
                assert st.st_ino not in seen, (os.path.join(top, n), seen[st.st_ino])
                seen[st.st_ino] = os.path.join(top, n)


def ours(paths, d, *options):
    extra = [w for p in paths[1:] for w in ('--device', p)]
    return mounts.werunos(paths[0], d, '--ro', *extra, *options)


def sums(paths):
    """Of what is in the images; most of them is holes."""
    h = hashlib.blake2b()
    for p in paths:
        with open(p, 'rb') as f:
            for start, end in manifest.pieces(f.fileno(), os.path.getsize(p)):
                h.update(b'%d:' % start)
                f.seek(start)
                h.update(f.read(end - start))
    return h.digest()


@pytest.mark.parametrize('name', names)
def test_same_as_the_kernel(work, name):
    paths = build(work, name)
    want, kst = kernel_view(work, paths)
    before = sums(paths)
    assert len(want) > 18000
    with ours(paths, work / 'w'):
        compare(want, view(work / 'w'))
        unique_inodes(work / 'w')
        st = os.statvfs(work / 'w')
    for k in ('f_blocks', 'f_bfree', 'f_bavail', 'f_files', 'f_ffree', 'f_bsize', 'f_namemax'):
        assert getattr(st, k) == getattr(kst, k), k
    assert sums(paths) == before, 'a read-only mount changed the image'
    with ours(paths, work / 'w', '-o', 'subvol=sub'):
        compare({k: v for k, v in view_of(want, b'sub').items()}, view(work / 'w'))
    if os.environ.get('LONG'):
        degraded(work, name, paths, want)
        for p in paths:
            p.unlink()


def view_of(seen, top):
    out = {b'': seen[top]}
    out.update({k[len(top) + 1:]: v for k, v in seen.items() if k.startswith(top + b'/')})
    return out


# ---- devices that are missing or broken ----

SPARE = {'raid1': 1, 'raid10': 1, 'raid5': 1, 'raid6': 2, 'raid1c3': 2, 'raid1c4': 3, 'dup': 0, 'single': 0, 'raid0': 0}


def noise_over(path):
    """All that is not a superblock, nor a hole, is noise."""
    with open(path, 'r+b') as f:
        for start, end in manifest.pieces(f.fileno(), os.path.getsize(path)):
            for at in range(start, end, 4096):
                if at not in (65536, 64 << 20):
                    f.seek(at)
                    f.write(os.urandom(4096))


def contents(seen):
    return {k: {x: v[x] for x in ('type', 'mode', 'size', 'content', 'target', 'xattrs') if x in v} for k, v in seen.items()}


def degraded(work, name, paths, want):
    kind = MATRIX[name]
    spare = min(SPARE[kind.data], SPARE[kind.meta])
    some = {k: v for k, v in want.items() if not k.startswith((b'many/', b'snap-ro/many/', b'names/', b'snap-ro/names/'))}
    for first in range(len(paths) if spare else 0):
        gone = {first} | ({(first + 1) % len(paths)} if spare > 1 else set())
        left = [p for i, p in enumerate(paths) if i not in gone]
        apart = work / 'apart'
        apart.mkdir(exist_ok=True)
        for p in left:
            os.link(p, apart / p.name)
        with ours([apart / p.name for p in left], work / 'w', '-o', 'degraded'):
            got = {k: v for k, v in view(work / 'w').items() if k in some}
            compare(contents(some), contents(got))
        shutil.rmtree(apart)
    for i, p in enumerate(paths if spare else []):
        kept = work / 'kept.img'
        mounts.run('cp', '--sparse=always', str(p), str(kept))
        noise_over(p)
        with ours(paths[i:] + paths[:i], work / 'w'):
            got = {k: v for k, v in view(work / 'w').items() if k in some}
            # Without checksums nobody knows which copy is good.
            for f in (b'nocow/file', b'nocow/prealloc', b'snap-ro/nocow/file', b'snap-ro/nocow/prealloc'):
                got[f]['content'] = some[f]['content']
            compare(contents(some), contents(got))
        os.replace(kept, p)


@pytest.mark.parametrize('name', ['raid10', 'raid6'])
def test_without_some_of_its_devices(work, name):
    if os.environ.get('LONG'):
        pytest.skip('done for every profile in test_same_as_the_kernel')
    paths = build(work, name)
    want, _ = kernel_view(work, paths)
    alone = work / ('alone-' + name)
    alone.mkdir()
    os.link(paths[0], alone / 'x.img')
    with pytest.raises(AssertionError, match='missing'):
        with ours([alone / 'x.img'], work / 'w'):
            pass
    degraded(work, name, paths, want)


# ---- what a crash, a change of identity, another root leave behind ----

def one(work, name, *mkfs_options):
    image = work / (name + '.img')
    with open(image, 'wb') as f:
        f.truncate(512 << 20)
    mounts.run('mkfs.btrfs', '-q', '-f', '-m', 'dup', '-d', 'single', '-O', 'no-holes,skinny-metadata,extref', *mkfs_options, str(image))
    return image


def test_a_log_that_a_crash_left(work):
    """Copied while fsyncs have gone to the log: shown as of the last commit, as the kernel does when it may not replay."""
    image, crashed = one(work, 'log'), work / 'crashed.img'
    with kernel([image], work / 'k', 'commit=300') as root:
        fill.put(root + '/before', words(100000, 3))
        btrfs('subvolume', 'create', root + '/sub')
        btrfs('filesystem', 'sync', root)
        for i in range(40):
            path = '%s/%s' % (root, 'sub/late-%d' % i if i % 4 == 0 else 'late-%d' % i)
            fd = os.open(path, os.O_CREAT | os.O_RDWR)
            os.write(fd, words(3000 * i + 1, i + 2))
            os.fsync(fd)
            os.close(fd)
        with open(root + '/before', 'r+b') as f:
            f.write(b'overwritten after the commit')
            os.fsync(f.fileno())
        mounts.run('cp', '--sparse=always', str(image), str(crashed))
    want, _ = kernel_view(work, [crashed], 'ro,rescue=nologreplay')
    assert b'late-1' not in want
    r = subprocess.run([mounts.WERUNOS, 'ls', str(crashed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 0 and b'log' in r.stderr and r.stderr.count(b'\n') == 1, r.stderr
    assert b'41' in r.stderr or b'40' in r.stderr, 'how many files are in the log: %r' % r.stderr
    with mounts.werunos(crashed, work / 'w', '--ro'):
        compare(want, view(work / 'w'))
    dump = subprocess.run([mounts.WERUNOS, 'dump', str(crashed), 'log'], stdout=subprocess.PIPE).stdout
    assert b'late-1' in dump and b'INODE_ITEM' in dump.upper().replace(b' ', b'_')


def test_another_uuid(work):
    image = one(work, 'uuid')
    with kernel([image], work / 'k') as root:
        fill.put(root + '/file', words(300000, 3))
    mounts.run('btrfstune', '-f', '-m', str(image))
    want, _ = kernel_view(work, [image])
    with mounts.werunos(image, work / 'w', '--ro'):
        compare(want, view(work / 'w'))


def test_a_seed_and_what_grew_from_it(work):
    seed, sprout = one(work, 'seed'), work / 'sprout.img'
    with kernel([seed], work / 'k') as root:
        fill.put(root + '/from-the-seed', words(3000000, 3))
        fill.put(root + '/changed', words(300000, 3))
    mounts.run('btrfstune', '-S', '1', str(seed))
    with open(sprout, 'wb') as f:
        f.truncate(512 << 20)
    with kernel([seed], work / 'k', 'ro') as root, mounts.loop(sprout) as dev:
        btrfs('device', 'add', '-f', dev, root)
        mounts.run('mount', '-o', 'remount,rw', root)
        fill.put(root + '/new', words(500000, 4))
        with open(root + '/changed', 'r+b') as f:
            f.write(b'in the sprout')
        want = None
        btrfs('filesystem', 'sync', root)
        want = view(root)
        mounts.unmount(root)
    for d in want.values():
        d.pop('atime')
    # The seed named, and found beside it.
    for paths in ([sprout, seed], [sprout]):
        with ours(paths, work / 'w'):
            got = view(work / 'w')
            for d in got.values():
                d.pop('atime')
            compare(want, got)
    with mounts.werunos(seed, work / 'w', '--ro'):
        assert sorted(os.listdir(work / 'w')) == ['changed', 'from-the-seed']


def test_the_default_subvolume(work):
    image = one(work, 'default-subvolume')
    with kernel([image], work / 'k') as root:
        btrfs('subvolume', 'create', root + '/a')
        btrfs('subvolume', 'create', root + '/a/b')
        fill.put(root + '/a/b/here', b'in b')
        fill.put(root + '/top', b'top')
        number = btrfs('inspect-internal', 'rootid', root + '/a/b').strip()
        btrfs('subvolume', 'set-default', number, root)
    want, _ = kernel_view(work, [image])
    assert b'here' in want
    with mounts.werunos(image, work / 'w', '--ro'):
        compare(want, view(work / 'w'))
    with mounts.werunos(image, work / 'w', '--ro', '-o', 'subvolid=5'):
        assert sorted(os.listdir(work / 'w')) == ['a', 'top']
    with mounts.werunos(image, work / 'w', '--ro', '-o', 'subvol=/a'):
        assert os.listdir(work / 'w') == ['b']
    r = subprocess.run([mounts.WERUNOS, 'mount', '--ro', '-o', 'subvol=none', str(image), str(work / 'w')], stderr=subprocess.PIPE)
    assert r.returncode == 1 and b'none' in r.stderr


def test_older_superblocks_and_roots(work):
    """The primary superblock is gone: the copy is used. The root tree's node is gone: an older root is, where the user asks."""
    image = one(work, 'rescue')
    with kernel([image], work / 'k') as root:
        for i in range(8):
            fill.put('%s/file%d' % (root, i), words(10000, i + 2))
            btrfs('filesystem', 'sync', root)
    want, _ = kernel_view(work, [image])
    hurt = work / 'hurt.img'
    mounts.run('cp', '--sparse=always', str(image), str(hurt))
    with open(hurt, 'r+b') as f:
        f.seek(65536 + 100)
        f.write(b'damage')
    for options in ([], ['--sb', '1']):
        with mounts.werunos(hurt, work / 'w', '--ro', *options):
            compare(want, view(work / 'w'))
    with open(hurt, 'r+b') as f:
        f.seek(65536)
        f.write(bytes(4096))
    # Something else may lie there by now: the copy is used only when it is asked for.
    assert subprocess.run([mounts.WERUNOS, 'mount', '--ro', str(hurt), str(work / 'w')], stderr=subprocess.PIPE).returncode == 1
    with mounts.werunos(hurt, work / 'w', '--ro', '--sb', '1'):
        compare(want, view(work / 'w'))
    mounts.run('cp', '--sparse=always', str(image), str(hurt))
    shown = mounts.run('btrfs', 'inspect-internal', 'dump-super', str(hurt)).decode().split()
    node = int(shown[shown.index('root') + 1])
    where = mounts.run('btrfs-map-logical', '-l', str(node), str(hurt)).decode()
    with open(hurt, 'r+b') as f:
        for line in where.splitlines():
            f.seek(int(line.split('physical')[1].split()[0]))
            f.write(b'gone' * 4096)
    r = subprocess.run([mounts.WERUNOS, 'mount', '--ro', str(hurt), str(work / 'w')], stderr=subprocess.PIPE)
    assert r.returncode == 1 and r.stderr.count(b'\n') == 1, r.stderr
    with mounts.werunos(hurt, work / 'w', '--ro', '-o', 'usebackuproot'):
        seen = view(work / 'w')
        assert b'file5' in seen and all(seen[k]['content'] == want[k]['content'] for k in seen if k)


def crc32c(data):
    c = 0xffffffff
    for b in data:
        c ^= b
        for _ in range(8):
            c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff


# ---- what neither this kernel nor these tools can make or mount ----

@pytest.mark.parametrize('sector', [8192, 16384, 32768, 65536])
def test_sectors_larger_than_a_page(work, sector):
    """Against the tree that mkfs.btrfs made it from."""
    src, image = work / 'src', work / 'sectors.img'
    if not src.exists():
        src.mkdir()
        for n in (0, 1, 2000, 4096, 65536, 65537, 1000000):
            fill.put('%s/size-%d' % (src, n), words(n, 5))
        for i in range(300):
            fill.put('%s/file-%d' % (src, i), b'%d' % i)
    with open(image, 'wb') as f:
        f.truncate(300 << 20)
    mounts.run('mkfs.btrfs', '-q', '-f', '-s', str(sector), '-n', '65536', '-m', 'single', '-d', 'single', '--rootdir', str(src), str(image))
    with mounts.werunos(image, work / 'w', '--ro'):
        assert len(os.listdir(work / 'w')) == 307
        mounts.run('diff', '-r', str(src), str(work / 'w'))


def test_a_block_group_tree_is_known(work):
    """Only who writes needs it: a volume that claims to have one is shown."""
    image = one(work, 'bgt')
    with kernel([image], work / 'k') as root:
        fill.put(root + '/file', words(300000, 3))
    with open(image, 'r+b') as f:
        for at in (65536, 64 << 20):
            f.seek(at)
            d = bytearray(f.read(4096))
            struct.pack_into('<Q', d, 0xb4, struct.unpack_from('<Q', d, 0xb4)[0] | 8)
            d[:4] = struct.pack('<I', crc32c(d[32:]))
            f.seek(at)
            f.write(d)
    assert b'block-group-tree' in subprocess.run([mounts.WERUNOS, 'info', str(image)], stdout=subprocess.PIPE).stdout
    with mounts.werunos(image, work / 'w', '--ro'):
        assert (work / 'w/file').read_bytes() == words(300000, 3)
