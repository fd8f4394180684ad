"""
What this kernel does not mount (blocks above a page, casefold, verity, quota): made and filled by mke2fs -d and debugfs,
sound for e2fsck, and compared with the tree that it was filled from. Needs no kernel mount, only ours.
"""
import errno, os, stat, subprocess
import pytest
import manifest, mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: mke2fs -d must keep owners, and /dev/fuse must be open')

EXT4 = ('none,ext_attr,dir_index,filetype,sparse_super,large_file,extent,huge_file,dir_nlink,extra_isize,64bit,flex_bg,'
        'metadata_csum')
# What the tree cannot say: numbers, and times that mke2fs does not copy.
OWN = ('ino', 'blocks', 'ctime', 'atime', 'holes')


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    d = tmp_path_factory.mktemp('tree')
    (d / 'sub' / 'deeper').mkdir(parents=True)
    (d / 'many').mkdir()
    for i in range(3000):
        (d / 'many' / ('entry-with-some-length-%05d' % i)).write_bytes(b'%d' % i if i % 50 == 0 else b'')
    for n in (0, 1, 100, 4096, 65535, 65536, 65537, 3000000):
        (d / ('size-%d' % n)).write_bytes(os.urandom(n))
    with open(d / 'sparse', 'wb') as f:
        for i in range(60):
            f.seek(i * 200000)
            f.write(b'piece %d' % i)
    os.symlink('short', d / 'link')
    os.symlink('long' * 100, d / 'sub' / 'link')
    os.link(d / 'size-100', d / 'sub' / 'hard')
    os.mkfifo(d / 'fifo')
    os.setxattr(d / 'size-100', 'user.note', b'x' * 200)
    for i, (top, dirs, files) in enumerate(os.walk(d)):
        for name in dirs + files:
            os.utime(os.path.join(top, name), ns=(10**18, 10**18 + i * 10**9), follow_symlinks=False)
    return d


def visible(m):
    """Without lost+found, and without what the image has of its own."""
    out = {}
    for path, d in m.items():
        if path == b'' or path.startswith(b'lost+found'):
            continue
        d = {k: v for k, v in d.items() if k not in OWN}
        if stat.S_ISDIR(d['type']):
            d.pop('size')
        d['mtime'] //= 10**9
        out[path] = d
    return out


def build(path, tree, features, *args, mib=64):
    with open(path, 'wb') as f:
        f.truncate(mib << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', features, '-d', str(tree), *args, str(path))
    # -D makes the directories hashed, which mke2fs does not.
    subprocess.run(['e2fsck', '-fyD', str(path)], stdout=subprocess.DEVNULL)
    mounts.run('e2fsck', '-fn', str(path))


def debugfs(image, *commands):
    return mounts.run('debugfs', '-w', '-f', '-', str(image), input='\n'.join(commands).encode()).decode(errors='replace')


def check(image, tree, tmp_path):
    d = tmp_path / 'm'
    d.mkdir()
    with mounts.werunos(image, d, '--ro'):
        diff = manifest.differences(visible(manifest.take(tree)), visible(manifest.take(d)))
    assert not diff, '\n'.join(diff)


@pytest.mark.parametrize('block', [8192, 16384, 32768, 65536])
@pytest.mark.parametrize('features', [EXT4, EXT4.replace(',extent', '').replace(',metadata_csum', '').replace(',64bit', '')])
def test_large_blocks(tree, tmp_path, block, features):
    image = tmp_path / 'img'
    build(image, tree, features, '-b', str(block), mib=400 if block == 65536 else 160)
    check(image, tree, tmp_path)


@pytest.mark.parametrize('features', [EXT4 + ',quota,project', EXT4 + ',verity', EXT4 + ',stable_inodes,encrypt'])
def test_features_the_kernel_lacks(tree, tmp_path, features):
    image = tmp_path / 'img'
    build(image, tree, features, '-b', '4096')
    check(image, tree, tmp_path)


def test_project_numbers(tree, tmp_path):
    image = tmp_path / 'img'
    build(image, tree, EXT4 + ',project,quota', '-b', '4096')
    debugfs(image, 'sif /size-100 projid 4711')
    out = mounts.run(mounts.WERUNOS, 'stat', '--json', '%s:/size-100' % image).decode()
    assert '4711' in out, out


def test_names_without_regard_to_case(tmp_path):
    image, d = tmp_path / 'img', tmp_path / 'm'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(16 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', EXT4 + ',casefold', '-E', 'encoding=utf8-12.1', '-b', '4096', str(image))
    names = ['README', 'Stra\u00dfe', '\u00c9t\u00e9', '\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2', 'plain']
    (tmp_path / 'f').write_bytes(b'found')
    debugfs(image, 'mkdir fold', 'sif fold flags 0x40080000', 'cd fold', *['write %s/f %s' % (tmp_path, n) for n in names])
    with mounts.werunos(image, d, '--ro'):
        assert sorted(os.listdir(d / 'fold')) == sorted(names)
        for n in ['readme', 'ReadMe', 'STRASSE', 'stra\u00dfe', '\u00e9T\u00c9', 'e\u0301te\u0301', '\u03c3\u03af\u03c3\u03c5\u03c6\u03bf\u03c3', 'PLAIN']:
            assert (d / 'fold' / n).read_bytes() == b'found', n
        assert not (d / 'fold' / 'absent').exists()
        assert not (d / 'FOLD').exists()


def test_encrypted_files_are_refused(tree, tmp_path):
    image, d = tmp_path / 'img', tmp_path / 'm'
    d.mkdir()
    build(image, tree, EXT4 + ',encrypt', '-b', '4096')
    debugfs(image, 'sif /size-4096 flags 0x80800')
    with mounts.werunos(image, d, '--ro'):
        assert (d / 'size-4096').stat().st_size == 4096
        with pytest.raises(OSError) as e:
            (d / 'size-4096').read_bytes()
        assert e.value.errno == 126  # ENOKEY
        assert (d / 'size-100').read_bytes() == (tree / 'size-100').read_bytes()


def test_names_without_regard_to_case_change(tmp_path):
    """Through a mount, whose kernel knows names as bytes: it never shows what another spelling took away."""
    image, d = tmp_path / 'img', tmp_path / 'm'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(32 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', EXT4 + ',has_journal,casefold', '-E', 'encoding=utf8-12.1', '-b', '4096', str(image))
    with mounts.werunos(image, d):
        (d / 'fold').mkdir()
        assert not (d / 'fold' / 'readme').exists()
        mounts.run('chattr', '+F', str(d / 'fold'))
        (d / 'fold' / 'README').write_bytes(b'1')
        assert (d / 'fold' / 'readme').read_bytes() == b'1'
        assert (d / 'fold' / 'ReadMe').stat().st_ino == (d / 'fold' / 'README').stat().st_ino
        with pytest.raises(FileExistsError):
            os.close(os.open(d / 'fold' / 'Readme', os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        with pytest.raises(FileExistsError):
            (d / 'fold' / 'READme').mkdir()
        (d / 'fold' / 'rEADME').unlink()
        for n in ['README', 'readme', 'ReadMe', 'rEADME']:
            assert not (d / 'fold' / n).exists(), n
        for i in range(2000):
            (d / 'fold' / ('A Rather Long Name %d' % i)).write_bytes(b'%d' % i)
        for i in range(0, 2000, 2):
            os.rename(d / 'fold' / ('a rather long name %d' % i), d / 'fold' / ('Moved %d' % i))
        (d / 'fold' / 'Sub').mkdir()
        (d / 'fold' / 'sub' / 'X').write_bytes(b'below')
        assert (d / 'fold' / 'SUB' / 'x').read_bytes() == b'below'
        for i in range(2000):
            name = 'moved %d' if i % 2 == 0 else 'A RATHER LONG NAME %d'
            assert (d / 'fold' / (name % i)).read_bytes() == b'%d' % i
        names = set(os.listdir(d / 'fold'))
        assert names == {'Sub'} | {('A Rather Long Name %d' if i % 2 else 'Moved %d') % i for i in range(2000)}
    mounts.run('e2fsck', '-fn', str(image))
    out = mounts.run('debugfs', '-R', 'ls -p fold', str(image)).decode()
    assert 'Moved 1998' in out and 'A Rather Long Name 1999' in out


def test_encrypted_files_are_kept(tree, tmp_path):
    image, d = tmp_path / 'img', tmp_path / 'm'
    d.mkdir()
    build(image, tree, EXT4 + ',encrypt', '-b', '4096')
    context = bytes([1, 1, 4, 0]) + b'no key..' + bytes(16)
    (tmp_path / 'context').write_bytes(context)
    debugfs(image, 'sif /size-4096 flags 0x80800', 'ea_set -f %s /size-4096 c' % (tmp_path / 'context'))
    with mounts.werunos(image, d):
        path = d / 'size-4096'
        for flags in [os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC]:
            with pytest.raises(OSError) as e:
                os.open(path, flags)
            assert e.value.errno == 126  # ENOKEY
        with pytest.raises(OSError) as e:
            os.truncate(path, 0)
        assert e.value.errno == 126
        os.chmod(path, 0o600)
        os.rename(path, d / 'moved')
        assert (d / 'moved').stat().st_size == 4096
        (d / 'other').write_bytes(b'plain')
        (d / 'moved').unlink()


@pytest.mark.parametrize('strict', [False, True])
def test_names_that_are_no_text(tmp_path, strict):
    """In a directory that folds case: refused by a strict volume, kept as bytes by others, and never folded."""
    image, d = tmp_path / 'img', tmp_path / 'm'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(32 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', EXT4 + ',has_journal,casefold', '-E', 'encoding=utf8' + (',encoding_flags=strict' if strict else ''),
               '-b', '1024', str(image))
    odd = [b'\xff', b'a\xc3', b'\xed\xa0\x80', b'\xf5\x80\x80\x80A']
    with mounts.werunos(image, d):
        (d / 'fold').mkdir()
        (d / 'plain').mkdir()
        mounts.run('chattr', '+F', str(d / 'fold'))
        for name in odd:
            (d / 'plain' / os.fsdecode(name)).write_bytes(name)
            path = d / 'fold' / os.fsdecode(name)
            if strict:
                for call in [lambda: path.write_bytes(b''), path.mkdir, lambda: (d / 'plain' / os.fsdecode(name)).rename(path)]:
                    with pytest.raises(OSError) as e:
                        call()
                    assert e.value.errno == errno.EINVAL
            else:
                path.write_bytes(name)
                assert not (d / 'fold' / os.fsdecode(name.swapcase())).exists() or name.swapcase() == name
        assert sorted(os.listdir(os.fsencode(d / 'fold'))) == ([] if strict else sorted(odd))
    mounts.run('e2fsck', '-fn', str(image))
    with mounts.werunos(image, d) as root:
        for name in [] if strict else odd:
            assert (d / 'fold' / os.fsdecode(name)).read_bytes() == name
            (d / 'fold' / os.fsdecode(name)).unlink()
        assert os.listdir(d / 'fold') == []
    mounts.run('e2fsck', '-fn', str(image))
