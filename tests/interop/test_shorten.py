"""
Volumes that become shorter, by werunos resize: of all that they had nothing is another, by the kernel's view of them, e2fsck finds nothing, and they are
written and made longer again. In pieces of any length, down to the least; one of each kind that is made shorter at all.
"""
import json, os, random, shutil, subprocess
import pytest
import fill, manifest, mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')
CSUM, OLD = '64bit,metadata_csum,flex_bg', '^64bit,^metadata_csum,^flex_bg'
BASE = 'none,ext_attr,dir_index,filetype,large_file,huge_file,dir_nlink,extra_isize,'
# Name: how long (MiB), inodes, what mke2fs is told; features besides those of BASE.
KINDS = {
    'default': (160, 20000, '-b 4096 -g 4096', CSUM + ',has_journal,extent,resize_inode,sparse_super,metadata_csum_seed,orphan_file'),
    'old': (160, 20000, '-b 4096 -g 8192 -J size=8', CSUM + ',has_journal,extent,resize_inode,sparse_super'),
    '1k': (120, 20000, '-b 1024', CSUM + ',has_journal,extent,resize_inode,sparse_super,orphan_file'),
    '2k': (120, 20000, '-b 2048 -g 4096', CSUM + ',has_journal,extent,sparse_super,metadata_csum_seed'),
    'nocsum': (120, 20000, '-b 1024', '64bit,flex_bg,has_journal,extent,resize_inode,sparse_super'),
    'noflex': (120, 20000, '-b 1024', 'metadata_csum,has_journal,extent,resize_inode,sparse_super'),
    'meta_bg': (120, 20000, '-b 1024 -g 1024 -J size=4', CSUM + ',has_journal,extent,meta_bg,sparse_super'),
    'uninit_bg': (120, 20000, '-b 1024', 'uninit_bg,flex_bg,has_journal,extent,resize_inode,sparse_super'),
    'sparse_super2': (120, 20000, '-b 1024', CSUM + ',has_journal,extent,sparse_super2'),
    'nosparse': (120, 20000, '-b 1024', 'has_journal,extent'),
    'small-groups': (120, 24000, '-b 1024 -g 1024 -J size=4', CSUM + ',has_journal,extent,sparse_super'),
    'small-resize': (120, 24000, '-b 1024 -g 512 -J size=4 -E resize=400000', CSUM + ',has_journal,extent,sparse_super,resize_inode'),
    'inline_data': (120, 20000, '-b 1024 -I 256', CSUM + ',has_journal,extent,resize_inode,sparse_super,inline_data'),
    'ea_inode': (120, 20000, '-b 1024 -I 256', CSUM + ',has_journal,extent,sparse_super,ea_inode'),
    'quota': (120, 20000, '-b 1024', '64bit,metadata_csum' + ',has_journal,extent,resize_inode,sparse_super,ea_inode,quota,project -E quotatype=usrquota:grpquota:prjquota'),
    'large_dir': (120, 20000, '-b 1024', CSUM + ',has_journal,extent,sparse_super,large_dir'),
    'mmp': (120, 20000, '-b 1024 -E mmp_update_interval=1', CSUM + ',has_journal,extent,sparse_super,mmp'),
    'nojournal': (120, 20000, '-b 1024', CSUM + ',extent,resize_inode,sparse_super'),
    'ext3': (120, 20000, '-b 1024 -I 128 -J size=4', 'has_journal,resize_inode,sparse_super'),
    'late-journal': (120, 20000, '-b 1024 -I 128', 'resize_inode,sparse_super'),
    'ext2': (120, 20000, '-b 2048 -g 4096 -I 128', 'resize_inode,sparse_super'),
    'clusters': (320, 20000, '-b 4096 -C 65536 -g 256 -J size=8', CSUM + ',has_journal,extent,resize_inode,sparse_super,bigalloc,orphan_file'),
    'clusters-1k': (200, 20000, '-b 1024 -C 16384 -g 512', CSUM + ',has_journal,extent,resize_inode,sparse_super,bigalloc,orphan_file,metadata_csum_seed'),
    'clusters-4k-16k': (200, 20000, '-b 4096 -C 16384 -g 512 -J size=8', CSUM + ',has_journal,extent,meta_bg,sparse_super,bigalloc'),
    'clusters-1k-64k': (320, 20000, '-b 1024 -C 65536 -g 256', CSUM + ',has_journal,extent,sparse_super2,bigalloc'),
    'clusters-old': (200, 20000, '-b 1024 -C 16384 -g 512', 'has_journal,extent,resize_inode,sparse_super,bigalloc'),
    'clusters-uninit': (200, 20000, '-b 4096 -C 16384 -g 512 -J size=8', 'uninit_bg,flex_bg,has_journal,extent,resize_inode,sparse_super,bigalloc'),
    'clusters-quota': (200, 20000, '-b 1024 -C 16384 -g 512', '64bit,metadata_csum,has_journal,extent,resize_inode,sparse_super,bigalloc,ea_inode,quota,project -E quotatype=usrquota:grpquota:prjquota'),
    'clusters-values': (200, 20000, '-b 4096 -C 16384 -g 512 -I 256 -J size=8', CSUM + ',has_journal,extent,sparse_super,bigalloc,inline_data,ea_inode'),
    'clusters-nojournal': (200, 20000, '-b 1024 -C 16384 -g 512', CSUM + ',extent,resize_inode,sparse_super,bigalloc'),
}
# Each of the others in the long run.
SAMPLE = ['default', 'small-groups', 'inline_data', 'ea_inode', 'quota', 'nojournal', 'late-journal', 'clusters-quota']


def make(image, kind):
    mib, inodes, words, features = KINDS[kind]
    with open(image, 'wb') as f:
        f.truncate(mib << 20)
    features, _, more = features.partition(' ')
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-N', str(inodes), *words.split(), *more.split(), '-O', BASE + features, image)
    if kind == 'late-journal':
        late_journal(image, 4)


def late_journal(image, mib):
    """Its blocks lie behind two thirds of the volume."""
    fill_up = image + '.fill'
    with open(fill_up, 'wb') as f:
        f.write(b'x' * (os.path.getsize(image) * 2 // 3))
    mounts.run('debugfs', '-w', '-R', 'write %s fill' % fill_up, image)
    mounts.run('tune2fs', '-j', '-J', 'size=%d' % mib, image)
    mounts.run('debugfs', '-w', '-R', 'rm fill', image)
    os.unlink(fill_up)


def clean(image):
    mounts.run('e2fsck', '-fn', image)
    mounts.run(mounts.WERUNOS, 'fsck', '-f', '-n', image)


def mount(image, d, kind):
    """The kernel's, but that of this machine may have no quotas."""
    return mounts.werunos(image, d, '-o', 'noatime') if 'quota' in kind else mounts.kernel(image, d, 'loop,noatime')


def resize(image, *words):
    r = subprocess.run([mounts.WERUNOS, 'resize', '--json', image, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert not r.returncode, (words, r.stderr)
    return json.loads(r.stdout)


def view(d):
    """What stays: not the numbers of inodes, but which names have the same; not the blocks of maps."""
    seen, found = {}, manifest.take(d)
    for path, m in sorted(found.items()):
        m['ino'] = seen.setdefault(m['ino'], path)
        del m['blocks'], m['atime']
    return found


def values(d, rng):
    """Attributes in inodes of their own: of one file, shared by some, in lists that are in inodes, in blocks, and in blocks that are shared."""
    for i in range(120):
        path = '%s/%s' % (d, 'v%d' % i)
        os.mkdir(path) if i % 3 == 0 else open(path, 'w').close()
        os.setxattr(path, 'user.own', rng.randbytes(2000 + i))
        os.setxattr(path, 'user.shared', b'%d' % (i // 10) * 3000)
        os.setxattr(path, 'user.twice', b'%d' % (i // 10) * 3000)
        for k in range(4 if i % 2 else 0):
            os.setxattr(path, 'user.a-long-name-of-a-list-in-a-block-%d' % k, b'%d' % (i // 6 + k) * 1500)
    for i in range(0, 120, 4):
        os.rmdir('%s/v%d' % (d, i)) if i % 3 == 0 else os.unlink('%s/v%d' % (d, i))


def content(d, rng, block):
    """Files all over the volume, of which half go again, and directories, which ext4 spreads."""
    fill.fill(d, block)
    for i in range(60):
        os.mkdir('%s/t%d' % (d, i))
        for k in range(8):
            with open('%s/t%d/f%d' % (d, i, k), 'wb') as f:
                f.write(rng.randbytes(rng.choice([0, 10, 700, 3000, 30000, 250000])))
        os.link('%s/t%d/f1' % (d, i), '%s/t%d/g%d' % (d, i // 2, i))
        os.mkdir('%s/t%d/sub' % (d, i))
        os.mkdir('%s/t%d/sub/sub' % (d, i))
    for i in range(60):
        for k in range(0, 8, 2):
            os.unlink('%s/t%d/f%d' % (d, i, k))
    for i in range(0, 60, 3):
        shutil.rmtree('%s/t%d' % (d, i))
    os.sync()


def patches(d, rng, files):
    """Of which clusters have some blocks, written, promised or neither."""
    for i in range(files):
        path, block = '%s/patches%d' % (d, i), rng.choice([1024, 4096])
        for _ in range(rng.randrange(4, 30)):
            off, length, how = rng.randrange(256) * block, rng.randrange(1, 24) * block, rng.randrange(4)
            if how == 3:
                fill.fallocate(path, 3, off, length)
            elif how == 2:
                fill.fallocate(path, 1, off, length)
            else:
                with open(path, 'r+b' if os.path.exists(path) else 'wb') as f:
                    f.seek(off)
                    f.write(rng.randbytes(length - rng.randrange(block)))
                    f.flush()
                    os.fsync(f.fileno())
    with open('%s/every-block-another' % d, 'wb') as f:
        for i in range(300):
            f.seek(i * 2048)
            f.write(b'%d' % i)
    fill.fallocate('%s/every-block-another' % d, 1, 0, 300 * 2048)


def write(d, rng):
    with open('%s/new-%d' % (d, rng.randrange(1 << 30)), 'wb') as f:
        f.write(rng.randbytes(rng.randrange(20000)))


@pytest.mark.parametrize('kind', KINDS if os.environ.get('LONG') else SAMPLE)
def test_shortened(kind, tmp_path):
    rng = random.Random(int(os.environ.get('SEED', '11')))
    image, d = str(tmp_path / 'image'), tmp_path / 'd'
    d.mkdir()
    make(image, kind)
    with mount(image, d, kind):
        content(str(d), rng, 4096)
        if 'ea_inode' in KINDS[kind][3]:
            values(str(d), rng)
        if 'clusters' in kind:
            patches(str(d), rng, 24)
    with mount(image, d, kind):
        want = view(d)
    whole = os.path.getsize(image)
    plan = resize(image, '-n', '--minimum')
    clean(image)
    least, moved = plan['after_bytes'], False
    assert least < whole * 0.6
    for n, size in enumerate([*sorted((rng.randint(least, whole) for _ in range(2)), reverse=True), 0]):
        said = resize(image, str(size)) if size else resize(image, '--minimum')
        assert said['after_bytes'] == os.path.getsize(image) and (not size or said['after_bytes'] <= size)
        moved |= said['inodes_moved'] > 0
        clean(image)
        with mount(image, d, kind):
            assert not manifest.differences(want, view(d)), said
            if n < 2:
                write(str(d), rng)
        clean(image)
        with mount(image, d, kind):
            want = view(d)
    assert moved
    # What it could be later is an estimate, of tables that become free.
    assert os.path.getsize(image) <= least * 1.3 + (4 << 20)
    resize(image, str(whole))
    clean(image)
    with mount(image, d, kind):
        assert not manifest.differences(want, view(d))
        for i in range(20):
            os.mkdir('%s/late%d' % (d, i))
            write('%s/late%d' % (d, i), rng)
    clean(image)


# How long (KiB), to how long, what mke2fs is told.
CRASHES = {
    'default': (24 << 10, 14000, '-b 1024 -g 1024 -G 4 -N 1600 -J size=1', CSUM + ',has_journal,extent,resize_inode,sparse_super,orphan_file'),
    'least': (24 << 10, 0, '-b 1024 -g 1024 -G 4 -N 1600 -J size=1', CSUM + ',has_journal,extent,meta_bg,sparse_super'),
    'large-journal': (40 << 10, 18000, '-b 1024 -g 2048 -N 1600 -J size=6', CSUM + ',has_journal,extent,sparse_super,inline_data'),
    'ext3': (24 << 10, 16000, '-b 1024 -g 1024 -I 128 -N 1600 -J size=1', 'has_journal,resize_inode,sparse_super'),
    'late-journal': (24 << 10, 11000, '-b 1024 -g 1024 -I 128 -N 1600', 'resize_inode,sparse_super'),
    'quota': (24 << 10, 14000, '-b 1024 -g 1024 -G 4 -N 1600 -J size=1 -E quotatype=usrquota:grpquota:prjquota', CSUM + ',has_journal,extent,resize_inode,sparse_super,quota,project'),
    'ea_inode': (24 << 10, 0, '-b 1024 -g 1024 -G 4 -N 1600 -I 256 -J size=1', CSUM + ',has_journal,extent,sparse_super,ea_inode,orphan_file'),
    'mmp': (24 << 10, 14000, '-b 1024 -g 1024 -G 4 -N 1600 -J size=1 -E mmp_update_interval=1', CSUM + ',has_journal,extent,sparse_super,mmp'),
    'clusters': (32 << 10, 22000, '-b 1024 -C 4096 -g 256 -G 4 -N 1600 -J size=1', CSUM + ',has_journal,extent,resize_inode,sparse_super,bigalloc,orphan_file'),
    'clusters-least': (48 << 10, 0, '-b 1024 -C 16384 -g 256 -N 1600 -I 256 -J size=1', CSUM + ',has_journal,extent,meta_bg,sparse_super,bigalloc,ea_inode,inline_data'),
    'clusters-quota': (48 << 10, 30000, '-b 2048 -C 16384 -g 256 -N 1600 -J size=2 -E quotatype=usrquota:grpquota:prjquota', '64bit,metadata_csum,has_journal,extent,sparse_super2,bigalloc,quota,project'),
    'clusters-old': (48 << 10, 0, '-b 1024 -C 16384 -g 256 -N 1600 -J size=1', 'has_journal,extent,resize_inode,sparse_super,bigalloc'),
    'uninit': (24 << 10, 12000, '-b 1024 -g 1024 -N 1600 -J size=1', 'has_journal,extent,uninit_bg,flex_bg,sparse_super2'),
}


def small_content(d, rng, kind):
    if 'clusters' in kind:
        patches(d, rng, 5)
    for i in range(6 if kind in ('ea_inode', 'clusters-least') else 0):
        with open('%s/value%d' % (d, i), 'wb') as f:
            f.write(b'%d' % i * 3000)
        os.setxattr('%s/value%d' % (d, i), 'user.large', bytes([i // 2]) * 5000)
        for k in range(4):
            os.setxattr('%s/value%d' % (d, i), 'user.a-long-name-of-a-list-in-a-block-%d' % k, bytes([i // 3, k]) * 700)
    for i in range(24):
        os.makedirs('%s/t%d/sub' % (d, i))
        for k in range(4):
            with open('%s/t%d/f%d' % (d, i, k), 'wb') as f:
                f.write(rng.randbytes(rng.choice([0, 100, 3000, 30000, 90000])))
        os.link('%s/t%d/f1' % (d, i), '%s/t%d/l%d' % (d, i // 2, i))
        os.symlink('x' * 200, '%s/t%d/link' % (d, i))
        os.setxattr('%s/t%d/f1' % (d, i), 'user.a', bytes([i // 4]) * 400)
    with open('%s/a' % d, 'wb') as a, open('%s/b' % d, 'wb') as b:
        for i in range(300):
            for f in (a, b):
                f.write(b'%4d' % i * 256)
                f.flush()
                os.fsync(f.fileno()) if i % 8 == 0 else None
    for i in range(0, 24, 2):
        for k in range(0, 4, 2):
            os.unlink('%s/t%d/f%d' % (d, i, k))


def crash(image, kib, *words):
    return mounts.run(os.path.join(mounts.BUILD, 'tests/crash/crash'), '--shorten', image, '--size', str(kib << 10), '--seed', os.environ.get('SEED', '1'), *words)


@pytest.mark.parametrize('kind', [k for k in CRASHES if k != 'mmp' or os.environ.get('LONG')])
def test_power(kind, tmp_path):
    """The power goes at any write: whole, and clean, for us, e2fsck and the kernel, and it can be gone on with."""
    kib, size, words, features = CRASHES[kind]
    image, d = str(tmp_path / 'image'), tmp_path / 'd'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(kib << 10)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', *words.split(), '-O', BASE + features, image)
    if kind == 'late-journal':
        late_journal(image, 1)
    with mount(image, d, kind):
        small_content(str(d), random.Random(int(os.environ.get('SEED', '1'))), kind)
    states = '150' if kind == 'default' or os.environ.get('LONG') else '50'
    # With mmp everybody waits for seconds each time.
    print(crash(image, size, '--states', '12' if kind == 'mmp' else os.environ.get('STATES', states)))
    if kind == 'default':
        crash(image, size, '--states', '150', '--no-flush', '--expect-failure')


@pytest.mark.parametrize('journal', ['has_journal', '^has_journal'])
def test_long_sectors(tmp_path, journal):
    """On a device that writes no less than 4 KiB at once."""
    image, d = tmp_path / 'a.img', tmp_path / 'k'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(96 << 20)
    with mounts.loop(image, '-b', '4096') as dev:
        mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-g', '4096', '-J', 'size=4', '-O', journal, dev)
        with mounts.kernel(dev, d, 'rw') as root:
            for i in range(40):
                with open('%s/f%d' % (root, i), 'wb') as f:
                    f.write(os.urandom(500000))
            before = view(root)
        mounts.run(mounts.WERUNOS, 'resize', dev, '48M')
        clean(dev)
        with mounts.kernel(dev, d, 'rw') as root:
            assert not manifest.differences(before, view(root))
