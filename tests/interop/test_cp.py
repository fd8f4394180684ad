"""
werunos cp: a tree of everything goes into volumes, out of them and from one to another, and is the same afterwards, for us and for
the kernel; what is hostile touches nothing outside; broken off, the volume is sound.
"""
import json, os, random, signal, subprocess, time
import pytest
import fill, manifest, mounts
from test_write import fsck, make

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: owners, devices and attributes of every sort are copied')
KINDS = ['default', '1k', 'nojournal', 'nocsum']
# What a copy has of its own.
OWN = ('ctime', 'ino', 'blocks')


def cp(*args, code=0, **kw):
    r = subprocess.run([mounts.WERUNOS, 'cp', *map(str, args)], capture_output=True, text=True, errors='replace', timeout=120, **kw)
    assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
    return r


def take(root):
    """Directories' sizes and link counts with names outside the copy are the file system's; a file is as long as it is."""
    out = manifest.take(root)
    for d in out.values():
        for key in OWN:
            del d[key]
        if d['type'] == 0o040000:
            del d['size']
    # What is promised and not written is no hole to who reads the file from its start to its end.
    del out[b'prealloc']['holes']
    return out


def same(want, got):
    diff = manifest.differences(want, got)
    assert not diff, '\n'.join(diff)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """The tree, on an ext4 mount of its own: tmpfs does not hold all of it."""
    tmp = tmp_path_factory.mktemp('cp')
    image, mnt = make(tmp / 'world.img', 'default', 512), tmp / 'world'
    mnt.mkdir()
    with mounts.kernel(image, mnt):
        root = str(mnt / 'tree')
        os.mkdir(root)
        fill.fill(root, 4096)
        os.unlink(root + '/x-large') if os.path.exists(root + '/x-large') else None
        long = root
        for i in range(30):
            long += '/' + 'd' * 200  # longer than a path may be
            os.mkdir(long) if len(long) < 4000 else None
        # Reading changes no time of access from here on.
        mounts.run('mount', '-o', 'remount,noatime', str(mnt))
        yield root, take(root), tmp


@pytest.fixture
def place(world, tmp_path):
    yield tmp_path
    mounts.run('rm', '-rf', str(tmp_path))


@pytest.mark.parametrize('kind', KINDS)
def test_in_and_out(world, place, kind):
    root, want, _ = world
    image, mnt = make(place / 'a.img', kind, 512), place / 'mnt'
    mnt.mkdir()
    r = cp('-a', '--json', root, f'{image}:/')
    said = json.loads(r.stdout)
    assert said['failed'] == 0 and said['files'] > 8000, said
    fsck(image)
    with mounts.kernel(image, mnt, 'loop,ro,noatime'):
        same(want, take(mnt / 'tree'))
    # Out again, to a file system that holds everything.
    other = make(place / 'b.img', 'default', 512)
    with mounts.kernel(other, mnt, 'loop,noatime'):
        cp('-a', f'{image}:/tree', mnt)
        same(want, take(mnt / 'tree'))


def test_volume_to_volume_and_names(world, place):
    root, want, _ = world
    a, b, mnt = make(place / 'a.img', 'default', 512), make(place / 'b.img', '1k', 512), place / 'mnt'
    mnt.mkdir()
    cp('-a', root, f'{a}:/other')  # the tree gets this name
    cp('-a', f'{a}:/other', f'{b}:/')
    cp('-a', f'{b}:/other/hard', f'{b}2', code=0)
    fsck(b)
    assert (place / 'b.img2').read_bytes() == b'three names'
    with mounts.kernel(b, mnt, 'loop,ro,noatime'):
        same(want, take(mnt / 'other'))


def test_onto_what_is_there(place):
    """Files take the place of files, directories stay, and what is not in the source stays as it was."""
    src, image, mnt = place / 'src', make(place / 'a.img', 'default', 64), place / 'mnt'
    for d in ('d', 'mnt-d'):
        (src / d).mkdir(parents=True)
    (src / 'd/file').write_text('new')
    (src / 'd/link').symlink_to('new-target')
    (src / 'file').write_text('plain')
    mnt.mkdir()
    with mounts.kernel(image, mnt):
        (mnt / 'src/d').mkdir(parents=True)
        (mnt / 'src/d/file').write_text('old and longer')
        os.link(mnt / 'src/d/file', mnt / 'keeps')
        (mnt / 'src/d/link').symlink_to('old')
        (mnt / 'src/d/stays').write_text('stays')
        (mnt / 'src/file').mkdir()
    r = cp('-a', src, f'{image}:/', code=1)
    assert 'src/file' in r.stderr and 'directory' in r.stderr and len(r.stderr.splitlines()) <= 2, r.stderr
    fsck(image)
    with mounts.kernel(image, mnt):
        assert (mnt / 'src/d/file').read_text() == 'new'
        assert (mnt / 'keeps').read_text() == 'old and longer'
        assert os.readlink(mnt / 'src/d/link') == 'new-target'
        assert (mnt / 'src/d/stays').read_text() == 'stays'
        assert (mnt / 'src/file').is_dir()
        assert not [n for n in os.listdir(mnt / 'src/d') if n.startswith('.werunos')]


def test_owners_and_what_is_left_out(place):
    src, image, mnt = place / 'src', make(place / 'a.img', 'default', 64), place / 'mnt'
    (src / 'a/skip').mkdir(parents=True)
    (src / 'a/one.o').write_text('x')
    (src / 'a/one.c').write_text('x')
    (src / 'a/skip/inside').write_text('x')
    os.chown(src / 'a/one.c', 1000, 1001)
    mnt.mkdir()
    cp('-a', '--exclude', '*.o', '--exclude', 'a/skip', '--map', 'uid:1000=70000', src, f'{image}:/')
    cp('-a', '--owner', '5:6', src, f'{image}:/owned')
    cp(src, f'{image}:/plain')
    with mounts.kernel(image, mnt):
        assert sorted(os.listdir(mnt / 'src/a')) == ['one.c']
        st = os.stat(mnt / 'src/a/one.c')
        assert (st.st_uid, st.st_gid) == (70000, 1001)
        for top, dirs, files in os.walk(mnt / 'owned'):
            for n in ['.'] + files:
                st = os.stat(os.path.join(top, n))
                assert (st.st_uid, st.st_gid) == (5, 6)
        assert os.stat(mnt / 'plain/a/one.c').st_uid == 0 and os.path.exists(mnt / 'plain/a/skip/inside')


@pytest.mark.parametrize('way', ['in', 'out'])
def test_links_in_the_way(place, way):
    """A symbolic link where a directory should be is not followed."""
    src, outside = place / 'src', place / 'outside'
    (src / 'etc').mkdir(parents=True)
    (src / 'etc/passwd').write_text('evil')
    outside.mkdir()
    image, mnt = make(place / 'a.img', 'default', 64), place / 'mnt'
    mnt.mkdir()
    if way == 'in':
        with mounts.kernel(image, mnt):
            (mnt / 'dst').mkdir()
            (mnt / 'outside').mkdir()
            (mnt / 'dst/etc').symlink_to('../outside')
        cp('-a', src / 'etc', f'{image}:/dst')
        with mounts.kernel(image, mnt):
            assert not os.listdir(mnt / 'outside')
            assert (mnt / 'dst/etc/passwd').read_text() == 'evil' and not (mnt / 'dst/etc').is_symlink()
    else:
        cp('-a', src, f'{image}:/')
        dst = place / 'dst'
        (dst / 'src').mkdir(parents=True)
        (dst / 'src/etc').symlink_to(outside)
        cp('-a', f'{image}:/src', dst)
        assert not os.listdir(outside)


def test_names_that_no_path_can_say(place):
    """A volume that holds a name with a slash, and one called "..": told of, nothing outside touched."""
    src, image, dst = place / 'src', make(place / 'a.img', 'nocsum', 64), place / 'a/b/dst'
    src.mkdir()
    for n in ('AAAAAAAAAA', 'BB', 'good'):
        (src / n).write_text(n)
    cp('-a', src, f'{image}:/')
    raw, entry = image.read_bytes(), bytes([10, 1]) + b'AAAAAAAAAA'
    assert entry in raw
    image.write_bytes(raw.replace(entry, bytes([10, 1]) + b'../../evil'))
    dst.mkdir(parents=True)
    cp('-a', f'{image}:/src', dst, code=1)
    assert not (place / 'a/evil').exists() and not (place / 'a/b/evil').exists()
    assert (dst / 'src/good').read_text() == 'good'


def test_full_volume(place):
    src, image, mnt = place / 'src', make(place / 'a.img', 'default', 32), place / 'mnt'
    src.mkdir()
    mnt.mkdir()
    for i in range(60):
        (src / ('%03d' % i)).write_bytes(os.urandom(1 << 20))
    r = cp('-a', src, f'{image}:/', code=1)
    assert 'is full' in r.stderr, r.stderr
    fsck(image)
    with mounts.kernel(image, mnt, 'loop,ro'):
        names = sorted(os.listdir(mnt / 'src'))
        assert 5 < len(names) < 60 and names == ['%03d' % i for i in range(len(names))]
        for n in names:
            assert (mnt / 'src' / n).read_bytes() == (src / n).read_bytes()


@pytest.mark.parametrize('how', ['SIGINT', 'SIGKILL'])
def test_broken_off(place, how):
    """^C: what is complete is there, and the rest is not. Killed: sound after replay, and what was there before is whole."""
    src, image, mnt = place / 'src', make(place / 'a.img', 'default', 512), place / 'mnt'
    (src / 'd').mkdir(parents=True)
    mnt.mkdir()
    (src / 'before').write_bytes(os.urandom(3 << 20))
    cp('-a', src / 'before', f'{image}:/')
    for i in range(3000):
        (src / 'd' / ('%05d' % i)).write_bytes(b'%05d' % i * 5000)
    seed = int(os.environ.get('SEED', random.randrange(10**6)))
    print('SEED=%d' % seed)
    rnd = random.Random(seed)
    for turn in range(4):
        p = subprocess.Popen([mounts.WERUNOS, 'cp', '-a', str(src / 'd'), f'{image}:/d{turn}'], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(rnd.uniform(0.01, 0.25))
        p.send_signal(getattr(signal, how))
        out, err = p.communicate(timeout=60)
        # It may have been through, or have begun nothing yet.
        assert p.returncode in ((0, 130, -2) if how == 'SIGINT' else (0, -9)), (p.returncode, err)
        if how == 'SIGKILL':
            # Only the journal is replayed and orphans are cleared.
            subprocess.run(['e2fsck', '-p', str(image)], capture_output=True)
        fsck(image)
        with mounts.kernel(image, mnt, 'loop,ro'):
            assert (mnt / 'before').read_bytes() == (src / 'before').read_bytes()
            there = mnt / f'd{turn}'
            for n in sorted(os.listdir(there)) if there.exists() else []:
                if how == 'SIGINT':
                    assert (there / n).read_bytes() == b'%05d' % int(n) * 5000, n


@pytest.mark.parametrize('args,code,says', [
    ([], 64, 'copied'),
    (['{src}'], 64, 'where to'),
    (['{src}', '{src}2'], 64, 'cp(1)'),
    (['{src}/none', '{image}:/'], 1, 'No such file'),
    (['{src}', '{image}:/no/such/dir'], 1, 'mkdir'),
    (['{image}:/none', '{src}'], 1, 'No such file'),
    (['{src}', '{src}', '{image}:/file'], 1, 'not a directory'),
    (['{image}:/', '{image}:/x'], 1, 'use'),
])
def test_bad_use(place, args, code, says):
    src, image = place / 'src', make(place / 'a.img', 'default', 16)
    src.mkdir()
    r = cp(*[a.format(src=src, image=image) for a in args], code=code)
    assert says in r.stderr, r.stderr
    if code == 1:
        assert len(r.stderr.strip().splitlines()) == 1, r.stderr
    fsck(image)


def test_what_links_lead_to(place):
    """-L: instead of links; a link into a directory that it lies in ends there, with one line."""
    src, image, mnt = place / 'src', make(place / 'a.img', 'default', 64), place / 'mnt'
    (src / 'd').mkdir(parents=True)
    (place / 'outside').write_text('from outside')
    (src / 'd/file').symlink_to(place / 'outside')
    (src / 'dir').symlink_to('d')
    (src / 'd/loop').symlink_to('..')
    (src / 'd/nowhere').symlink_to('nowhere')
    mnt.mkdir()
    r = cp('-aL', src, f'{image}:/', code=1)
    assert sorted(r.stderr.replace(str(place), '').split(': ')[1] for r.stderr in r.stderr.splitlines()) == [
        'src/d/loop', 'src/d/nowhere', 'src/dir/loop', 'src/dir/nowhere']
    fsck(image)
    with mounts.kernel(image, mnt):
        for d in ('d', 'dir'):
            assert not (mnt / 'src' / d).is_symlink() and (mnt / 'src' / d / 'file').read_text() == 'from outside'
            assert sorted(os.listdir(mnt / 'src' / d)) == ['file']


def test_one_file_system(place):
    src, image, mnt = place / 'src', make(place / 'a.img', 'default', 64), place / 'mnt'
    (src / 'other').mkdir(parents=True)
    (src / 'mine').write_text('x')
    mnt.mkdir()
    mounts.run('mount', '-t', 'tmpfs', 'tmpfs', str(src / 'other'))
    try:
        (src / 'other/not-mine').write_text('x')
        cp('-ax', src, f'{image}:/one')
        cp('-a', src, f'{image}:/all')
    finally:
        mounts.unmount(src / 'other')
    with mounts.kernel(image, mnt):
        assert sorted(os.listdir(mnt / 'one')) == ['mine', 'other'] and not os.listdir(mnt / 'one/other')
        assert os.listdir(mnt / 'all/other') == ['not-mine']


def test_partition(place):
    """IMAGE#pN:/PATH on both sides."""
    disk, mnt = place / 'disk.img', place / 'mnt'
    with open(disk, 'wb') as f:
        f.truncate(80 << 20)
    subprocess.run(['sfdisk', '-q', '--no-tell-kernel', str(disk)], input=b'label: gpt\nsize=32M\nsize=32M\n', check=True)
    (place / 'file').write_text('there and back')
    for n in (1, 2):
        subprocess.run([mounts.WERUNOS, 'mkfs', 'ext4', f'{disk}#p{n}'], check=True, stdout=subprocess.DEVNULL)
    cp(place / 'file', f'{disk}#p1:/')
    cp(f'{disk}#p1:/file', f'{disk}#p2:/again')
    cp(f'{disk}#p2:/again', place / 'back')
    assert (place / 'back').read_text() == 'there and back'
