"""
werunos fsck -y of directories: what is broken in one place is mended by the first run, the second finds nothing, neither does e2fsck, and every name
that e2fsck -fy keeps is kept.
"""
import os, re, shutil, struct, subprocess
import pytest
import mounts
from test_fsck import BASE, BREAK, block_of, debugfs, e2fsck, fsck, ino_of, rename_in_block, sound, word  # noqa: F401

OURS = set('''directory-block directory-checksum directory-hole directory-dot directory-dotdot name-bad name-twice name-of-free-inode name-nowhere
name-type name-encryption directory-two-names htree-root htree-node htree-hash htree-reference directory-unconnected inode-no-name links'''.split())
CASES = [b for b in BREAK if b[1] in OURS]
# What is said instead when it is to be mended.
SAID = {'directory-hole': 'inode-size', 'name-encryption': 'encryption'}


def names(image, ino=2, path='', seen=None):
    """All paths, and the inodes that they lead to."""
    seen = set() if seen is None else seen
    out = {}
    if ino in seen:
        return out
    seen.add(ino)
    said = subprocess.run(['debugfs', '-R', 'ls -p <%d>' % ino, str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    for line in said.decode('latin-1').splitlines():
        field = line.split('/')
        if len(field) < 6 or field[1] in ('', '0') or field[5] in ('.', '..'):
            continue
        out[path + '/' + field[5]] = int(field[1])
        if field[2].startswith('04'):
            out.update(names(image, int(field[1]), path + '/' + field[5], seen))
    return out


def mend(image, *options):
    """Exit code, and the codes of what was found."""
    r = subprocess.run([mounts.WERUNOS, 'fsck', '-f', '-y', *options, str(image)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    err = r.stderr.decode(errors='replace')
    assert r.returncode in (0, 1) and 'Sanitizer' not in err and 'runtime error' not in err, (r.returncode, r.stdout[-2000:], err[-3000:])
    return r.returncode, re.findall(r'\[([a-z0-9-]+)\]', r.stdout.decode(errors='replace'))


def is_sound(image):
    assert fsck(image)[:2] == (0, [])
    r = e2fsck(image)
    assert r.returncode == 0, r.stdout.decode(errors='replace')


def mends(image, tmp_path, code):
    """Returns all names afterwards."""
    other = tmp_path / 'other.img'
    shutil.copyfile(image, other)
    subprocess.run(['e2fsck', '-fy', str(other)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    exit_code, said = mend(image)
    assert exit_code == 1 and code in said, (exit_code, said)
    is_sound(image)
    have, want = names(image), names(other)
    # Names that were made up may differ, what they lead to may not. Of a directory's two names e2fsck keeps the one that it meets first.
    made_up = re.compile(r'~|/#' + ('|other' if code == 'directory-two-names' else ''))
    assert not {p for p in want if not made_up.search(p)} - set(have)
    assert set(want.values()) <= set(have.values())
    return have


def make(tmp_path, options, blocks='1024', size=24 << 20):
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(size)
    mounts.run('mke2fs', '-q', '-F', '-b', blocks, '-I', '256', '-N', '8192', *options, str(image))
    return image


def tree(tmp_path, count, name='name-of-some-length-%05d'):
    """A directory with so many names, of one file for each 50,000."""
    d = tmp_path / 'tree' / 'deep'
    d.mkdir(parents=True)
    for i in range(count):
        if i % 50000:
            os.link(first, d / (name % i))
        else:
            first = d / (name % i)
            first.write_bytes(b'')
    return ['-d', str(d.parent)]


@pytest.mark.parametrize('kind,code,how', CASES, ids=['%s-%s-%d' % (k, c, i) for i, (k, c, _) in enumerate(CASES)])
def test_broken_in_one_place(sound, tmp_path, kind, code, how):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    how(image) if callable(how) else debugfs(image, *how)
    mends(image, tmp_path, SAID.get(code, code))


# ---- what is damaged keeps the names that can be read ----

@pytest.mark.parametrize('kind', ['csum', 'plain'])
@pytest.mark.parametrize('at,fmt,value', [(24 + 4, '<H', 5000), (24 + 4, '<H', 0), (24 + 6, '<B', 255), (4, '<H', 8)])
def test_salvage(sound, tmp_path, kind, at, fmt, value):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    before = names(image)
    word(image, block_of(image, 'dir') * 1024 + at, fmt, value)
    have = mends(image, tmp_path, 'directory-checksum' if kind == 'csum' and not has_bad_records(image, 'dir') else 'directory-block')
    assert set(have.values()) == set(before.values())


def has_bad_records(image, path):
    data = image.read_bytes()[block_of(image, path) * 1024:][:1024]
    off = 0
    while off < 1024:
        _, rec_len, name_len = struct.unpack_from('<IHB', data, off)
        if rec_len < 12 or rec_len % 4 or rec_len < 8 + name_len or off + rec_len > 1024 or 0 < 1024 - off - rec_len < 12:
            return True
        off += rec_len
    return False


def test_two_names_that_differ(sound, tmp_path):
    """Names of two files that became one: both are kept."""
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'plain.img', image)
    inodes = {ino_of(image, 'dir/twin-1'), ino_of(image, 'dir/twin-2')}
    rename_in_block(image, 'dir', b'twin-2', b'twin-1')
    have = mends(image, tmp_path, 'name-twice')
    assert {have['/dir/twin-1'], have['/dir/twin-1~0']} == inodes


# ---- what has no way ----

def test_loop(sound, tmp_path):
    """Two directories, each in the other."""
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'csum.img', image)
    dir_ino, sub = ino_of(image, 'dir'), ino_of(image, 'dir/sub')
    debugfs(image, 'link dir dir/sub/up', 'unlink dir')
    have = mends(image, tmp_path, 'directory-unconnected')
    assert have['/lost+found/#%d' % dir_ino] == dir_ino and have['/lost+found/#%d/sub' % dir_ino] == sub


@pytest.mark.parametrize('how', [['rmdir lost+found'], ['rmdir lost+found', 'write /dev/null lost+found'], ['unlink lost+found']])
@pytest.mark.parametrize('kind', ['csum', 'plain', 'ea'])
def test_lost_found_is_made(sound, tmp_path, kind, how):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    ino = ino_of(image, 'file')
    debugfs(image, *how, 'unlink file')
    said = subprocess.run([mounts.WERUNOS, 'fsck', '-f', str(image)], stdout=subprocess.PIPE, text=True).stdout
    assert '[%s]' % ('lost-found' if len(how) > 1 else 'lost-found-missing') in said, said
    have = mends(image, tmp_path, 'inode-no-name')
    assert have['/lost+found/#%d' % ino] == ino


@pytest.mark.parametrize('features', [BASE + ',metadata_csum', 'none,ext_attr,filetype,dir_index,sparse_super', BASE + ',metadata_csum,inline_data'])
def test_many_lost(tmp_path, features):
    """lost+found grows."""
    image = make(tmp_path, ['-O', features])
    data = tmp_path / 'data'
    data.write_bytes(b'd' * 2000)
    debugfs(image, 'mkdir many', *['write %s many/f%04d' % (data, i) for i in range(1500)])
    inodes = {i for p, i in names(image).items() if p.startswith('/many/')}
    assert len(inodes) == 1500
    debugfs(image, 'clri many')
    have = mends(image, tmp_path, 'inode-no-name')
    assert inodes == {i for p, i in have.items() if p.startswith('/lost+found/#')}


def test_empty_ones_go(sound, tmp_path):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'csum.img', image)
    ino = ino_of(image, 'big/a-name-of-some-length-007')
    debugfs(image, 'unlink big/a-name-of-some-length-007')
    assert ino not in mends(image, tmp_path, 'inode-no-name').values()


# ---- indexes ----

FORMS = {'csum': (BASE + ',metadata_csum', '1024'), 'plain': ('none,ext_attr,filetype,dir_index,sparse_super', '1024'),
         'large': (BASE + ',metadata_csum,large_dir', '1024'), '4k': (BASE + ',metadata_csum', '4096'), '64k': (BASE + ',metadata_csum', '65536'),
         'casefold': (BASE + ',metadata_csum,casefold', '1024')}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('hashes', ['half_md4', 'tea', 'legacy'])
def test_rebuild(tmp_path, form, hashes):
    """-D gives every directory an index that needs one; names are what they were, and both referees are content."""
    image = make(tmp_path, ['-O', FORMS[form][0], *tree(tmp_path, 4000)], FORMS[form][1], (24 if form != '64k' else 80) << 20)
    debugfs(image, 'ssv def_hash_version ' + hashes, *(['sif deep flags 0x40080000'] if form == 'casefold' else []))
    before = names(image)
    assert len(before) > 4000
    mend(image, '-D')
    is_sound(image)
    assert names(image) == before
    flags = int(debugfs(image, 'stat deep').split('Flags: ')[1].split()[0], 16)
    assert flags & 0x1000 and 'Indirect levels: ' in debugfs(image, 'htree_dump deep')


@pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to fill the volume')
def test_three_levels(tmp_path):
    """More names than an index of two levels holds, in blocks of 1 KiB."""
    image, d = make(tmp_path, ['-O', BASE + ',metadata_csum,large_dir', '-m', '0'], '1024', 200 << 20), tmp_path / 'k'
    d.mkdir()
    with mounts.kernel(image, d):
        (d / 'deep').mkdir()
        (d / 'first').write_bytes(b'')
        for i in range(60000):
            os.link(d / 'first', d / 'deep' / ('%05d' % i + 'x' * 240))
    mend(image, '-D')
    is_sound(image)
    said = debugfs(image, 'htree_dump deep')
    assert 'Indirect levels: 2' in said
    with mounts.kernel(image, d):
        assert len(os.listdir(d / 'deep')) == 60000
        assert all((d / 'deep' / ('%05d' % i + 'x' * 240)).exists() for i in range(0, 60000, 7))


@pytest.mark.parametrize('form', ['csum', 'plain', '4k'])
def test_index_from_nothing(tmp_path, form):
    """The root of the index is garbage: all names are found again."""
    image = make(tmp_path, ['-O', FORMS[form][0], *tree(tmp_path, 2000)], FORMS[form][1])
    mend(image, '-D')
    before = names(image)
    block = int(FORMS[form][1])
    word(image, block_of(image, 'deep') * block + 12, '8s', b'garbage!')
    have = mends(image, tmp_path, 'htree-root')
    assert have == before


@pytest.mark.parametrize('form', ['csum', 'plain', '4k'])
def test_hole(tmp_path, form):
    image = make(tmp_path, ['-O', FORMS[form][0], *tree(tmp_path, 500)], FORMS[form][1])
    before = names(image)
    debugfs(image, 'punch deep 1 1')
    have = mends(image, tmp_path, 'directory-hole')
    assert len(before) > len(have) > len(before) // 2


@pytest.mark.parametrize('kind', ['csum', 'plain'])
@pytest.mark.parametrize('length', [24, 0x8c])
def test_long_dot(sound, tmp_path, kind, length):
    """"." hides "..", and more: nothing of that was removed."""
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    was = names(image)
    word(image, block_of(image, 'dir') * 1024 + 4, '<H', length)
    mends(image, tmp_path, 'directory-dot' if length > 24 else 'directory-dotdot')
    assert names(image) == was


def test_checksum_that_an_entry_covers(sound, tmp_path):
    """Kernels do not look for that."""
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'csum.img', image)
    was = names(image)
    at, data = block_of(image, 'dir') * 1024, image.read_bytes()
    last = at + 12
    while last + struct.unpack_from('<H', data, last + 4)[0] < at + 1012:
        last += struct.unpack_from('<H', data, last + 4)[0]
    word(image, last + 4, '<H', at + 1024 - last)
    mends(image, tmp_path, 'directory-block')
    assert names(image) == was


def test_lost_feature_of_indexes(sound, tmp_path):
    """Without an index, blocks have the checksums of leaves."""
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'csum.img', image)
    was = names(image)
    debugfs(image, 'feature -dir_index')
    mends(image, tmp_path, 'inode-flags')
    assert names(image) == was


@pytest.mark.parametrize('at', [24, 36])
def test_name_with_neither_length_nor_type(sound, tmp_path, at):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'plain.img', image)
    was = names(image)
    off = block_of(image, 'dir') * 1024 + at
    assert image.read_bytes()[off + 6] < 10
    word(image, off + 4, '<H', 0)
    word(image, off + 7, '<B', 0)
    mends(image, tmp_path, 'directory-block')
    assert names(image) == was
