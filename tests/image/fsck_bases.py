"""Small sound ext4 volumes, one of each kind, which the kernel filled with one of everything that metadata can be."""
import os, random, stat, subprocess, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'interop'))
import mounts  # noqa: E402
from fill import acl, fallocate, put  # noqa: E402

OLD = 'none,ext_attr,dir_index,filetype,sparse_super,large_file'
NEW = OLD + ',has_journal,extent,64bit,flex_bg,huge_file,dir_nlink,extra_isize'
CSUM = NEW + ',metadata_csum'
SEED = 'hash_seed=12345678-1234-1234-1234-123456789abc'
# Name: (MiB, arguments of mke2fs).
BASES = {
    '4k': (16, ['-b', '4096', '-O', CSUM + ',resize_inode,orphan_file', '-J', 'size=4']),
    '1k': (8, ['-b', '1024', '-g', '1024', '-O', CSUM + ',metadata_csum_seed,resize_inode,orphan_file', '-J', 'size=1']),
    '1k-no-flex': (8, ['-b', '1024', '-g', '2048', '-O', CSUM.replace(',flex_bg', '') + ',resize_inode', '-J', 'size=1']),
    'meta-bg-mmp': (8, ['-b', '1024', '-g', '1024', '-O', CSUM + ',meta_bg,mmp,orphan_file', '-J', 'size=1', '-E', 'mmp_update_interval=1']),
    'sums-of-old': (8, ['-b', '1024', '-g', '2048', '-O', NEW + ',uninit_bg,resize_inode', '-J', 'size=1']),
    'no-sums': (8, ['-b', '1024', '-O', NEW + ',resize_inode', '-J', 'size=1']),
    'ext3': (8, ['-b', '1024', '-I', '128', '-O', OLD + ',has_journal,resize_inode', '-J', 'size=1']),
    'ext2': (6, ['-b', '1024', '-g', '2048', '-I', '256', '-O', OLD.replace(',sparse_super', '').replace(',filetype', '')]),
    'indirect-sums': (8, ['-b', '1024', '-I', '256', '-O', OLD + ',has_journal,metadata_csum,resize_inode', '-J', 'size=1']),
    'inline': (8, ['-b', '1024', '-I', '512', '-O', CSUM + ',inline_data,orphan_file', '-J', 'size=1']),
    'inline-4k': (16, ['-b', '4096', '-O', CSUM + ',inline_data,ea_inode', '-J', 'size=4']),
    'ea-inode': (8, ['-b', '1024', '-O', CSUM + ',ea_inode,large_dir', '-J', 'size=1']),
    'bigalloc': (16, ['-b', '1024', '-C', '8192', '-g', '256', '-O', CSUM + ',bigalloc', '-J', 'size=1']),
    'bigalloc-4k': (16, ['-b', '4096', '-C', '16384', '-O', CSUM + ',bigalloc,orphan_file', '-J', 'size=4']),
    'no-journal': (6, ['-b', '2048', '-O', CSUM.replace(',has_journal', '') + ',sparse_super2', '-E', 'num_backup_sb=2']),
}


def fill_directories(root, block):
    os.mkdir(root + '/a')
    os.mkdir(root + '/a/b')
    os.mkdir(root + '/a/b/c')
    os.mkdir(root + '/empty')
    for i in range(12):
        put('%s/a/b/file-%02d' % (root, i), b'%d ' % i * (100 + i * 37))
    for i in range(5):
        os.mkdir('%s/a/sub-%d' % (root, i))
        put('%s/a/sub-%d/inside' % (root, i), b'inside %d' % i * 50)
    os.mkdir(root + '/hashed')
    for i in range(90):
        put('%s/hashed/a-name-of-some-length-%03d' % (root, i), b'%d' % i if i % 9 == 0 else b'')
    for i in range(0, 90, 10):
        os.unlink('%s/hashed/a-name-of-some-length-%03d' % (root, i + 5))
    # Names of one inode: two levels of index with small blocks.
    os.mkdir(root + '/deep')
    for i in range(420 if block == 1024 else 120):
        os.link(root + '/a/b/file-01', '%s/deep/%s-%03d' % (root, 'n' * 200, i))
    os.mkdir(root + '/one-block')
    for i in range(9):
        os.link(root + '/a/b/file-02', '%s/one-block/twin-%d' % (root, i))


def fill_maps(root, block):
    with open(root + '/every-other', 'wb') as f:
        for i in range(380 if block == 1024 else 60):
            f.seek(i * 2 * block)
            f.write(b'%06d' % i)
    with open(root + '/far', 'wb') as f:
        for at in (0, 20 * block, 300 * block, 5000 * block, (66000 if block == 1024 else 9000) * block):
            f.seek(at)
            f.write(b'here at %d' % at)
    put(root + '/whole', random.Random(block).randbytes(90 * block + 17))
    fallocate(root + '/prealloc', 1, 0, 20 * block)
    with open(root + '/prealloc', 'r+b') as f:
        f.seek(3 * block)
        f.write(b'written inside')


def fill_others(root):
    os.symlink('x', root + '/link-short')
    os.symlink('y' * 200, root + '/link-long')
    os.mknod(root + '/device', stat.S_IFCHR | 0o600, os.makedev(5, 1))
    os.mknod(root + '/a/device-wide', stat.S_IFBLK | 0o600, os.makedev(300, 70000))
    os.mkfifo(root + '/pipe')
    for i in range(3):
        put('%s/x-shared-%d' % (root, i), b'shared')
        os.setxattr('%s/x-shared-%d' % (root, i), 'user.same', b's' * 400)
    put(root + '/x-small', b'little')
    os.setxattr(root + '/x-small', 'user.one', b'1')
    os.setxattr(root + '/a/b', 'user.on-a-directory', b'z' * 300)
    os.setxattr(root + '/a', 'system.posix_acl_default', acl((1, 7, -1), (2, 6, 1000), (4, 5, -1), (0x10, 7, -1), (0x20, 0, -1)))
    try:
        put(root + '/x-large', b'')
        os.setxattr(root + '/x-large', 'user.large', bytes(range(256)) * 40)
    except OSError:
        pass  # only with ea_inode


def base(name, d):
    """The volume's path below d, made when it is not there."""
    image, mnt = os.path.join(d, name + '.img'), os.path.join(d, name + '.mnt')
    if os.path.exists(image):
        return image
    os.makedirs(mnt, exist_ok=True)
    mib, options = BASES[name]
    with open(image + ',new', 'wb') as f:
        f.truncate(mib << 20)
    # mke2fs hears the last -E alone.
    more = ','.join([SEED] + [options[i + 1] for i, word in enumerate(options) if word == '-E'])
    mounts.run('mke2fs', '-q', '-F', '-N', '512', '-U', '12345678-1234-1234-1234-123456789abc', *options, '-E', more, image + ',new')
    block = int(options[1])
    with mounts.kernel(image + ',new', mnt) as root:
        fill_directories(root, block)
        fill_maps(root, block)
        fill_others(root)
        for i in range(40):
            put('%s/gone-%d' % (root, i), b'g' * 3000)
        for i in range(40):
            os.unlink('%s/gone-%d' % (root, i))
    os.rmdir(mnt)
    r = subprocess.run(['e2fsck', '-fn', image + ',new'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert r.returncode == 0, r.stdout.decode(errors='replace')[-2000:]
    os.rename(image + ',new', image)
    return image
