"""
werunos fsck -y: superblock, descriptors, bitmaps, journal, orphans, and what else a volume has of its own. What is broken in one place is mended by
the first run, the second finds nothing, and e2fsck has nothing to say.
"""
import re, shutil, struct, subprocess
import pytest
import mounts
from test_fsck import BREAK, block_of, debugfs, e2fsck, fsck, ino_of, orphan_file_ino, sound, super_words, word

CODES = {
    'super-checksum', 'super-primary', 'super-field', 'super-free-blocks', 'super-free-inodes', 'super-state', 'super-copy', 'super-copy-features',
    'orphans-left', 'orphan-present', 'orphan-bad', 'orphan-file', 'journal', 'journal-error', 'group-descriptor', 'group-copy', 'group-metadata-overlap',
    'group-free-blocks', 'group-free-inodes', 'group-directories', 'block-bitmap-checksum', 'inode-bitmap-checksum', 'block-bitmap-lacks',
    'block-bitmap-more', 'inode-bitmap-lacks', 'inode-bitmap-more', 'bitmap-end', 'resize-inode',
}


def no_descriptor(v, group):
    """Neither it nor its copy can be read."""
    for start in (2048, 8194 * 1024):
        with open(v, 'r+b') as f:
            f.seek(start + 64 * group)
            f.write(b'\xff' * 12)


def no_copy_of_journal(v):
    debugfs(v, *['ssv jnl_blocks[%d] 0' % i for i in range(17)])


def no_journal_at_all(v):
    no_copy_of_journal(v)
    debugfs(v, 'sif <8> block[0] 0')


def reserved_block(v):
    out = subprocess.run(['dumpe2fs', str(v)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    return int(out.split('Reserved GDT blocks at ')[1].split('-')[0])


MORE = [
    ('csum', 'group-descriptor', lambda v: no_descriptor(v, 0)),
    ('csum', 'group-descriptor', lambda v: no_descriptor(v, 1)),
    ('csum', 'journal-inode', ['sif <8> block[0] 0']),
    ('csum', 'journal-copy', no_copy_of_journal),
    ('csum', 'journal', no_journal_at_all),
    ('csum', 'orphan-file', lambda v: debugfs(v, 'clri <%d>' % orphan_file_ino(v))),
    ('csum', 'resize-inode', lambda v: word(v, reserved_block(v) * 1024, '<I', 77)),
    ('plain', 'resize-inode', ['sif <7> block[IND] 0', 'sif <7> block[DIND] 0']),
    ('plain', 'resize-inode', ['sif <7> blocks 2']),
    ('plain', 'group-metadata-overlap', lambda v: word(v, 2048 + 8, '<I', 3)),
    ('plain', 'group-unused', lambda v: word(v, 2048 + 0x1c, '<H', 5)),
    ('csum', 'group-unused', ['set_bg 0 itable_unused 500', 'set_bg 0 checksum calc']),
    ('csum', 'super-field', ['ssv log_cluster_size 5']),
    ('csum', 'super-field', ['ssv clusters_per_group 99']),
    ('csum', 'super-field', ['ssv log_groups_per_flex 60']),
    ('csum', 'super-field', ['ssv first_ino 20']),
    ('csum', 'super-field', ['ssv rev_level 7']),
    ('csum', 'super-field', ['ssv journal_inum 0']),
    ('csum', 'super-field', ['ssv journal_uuid 12345678-1234-1234-1234-123456789abc']),
    ('csum', 'super-primary', ['ssv inode_size 512']),
    ('csum', 'super-primary', ['ssv inode_size 128']),
    ('csum', 'journal', ['ssv journal_inum 12']),
    ('csum', 'inode-reserved', ['sif <3> block[0] 1']),
    ('csum', 'inode-reserved', ['sif <1> mode 040755']),
    ('csum', 'orphan-file', lambda v: word(v, block_of(v, '<%d>' % orphan_file_ino(v)) * 1024, '<I', ino_of(v, 'file'))),
    ('csum', 'group-descriptor', ['set_bg 0 inode_table 12000', 'set_bg 0 checksum calc']),
    ('plain', 'group-descriptor', lambda v: word(v, 2048 + 8, '<I', 6000)),
    ('csum', 'resize-inode', lambda v: debugfs(v, 'sif <7> block[DIND] %d' % block_of(v, 'dir'))),
    ('plain', 'super-field', lambda v: word(v, 1024 + 0x65, '<B', 2)),
]
CASES = [b for b in BREAK if b[1] in CODES] + MORE


def mend(image, *options):
    return subprocess.run([mounts.WERUNOS, 'fsck', '-f', '-y', *options, str(image)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)


def assert_mended(image):
    r = mend(image)
    assert r.returncode == 1, (r.returncode, r.stdout[-2000:], r.stderr[-500:])
    assert fsck(image)[:2] == (0, []), r.stdout
    e = e2fsck(image)
    assert e.returncode == 0, (r.stdout, e.stdout)
    return r.stdout.decode()


def files(image):
    return debugfs(image, 'ls -l dir', 'ls -l /', 'cat file', 'cat dir/sub/deep')


@pytest.mark.parametrize('kind,code,how', CASES, ids=['%s-%s-%d' % (k, c, i) for i, (k, c, _) in enumerate(CASES)])
def test_mended(sound, tmp_path, kind, code, how):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    before = files(image)
    if callable(how):
        how(image)
    else:
        debugfs(image, *how)
    assert code in [c for c, _, _ in fsck(image)[1]], fsck(image)
    # A table that is elsewhere is looked for before it can lie on something.
    said = assert_mended(image)
    assert '[%s]' % code in said or (code == 'group-metadata-overlap' and '[group-descriptor]' in said), said
    assert files(image) == before


def test_kept_for_descriptors_with_clusters(tmp_path):
    """Where block 0 is the volume's and the superblock is in block 1."""
    image = small(tmp_path, '-C', '8192', '-g', '256', '-O', 'none,filetype,extent,64bit,sparse_super,resize_inode,bigalloc,metadata_csum')
    assert fsck(image)[:2] == (0, []) and e2fsck(image).returncode == 0
    word(image, reserved_block(image) * 1024, '<I', 77)
    assert '[resize-inode]' in assert_mended(image)


def test_not_cleanly_unmounted(sound, tmp_path):
    """Nothing is wrong: it is called sound again."""
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'plain.img', image)
    debugfs(image, 'ssv state 0')
    assert [c for c, _, _ in fsck(image)[1]] == ['super-state']
    assert mend(image).returncode == 0
    assert fsck(image)[:2] == (0, []) and e2fsck(image).returncode == 0
    assert struct.unpack('<H', image.read_bytes()[1024 + 0x3a:1024 + 0x3c])[0] == 1


@pytest.mark.parametrize('how', [['ssv mmp_block 3'], 0, 4], ids=['place', 'content', 'operation'])
def test_mmp(tmp_path, how):
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(8 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-O', 'none,has_journal,extent,64bit,filetype,mmp', str(image))
    if isinstance(how, list):
        debugfs(image, *how)
    else:
        word(image, struct.unpack('<Q', image.read_bytes()[1024 + 0x168:1024 + 0x170])[0] * 1024 + how, '<I', 0xfb4d4d50)
    assert 'mmp' in [c for c, _, _ in fsck(image)[1]]
    assert '[mmp]' in assert_mended(image)


def test_no_copy_at_the_usual_places(tmp_path):
    """The damaged superblock itself says where groups begin."""
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(8 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-g', '2048', '-O', 'none,filetype,sparse_super', str(image))
    word(image, 1024 + 0x28, '<I', 0x8080)
    assert '[super-primary]' in assert_mended(image)


def small(tmp_path, *options):
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(8 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', *options, str(image))
    return image


@pytest.mark.parametrize('field,number', [('inodes_count', 1), ('inodes_count', 0x80000200), ('inodes_per_group', 514)])
def test_number_of_inodes(tmp_path, field, number):
    """The volume has one group and no copy, but one number follows from the other."""
    image = small(tmp_path, '-N', '512', '-O', 'none,filetype,extent,metadata_csum')
    was = super_words(image, 0, '<I'), super_words(image, 0x28, '<I')
    debugfs(image, 'ssv %s %d' % (field, number))
    assert 'super-field' in [c for c, _, _ in fsck(image)[1]]
    assert '[super-field]' in assert_mended(image)
    assert (super_words(image, 0, '<I'), super_words(image, 0x28, '<I')) == was


def test_half_written_without_a_copy(tmp_path):
    """One sector of the only superblock is of another moment: what it leads to tells that it is this volume's, and so it is used. Not for writing."""
    image = small(tmp_path, '-N', '512', '-O', 'none,filetype,extent,metadata_csum,64bit')
    debugfs(image, 'mkdir dir')
    word(image, 1024 + 0x3fc, '<I', 1)
    changed = subprocess.run([mounts.WERUNOS, 'mkdir', '%s:/more' % image], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert changed.returncode and 'written by half' in changed.stdout, changed.stdout
    assert mounts.run(mounts.WERUNOS, 'ls', '%s:/' % image).endswith(b'dir\nlost+found\n')
    assert '[super-checksum]' in assert_mended(image)
    # The seed of all checksums is another: nothing bears that one out.
    word(image, 1024 + 0x68, '<I', 7)
    assert fsck(image)[0] == 8


def test_first_meta_group(tmp_path):
    """Two copies that lie where the first superblock says have it otherwise."""
    image = small(tmp_path, '-g', '1024', '-O', 'none,filetype,extent,64bit,meta_bg,sparse_super')
    word(image, 1024 + 0x104, '<I', 8)
    assert '[super-primary]' in assert_mended(image)
    assert super_words(image, 0x104, '<I') == 0


def test_blocks_of_a_group(tmp_path):
    """What is said of clusters, which are blocks, leads to the copies."""
    image = small(tmp_path, '-g', '1024', '-O', 'none,filetype,sparse_super')
    word(image, 1024 + 0x20, '<I', 1028)
    assert '[super-primary]' in assert_mended(image)
    assert super_words(image, 0x20, '<I') == 1024


def test_table_that_nobody_knows(tmp_path):
    """The only descriptor is damaged, and what the superblock says of how it was made."""
    image = small(tmp_path, '-b', '4096', '-N', '512', '-O', 'none,filetype,extent,flex_bg,metadata_csum,64bit')
    debugfs(image, 'mkdir dir', 'ssv log_groups_per_flex 0', 'ssv raid_stride 512', 'set_bg 0 inode_table 0x7fffffff', 'set_bg 0 checksum calc')
    assert '[group-descriptor]' in assert_mended(image)
    assert '/dir/' in debugfs(image, 'ls -p /')


def test_table_under_another(tmp_path):
    """The one that is damaged moves back, not the other one; and the journal's inode is written where it is."""
    image = small(tmp_path, '-g', '2048', '-N', '512', '-J', 'size=1', '-O', 'none,has_journal,filetype,extent,flex_bg,sparse_super')
    debugfs(image, 'mkdir dir', 'mkdir dir/sub')
    tables = [struct.unpack('<I', image.read_bytes()[2048 + 32 * i + 8:][:4])[0] for i in range(2)]
    word(image, block_of(image, '<8>') * 1024, '>I', 7)
    word(image, 2048 + 8, '<I', tables[0] + 4)
    assert '[group-descriptor]' in assert_mended(image)
    assert '/sub/' in debugfs(image, 'ls -p dir')
    assert tables == [struct.unpack('<I', image.read_bytes()[2048 + 32 * i + 8:][:4])[0] for i in range(2)]


def test_bitmaps_in_one_block_of_a_cluster(tmp_path):
    image = small(tmp_path, '-C', '8192', '-O', 'none,filetype,extent,flex_bg,64bit,bigalloc,metadata_csum')
    debugfs(image, 'set_bg 0 block_bitmap %d' % struct.unpack('<I', image.read_bytes()[2048 + 4:2048 + 8])[0], 'set_bg 0 checksum calc')
    assert '[group-metadata-overlap]' in assert_mended(image)


@pytest.mark.parametrize('features,has', [('has_journal,metadata_csum', True), ('has_journal', True), ('metadata_csum', False)])
def test_spare_journal(tmp_path, features, has):
    """What a mending leaves that broke off, without what its inode remembers: the journal is the one in its usual place, if that is there."""
    image = small(tmp_path, '-N', '512', '-J', 'size=1', '-O', 'none,filetype,extent,' + features)
    if not has:
        mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-N', '512', '-O', 'none,filetype,extent,has_journal,metadata_csum', str(image))
    debugfs(image, 'copy_inode <8> <10>', *([] if has else ['clri <8>']), 'ssv journal_inum 10')
    assert 'journal-spare' in [c for c, _, _ in fsck(image)[1]]
    changed = subprocess.run([mounts.WERUNOS, 'mkdir', '%s:/more' % image], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert changed.returncode and 'broken off' in changed.stdout, changed.stdout
    r = subprocess.run([mounts.WERUNOS, 'fsck', '-y', str(image)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert r.returncode in (0, 1), r.stdout
    assert super_words(image, 0xe0, '<I') == (8 if has else 0) and bool(super_words(image, 0x5c, '<I') & 4) == has
    assert fsck(image)[:2] == (0, []) and e2fsck(image).returncode == 0


def test_bitmap_on_the_journal_s_map(tmp_path):
    """The journal's inode says what its copy says, and all the same cannot be used: what is wrong is where the bitmap is."""
    image = small(tmp_path, '-N', '512', '-J', 'size=1', '-O', 'none,filetype,has_journal')
    ind = re.search(r'\(IND\):(\d+)', debugfs(image, 'stat <8>')).group(1)
    debugfs(image, 'set_bg 0 block_bitmap ' + ind)
    assert 'block-twice' in [c for c, _, _ in fsck(image)[1]]
    assert '[block-twice] mended' in assert_mended(image)


# ---- what the volume has of its own, and leads to what is somebody else's ----

def with_files(tmp_path):
    image, src = tmp_path / 'v.img', tmp_path / 'src'
    with open(image, 'wb') as f:
        f.truncate(16 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-O', 'none,has_journal,extent,64bit,filetype,metadata_csum,orphan_file', str(image))
    for i in range(4):
        src.write_bytes(b'%d' % i * (8 << 10))
        debugfs(image, 'write %s file-%d' % (src, i))
    return image, lambda: [mounts.run('debugfs', '-R', 'cat file-%d' % i, str(image)) for i in range(4)]


def test_orphan_file_reaches_into_others(tmp_path):
    """Blocks that it shares are copied before it is emptied."""
    image, contents = with_files(tmp_path)
    before, ino = contents(), orphan_file_ino(image)
    last = max(block_of(image, '<%d>' % ino, i) for i in range(32))
    near = min(range(4), key=lambda i: abs(block_of(image, 'file-%d' % i) - last))
    debugfs(image, 'sif <%d> block[5] %d' % (ino, block_of(image, 'file-%d' % near) - 28))
    said = assert_mended(image)
    assert '[orphan-file]' in said and '[block-twice]' in said
    assert contents() == before


def test_orphan_file_with_a_hole(tmp_path):
    image, contents = with_files(tmp_path)
    before = contents()
    debugfs(image, 'sif <%d> block[4] 10' % orphan_file_ino(image))
    assert '[orphan-file]' in assert_mended(image)
    assert contents() == before


def test_somebody_s_file_is_no_orphan_file(tmp_path):
    image, contents = with_files(tmp_path)
    before, ino = contents(), ino_of(image, 'file-1')
    debugfs(image, 'ssv orphan_file_inum %d' % ino)
    assert '[orphan-file]' in assert_mended(image)
    assert contents() == before and orphan_file_ino(image) != ino


def test_somebody_s_block_is_none_of_mount_protection(tmp_path):
    image, contents = with_files(tmp_path)
    before = contents()
    debugfs(image, 'feature mmp', 'ssv mmp_update_interval 1', 'ssv mmp_block %d' % block_of(image, 'file-2'))
    assert '[mmp]' in assert_mended(image)
    assert contents() == before


def test_somebody_s_blocks_are_no_journal(tmp_path):
    image, contents = with_files(tmp_path)
    before, blk = contents(), block_of(image, 'file-2')
    debugfs(image, 'sif <8> block[5] %d' % blk, 'ssv jnl_blocks[5] %d' % blk)
    assert '[journal]' in assert_mended(image)
    assert contents() == before


@pytest.mark.parametrize('feature', ['^sparse_super', 'meta_bg', '^64bit', '^flex_bg', '^metadata_csum', 'bigalloc', 'sparse_super2'])
def test_feature_that_says_where_metadata_lie(tmp_path, feature):
    """By another superblock's features copies would be written over files."""
    image, src = tmp_path / 'v.img', tmp_path / 'src'
    with open(image, 'wb') as f:
        f.truncate(8 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-g', '1024', '-O',
               'none,has_journal,extent,64bit,flex_bg,filetype,metadata_csum,sparse_super,resize_inode', '-J', 'size=1', str(image))
    src.write_bytes(bytes(range(256)) * (5 << 12))
    debugfs(image, 'write %s file' % src)
    debugfs(image, 'feature ' + feature)
    assert '[super-primary]' in assert_mended(image)
    assert mounts.run('debugfs', '-R', 'cat file', str(image)).endswith(src.read_bytes())


def test_table_of_inodes_that_are_others(tmp_path):
    """Without checksums an inode says nothing of its number, but directories do."""
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(4 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-O', 'none,filetype,extent,64bit', str(image))
    for i in range(40):
        debugfs(image, 'mkdir d%d' % i)
    before = debugfs(image, 'ls -l')
    table = struct.unpack('<I', image.read_bytes()[2048 + 8:2048 + 12])[0]
    word(image, 2048 + 8, '<I', table + 4)
    assert '[group-descriptor]' in assert_mended(image)
    assert debugfs(image, 'ls -l') == before


@pytest.mark.parametrize('off,fmt,value', [(0xfe, '<H', 1975), (0x20, '<I', 8191), (0x20, '<I', 4096), (0x24, '<I', 8184)])
def test_size_without_a_copy(tmp_path, off, fmt, value):
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(4 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-O', 'none,filetype', str(image))
    word(image, 1024 + off, fmt, value)
    assert '[super-field]' in assert_mended(image)
    assert struct.unpack('<II', image.read_bytes()[1024 + 0x20:1024 + 0x28]) == (8192, 8192)
