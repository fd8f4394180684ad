"""
werunos fsck -y of inodes, their maps and their attributes: what is broken in one place is mended by the first run, the second finds nothing, neither
does e2fsck, and all that was not damaged is as before. What is claimed twice is there for all who claimed it.
"""
import json, os, re, shutil, struct, subprocess
import pytest
import mounts
from test_fsck import BREAK, block_of, debugfs, e2fsck, extent_node, ino_of, inode_off, sound, value_ino, word, xattr_block  # noqa: F401

OURS = set('''root inode-checksum inode-mode inode-dtime inode-reserved inode-extra-size inode-time inode-field inode-flags inode-size inode-blocks inode-special
symlink extent-header extent-order extent-range map-block directory-unwritten block-twice xattr-block xattr-list xattr-hash xattr-refcount encryption acl
extent-checksum extent-index xattr-inode xattr-inode-refcount inline-data'''.split())
CASES = [b for b in BREAK if b[1] in OURS]
# What is said instead when it is to be mended.
SAID = {'root': 'inode-is-directory', 'inode-reserved': 'journal-inode'}
# What cannot be kept: the inode is cleared, or what it held was nowhere else.
GONE = {'inode-mode': ['/file'], 'encryption': ['/dir/sub/deep'], 'extent-range': ['/file'], 'map-block': ['/file'], 'inode-size': ['/file'],
        'root': [], 'block-twice': ['/file'], 'inode-flags': []}
FILES = ['/file', '/small', '/holes', '/dir/twin-1', '/dir/twin-2', '/dir/sub/deep']


def mend(image, *options):
    """Exit code, and the codes of what was found."""
    r = subprocess.run([mounts.WERUNOS, 'fsck', '-f', '-y', *options, str(image)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    err = r.stderr.decode(errors='replace')
    assert r.returncode in (0, 1, 4) and 'Sanitizer' not in err and 'runtime error' not in err, (r.returncode, err[-3000:])
    return r.returncode, re.findall(r'\[([a-z0-9-]+)\]', r.stdout.decode(errors='replace'))


def mends(image, *codes):
    """All of it in one run, and then it is sound for us and for e2fsck."""
    code, said = mend(image)
    assert code == 1 and set(codes) <= set(said), (code, said)
    again = subprocess.run([mounts.WERUNOS, 'fsck', '-f', '--json', str(image)], stdout=subprocess.PIPE, timeout=60)
    found = json.loads(again.stdout.decode(errors='replace'))['found']
    assert again.returncode == 0 and not [f for f in found if f['grade'] != 'hint'], found[:5]
    r = e2fsck(image)
    assert r.returncode == 0, r.stdout.decode(errors='replace')
    return said


def content(image, path):
    return subprocess.run(['debugfs', '-R', 'cat ' + path, str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def copy(sound, kind, tmp_path):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    return image


@pytest.mark.parametrize('kind,code,how', CASES, ids=['%s-%s-%d' % (k, c, i) for i, (k, c, _) in enumerate(CASES)])
def test_broken_in_one_place(sound, tmp_path, kind, code, how):
    image = copy(sound, kind, tmp_path)
    before = {p: content(image, p) for p in FILES}
    how(image) if callable(how) else debugfs(image, *how)
    mends(image, SAID.get(code, code))
    for path in FILES:
        if path not in GONE.get(code, []):
            assert content(image, path) == before[path], path


# ---- blocks that are claimed twice ----

def tree_with(tmp_path, kind, **files):
    """A volume with files of random bytes, each in extents of one block."""
    options = {'extents': '-O none,extent,filetype,ext_attr,metadata_csum,64bit,sparse_super,large_file,dir_index',
               'pointers': '-O none,filetype,ext_attr,sparse_super,large_file,dir_index',
               'bigalloc': '-O none,extent,filetype,ext_attr,metadata_csum,64bit,sparse_super,large_file,bigalloc,huge_file -C 4096'}[kind]
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(24 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-I', '256', *options.split(), str(image))
    for name, blocks in files.items():
        src = tmp_path / name
        with open(src, 'wb') as f:
            for i in range(blocks):
                f.seek(i * 8192)
                f.write(os.urandom(1024))
        debugfs(image, 'write %s %s' % (src, name))
    assert e2fsck(image).returncode == 0
    return image


@pytest.mark.parametrize('kind', ['extents', 'pointers', 'bigalloc'])
def test_data_of_two_files(tmp_path, kind):
    image = tree_with(tmp_path, kind, one=3, two=3, three=3)
    want = {n: bytearray(content(image, n)) for n in ('one', 'two', 'three')}
    blk = block_of(image, 'one')
    for name in ('two', 'three'):
        debugfs(image, 'sif %s block[%d] %d' % (name, 0 if kind == 'pointers' else 5, blk))
        want[name][:1024] = want['one'][:1024]
    assert mends(image, 'block-twice').count('block-twice') == 2
    assert {n: bytearray(content(image, n)) for n in want} == want
    assert len({block_of(image, n) for n in want}) == 3


@pytest.mark.parametrize('kind', ['extents', 'pointers'])
def test_twice_in_one_file(tmp_path, kind):
    image = tree_with(tmp_path, kind, one=3)
    want = content(image, 'one')
    if kind == 'pointers':
        debugfs(image, 'sif one block[1] %d' % block_of(image, 'one'), 'sif one blocks 8')
    else:
        debugfs(image, 'sif one block[8] %d' % block_of(image, 'one'))
    mends(image, 'block-twice')
    got = content(image, 'one')
    at = 1024 if kind == 'pointers' else 8192
    assert got[at:at + 1024] == want[:1024] and got[:1024] == want[:1024] and got[16384:] == want[16384:]


@pytest.mark.parametrize('kind', ['extents', 'pointers'])
def test_metadata_of_a_group(tmp_path, kind):
    """A file that claims the inode table keeps what is read there; the table stays."""
    image = tree_with(tmp_path, kind, one=3, two=3)
    table = int(re.search(r'inode table at (\d+)', debugfs(image, 'stats')).group(1)) + 2
    two, there = content(image, 'two'), image.read_bytes()[table * 1024:table * 1024 + 1024]
    debugfs(image, 'sif one block[%d] %d' % (0 if kind == 'pointers' else 5, table))
    mends(image, 'block-twice')
    assert any(there) and any(content(image, 'one')[:1024])
    assert content(image, 'two') == two and block_of(image, 'one') != table


def test_node_of_a_tree(tmp_path):
    """Two files with the same node: both get all of it."""
    image = tree_with(tmp_path, 'extents', one=200, two=200)
    want = content(image, 'one')
    node = extent_node(image, 'one')
    debugfs(image, 'sif two block[4] %d' % node)
    mends(image, 'block-twice')
    assert content(image, 'one') == want
    part = content(image, 'two')
    assert part[:80 * 8192] == want[:80 * 8192]


def test_block_of_pointers(tmp_path):
    image = tree_with(tmp_path, 'pointers', one=100, two=100)
    want = content(image, 'one')
    where = re.search(r'\(IND\):(\d+)', debugfs(image, 'stat one')).group(1)
    debugfs(image, 'sif two block[IND] ' + where)
    mends(image, 'block-twice')
    assert content(image, 'one') == want
    # From the 12th block of the file on it is the other's.
    assert content(image, 'two')[12 * 1024:268 * 1024] == want[12 * 1024:268 * 1024]


def test_blocks_of_attributes(sound, tmp_path):
    image = copy(sound, 'csum', tmp_path)
    blk = xattr_block(image, 'dir')
    debugfs(image, 'sif small block[5] %d' % blk)
    mends(image, 'block-twice')
    said = debugfs(image, 'ea_get dir user.two')
    assert 'x' * 300 in said and xattr_block(image, 'dir') != block_of(image, 'small')


def test_directories(tmp_path):
    image = tree_with(tmp_path, 'extents', one=3)
    debugfs(image, 'mkdir a', 'mkdir b', 'link one a/name', 'sif one links_count 2')
    debugfs(image, 'sif one block[5] %d' % block_of(image, 'a'))
    listing = debugfs(image, 'ls -p a')
    mends(image, 'block-twice')
    assert debugfs(image, 'ls -p a').splitlines()[1:] == listing.splitlines()[1:]


# ---- trees of extents ----

def leaf_off(image, path, nth):
    at = re.findall(r'\(ETB0\):(\d+)', debugfs(image, 'stat ' + path))[nth]
    return int(at) * 1024


@pytest.mark.parametrize('off,fmt,value,code', [
    (0, '<H', 7, 'extent-header'), (4, '<H', 900, 'extent-header'), (6, '<H', 3, 'extent-header'), (12 + 84 * 12, '<I', 5, 'extent-checksum')])
def test_node_that_can_be_saved(tmp_path, off, fmt, value, code):
    image = tree_with(tmp_path, 'extents', one=300)
    want = content(image, 'one')
    word(image, leaf_off(image, 'one', 1) + off, fmt, value)
    mends(image, code)
    assert content(image, 'one') == want


def test_leaf_out_of_order(tmp_path):
    image = tree_with(tmp_path, 'extents', one=300)
    want = content(image, 'one')
    at = leaf_off(image, 'one', 1) + 12 + 5 * 12
    data = image.read_bytes()[at:at + 24]
    word(image, at, '24s', data[12:] + data[:12])
    mends(image, 'extent-order')
    assert content(image, 'one') == want


def test_index_out_of_order(tmp_path):
    image = tree_with(tmp_path, 'extents', one=300)
    want = content(image, 'one')
    words = struct.unpack('<15I', image.read_bytes()[inode_off(image, 'one') + 40:][:60])
    debugfs(image, *['sif one block[%d] %d' % (3 + i, w) for i, w in enumerate(words[6:9] + words[3:6])])
    mends(image, 'extent-order')
    assert content(image, 'one') == want


def test_root_that_is_zeros(tmp_path):
    image = tree_with(tmp_path, 'extents', one=3, two=300)
    want = {n: content(image, n) for n in ('one', 'two')}
    for name in want:
        debugfs(image, *['sif %s block[%d] 0' % (name, i) for i in range(3)])
    mends(image, 'extent-header')
    assert {n: content(image, n) for n in want} == want


def test_leaf_that_is_something_else(tmp_path):
    """What is in the other leaves stays."""
    image = tree_with(tmp_path, 'extents', one=300)
    want = bytearray(content(image, 'one'))
    word(image, leaf_off(image, 'one', 1), '1024s', os.urandom(1024))
    mends(image, 'extent-header')
    got = content(image, 'one')
    lost = [i for i in range(300) if not any(got[i * 8192:i * 8192 + 1024])]
    assert 80 <= len(lost) <= 84 and lost == list(range(lost[0], lost[-1] + 1))
    for i in lost:
        want[i * 8192:i * 8192 + 1024] = bytes(1024)
    assert got == want


# ---- types, attributes ----

def test_directory_that_lost_its_type(sound, tmp_path):
    image = copy(sound, 'csum', tmp_path)
    listing = debugfs(image, 'ls -p dir')
    debugfs(image, 'sif dir mode 0010755')
    mends(image, 'inode-is-directory')
    assert debugfs(image, 'ls -p dir') == listing


def test_root_that_is_none(sound, tmp_path):
    """There is a new one, and what was in the old one is in lost+found."""
    image = copy(sound, 'csum', tmp_path)
    inos = {p: ino_of(image, p) for p in ('file', 'dir')}
    before = {p: content(image, p) for p in FILES}
    word(image, block_of(image, '/') * 1024, '<I', 99)
    debugfs(image, 'sif <2> mode 0100755')
    mends(image, 'root')
    assert content(image, '/lost+found/#%d' % inos['file']) == before['/file']
    assert content(image, '/lost+found/#%d/sub/deep' % inos['dir']) == before['/dir/sub/deep']


def test_reserved_inode(sound, tmp_path):
    image = copy(sound, 'csum', tmp_path)
    debugfs(image, 'sif <6> mode 040755', 'sif <6> links_count 1')
    mends(image, 'inode-reserved')


def test_inodes_that_are_said_to_be_unused(sound, tmp_path):
    image = copy(sound, 'csum', tmp_path)
    before = {p: content(image, p) for p in FILES}
    debugfs(image, 'set_bg 0 itable_unused 140', 'set_bg 0 free_inodes_count 150', 'set_bg 0 checksum calc')
    mends(image, 'group-inodes-beyond')
    assert {p: content(image, p) for p in FILES} == before


def test_clusters_askew(tmp_path):
    image = tree_with(tmp_path, 'bigalloc', one=3, two=3)
    want = {n: content(image, n) for n in ('one', 'two')}
    blk = block_of(image, 'one')
    data = image.read_bytes()
    word(image, (blk + 1) * 1024, '1024s', data[blk * 1024:blk * 1024 + 1024])
    debugfs(image, 'sif one block[5] %d' % (blk + 1))
    mends(image, 'block-askew')
    assert {n: content(image, n) for n in ('one', 'two')} == want


def test_inline_data_without_its_attribute(sound, tmp_path):
    image = copy(sound, 'ea', tmp_path)
    want = content(image, 'small')
    word(image, inode_off(image, 'small') + 128 + 32, '<I', 0)
    debugfs(image, 'sif small mtime 20200101')
    mends(image, 'inline-data')
    assert content(image, 'small') == want


def test_value_that_was_overwritten(sound, tmp_path):
    image = copy(sound, 'ea', tmp_path)
    word(image, block_of(image, '<%d>' % value_ino(image)) * 1024, '4s', b'XXXX')
    mends(image, 'xattr-inode')
    assert 'user.large' not in debugfs(image, 'ea_list file') and '1234' in debugfs(image, 'ea_get file user.one')


def test_garbage_is_cleared(sound, tmp_path):
    """A wrong checksum and members that no inode has: it claims nothing any more. A wrong checksum alone loses nothing."""
    image = copy(sound, 'csum', tmp_path)
    free = ino_of(image, 'file')
    debugfs(image, 'rm file')
    off = inode_off(image, '<%d>' % free)
    word(image, off, '<H', 0x81a4)
    word(image, off + 26, '<H', 1)
    word(image, off + 32, '<I', 0xff80000f)
    word(image, off + 0x70, '<I', 5)
    debugfs(image, 'seti <%d>' % free)
    mends(image, 'inode-checksum')
    assert not any(image.read_bytes()[off:off + 128])


def test_value_of_an_attribute(sound, tmp_path):
    """An inode for values without the flag gets it; one that has another hash is no value of this attribute."""
    image = copy(sound, 'ea', tmp_path)
    ino = value_ino(image)
    debugfs(image, 'sif <%d> flags 0x80000' % ino)
    mends(image, 'xattr-inode')
    assert 'vvvv' in debugfs(image, 'ea_get file user.large')
    debugfs(image, 'sif <%d> atime 5' % ino)
    code, said = mend(image)
    assert 'xattr-inode' in said
    assert 'user.large' not in debugfs(image, 'ea_list file') and '1234' in debugfs(image, 'ea_get file user.one')


def test_lost_feature(sound, tmp_path):
    """Inodes that have extents: the volume has them again."""
    image = copy(sound, 'csum', tmp_path)
    before = {p: content(image, p) for p in FILES}
    debugfs(image, 'feature -extent')
    code, said = mend(image)
    assert code == 1 and 'inode-flags' in said
    assert {p: content(image, p) for p in FILES} == before and e2fsck(image).returncode == 0


@pytest.mark.parametrize('spare', [True, False], ids=['but-in-lost+found', 'at-all'])
def test_no_room_for_copies(tmp_path, spare):
    """Nothing is dropped: empty blocks of lost+found are room; without such what cannot be copied stays shared, and is said."""
    image = tree_with(tmp_path, 'extents', one=3, two=3)
    debugfs(image, 'freeb %d' % block_of(image, 'two'))
    debugfs(image, 'sif two block[5] %d' % block_of(image, 'one'))
    want = {n: content(image, n) for n in ('one', 'two')}
    full = tmp_path / 'full'
    full.write_bytes(os.urandom(30 << 20))
    if not spare:
        debugfs(image, 'rmdir lost+found')
    subprocess.run(['debugfs', '-w', '-R', 'write %s full' % full, str(image)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if spare:
        mends(image, 'block-twice', 'directory-room')
    else:
        code, said = mend(image)
        assert code == 4 and 'block-twice' in said and 'directory-room' not in said
    assert {n: content(image, n) for n in ('one', 'two')} == want


def test_extent_that_is_too_long(tmp_path):
    """What it had been, by the file's length, stays."""
    image = tree_with(tmp_path, 'extents', one=1, two=3)
    want = {n: content(image, n) for n in ('one', 'two')}
    debugfs(image, 'sif one block[4] %d' % (32768 + 30000))
    mends(image, 'extent-range')
    assert {n: content(image, n) for n in ('one', 'two')} == want


def test_value_that_is_not_aligned(sound, tmp_path):
    image = copy(sound, 'csum', tmp_path)
    at = inode_off(image, 'file') + 128 + 32 + 4
    off = struct.unpack('<H', image.read_bytes()[at + 2:at + 4])[0]
    word(image, at + 2, '<H', off - 2)
    word(image, at + off - 2, '4s', b'1234')
    debugfs(image, 'sif file mtime 20200101')
    mends(image, 'xattr-list')
    assert '1234' in debugfs(image, 'ea_get file user.one')


def test_links_that_are_none(sound, tmp_path):
    """With a name it is not deleted; without one it is."""
    image = copy(sound, 'csum', tmp_path)
    was = content(image, '/file'), content(image, '/dir/sub/deep')
    debugfs(image, 'sif file links_count 0', 'sif dir/sub links_count 0', 'sif dir/twin-1 links_count 0', 'unlink dir/twin-1')
    debugfs(image, 'sif link links_count 0', 'sif pipe links_count 0')
    mends(image, 'links', 'inode-dtime')
    assert (content(image, '/file'), content(image, '/dir/sub/deep')) == was
    said = debugfs(image, 'ls -p /', 'ls -p lost+found', 'ls -p dir')
    assert '/link/' in said and '/pipe/' in said and '/sub/' in said and '#' not in said


def test_inline_flag_on_extents(sound, tmp_path):
    image = copy(sound, 'ea', tmp_path)
    was = content(image, '/file')
    debugfs(image, 'sif file flags 0x10000000')
    mends(image, 'inode-flags')
    assert content(image, '/file') == was


def test_places_of_a_node(sound, tmp_path):
    """As many as there is room for: e2fsck wants it, kernels do not."""
    image = copy(sound, 'csum', tmp_path)
    was = content(image, '/file')
    word(image, inode_off(image, 'file') + 0x28 + 4, '<H', 1)
    debugfs(image, 'sif file uid 0')
    mends(image, 'extent-header')
    assert content(image, '/file') == was


def test_high_half_of_nothing(sound, tmp_path):
    image = copy(sound, 'ea', tmp_path)
    word(image, inode_off(image, '<5>') + 0x74, '<H', 7)
    debugfs(image, 'sif <5> uid 0')
    mends(image, 'inode-reserved')


def test_bad_block_in_a_cluster(tmp_path):
    """The list of bad blocks is none of clusters."""
    image = tree_with(tmp_path, 'bigalloc', one=3)
    debugfs(image, 'sif <1> block[2] 5000', 'sif <1> blocks 8')
    mends(image, 'block-bitmap-lacks')


def test_short_symlink_in_a_block(sound, tmp_path):
    image = copy(sound, 'csum', tmp_path)
    debugfs(image, 'symlink long %s' % ('t' * 80))
    off = inode_off(image, 'long')
    word(image, block_of(image, 'long') * 1024 + 40, '<B', 0)
    debugfs(image, 'sif long uid 0')
    mends(image, 'symlink')
    assert image.read_bytes()[off + 0x28:off + 0x64] == b't' * 40 + bytes(20)


def test_reserved_inode_with_attributes(sound, tmp_path):
    image = copy(sound, 'plain', tmp_path)
    word(image, inode_off(image, '<5>') + 0x68, '<H', 7)
    mends(image, 'inode-reserved')


def test_shared_by_nobody(sound, tmp_path):
    image = copy(sound, 'plain', tmp_path)
    word(image, xattr_block(image, 'dir') * 1024 + 4, '<I', 0)
    mends(image, 'xattr-refcount')


def test_many_links_without_an_index(sound, tmp_path):
    image = copy(sound, 'csum', tmp_path)
    debugfs(image, 'sif dir links_count 1')
    mends(image, 'links')


def test_leaf_without_entries(sound, tmp_path):
    image = copy(sound, 'csum', tmp_path)
    was = content(image, '/holes')
    word(image, extent_node(image, 'holes') * 1024 + 2, '<H', 0)
    mends(image, 'extent-header')
    assert content(image, '/holes') == was


def test_extent_over_other_files(tmp_path):
    """It is longer than the file and its count of blocks: that is not the others' damage."""
    image = tree_with(tmp_path, 'extents', one=1, two=9, three=3)
    was = {n: content(image, n) for n in ('one', 'two', 'three')}
    word(image, inode_off(image, 'one') + 0x38, '<H', 0x400)
    debugfs(image, 'sif one uid 0')
    assert 'block-twice' not in mends(image, 'extent-range')
    assert {n: content(image, n) for n in was} == was


def test_map_that_is_claimed_by_another(tmp_path):
    """While a map is not gone into, what it leads to is not free."""
    image = tree_with(tmp_path, 'extents', one=3, two=9, three=3)
    was = {n: content(image, n) for n in ('two', 'three')}
    node = extent_node(image, 'two')
    debugfs(image, 'sif one block[5] %d' % node, 'sif one block[2] %d' % block_of(image, 'three'))
    mends(image, 'block-twice')
    assert {n: content(image, n) for n in was} == was


def test_metadata_is_no_map(tmp_path):
    image = tree_with(tmp_path, 'pointers', one=3)
    was = content(image, 'one')
    debugfs(image, 'sif one block[TIND] 1')
    mends(image, 'map-block')
    assert content(image, 'one') == was


def test_inline_data_without_extra_fields(sound, tmp_path):
    image = copy(sound, 'ea', tmp_path)
    was = content(image, '/small')
    debugfs(image, 'sif small extra_isize 0')
    mends(image, 'inode-extra-size')
    assert content(image, '/small') == was


def test_high_half_of_the_length_of_a_text(sound, tmp_path):
    image = copy(sound, 'csum', tmp_path)
    word(image, inode_off(image, 'link') + 0x6c, '<I', 4)
    debugfs(image, 'sif link uid 0')
    mends(image, 'inode-field')
    assert 'target' in debugfs(image, 'stat link')


def test_long_extent_that_begins_in_metadata(tmp_path):
    """Its beginning is what a damaged descriptor claims, too: the directory keeps its names."""
    image = tree_with(tmp_path, 'extents', one=1)
    debugfs(image, 'mkdir dir', 'mkdir dir/sub')
    blk = block_of(image, 'dir')
    word(image, inode_off(image, 'dir') + 0x38, '<H', 0x300)
    debugfs(image, 'sif dir uid 0', 'set_bg 0 inode_bitmap %d' % blk, 'set_bg 0 checksum calc')
    mends(image, 'extent-range')
    assert '/sub/' in debugfs(image, 'ls -p dir')


@pytest.mark.parametrize('ino', [3, 6, 9, 10])
def test_reserved_inode_that_is_a_file(sound, tmp_path, ino):
    image = copy(sound, 'plain', tmp_path)
    debugfs(image, 'copy_inode file <%d>' % ino)
    mends(image, 'inode-reserved')


def test_deleted_at_an_inode_s_number(sound, tmp_path):
    image = copy(sound, 'plain', tmp_path)
    debugfs(image, 'sif <100> mode 0100644', 'sif <100> dtime @77')
    mends(image, 'inode-dtime')
