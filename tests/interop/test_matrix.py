"""
ext4 as the kernel shows it and as we do: images of many feature combinations, filled by the kernel's mount, must look
the same in every name, type, mode, owner, time, link count, attribute, target, byte and hole.
"""
import ctypes, os, socket, stat, struct, subprocess
import pytest
import manifest, mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')

NOBODY = 65534  # fusermount3 wants a user with a name
BASE = 'none,ext_attr,dir_index,filetype,sparse_super,large_file'
EXT4 = BASE + ',extent,huge_file,dir_nlink,extra_isize'
FULL = EXT4 + ',64bit,flex_bg,metadata_csum,has_journal,resize_inode'

# name: features, further arguments of mke2fs, MiB
MATRIX = {
    'upstream-default': (FULL + ',metadata_csum_seed,orphan_file', ['-b', '4096', '-I', '256'], 64),
    'debian-default': (FULL, ['-b', '4096', '-I', '256'], 64),
    'block-1k': (FULL, ['-b', '1024', '-I', '256'], 64),
    'block-2k': (FULL, ['-b', '2048', '-I', '256'], 64),
    'block-1k-seed': (FULL + ',metadata_csum_seed', ['-b', '1024', '-I', '512'], 64),
    'inode-128': (FULL.replace(',extra_isize', ''), ['-b', '4096', '-I', '128'], 64),
    'inode-512': (FULL, ['-b', '4096', '-I', '512'], 64),
    'inode-1024': (FULL, ['-b', '4096', '-I', '1024'], 64),
    'no-csum': (EXT4 + ',64bit,flex_bg,has_journal', ['-b', '4096', '-I', '256'], 64),
    'gdt-csum': (EXT4 + ',uninit_bg,flex_bg', ['-b', '4096', '-I', '256'], 64),
    'gdt-csum-1k': (EXT4 + ',uninit_bg', ['-b', '1024', '-I', '256'], 64),
    '32bit-csum': (EXT4 + ',metadata_csum,flex_bg', ['-b', '4096', '-I', '256'], 64),
    'meta-bg': (FULL.replace(',resize_inode', '') + ',meta_bg', ['-b', '1024', '-I', '256'], 160),
    'meta-bg-32bit': (EXT4 + ',meta_bg,metadata_csum', ['-b', '1024', '-I', '256'], 64),
    'sparse-super2': (FULL.replace('sparse_super', 'sparse_super2').replace(',resize_inode', ''), ['-b', '1024', '-I', '256'], 64),
    'inline-data': (FULL + ',inline_data', ['-b', '4096', '-I', '256'], 64),
    'inline-data-1k': (FULL + ',inline_data', ['-b', '1024', '-I', '512'], 64),
    'inline-no-csum': (EXT4 + ',inline_data', ['-b', '2048', '-I', '256'], 64),
    'ext2': (BASE, ['-b', '1024', '-I', '128', '-r', '1'], 64),
    'ext2-4k': (BASE, ['-b', '4096', '-I', '256'], 64),
    'ext2-no-filetype': ('none,ext_attr,sparse_super,large_file', ['-b', '1024', '-I', '128'], 64),
    'ext3': (BASE + ',has_journal,resize_inode', ['-b', '4096', '-I', '128'], 64),
    'ext3-1k': (BASE + ',has_journal', ['-b', '1024', '-I', '256'], 64),
    'bigalloc': (FULL + ',bigalloc', ['-b', '4096', '-C', '65536', '-I', '256'], 96),
    'bigalloc-2k': (FULL + ',bigalloc', ['-b', '2048', '-C', '16384', '-I', '256'], 96),
    'ea-inode': (FULL + ',ea_inode', ['-b', '4096', '-I', '256'], 64),
    'large-dir': (FULL + ',large_dir', ['-b', '1024', '-I', '256'], 64),
    'hash-legacy': (FULL, ['-b', '1024', '-I', '256', 'legacy'], 64),
    'hash-tea': (FULL, ['-b', '1024', '-I', '256', 'tea'], 64),
    'hash-unsigned': (FULL, ['-b', '1024', '-I', '256', 'unsigned'], 64),
}

QUICK = ['upstream-default', 'block-1k', 'inode-128', 'gdt-csum', 'meta-bg', 'sparse-super2', 'inline-data', 'ext2', 'ext3-1k',
         'bigalloc', 'ea-inode', 'hash-tea']


def make(path, name):
    features, args, mib = MATRIX[name]
    args = list(args)
    hash_alg = args.pop() if args[-1] in ('legacy', 'tea', 'unsigned') else None
    with open(path, 'wb') as f:
        f.truncate(mib << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', features, '-N', '14000', *args, str(path))
    if hash_alg == 'unsigned':
        # s_flags of the superblock: bit 1 signed, bit 2 unsigned hashes
        mounts.run('debugfs', '-w', '-R', 'ssv flags 2', str(path))
    elif hash_alg:
        mounts.run('tune2fs', '-E', 'hash_alg=' + hash_alg, str(path))


def put(path, data, mode=0o644):
    with open(path, 'wb') as f:
        f.write(data)
    os.chmod(path, mode)


def acl(*entries):
    """The value of system.posix_acl_access: (tag, permissions, id)."""
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', t, p, i & 0xffffffff) for t, p, i in entries)


def fallocate(path, mode, off, length):
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        if libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(length)):
            return ctypes.get_errno()
    finally:
        os.close(fd)
    return 0


def fill_files(root, block):
    rnd = os.urandom(1 << 20)
    for n in (0, 1, 59, 60, 61, 100, 150, 156, 160, 400, 1023, 1024, 1025, 4095, 4096, 4097, 65536, 300000):
        put('%s/size-%d' % (root, n), rnd[:n])
    # Fragments: two files written in turns, one of them removed.
    with open(root + '/frag', 'wb') as a, open(root + '/frag2', 'wb') as b:
        for i in range(400):
            a.write(rnd[i * 100:][:block])
            a.flush()
            os.fsync(a.fileno()) if i % 40 == 0 else None
            b.write(b'y' * block)
            b.flush()
    os.unlink(root + '/frag2')
    with open(root + '/every-other', 'wb') as f:
        for i in range(700):
            f.seek(i * 2 * block)
            f.write(b'%06d' % i)
    with open(root + '/sparse-huge', 'wb') as f:
        for at in (0, 5 << 30, (7 << 30) + 12345, 15 << 30):
            f.seek(at)
            f.write(b'here at %d' % at)
        f.truncate((15 << 30) + 5000)
    os.truncate(root + '/size-300000', 200001)
    fallocate(root + '/prealloc', 0, 0, 300000)
    fallocate(root + '/prealloc-keep', 1, 0, 300000)
    fallocate(root + '/prealloc', 3, 8192, 16384)
    with open(root + '/prealloc', 'r+b') as f:
        f.seek(100000)
        f.write(b'written inside')
    put(root + '/holes-only', b'')
    os.truncate(root + '/holes-only', 1000000)


def fill_names(root):
    d = os.fsencode(root) + b'/names'
    os.mkdir(d)
    for c in range(1, 256):
        if c not in (ord('/'), ord('.')):
            put(d + b'/' + bytes([c]), b'')
    put(d + b'/' + b'n' * 255, b'long')
    put(d + b'/' + '\u00fc\u20ac\U0001f600'.encode(), b'utf8')
    put(d + b'/..x', b'')
    many = root + '/many'
    os.mkdir(many)
    for i in range(10000):
        os.close(os.open('%s/file-number-%05d' % (many, i), os.O_CREAT | os.O_WRONLY))
    for i in range(0, 10000, 7):
        os.unlink('%s/file-number-%05d' % (many, i))
    deep = root
    for i in range(40):
        deep += '/deep%d' % i
        os.mkdir(deep)
    put(deep + '/bottom', b'here')
    for i in range(300):
        os.mkdir('%s/subdir%d' % (root + '/deep0', i))


def fill_special(root):
    os.symlink('x', root + '/link-1')
    os.symlink('x' * 59, root + '/link-59')
    os.symlink('x' * 60, root + '/link-60')
    os.symlink('y' * 1000, root + '/link-1000')
    os.mknod(root + '/chr-small', stat.S_IFCHR | 0o600, os.makedev(5, 1))
    os.mknod(root + '/chr-large', stat.S_IFCHR | 0o600, os.makedev(300, 70000))
    os.mknod(root + '/blk', stat.S_IFBLK | 0o660, os.makedev(8, 17))
    os.mkfifo(root + '/fifo')
    s = socket.socket(socket.AF_UNIX)
    s.bind(root + '/socket')
    s.close()
    put(root + '/hard', b'three names')
    os.link(root + '/hard', root + '/hard2')
    os.link(root + '/hard', root + '/names/hard3')
    put(root + '/suid', b'#!', 0o6755)
    os.chmod(root + '/names', 0o1777)
    put(root + '/owner', b'')
    os.chown(root + '/owner', 70000, 4000000000)


def fill_attributes(root):
    put(root + '/x-small', b'')
    os.setxattr(root + '/x-small', 'user.one', b'1')
    os.setxattr(root + '/x-small', 'user.empty', b'')
    os.setxattr(root + '/x-small', 'trusted.t', b'\0\1\2')
    os.setxattr(root + '/x-small', 'security.s', b'label')
    put(root + '/x-block', b'data too')
    for i in range(8):
        os.setxattr(root + '/x-block', 'user.name-%d' % i, os.urandom(50))
    os.setxattr(root + '/many', 'user.on-a-directory', b'z' * 300)
    for i in range(3):
        put(root + '/x-shared%d' % i, b'')
        os.setxattr(root + '/x-shared%d' % i, 'user.same', b's' * 400)
    try:
        put(root + '/x-large', b'')
        os.setxattr(root + '/x-large', 'user.large', bytes(range(256)) * 150)
    except OSError:
        pass  # only with ea_inode
    put(root + '/acl-file', b'')
    os.setxattr(root + '/acl-file', 'system.posix_acl_access',
                acl((1, 7, -1), (2, 6, 1000), (2, 4, 70000), (4, 5, -1), (8, 1, 50), (0x10, 7, -1), (0x20, 4, -1)))
    os.mkdir(root + '/acl-dir')
    os.setxattr(root + '/acl-dir', 'system.posix_acl_default',
                acl((1, 7, -1), (2, 6, 1000), (4, 5, -1), (0x10, 7, -1), (0x20, 0, -1)))
    put(root + '/acl-dir/inherits', b'')


def fill_times(root):
    d = root + '/times'
    os.mkdir(d)
    for s in (-2147483648, -1, 0, 1, 2147483647, 2147483648, 4294967295, 4294967296, 6442450943, 8589934591, 15032385535):
        for ns in (0, 1, 999999999):
            path = '%s/%d.%d' % (d, s, ns)
            put(path, b'')
            os.utime(path, ns=(s * 10**9 + ns, (s + 1) * 10**9 - ns - 1 if s < 15032385535 else s * 10**9))


def fill(root, block):
    fill_files(root, block)
    fill_names(root)
    fill_special(root)
    fill_attributes(root)
    fill_times(root)


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    d = tmp_path_factory.mktemp('matrix')
    (d / 'k').mkdir()
    (d / 'w').mkdir()
    yield d
    mounts.unmount(d / 'k')
    mounts.unmount(d / 'w')


def build(work, name):
    """The image of that name, filled; kept for the module, so that other tests can use it."""
    image = work / (name + '.img')
    if not image.exists():
        make(image, name)
        with mounts.kernel(image, work / 'k'):
            fill(str(work / 'k'), int(MATRIX[name][1][1]))
    return image


def kernel_view(work, image):
    with mounts.kernel(image, work / 'k', 'loop,ro'):
        return manifest.take(work / 'k')


def compare(want, got):
    diff = manifest.differences(want, got)
    assert not diff, '\n'.join(diff)


names = list(MATRIX) if os.environ.get('LONG') else QUICK


@pytest.mark.parametrize('name', names)
def test_same_as_the_kernel(work, name):
    image = build(work, name)
    before = subprocess.run(['sha256sum', str(image)], stdout=subprocess.PIPE).stdout
    want = kernel_view(work, image)
    assert len(want) > 9000
    with mounts.werunos(image, work / 'w', '--ro'):
        compare(want, manifest.take(work / 'w'))
        st, kst = os.statvfs(work / 'w'), None
    with mounts.kernel(image, work / 'k', 'loop,ro'):
        kst = os.statvfs(work / 'k')
    for k in ('f_blocks', 'f_bfree', 'f_bavail', 'f_files', 'f_ffree', 'f_bsize', 'f_namemax'):
        assert getattr(st, k) == getattr(kst, k), k
    after = subprocess.run(['sha256sum', str(image)], stdout=subprocess.PIPE).stdout
    assert after == before, 'a read-only mount changed the image'
    if os.environ.get('LONG'):
        image.unlink()


def test_loop_device_with_4k_sectors(work):
    image = build(work, 'upstream-default')
    want = kernel_view(work, image)
    with mounts.loop(image, '--sector-size', '4096', '--direct-io=on') as dev, mounts.werunos(dev, work / 'w', '--ro'):
        compare(want, manifest.take(work / 'w'))


def test_block_of_1k_on_4k_sectors(work):
    """Smaller than a sector: readable, never writable."""
    image = build(work, 'block-1k')
    want = kernel_view(work, image)
    with mounts.loop(image, '--sector-size', '4096') as dev, mounts.werunos(dev, work / 'w', '--ro'):
        compare(want, manifest.take(work / 'w'))


@pytest.mark.parametrize('label', ['gpt', 'dos'])
def test_partition(work, label):
    image = build(work, 'upstream-default')
    want = kernel_view(work, image)
    disk = work / (label + '.disk')
    size = image.stat().st_size
    with open(disk, 'wb') as f:
        f.truncate(size + (8 << 20))
    script = 'label: %s\nstart=2048, size=2048\nstart=6144, size=%d\n' % (label, size // 512)
    mounts.run('sfdisk', '-q', '--no-tell-kernel', str(disk), input=script.encode())
    mounts.run('dd', 'if=%s' % image, 'of=%s' % disk, 'bs=1M', 'seek=3', 'conv=notrunc,sparse', 'status=none')
    with mounts.werunos('%s#p2' % disk, work / 'w', '--ro'):
        compare(want, manifest.take(work / 'w'))
    with mounts.werunos(disk, work / 'w', '--ro', '-p', '2'):
        assert sorted(os.listdir(work / 'w')) == sorted(p.decode(errors='surrogateescape') for p in want if p and b'/' not in p)
    with mounts.werunos(disk, work / 'w', '--ro', '--offset', str(6144 * 512)):
        assert os.path.exists(work / 'w' / 'frag')
    disk.unlink()


def test_without_io_uring(work):
    image = build(work, 'upstream-default')
    want = kernel_view(work, image)
    with mounts.werunos(image, work / 'w', '--ro', env={'WERUNOS_NO_RING': '1'}):
        compare(want, manifest.take(work / 'w'))


def test_io_uring_refused_by_the_kernel(work):
    """As in a container: a seccomp filter answers EPERM."""
    image = build(work, 'upstream-default')
    want = kernel_view(work, image)
    with mounts.loop(image, '--sector-size', '4096', '--direct-io=on') as dev:
        with mounts.werunos(dev, work / 'w', '--ro', wrap=[mounts.BUILD + '/tests/tools/no_uring']):
            compare(want, manifest.take(work / 'w'))


def test_backup_superblock(work):
    image = build(work, 'block-1k')
    want = kernel_view(work, image)
    broken = work / 'broken.img'
    mounts.run('cp', '--sparse=always', str(image), str(broken))
    with open(broken, 'r+b') as f:
        f.seek(1024)
        f.write(b'\xff' * 1024)
    with mounts.werunos(broken, work / 'w', '--ro', '--sb', '8193'):
        got = manifest.take(work / 'w')
    compare(want, got)
    broken.unlink()


def test_as_an_ordinary_user(work):
    """The user sees the volume as its own (root's files are its files); what is not its to read stays closed."""
    image = build(work, 'upstream-default')
    home = work / 'home'
    home.mkdir(mode=0o755)
    for p in (work, work.parent, work.parent.parent):
        os.chmod(p, 0o755)
    os.chown(home, NOBODY, NOBODY)
    mine = home / 'mine.img'
    mounts.run('cp', '--sparse=always', str(image), str(mine))
    os.chown(mine, NOBODY, NOBODY)
    d = home / 'm'
    d.mkdir()
    os.chown(d, NOBODY, NOBODY)
    # In a mount namespace where /dev/fuse is open to all, as it is on a desktop.
    mounts.run('mknod', '-m', '666', str(work / 'fuse'), 'c', '10', '229')
    script = '''
        mount --bind "$1" /dev/fuse
        exec setpriv --reuid=$5 --regid=$5 --clear-groups sh -ec '
            "$1" mount --ro --daemon "$2" "$3"
            cd "$3"
            stat -c %u frag owner
            sha256sum <frag | cut -c1-64
            sha256sum <size-65536 | cut -c1-64
            cat deep0/deep1/deep2/../../../size-60 | wc -c
            cd /
            fusermount3 -u "$3"
        ' sh "$2" "$3" "$4"
    '''
    out = mounts.run('unshare', '-m', 'sh', '-ec', script, 'sh', str(work / 'fuse'), mounts.WERUNOS, str(mine), str(d),
                     str(NOBODY)).decode().split()
    with mounts.kernel(image, work / 'k', 'loop,ro'):
        sums = [manifest.content(str(work / 'k' / n), os.path.getsize(work / 'k' / n))[0] for n in ('frag', 'size-65536')]
    # The other owner has no name here: it shows as the overflow id, which is nobody's number too.
    assert out == [str(NOBODY), '65534', *sums, '60'], out
    mine.unlink()
