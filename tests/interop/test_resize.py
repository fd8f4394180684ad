"""
Volumes that become longer, by werunos resize, in pieces: e2fsck finds nothing after each, the kernel mounts them and reads every byte that was there before,
and writes on; so do we. Without a mount and through one, while files are written.
"""
import errno, hashlib, os, random, shutil, subprocess, threading
import pytest
import mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')
CSUM, OLD = '64bit,metadata_csum,flex_bg', '^64bit,^metadata_csum,^flex_bg'
# Name: how long at first, at last (MiB), what mke2fs is told. What is not named is off.
KINDS = {
    'default': (40, 2500, '-b 4096 -O %s,has_journal,extent,resize_inode,sparse_super' % CSUM),
    '1k': (30, 900, '-b 1024 -O %s,has_journal,extent,resize_inode,sparse_super' % CSUM),
    '1k-to-meta_bg': (30, 2500, '-b 1024 -E resize=200000 -O %s,has_journal,extent,resize_inode,sparse_super' % CSUM),
    'none-kept': (30, 1500, '-b 1024 -O %s,has_journal,extent,sparse_super' % CSUM),
    'meta_bg': (40, 1500, '-b 1024 -O %s,has_journal,extent,meta_bg,sparse_super' % CSUM),
    'flex1': (30, 900, '-b 1024 -G 1 -O %s,has_journal,extent,resize_inode,sparse_super' % CSUM),
    'flex-large': (30, 900, '-b 1024 -G 4096 -O %s,has_journal,extent,resize_inode,sparse_super' % CSUM),
    'sparse_super2': (40, 900, '-b 1024 -O %s,has_journal,extent,sparse_super2' % CSUM),
    'nosparse': (40, 700, '-b 1024 -O has_journal,extent'),
    'uninit_bg': (40, 900, '-b 1024 -O uninit_bg,has_journal,extent,resize_inode,sparse_super'),
    'ext3': (40, 900, '-b 2048 -O has_journal,resize_inode,sparse_super'),
    'ext2': (40, 900, '-b 1024 -I 128 -O resize_inode,sparse_super'),
    'nojournal': (40, 900, '-b 4096 -O %s,extent,resize_inode,sparse_super' % CSUM),
    'orphan_file': (40, 900, '-b 4096 -O %s,has_journal,extent,resize_inode,sparse_super,orphan_file,metadata_csum_seed' % CSUM),
    'inline_data': (40, 900, '-b 4096 -I 256 -O %s,has_journal,extent,resize_inode,sparse_super,inline_data' % CSUM),
    'clusters': (60, 2500, '-b 4096 -C 65536 -g 2048 -O %s,has_journal,extent,resize_inode,sparse_super,bigalloc' % CSUM),
    'clusters-1k': (60, 900, '-b 1024 -C 4096 -O %s,has_journal,extent,resize_inode,sparse_super,bigalloc' % CSUM),
    'clusters-to-meta_bg': (60, 2500, '-b 1024 -C 2048 -E resize=400000 -O %s,has_journal,extent,resize_inode,sparse_super,bigalloc' % CSUM),
    'clusters-flex1': (60, 1500, '-b 1024 -C 8192 -g 2048 -O 64bit,metadata_csum,has_journal,extent,sparse_super,bigalloc'),
    'clusters-uninit': (60, 1500, '-b 1024 -C 8192 -g 2048 -O uninit_bg,flex_bg,has_journal,extent,resize_inode,sparse_super,bigalloc'),
    'clusters-old': (60, 700, '-b 1024 -C 4096 -O extent,resize_inode,sparse_super,bigalloc'),
    '1k-short-log': (31, 1500, '-b 1024 -J size=1 -O %s,has_journal,extent,resize_inode,sparse_super' % CSUM),
    'small-groups': (12, 60, '-b 1024 -g 1024 -O %s,has_journal,extent,sparse_super -J size=1' % CSUM),
}


def make(image, mib, words):
    with open(image, 'wb') as f:
        f.truncate(mib << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-N', '4096', *('-O none,ext_attr,dir_index,filetype,' + words.split(' -O ')[1]).split(), *words.split(' -O ')[0].split(), image)


def fill(d, rng, name, files):
    os.mkdir('%s/%s' % (d, name))
    for i in range(files):
        with open('%s/%s/%d' % (d, name, i), 'wb') as f:
            f.write(rng.randbytes(rng.choice([0, 1, 5000, 70000, 300000])))


def sums(d):
    found = {}
    for top, _, names in os.walk(d):
        for n in names:
            p = os.path.join(top, n)
            found[os.path.relpath(p, d)] = hashlib.md5(open(p, 'rb').read()).hexdigest()
    return found


def clean(image):
    mounts.run('e2fsck', '-fn', image)
    mounts.run(mounts.WERUNOS, 'fsck', '-n', image)


def blocks(image):
    said = {k.strip(): v.strip() for k, _, v in (line.partition(':') for line in mounts.run('dumpe2fs', '-h', image).decode().splitlines())}
    return int(said['Block count']) * int(said['Block size']), int(said['Inode count']) // int(said['Inodes per group']), said


@pytest.mark.parametrize('kind', KINDS)
def test_grown(kind, tmp_path):
    """In four steps of any length, the last one to the end; the kernel writes in between."""
    rng = random.Random(int(os.environ.get('SEED', '7')))
    first, last, words = KINDS[kind]
    image, d = str(tmp_path / 'image'), tmp_path / 'd'
    d.mkdir()
    make(image, first, words)
    with mounts.kernel(image, d):
        fill(d, rng, 'first', 12)
        want = sums(d)
    for n, mib in enumerate(sorted(rng.randint(first + 1, last) for _ in range(3)) + [last]):
        mounts.run(mounts.WERUNOS, 'resize', image, '%dM' % mib)
        clean(image)
        have, groups, said = blocks(image)
        assert mib - 33 <= have >> 20 <= mib, said
        with mounts.kernel(image, d):
            assert sums(d) == want
            fill(d, rng, 'k%d' % n, 30)
            want = sums(d)
        mounts.run('e2fsck', '-fn', image)
    with mounts.kernel(image, d):
        os.mkdir('%s/many' % d)
        for i in range(3 * 300):
            os.mkdir('%s/many/%d' % (d, i))
    clean(image)


def places(image, *words):
    """Where a copy says that superblocks, descriptors, bitmaps and tables are."""
    # Bitmaps that were never written it does not like when it looks through a copy, which does not say so.
    lines = subprocess.run(['dumpe2fs', *words, image], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
    assert len(lines) > 100
    return [line.split(' (')[0].split(', csum')[0] for line in lines if ' at ' in line or line.startswith(('Block count', 'Inode count', 'First meta'))]


@pytest.mark.parametrize('kind', ['default', '1k-to-meta_bg', 'meta_bg', 'sparse_super2', 'ext3', 'clusters', 'clusters-1k'])
def test_copies(kind, tmp_path):
    """Copies of superblock and descriptors tell of the volume as it is now."""
    first, last, words = KINDS[kind]
    image = str(tmp_path / 'image')
    make(image, first, words)
    mounts.run(mounts.WERUNOS, 'resize', image, '%dM' % last)
    block = int(blocks(image)[2]['Block size'])
    per, first = (int(blocks(image)[2][k]) for k in ('Blocks per group', 'First block'))
    copies = [per * group + first for group in (1, 3, 9)]
    if kind == 'sparse_super2':
        copies = copies[:1]
    for copy in copies:
        assert places(image, '-o', 'superblock=%d' % copy, '-o', 'blocksize=%d' % block) == places(image)


@pytest.mark.parametrize('kind', ['default', '1k-to-meta_bg', 'meta_bg', 'none-kept', '1k-short-log', 'ext3', 'nojournal', 'clusters', 'clusters-to-meta_bg',
                                  'clusters-uninit'])
def test_mounted(kind, tmp_path):
    """Through a mount, while somebody writes; what was full has room then."""
    first, last, words = KINDS[kind]
    image, d = str(tmp_path / 'image'), tmp_path / 'd'
    d.mkdir()
    make(image, first, words)
    stop, wrong, content = threading.Event(), [], {}

    def write():
        rng, n = random.Random(3), 0
        while not stop.is_set():
            n += 1
            data = rng.randbytes(rng.choice([100, 9000, 60000]))
            os.statvfs(d)
            try:
                with open('%s/w%d' % (d, n), 'wb') as f:
                    f.write(data)
                content['w%d' % n] = hashlib.md5(data).hexdigest()
                if n % 3 == 0:
                    os.unlink('%s/w%d' % (d, n - 2))
                    del content['w%d' % (n - 2)]
            except OSError as e:
                wrong.append(e)
                return
            if n > 400:
                stop.wait(0.01)

    with mounts.werunos(image, d):
        before = os.statvfs(d)
        t = threading.Thread(target=write)
        t.start()
        for mib in ((2 * first + last) // 3, last):
            mounts.run(mounts.WERUNOS, 'resize', str(d), '%dM' % mib)
        after = os.statvfs(d)
        with open('%s/large' % d, 'wb') as f:
            for _ in range(first + 20):
                f.write(os.urandom(1 << 20))
        stop.set()
        t.join()
        assert not wrong
        assert after.f_blocks * after.f_frsize > (last - 33 << 20) * 3 // 4 and after.f_files > before.f_files
        content['large'] = hashlib.md5(open('%s/large' % d, 'rb').read()).hexdigest()
    clean(image)
    with mounts.kernel(image, d):
        assert sums(d) == content


@pytest.mark.parametrize('kind', ['default', 'meta_bg', 'clusters', 'clusters-1k'])
def test_full(kind, tmp_path):
    """What was added can be had to the last block, with quotas counting."""
    first, last, words = KINDS[kind]
    image, d = str(tmp_path / 'image'), tmp_path / 'd'
    d.mkdir()
    make(image, first, words + ',quota')
    last = min(last, 8 * first)
    mounts.run(mounts.WERUNOS, 'resize', image, '%dM' % last)
    clean(image)
    with mounts.werunos(image, d):
        free = os.statvfs(d).f_bfree * os.statvfs(d).f_frsize
        with pytest.raises(OSError) as full, open('%s/all' % d, 'wb') as f:
            while True:
                f.write(bytes(1 << 20))
        assert full.value.errno == errno.ENOSPC
        # But for what is kept for maps, a fiftieth.
        assert free * 48 // 50 <= os.path.getsize('%s/all' % d) <= free
    clean(image)


def test_as_resize2fs(tmp_path):
    """Of a volume with clusters as many blocks and inodes, and a descriptor for each group; what resize2fs counts as free there needs e2fsck."""
    for kind in 'clusters', 'clusters-1k', 'clusters-uninit':
        first, last, words = KINDS[kind]
        ours, theirs = str(tmp_path / 'ours'), str(tmp_path / 'theirs')
        make(ours, first, words)
        shutil.copy(ours, theirs)
        os.truncate(theirs, last << 20)
        mounts.run('resize2fs', '-f', theirs)
        subprocess.run(['e2fsck', '-fy', theirs], stdout=subprocess.DEVNULL)
        # In the middle of a cluster.
        mounts.run(mounts.WERUNOS, 'resize', ours, str((last << 20) + 1024))
        clean(ours)
        a, b = blocks(ours)[2], blocks(theirs)[2]
        for key in 'Block count', 'Inode count', 'Reserved block count', 'Reserved GDT blocks', 'Filesystem features':
            assert a.get(key) == b.get(key), (kind, key)
        os.unlink(ours)


def refused(image, *words):
    r = subprocess.run([mounts.WERUNOS, 'resize', image, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert r.returncode == 1 and r.stdout.count('\n') == 1, r.stdout
    return r.stdout


@pytest.mark.parametrize('block, first', [(1024, 40), (2048, 600)])
def test_short_log(block, first, tmp_path):
    """A group with copies changes all blocks that are kept for descriptors, and that at once: more than the journal has room for usually."""
    image = str(tmp_path / 'image')
    make(image, first, '-J size=%d ' % (block // 1024) + KINDS['1k'][2].replace('1024', str(block)) + ',quota')
    assert blocks(image)[2]['Reserved GDT blocks'] == str(block // 4)
    for mib in (first + 5, first + 60, 6 * first, 20 * first):
        mounts.run(mounts.WERUNOS, 'resize', image, '%dM' % mib)
        clean(image)
    assert blocks(image)[0] == 20 * first << 20


def test_refused(tmp_path):
    """By name, and nothing changes."""
    image = str(tmp_path / 'image')
    make(image, 40, KINDS['ext3'][2].replace('-b 2048', '-b 1024'))
    assert '64bit' in refused(image, '5T')
    assert 'least' in refused(image, '1M')
    assert 'not a mount' in refused(str(tmp_path))
    assert os.path.getsize(image) == 40 << 20
    mounts.run('e2fsck', '-fn', image)
    # Found out when the image was made longer already.
    kept = str(tmp_path / 'kept')
    make(kept, 40, KINDS['1k'][2])
    mounts.run('debugfs', '-w', '-R', 'sif <7> block[DIND] 1', kept)
    assert 'its map lies where none can' in refused(kept, '240M')
    assert os.path.getsize(kept) == 40 << 20
    with open(image, 'r+b') as f:
        f.truncate(80 << 20)
    mounts.run(mounts.WERUNOS, 'resize', image)
    assert blocks(image)[0] == 80 << 20
    clean(image)
