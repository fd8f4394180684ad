"""
`werunos mkfs`: a volume of ours is what mke2fs makes from the same options, by dumpe2fs in everything but chance; e2fsck finds nothing; the kernel
and we ourselves write to it. What must not be overwritten is not.
"""
import json, os, re, subprocess
import pytest
import mounts
from mounts import WERUNOS, run

LONG = bool(os.environ.get('LONG'))
need_root = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')
os.environ['PATH'] += ':/usr/sbin:/sbin'

# mke2fs.conf as e2fsprogs 1.47 comes with it; a distribution's own may leave features out.
UPSTREAM = """
[defaults]
	base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
	blocksize = 4096
	inode_size = 256
	inode_ratio = 16384
[fs_types]
	ext3 = {
		features = has_journal
	}
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,metadata_csum_seed,64bit,dir_nlink,extra_isize,orphan_file
	}
""" + ''.join('\t%s = {\n\t\tblocksize = %d\n\t\tinode_ratio = %d\n\t}\n' % row for row in (
    ('small', 1024, 4096), ('floppy', 1024, 8192), ('big', 4096, 32768), ('huge', 4096, 65536), ('news', 4096, 4096),
    ('largefile', -1, 1048576), ('largefile4', -1, 4194304)))

FULL = ('none,has_journal,ext_attr,resize_inode,dir_index,orphan_file,filetype,extent,64bit,flex_bg,metadata_csum_seed,sparse_super,'
        'large_file,huge_file,dir_nlink,extra_isize,metadata_csum')
PLAIN = 'none,ext_attr,dir_index,filetype,sparse_super,large_file'


def without(*names):
    return ','.join(f for f in FULL.split(',') if f not in names)


# name: size, options of both
SAME = {
    '1M': ('1M', []), '8M': ('8M', []), '100M': ('100M', []), '511M': ('511M', []), '512M': ('512M', []), '3G': ('3G', []),
    '8G': ('8G', []), '1T': ('1T', []),
    '1k': ('300M', ['-b', '1024', '-O', FULL]),
    '2k': ('300M', ['-b', '2048', '-O', FULL]),
    '4k': ('300M', ['-b', '4096', '-O', FULL]),
    'odd-end': ('1028K', ['-b', '1024', '-O', without('has_journal', 'orphan_file')]),
    'inode-128': ('300M', ['-I', '128', '-O', without('extra_isize')]),
    'inode-1024': ('300M', ['-I', '1024', '-O', FULL]),
    '32bit': ('300M', ['-O', without('64bit')]),
    'no-csum': ('300M', ['-O', without('metadata_csum', 'metadata_csum_seed')]),
    'no-csum-3G': ('3G', ['-O', without('metadata_csum', 'metadata_csum_seed')]),
    'uninit_bg': ('300M', ['-O', without('metadata_csum', 'metadata_csum_seed') + ',uninit_bg']),
    'no-seed': ('300M', ['-O', without('metadata_csum_seed')]),
    'no-resize': ('300M', ['-O', without('resize_inode')]),
    'no-flex': ('3G', ['-O', without('flex_bg')]),
    'no-journal': ('300M', ['-O', without('has_journal', 'orphan_file')]),
    'no-orphan-file': ('300M', ['-O', without('orphan_file')]),
    'no-extent': ('3G', ['-O', without('extent', '64bit')]),
    'no-extent-1k': ('600M', ['-b', '1024', '-O', without('extent', '64bit')]),
    'meta_bg': ('300M', ['-O', without('resize_inode') + ',meta_bg']),
    'many-groups': ('2G', ['-b', '1024', '-g', '1024', '-O', FULL]),
    'sparse_super2': ('3G', ['-O', without('sparse_super', 'resize_inode') + ',sparse_super2']),
    'no-sparse': ('3G', ['-O', without('sparse_super', 'resize_inode')]),
    'bigalloc': ('3G', ['-O', FULL + ',bigalloc']),
    'bigalloc-1k': ('300M', ['-b', '1024', '-C', '16384', '-O', FULL + ',bigalloc']),
    'flex-4': ('3G', ['-G', '4', '-O', FULL]),
    'flex-64': ('8G', ['-G', '64', '-O', FULL]),
    'stride': ('3G', ['-E', 'stride=16,stripe_width=64', '-O', without('flex_bg')]),
    'resize': ('300M', ['-E', 'resize=20000000', '-O', FULL]),
    'reserved': ('300M', ['-m', '0.5', '-O', FULL]),
    'many-inodes': ('300M', ['-i', '1024', '-O', FULL]),
    'few-inodes': ('3G', ['-N', '20', '-O', FULL]),
    'journal': ('3G', ['-J', 'size=1024', '-O', FULL]),
    'news': ('300M', ['-T', 'news', '-O', FULL]),
    'largefile4': ('3G', ['-T', 'largefile4', '-O', FULL]),
    'ext3': ('300M', ['-O', PLAIN + ',has_journal,resize_inode']),
    'ext2': ('300M', ['-O', PLAIN]),
    'ext2-old': ('8M', ['-b', '1024', '-I', '128', '-O', 'none,sparse_super']),
    'bits': ('300M', ['-O', FULL + ',large_dir,ea_inode,verity,project,encrypt,casefold,stable_inodes']),
    'label': ('100M', ['-L', 'sixteen bytes xx', '-O', FULL]),
}
if LONG:
    SAME.update({'5T': ('5T', []), '16T': ('16T', []), '17T': ('17T', []), '16T-no-flex': ('16T', ['-O', without('flex_bg')])})

CHANCE = re.compile(r'^(Filesystem UUID|Directory Hash Seed|Filesystem created|Last write time|Last checked|Lifetime writes|Checksum|'
                    r'Checksum seed):.*|csum 0x[0-9a-f]+|^dumpe2fs .*', re.M)


def ours(*args, ok=True, **env):
    r = subprocess.run([WERUNOS, 'mkfs', *map(str, args)], capture_output=True, text=True, env={**os.environ, **env})
    assert r.returncode == (0 if ok else 1), r.stderr
    assert ok == (r.stderr == ''), r.stderr
    return r.stdout if ok else r.stderr


@pytest.fixture(scope='module')
def conf(tmp_path_factory):
    path = tmp_path_factory.mktemp('conf') / 'mke2fs.conf'
    path.write_text(UPSTREAM)
    return str(path)


@pytest.fixture
def work(tmp_path):
    """In memory where that is: volumes of many TiB are longer than a file on the disk can be."""
    if not os.access('/dev/shm', os.W_OK):
        yield tmp_path
        return
    d = run('mktemp', '-d', '/dev/shm/test_mkfs.XXXXXX').decode().strip()
    try:
        yield type(tmp_path)(d)
    finally:
        subprocess.run(['rm', '-rf', '--one-file-system', d])


def theirs(conf, *args):
    """On an image that is there already: of one that it makes itself mke2fs does not know that it reads as zeros."""
    subprocess.run(['mke2fs', '-q', '-F', '-t', 'ext4', *map(str, args)], check=True, capture_output=True,
                   env={**os.environ, **({'MKE2FS_CONFIG': conf} if conf else {})})


def sparse(path, size):
    run('truncate', '-s', size, path)
    return path


def shown(image):
    return CHANCE.sub(r'\1', run('dumpe2fs', image).decode()).splitlines()


def clean(image):
    r = subprocess.run(['e2fsck', '-fn', str(image)], capture_output=True, text=True)
    assert r.returncode == 0 and '? no' not in r.stdout, r.stdout[-2000:]


@pytest.mark.parametrize('name', SAME)
def test_as_mke2fs(conf, work, name):
    size, args = SAME[name]
    a, b = work / 'a.img', work / 'b.img'
    ours(*args, 'ext4', a, size)
    clean(a)
    theirs(conf, *args, sparse(b, size))
    assert shown(a) == shown(b)
    assert a.stat().st_size == b.stat().st_size
    assert a.stat().st_blocks <= b.stat().st_blocks * 1.05 + 64
    assert 'lost+found' in run('debugfs', '-R', 'ls -l /', a).decode()


def test_they_differ(conf, work):
    """The comparison sees what it is for."""
    ours('ext4', work / 'a.img', '300M')
    theirs(conf, '-G', '8', sparse(work / 'b.img', '300M'))
    assert shown(work / 'a.img') != shown(work / 'b.img')


@pytest.mark.parametrize('variant', ['ext2', 'ext3'])
def test_variants(conf, work, variant):
    ours(variant, work / 'a.img', '300M')
    subprocess.run(['mke2fs', '-q', '-F', '-t', variant, sparse(str(work / 'b.img'), '300M')], check=True, env={**os.environ, 'MKE2FS_CONFIG': conf})
    clean(work / 'a.img')
    assert shown(work / 'a.img') == shown(work / 'b.img')


WRITTEN = ['8M', '100M', '1k', 'inode-128', 'no-csum', 'uninit_bg', 'no-journal', 'no-extent', 'meta_bg', 'sparse_super2', 'bigalloc', 'ext2',
           '1T']


def fill(d):
    os.makedirs(d + '/a/b')
    for i in range(300):
        with open('%s/a/b/file%d' % (d, i), 'wb') as f:
            f.write(b'%d' % i * (i * 7))
    with open(d + '/lost+found/found', 'w') as f:
        f.write('found')


@need_root
@pytest.mark.parametrize('name', WRITTEN)
def test_the_kernel_writes(work, name):
    size, args = SAME[name]
    ours(*args, 'ext4', work / 'a.img', size)
    (work / 'mnt').mkdir()
    with mounts.kernel(work / 'a.img', work / 'mnt') as d:
        fill(d)
    clean(work / 'a.img')


@need_root
@pytest.mark.parametrize('name', WRITTEN)
def test_we_write(work, name):
    size, args = SAME[name]
    ours(*args, 'ext4', work / 'a.img', size)
    (work / 'mnt').mkdir()
    with mounts.werunos(work / 'a.img', work / 'mnt') as d:
        fill(d)
    clean(work / 'a.img')


@pytest.mark.parametrize('name', ['8M', '512M', '1k', 'no-csum'])
def test_resize2fs(work, name):
    size, args = SAME[name]
    image = work / 'a.img'
    ours(*args, 'ext4', image, size)
    bigger = image.stat().st_size * 9
    os.truncate(image, bigger)
    run('resize2fs', image)
    clean(image)
    blocks, per = (int(re.search(r'^%s: +(\d+)' % k, run('dumpe2fs', '-h', image).decode(), re.M)[1]) for k in ('Block count', 'Block size'))
    assert blocks * per > bigger * 0.99


def digest(path):
    return run('sha256sum', path).split()[0]


def test_the_same_again(work):
    args = ['ext4', '-L', 'x', '-U', '12345678-1234-1234-1234-123456789abc', '-E', 'hash_seed=87654321-1234-1234-1234-123456789abc']
    ours(*args, work / 'a.img', '64M', SOURCE_DATE_EPOCH='1700000000')
    ours(*args, work / 'b.img', '64M', SOURCE_DATE_EPOCH='1700000000')
    assert digest(work / 'a.img') == digest(work / 'b.img')
    head = run('dumpe2fs', '-h', work / 'a.img').decode()
    assert '12345678-1234-1234-1234-123456789abc' in head and '87654321-1234-1234-1234-123456789abc' in head
    assert head.count('Nov 14') == 3
    # Chance too comes from the clock that was given and the words, and from nothing else.
    uuids = [json.loads(ours('--json', 'ext4', '--force', '-L', label, work / image, '64M', SOURCE_DATE_EPOCH='1700000000'))['uuid']
             for label, image in (('x', 'a.img'), ('x', 'c.img'), ('y', 'c.img'))]
    assert uuids[0] == uuids[1] != uuids[2]
    assert json.loads(ours('--json', 'ext4', '--force', work / 'a.img'))['uuid'] != json.loads(ours('--json', 'ext4', '--force', work / 'a.img'))['uuid']


def test_what_was_made(work):
    d = json.loads(ours('--json', 'ext4', '-L', 'lab', '-b', '4096', work / 'a.img', '1G'))
    assert (d['type'], d['label'], d['blocks'], d['inodes'], d['journal_blocks']) == ('ext4', 'lab', 262144, 65536, 8192)
    assert d['superblock_copies'] == [32768, 98304, 163840, 229376]
    text = ours('ext4', '--force', work / 'a.img')
    assert 'blocks: 262144\n' in text and 'journal_blocks: 8192\n' in text


def test_dry_run(work):
    d = json.loads(ours('-n', '--json', 'ext4', work / 'a.img', '1T'))
    assert d['dry_run'] and d['blocks'] == 1 << 28 and not (work / 'a.img').exists()
    ours('ext4', work / 'a.img', '8M')
    before = digest(work / 'a.img')
    ours('--dry-run', '--force', 'ext4', work / 'a.img', '64M')
    assert digest(work / 'a.img') == before


def test_sizes(work):
    image = work / 'a.img'
    ours('ext4', image, '20M')
    ours('ext4', '--force', image)
    assert image.stat().st_size == 20 << 20
    ours('ext4', '--force', image, '10M')
    assert image.stat().st_size == 10 << 20
    ours('ext4', '--force', image, '30M')
    assert image.stat().st_size == 30 << 20
    clean(image)
    # What is behind the last whole page stays.
    os.truncate(image, (30 << 20) + 1234)
    ours('ext4', '--force', image)
    assert image.stat().st_size == (30 << 20) + 1234
    image.write_bytes(b'')
    ours('ext4', image, '10M')
    clean(image)


def test_root_owner(work):
    ours('ext4', '-E', 'root_owner=1000:70000', work / 'a.img', '8M')
    stat = run('debugfs', '-R', 'stat <2>', work / 'a.img').decode()
    assert re.search(r'User: +1000 +Group: +70000', stat) and re.search(r'Mode: +0755', stat)
    assert re.search(r'Mode: +0700', run('debugfs', '-R', 'stat lost+found', work / 'a.img').decode())
    clean(work / 'a.img')


# ---- refusals ----

REFUSED = {
    'size': (['ext4', 'NEW'], 'NEW does not exist: say how large it is to be (werunos mkfs ext4 NEW 1G)'),
    'btrfs': (['btrfs', 'NEW', '1G'], 'btrfs volumes cannot be made yet, only ext4, ext3 and ext2'),
    'type': (['xfs', 'NEW', '1G'], 'there is no file system "xfs": ext4, ext3 and ext2 can be made'),
    'tiny': (['ext4', 'NEW', '10K'], "10 blocks of 1024 bytes are too few for a volume's tables"),
    'quota': (['ext4', '-O', 'quota,mmp', 'NEW', '1G'], 'volumes with these features cannot be made: mmp quota'),
    'feature': (['ext4', '-O', 'extent,speed', 'NEW', '1G'], 'ext4 has no feature "speed"'),
    'word': (['ext4', '-E', 'offset=1', 'NEW', '1G'], 'there is no option "offset" for a new ext4 volume'),
    '64bit': (['ext4', '-O', '^extent', 'NEW', '1G'], '64bit needs extent: switch both off, or neither'),
    'meta_bg': (['ext4', '-O', 'meta_bg', 'NEW', '1G'], 'meta_bg and resize_inode exclude each other: switch one of them off'),
    'sparse': (['ext4', '-O', '^sparse_super', 'NEW', '1G'], 'resize_inode needs sparse_super: switch both off, or neither'),
    'seed': (['ext3', '-O', 'metadata_csum_seed', 'NEW', '1G'], 'metadata_csum_seed needs metadata_csum'),
    'block': (['ext4', '-b', '3000', 'NEW', '1G'], 'blocks of 3000 bytes: a power of two from 1024 to 65536 is wanted'),
    'inode': (['ext4', '-I', '8192', 'NEW', '1G'], 'inodes of 8192 bytes are longer than blocks of 4096'),
    'inodes': (['ext4', '-N', '4000000000', 'NEW', '1G'],
               '4000000000 inodes of 256 bytes do not fit into the volume: more bytes for each (-i) make fewer'),
    'cluster': (['ext4', '-C', '65536', 'NEW', '1G'], 'a cluster size needs the feature bigalloc'),
    'journal': (['ext4', '-J', 'size=1', 'NEW', '1G'],
                'a journal of 1 MiB: from 1024 to 10240000 blocks of 4096 bytes are possible'),
    'half': (['ext4', '-J', 'size=600', 'NEW', '1G'], 'a journal of 600 MiB is more than half of the volume'),
    'label': (['ext4', '-L', 'seventeen bytes x', 'NEW', '1G'], 'the label "seventeen bytes x" is longer than 16 bytes'),
    'reserved': (['ext4', '-m', '51', 'NEW', '1G'], 'reserved=51: a percentage from 0 to 50 is wanted'),
    'flex': (['ext4', '-G', '5', 'NEW', '1G'], 'flex_bg_size=5: not a power of two'),
    'resize': (['ext4', '-E', 'resize=5', 'NEW', '1G'], 'resize=5: not more than the volume has, 262144 blocks'),
    'usage': (['ext4', '-T', 'mail', 'NEW', '1G'], 'usage=mail: none of floppy, small, default, big, huge, news, largefile, largefile4'),
    '32bit': (['ext4', '-O', '^64bit', '-b', '1024', 'NEW', '5T'], '5368709120 blocks of 1024 bytes: more than 2^32 need the feature 64bit'),
    'memory': (['ext4', 'mem:64M'], 'mem:64M would be gone when this command ends: name a file or a device'),
    'directory': (['ext4', '/'], '/ is a directory: name an image or a device'),
    'device': (['ext4', '/dev/no/such', '1G'], '/dev/no/such does not exist'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused(work, name):
    args, sentence = REFUSED[name]
    new = str(work / 'new.img')
    said = ours(*(a.replace('NEW', new) for a in args), ok=False)
    assert said == 'werunos: %s\n' % sentence.replace('NEW', new)
    # A new file that came to nothing is gone, an empty one is as it was, one with something in it too.
    assert not os.path.exists(new)
    if args[1:2] == ['NEW'] and len(args) == 3 or 'NEW' in args[:-1]:
        open(new, 'w').close()
        ours(*(a.replace('NEW', new) for a in args), ok=False)
        assert os.path.getsize(new) == 0
        with open(new, 'w') as f:
            f.write('x' * 10000)
        ours('--force', *(a.replace('NEW', new) for a in args), ok=False)
        assert open(new).read() == 'x' * 10000


def test_usage(work):
    for args in ([], ['ext4'], ['ext4', 'a', '1G', 'b'], ['ext4', 'a', 'x'], ['-b', 'x', 'ext4', 'a'], ['-U', 'x', 'ext4', 'a'], ['-z', 'ext4', 'a'],
                 ['-J', 'device=x', 'ext4', 'a'], ['-E', 'root_owner=x', 'ext4', 'a'], ['-p', '0', 'ext4', 'a']):
        r = subprocess.run([WERUNOS, 'mkfs', *args], capture_output=True, text=True)
        assert r.returncode == 64 and 'usage: werunos mkfs' in r.stderr


HELD = {
    'ext4': (lambda p: theirs(None, '-L', 'old', p), 'an ext4 file system labelled "old"'),
    'ext4-damaged': (lambda p: (theirs(None, '-b', '1024', p), run('dd', 'if=/dev/zero', 'of=' + str(p), 'bs=1024', 'seek=1', 'count=1', 'conv=notrunc')),
                     'what was a file system (ext4)'),
    'btrfs': (lambda p: run('mkfs.btrfs', '-q', '-f', p), 'a btrfs file system'),
    'swap': (lambda p: run('mkswap', p), 'swap space'),
    'gpt': (lambda p: run('sfdisk', '-q', '--no-tell-kernel', p, input=b'label: gpt\nsize=10M\nsize=20M\n'), 'a partition table with 2 partitions'),
    'two': (lambda p: (theirs(None, '-b', '4096', p), run('dd', 'of=' + str(p), 'bs=1', 'seek=4086', 'conv=notrunc', input=b'SWAPSPACE2'),
                       run('dd', 'of=' + str(p), 'bs=1', 'seek=1024', 'conv=notrunc', input=b'\1\0\0\0\xff\0\0\0')), ''),
    'luks': (lambda p: run('dd', 'of=' + str(p), 'conv=notrunc', input=b'LUKS\xba\xbe\0\1'.ljust(592, b'\0')), 'a LUKS volume'),
}


def held_mib(what):
    return 128 if what == 'btrfs' else 32


@pytest.mark.parametrize('what', HELD)
def test_held(work, what):
    image = work / 'a.img'
    image.touch()
    os.truncate(image, held_mib(what) << 20)
    make, says = HELD[what]
    make(image)
    before = digest(image)
    for args in ([], ['64M']):
        said = ours('ext4', image, *args, ok=False)
        assert said.startswith(f'werunos: {image} holds {says}') and said.endswith(': --force makes the new volume in its place\n')
    assert digest(image) == before
    ours('--force', 'ext4', image)
    clean(image)
    found = run('wipefs', '-n', image).decode().split('\n')[1:-1]
    assert len(found) == 1 and ' ext4 ' in found[0]


@need_root
@pytest.mark.parametrize('what', HELD)
def test_held_by_a_device(work, what):
    """A device that does not read as zeros: all that is to be zeros is written, all signatures go."""
    image = work / 'a.img'
    image.write_bytes(os.urandom(1 << 20) * held_mib(what))
    HELD[what][0](image)
    with mounts.loop(image) as dev:
        assert f'{dev} holds {HELD[what][1]}' in ours('ext4', dev, ok=False)
        ours('--force', 'ext4', '-E', 'nodiscard', dev)
        clean(dev)
        found = run('wipefs', '-n', dev).decode().split('\n')[1:-1]
        assert len(found) == 1 and ' ext4 ' in found[0], found


DIRTY = {
    'default': [], 'not-lazy': ['-E', 'lazy_itable_init=0,nodiscard'], 'no-csum': ['-O', '^metadata_csum'], 'uninit_bg': ['-O', '^metadata_csum,uninit_bg'],
    '4k': ['-b', '4096'], 'no-extent': ['-O', '^extent,^64bit'], 'no-journal': ['-O', '^has_journal'],
}


@need_root
@pytest.mark.parametrize('name', DIRTY)
def test_dirty_device(work, name):
    image = work / 'a.img'
    image.write_bytes(os.urandom(1 << 20) * 64)
    (work / 'mnt').mkdir()
    with mounts.loop(image) as dev:
        ours('--no-discard', *DIRTY[name], 'ext4', dev)
        clean(dev)
        # Bitmaps and tables that were left as they were are not to be believed, and nobody does.
        with mounts.kernel(dev, work / 'mnt', 'noinit_itable') as d:
            fill(d)
        clean(dev)
        ours('--force', '--no-discard', *DIRTY[name], 'ext4', dev)
    with mounts.werunos(image, work / 'mnt') as d:
        fill(d)
    clean(image)


def test_partitions(work):
    image = work / 'a.img'
    image.write_bytes(b'\xaa' * (64 << 20))
    run('sfdisk', '-q', '--no-tell-kernel', image, input=b'label: gpt\nsize=20M\nsize=30M\n')
    ours('ext4', f'{image}#p2')
    ours('ext4', '-p', '1', image, '10M')
    with open(image, 'rb') as f:
        for start, size in ((1 << 20, 10 << 20), (21 << 20, 30 << 20)):
            f.seek(start)
            (work / 'part.img').write_bytes(f.read(size))
            clean(work / 'part.img')
        f.seek(51 << 20)
        assert f.read(1 << 20) == b'\xaa' * (1 << 20)
    assert ours('--force', 'ext4', f'{image}#p1', '21M', ok=False) == f'werunos: {image}#p1 has 20971520 bytes, not 22020096\n'
    assert ours('ext4', f'{image}#p3', ok=False) == f'werunos: {image} has no partition 3: it has 1, 2\n'
    assert f'{image}#p2 holds an ext4 file system: --force' in ours('ext4', f'{image}#p2', ok=False)
    assert 'a partition table with 2 partitions' in ours('ext4', image, ok=False)


@need_root
def test_in_use(work):
    image, d = work / 'a.img', work / 'mnt'
    ours('ext4', image, '64M')
    before = digest(image)
    d.mkdir()
    with mounts.loop(image) as dev:
        assert f'is in use by {dev}' in ours('--force', 'ext4', image, ok=False)
        with mounts.kernel(dev, d, 'ro'):
            said = ours('--force', 'ext4', dev, ok=False)
            assert 'in use' in said or 'is mounted on' in said
            assert '--ro' not in said
    with mounts.werunos(image, d, '--ro'):
        assert ours('--force', 'ext4', image, ok=False) == f'werunos: {image} is in use by another program: end that first\n'
    assert digest(image) == before


def test_full_host(work):
    """The host's file system has no room for the volume."""
    if os.geteuid() != 0:
        pytest.skip('not root: a small file system has to be mounted')
    (work / 'small').mkdir()
    run('mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', work / 'small')
    try:
        said = ours('ext4', work / 'small/a.img', '1G', ok=False)
        assert said.count('\n') == 1
        assert not (work / 'small/a.img').exists()
    finally:
        run('umount', work / 'small')
