"""
werunos fsck of ext4. Sound volumes: nothing is found, as e2fsck finds nothing. Broken ones: fixtures, on which the verdict is e2fsck's, and
volumes that debugfs or a few bytes broke in one place, each of which provokes the finding that is meant for it.
"""
import glob, gzip, json, os, shutil, struct, subprocess
import pytest
import mounts
import test_matrix
from fill import fill

FIXTURES = '../shared/fixtures/e2fsck'
# What fsck says otherwise than e2fsck -fn does.
OTHERWISE = {
    'f_clear_orphan_file': 'the journal is applied first, and with it there are orphans for the next mount, which is no error',
    'f_ea_inode_no_feature': 'e2fsck sets the feature in memory without saying so; the kernel refuses the attributes',
    'j_corrupt_journal_block': 'e2fsck -n does not look at the journal, whose transaction is damaged',
}
BASE = 'none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize'
KINDS = {
    'csum': ['-b', '1024', '-O', BASE + ',metadata_csum,resize_inode,orphan_file'],
    'ea': ['-b', '1024', '-I', '256', '-O', BASE + ',metadata_csum,ea_inode,inline_data'],
    'plain': ['-b', '1024', '-I', '256', '-O', 'none,ext_attr,dir_index,filetype,sparse_super,large_file,resize_inode'],
}


def fsck(image, *options, want=None):
    """Exit code and findings as (code, nr, name)."""
    r = subprocess.run([mounts.WERUNOS, 'fsck', '-f', '--json', *options, str(image)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
    err = r.stderr.decode(errors='replace')
    assert r.returncode in (0, 4, 8) and 'Sanitizer' not in err and 'runtime error' not in err, (r.returncode, err[-3000:])
    if r.returncode == 8:
        assert err.startswith('werunos: ') and err.count('\n') == 1, err
        return 8, [], {}
    said = json.loads(r.stdout.decode(errors='replace'))
    summary = said['summary']
    assert summary['sound'] == (r.returncode == 0)
    assert len(said['found']) == summary['hint'] + summary['wrong'] + summary['loss']
    return r.returncode, [(f['code'], f['nr'], f.get('name')) for f in said['found']], summary


def e2fsck(image):
    return subprocess.run(['e2fsck', '-fn', str(image)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)


def unpack(gz, to):
    to.write_bytes(gzip.open(gz).read())
    return to


@pytest.mark.skipif(not os.path.isdir(FIXTURES), reason='no ../shared: the broken volumes lie there')
def test_fixtures(tmp_path):
    differ = set()
    fixtures = sorted(glob.glob(FIXTURES + '/*.img.gz'))
    assert len(fixtures) > 60
    for gz in fixtures:
        image = unpack(gz, tmp_path / 'v.img')
        code, _, _ = fsck(image)
        # e2fsck may write the state of the journal even so.
        if (code == 0) != (e2fsck(image).returncode == 0):
            differ.add(os.path.basename(gz)[:-7])
    assert differ == set(OTHERWISE)


# ---- sound volumes ----

@pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to fill the volumes')
@pytest.mark.parametrize('name', test_matrix.names)
def test_filled_by_the_kernel(tmp_path, name):
    image, d = tmp_path / 'v.img', tmp_path / 'k'
    d.mkdir()
    test_matrix.make(image, name)
    with mounts.kernel(image, d):
        fill(str(d), int(test_matrix.MATRIX[name][1][1]))
        inodes = sum(len(dirs) + len(files) for _, dirs, files in os.walk(d))
        # What is left while files are deleted, so that numbers and blocks have had other owners.
        for i in range(600):
            (d / ('gone-%d' % i)).write_bytes(b'z' * (i % 5000))
        for i in range(0, 600, 2):
            os.unlink(d / ('gone-%d' % i))
    assert e2fsck(image).returncode == 0
    code, found, summary = fsck(image)
    assert code == 0 and not found, found[:20]
    assert summary['inodes'] > inodes * 9 // 10 and summary['directories'] > 5
    before = subprocess.run(['sha256sum', str(image)], stdout=subprocess.PIPE).stdout
    fsck(image, '-n')
    assert before == subprocess.run(['sha256sum', str(image)], stdout=subprocess.PIPE).stdout


@pytest.mark.parametrize('options', [
    '-b 1024', '-b 2048', '-b 4096 -I 128', '-b 4096 -I 1024', '-b 1024 -g 256 -N 4000', '-O ^flex_bg', '-O meta_bg,^resize_inode',
    '-O quota', '-O quota,project -E quotatype=usrquota:grpquota:prjquota', '-O mmp', '-O bigalloc -C 16384', '-b 1024 -g 256 -O bigalloc,resize_inode -C 8192', '-O ^has_journal,^orphan_file',
    '-O sparse_super2 -E num_backup_sb=2', '-O ^sparse_super,^resize_inode', '-O encrypt,verity,casefold', '-O ea_inode,large_dir',
    '-O inline_data', '-O uninit_bg,^metadata_csum', '-O ^64bit', '-O fast_commit', '-E packed_meta_blocks=1', '-E resize=4194304', '-m 0'])
def test_fresh(tmp_path, options):
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(70 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', 'metadata_csum,64bit,orphan_file', *options.split(), str(image))
    assert e2fsck(image).returncode == 0
    assert fsck(image)[:2] == (0, [])


@pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to fill the volumes')
def test_after_a_crash(tmp_path):
    """A copy of a volume while the kernel writes it: the journal counts."""
    image, copy, d = tmp_path / 'v.img', tmp_path / 'copy.img', tmp_path / 'k'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(64 << 20)
    mounts.run('mke2fs', '-q', '-F', *KINDS['csum'], str(image))
    with mounts.kernel(image, d):
        for i in range(2000):
            (d / ('file-%d' % i)).write_bytes(b'x' * (i % 7000))
        os.mkdir(d / 'sub')
        fd = os.open(d / 'sub', os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        open_file = open(d / 'file-7')
        os.unlink(d / 'file-7')
        fd = os.open(d, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        shutil.copyfile(image, copy)
        open_file.close()
    code, found, summary = fsck(copy)
    assert code == 0 and all(c == 'orphans-left' for c, _, _ in found), found[:10]
    assert 'applied in memory' in summary['state'] and summary['inodes'] > 2000


# ---- broken volumes ----

def debugfs(image, *commands):
    return subprocess.run(['debugfs', '-w', '-f', '-', str(image)], input='\n'.join(commands).encode(), stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=True).stdout.decode(errors='replace')


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    """One small volume of each kind, filled by debugfs, so that it takes no root."""
    d = tmp_path_factory.mktemp('fsck')
    (d / 'data').write_bytes(b'data' * 3000)
    (d / 'little').write_bytes(b'l' * 30)
    (d / 'value').write_bytes(b'v' * 5000)
    tree = d / 'tree'
    (tree / 'big').mkdir(parents=True)
    for i in range(120):
        (tree / 'big' / ('a-name-of-some-length-%03d' % i)).write_bytes(b'')
    with open(tree / 'holes', 'wb') as f:
        for i in range(0, 60, 2):
            f.seek(i * 4096)
            f.write(b'y' * 4096)
    for name, options in KINDS.items():
        image = d / (name + '.img')
        with open(image, 'wb') as f:
            f.truncate(20 << 20)
        mounts.run('mke2fs', '-q', '-F', '-N', '512', '-d', str(tree), *options, str(image))
        debugfs(image, 'write %s file' % (d / 'data'), 'mkdir dir', 'mkdir dir/sub', 'write %s dir/twin-1' % (d / 'data'), 'write %s dir/twin-2' % (d / 'data'), 'write %s dir/sub/deep' % (d / 'data'),
                'symlink link /a/target', 'mknod pipe p', 'write %s small' % (d / 'little'), 'ea_set file user.one 1234',
                'ea_set dir user.two %s' % ('x' * 300), 'ea_set dir/sub/deep user.three %s' % ('y' * 300))
        if name == 'ea':
            debugfs(image, 'ea_set -f %s file user.large' % (d / 'value'))
        subprocess.run(['e2fsck', '-fyD', str(image)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert e2fsck(image).returncode == 0, name
        assert fsck(image)[:2] == (0, []), name
    return d


def word(image, off, fmt, value):
    with open(image, 'r+b') as f:
        f.seek(off)
        f.write(struct.pack(fmt, value))


def block_of(image, path, lblk=0):
    return int(debugfs(image, 'bmap %s %d' % (path, lblk)).split()[-1])


def inode_off(image, path):
    where = debugfs(image, 'imap ' + path).split('located at block ')[1]
    return int(where.split(',')[0]) * 1024 + int(where.split('offset ')[1].split()[0], 16)


def rename_in_block(image, path, old, new):
    data = image.read_bytes()
    at = data.index(old, block_of(image, path) * 1024)
    word(image, at, '%ds' % len(new), new)


def super_words(image, off, fmt):
    return struct.unpack_from(fmt, image.read_bytes(), 1024 + off)[0]


def orphan_file_ino(image):
    return super_words(image, 0x280, '<I')


def ino_of(image, path):
    return int(debugfs(image, 'stat ' + path).split('Inode: ')[1].split()[0])


def value_ino(image):
    said = debugfs(image, *['stat <%d>' % i for i in range(12, 200)]).split('Inode: ')[1:]
    return [int(i.split()[0]) for i in said if int(i.split('Flags: ')[1].split()[0], 16) & 0x200000][0]


def extent_node(image, path):
    return int(debugfs(image, 'stat ' + path).split('(ETB0):')[1].split(',')[0].split()[0])


def number(image, word):
    out = subprocess.run(['dumpe2fs', str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout.decode()
    return int(out.split(word)[1].split()[0].strip(','))


def word_super(image, off, value):
    """In the superblock, by debugfs at the end, so that its checksum is right."""
    word(image, 1024 + off, '<I', value)
    debugfs(image, 'ssv mtime 20200101')


def xattr_block(image, path):
    return int(debugfs(image, 'stat ' + path).split('File ACL:')[1].split()[0])


# kind, finding, what breaks it: commands of debugfs, or a function of the image.
BREAK = [
    ('csum', 'super-checksum', lambda v: word(v, 1024 + 0x3fc, '<I', 1)),
    ('csum', 'super-primary', lambda v: word(v, 1024 + 0x38, '<H', 1)),
    ('csum', 'super-field', ['ssv r_blocks_count 20000']),
    ('csum', 'super-free-blocks', ['ssv free_blocks_count 77']),
    ('csum', 'super-free-inodes', ['ssv free_inodes_count 77']),
    ('csum', 'super-state', ['ssv state 3']),
    ('csum', 'super-copy', lambda v: word(v, 8193 * 1024 + 0x38, '<H', 1)),
    ('csum', 'orphan-bad', ['ssv last_orphan 500']),
    ('csum', 'journal', lambda v: word(v, block_of(v, '<8>') * 1024, '>I', 7)),
    ('csum', 'group-descriptor', lambda v: word(v, 2048 + 4, '<I', 0x7fffffff)),
    ('plain', 'group-copy', lambda v: word(v, 8194 * 1024 + 8, '<I', 77)),
    ('plain', 'group-metadata-overlap', lambda v: word(v, 2048 + 4, '<I', struct.unpack('<I', v.read_bytes()[2048:2052])[0])),
    ('csum', 'group-free-blocks', ['set_bg 0 free_blocks_count 5', 'set_bg 0 checksum calc']),
    ('csum', 'group-free-inodes', ['set_bg 0 free_inodes_count 5', 'set_bg 0 checksum calc']),
    ('csum', 'group-directories', ['set_bg 0 used_dirs_count 9', 'set_bg 0 checksum calc']),
    ('csum', 'block-bitmap-checksum', ['set_bg 0 block_bitmap_csum 9', 'set_bg 0 checksum calc']),
    ('csum', 'inode-bitmap-checksum', ['set_bg 0 inode_bitmap_csum 9', 'set_bg 0 checksum calc']),
    ('csum', 'block-bitmap-lacks', lambda v: debugfs(v, 'freeb %d' % block_of(v, 'file'))),
    ('csum', 'block-bitmap-more', ['setb 15000']),
    ('csum', 'inode-bitmap-lacks', ['freei file']),
    ('csum', 'inode-bitmap-more', ['seti <165>']),
    ('csum', 'root', ['sif <2> mode 0100755']),
    ('csum', 'inode-checksum', ['sif file checksum 0x12345678']),
    ('csum', 'inode-mode', ['sif file mode 0170644']),
    ('csum', 'inode-dtime', ['sif file dtime 1000000']),
    ('csum', 'inode-reserved', ['sif <8> mode 040755']),
    ('csum', 'inode-extra-size', ['sif file extra_isize 3']),
    ('csum', 'inode-time', ['sif file atime -5', 'sif file atime_extra 3']),
    ('csum', 'inode-field', ['sif file faddr 5']),
    ('csum', 'inode-flags', ['sif file flags 0x40080000']),
    ('csum', 'inode-size', ['sif file size 100']),
    ('csum', 'inode-size', ['sif dir size 3000']),
    ('csum', 'inode-blocks', ['sif file blocks 2']),
    ('csum', 'inode-special', ['sif pipe size 5']),
    ('csum', 'symlink', ['sif link size 5']),
    ('csum', 'extent-header', ['sif file block[0] 5']),
    ('csum', 'extent-order', lambda v: debugfs(v, 'sif file block[0] 0x0002f30a', 'sif file block[6] 3', 'sif file block[7] 1', 'sif file block[8] 15000')),
    ('csum', 'extent-range', ['sif file block[5] 50000']),
    ('plain', 'map-block', ['sif file block[0] 50000']),
    ('plain', 'inode-flags', ['sif file flags 0x80000']),
    ('csum', 'directory-unwritten', ['sif dir block[4] 0x8001']),
    ('plain', 'block-twice', lambda v: debugfs(v, 'sif file block[0] %d' % block_of(v, 'dir/sub/deep'))),
    ('csum', 'xattr-block', lambda v: word(v, xattr_block(v, 'dir') * 1024, '<I', 7)),
    ('csum', 'xattr-list', lambda v: word(v, inode_off(v, 'file') + 128 + 32 + 4, '<B', 200)),
    ('plain', 'xattr-hash', lambda v: word(v, xattr_block(v, 'dir') * 1024 + 32 + 12, '<I', 7)),
    ('plain', 'xattr-refcount', lambda v: word(v, xattr_block(v, 'dir') * 1024 + 4, '<I', 7)),
    ('csum', 'resize-inode', ['sif <7> block[0] 500']),
    ('plain', 'directory-block', lambda v: word(v, block_of(v, 'dir') * 1024 + 4, '<H', 7)),
    ('csum', 'directory-checksum', lambda v: word(v, block_of(v, 'dir') * 1024 + 1020, '<I', 7)),
    ('plain', 'directory-hole', ['sif dir size 2048', 'sif dir block[1] 0']),
    ('plain', 'directory-dot', lambda v: word(v, block_of(v, 'dir') * 1024, '<I', 2)),
    ('plain', 'directory-dotdot', lambda v: word(v, block_of(v, 'dir/sub') * 1024 + 12, '<I', 2)),
    ('plain', 'name-bad', lambda v: word(v, block_of(v, 'dir') * 1024 + 24 + 8, '<B', ord('/'))),
    ('plain', 'name-twice', lambda v: rename_in_block(v, 'dir', b'twin-2', b'twin-1')),
    ('csum', 'name-of-free-inode', ['clri file']),
    ('csum', 'name-nowhere', ['link <8> dir/journal']),
    ('plain', 'name-type', lambda v: word(v, block_of(v, 'dir') * 1024 + 24 + 7, '<B', 1)),
    ('csum', 'directory-two-names', ['link dir/sub other']),
    ('csum', 'directory-unconnected', ['unlink dir/sub']),
    ('csum', 'inode-no-name', ['unlink file']),
    ('csum', 'links', ['sif file links_count 5']),
    ('csum', 'encryption', ['feature encrypt', 'sif dir/sub flags 0x80800']),
    ('csum', 'name-encryption', ['feature encrypt', 'sif dir/sub flags 0x80800']),
    ('plain', 'htree-root', lambda v: word(v, block_of(v, 'big') * 1024 + 28, '<B', 240)),
    ('plain', 'htree-hash', lambda v: word(v, block_of(v, 'big') * 1024 + 40, '<I', 0x1000)),
    ('plain', 'htree-node', lambda v: word(v, block_of(v, 'big') * 1024 + 44, '<I', 99)),
    ('plain', 'htree-reference', lambda v: word(v, block_of(v, 'big') * 1024 + 44, '<I', 1)),
    ('plain', 'acl', lambda v: word(v, xattr_block(v, 'dir') * 1024 + 32 + 1, '<B', 2)),
    ('plain', 'super-copy-features', lambda v: word(v, 8193 * 1024 + 0x5c, '<I', 0x30)),
    ('plain', 'bitmap-end', lambda v: word(v, number(v, 'Inode bitmap at ') * 1024 + 1020, '<I', 0)),
    ('csum', 'extent-checksum', lambda v: word(v, extent_node(v, 'holes') * 1024 + 12 + 84 * 12, '<I', 7)),
    ('csum', 'extent-index', ['sif holes block[3] 1']),
    ('csum', 'orphans-left', lambda v: debugfs(v, 'ssv last_orphan %d' % ino_of(v, 'file'))),
    ('csum', 'orphan-present', lambda v: word_super(v, 0x64, struct.unpack('<I', v.read_bytes()[1024 + 0x64:1024 + 0x68])[0] | 0x10000)),
    ('csum', 'orphan-file', lambda v: word(v, block_of(v, '<%d>' % orphan_file_ino(v)) * 1024 + 1016, '<I', 0)),
    ('csum', 'journal-error', lambda v: word(v, block_of(v, '<8>') * 1024 + 0x20, '>I', 0xfffffffb)),
    ('ea', 'xattr-inode', lambda v: debugfs(v, 'sif <%d> flags 0x80000' % value_ino(v))),
    ('ea', 'xattr-inode-refcount', lambda v: debugfs(v, 'sif <%d> ctime 7' % value_ino(v))),
    ('ea', 'inline-data', ['sif small size 500']),
]


@pytest.mark.parametrize('kind,code,how', BREAK, ids=['%s-%s-%d' % (k, c, i) for i, (k, c, _) in enumerate(BREAK)])
def test_broken_in_one_place(sound, tmp_path, kind, code, how):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    if callable(how):
        how(image)
    else:
        debugfs(image, *how)
    exit_code, found, summary = fsck(image)
    assert code in [c for c, _, _ in found], (exit_code, found[:20])
    assert exit_code == (4 if summary['wrong'] + summary['loss'] else 0)


def test_mmp(tmp_path):
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(20 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-O', BASE + ',mmp,metadata_csum', str(image))
    assert fsck(image)[:2] == (0, [])
    word(image, super_words(image, 0x168, '<Q') * 1024, '<I', 7)
    assert [c for c, _, _ in fsck(image)[1]] == ['mmp']


def test_names_of_inodes(sound, tmp_path):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'csum.img', image)
    debugfs(image, 'sif dir/sub/deep links_count 7', 'sif dir/sub/deep blocks 2')
    _, found, _ = fsck(image)
    assert {(c, n) for c, _, n in found} == {('links', '/dir/sub/deep'), ('inode-blocks', '/dir/sub/deep')}


# ---- the command ----

def command(*args, argv0=None):
    r = subprocess.run([argv0 or mounts.WERUNOS, *([] if argv0 else ['fsck']), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=20)
    return r.returncode, r.stdout.decode(errors='replace'), r.stderr.decode(errors='replace')


def test_command(sound, tmp_path):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'csum.img', image)
    code, out, err = command(image)
    assert (code, err) == (0, '') and 'Not looked at any further' in out
    code, out, err = command('-f', image)
    assert (code, err) == (0, '') and out.endswith('No problems found: filesystem is healthy\n') and 'inodes       ' in out
    assert command('-f', '--quiet', image) == (0, '', '')
    for how in ('-y', '-a', '-p'):
        code, out, err = command(how, image)
        assert (code, err) == (0, '') and 'mended' not in out
    assert command('--nonsense', image)[0] == 16 and command()[0] == 16
    code, out, err = command('-f', '-b', '8193', image)
    assert code == 0, (out, err)
    assert command('-f', '-b', '8193', '-B', '1024', image)[0] == 0
    assert command('-f', '-b', '8193', '-B', '4096', image)[0] == 8
    assert command('-B', '1024', image)[0] == 16
    (tmp_path / 'no.img').write_bytes(b'\0' * 100000)
    code, out, err = command('-f', tmp_path / 'no.img')
    assert code == 8 and err.count('\n') == 1
    helper = tmp_path / 'fsck.werunos'
    helper.symlink_to(mounts.WERUNOS)
    assert command('-f', image, argv0=str(helper))[0] == 0
    debugfs(image, 'sif file links_count 5')
    code, out, err = command('-f', image)
    assert code == 4 and ' (/file): the number of links is wrong: 5, there are 1 [links]\n' in out and 'Problems found: 1,' in out
