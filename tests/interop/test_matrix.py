"""
ext4 as the kernel shows it and as we do: images of many feature combinations, filled by the kernel's mount, must look
the same in every name, type, mode, owner, time, link count, attribute, target, byte and hole.
"""
import os, subprocess
import pytest
import manifest, mounts
from fill import fill

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
    out = mounts.run(*mounts.APART, 'sh', '-ec', script, 'sh', str(work / 'fuse'), mounts.WERUNOS, str(mine), str(d),
                     str(NOBODY)).decode().split()
    with mounts.kernel(image, work / 'k', 'loop,ro'):
        sums = [manifest.content(str(work / 'k' / n), os.path.getsize(work / 'k' / n))[0] for n in ('frag', 'size-65536')]
    # The other owner has no name here: it shows as the overflow id, which is nobody's number too.
    assert out == [str(NOBODY), '65534', *sums, '60'], out
    mine.unlink()
