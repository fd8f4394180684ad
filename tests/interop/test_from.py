"""
`werunos mkfs --from`: volumes made with their content, from trees, archives and container images. The kernel shows what was to be copied, e2fsck
finds nothing; what was broken off is no volume, or a sound one; the same input gives the same bytes.
"""
import hashlib, json, os, random, re, signal, stat, subprocess, tarfile, time
import pytest
import mounts, oci
import test_unpack
from test_cp import same, take, world  # noqa: F401 (a fixture)
from test_unpack import host, shown, view  # noqa: F401 (a fixture)
from test_write import fsck

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')
os.environ['PATH'] += ':/usr/sbin:/sbin'
LONG = bool(os.environ.get('LONG'))
MIB = 1 << 20
TAR = ['tar', '--format=pax', '--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner', '-S']


def mkfs(*args, code=0, **kw):
    r = subprocess.run([mounts.WERUNOS, 'mkfs', *map(str, args)], capture_output=True, text=True, errors='replace', timeout=240, **kw)
    assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
    assert 'Sanitizer' not in r.stderr and 'runtime error' not in r.stderr, r.stderr
    return r


@pytest.fixture
def place(tmp_path):
    """In memory where that is."""
    d = mounts.run('mktemp', '-d', *(['/dev/shm/test_from.XXXXXX'] if os.access('/dev/shm', os.W_OK) else [])).decode().strip()
    try:
        yield type(tmp_path)(d)
    finally:
        subprocess.run(['rm', '-rf', '--one-file-system', d])


def seed():
    n = int(os.environ.get('SEED', random.randrange(10**6)))
    print('SEED=%d' % n)
    return random.Random(n)


def without_lost_found(got):
    return {p: d for p, d in got.items() if not p.startswith(b'lost+found')}


def digest(path):
    return hashlib.sha256(open(path, 'rb').read()).hexdigest()


def layout_of(path, layers, how='gzip'):
    out = oci.Layout(path)
    out.add(out.manifest([out.layer(entries, how) for entries in layers]), 'latest')
    return out.path


@pytest.fixture
def three(host, place):
    """One tree as a directory, an archive and an image: what --from takes."""
    top = host + '/tree'
    os.mkdir(top)
    test_unpack.fill(top)
    mounts.run('mount', '-o', 'remount,noatime', host)
    archive = place / 'a.tar'
    mounts.run(*TAR, '-cf', archive, '-C', top, '.')
    return {'dir': top, 'tar': str(archive), 'oci': layout_of(place / 'layout', [archive.read_bytes()])}


# ---- content ----

WORDS = {'4k': ['ext4'], '1k': ['-b', '1024', 'ext4'], 'nojournal': ['-O', '^has_journal', 'ext4'], 'ext3': ['ext3']}


@pytest.mark.parametrize('kind', WORDS)
def test_a_tree_of_everything(world, place, kind):
    root, want, _ = world
    image, mnt = place / 'a.img', place / 'mnt'
    mnt.mkdir()
    said = json.loads(mkfs('--json', *WORDS[kind], image, '--from', root).stdout)
    assert said['failed'] == 0 and said['files'] > 8000 and said['volume']['type'] == 'ext4', said
    fsck(image)
    want = {p: dict(d) for p, d in want.items()}
    with mounts.kernel(image, mnt, 'loop,ro,noatime'):
        got = take(mnt)
        assert os.path.isdir(mnt / 'lost+found')
    del want[b'']['nlink'], got[b'']['nlink']
    same(want, without_lost_found(got))
    # And it can be written to.
    with mounts.kernel(image, mnt):
        (mnt / 'one-more').write_bytes(b'x' * 100000)
    fsck(image)


@pytest.mark.parametrize('source', ['dir', 'tar', 'tar.zst', 'oci', 'oci:tag', 'stdin'])
def test_sources(three, place, tmp_path, source):
    image, kw, size = place / 'a.img', {}, []
    name = three.get(source)
    if source == 'tar.zst':
        name = three['tar'] + '.zst'
        mounts.run('zstd', '-q', three['tar'], '-o', name)
    elif source == 'oci:tag':
        name = three['oci'] + ':latest'
    elif source == 'stdin':
        name, kw, size = '-', {'stdin': open(three['tar'], 'rb')}, ['64M']
    mkfs('ext4', image, *size, '--from', name, **kw)
    test_unpack.same(view(three['dir'], True), shown(image, tmp_path, True))


def test_layers_as_unpack_has_them(place, tmp_path):
    layout = oci.Layout(place / 'layout')
    layout.add(layout.manifest(test_unpack.three_layers(layout)))
    image, other = place / 'a.img', test_unpack.make(place / 'b.img')
    mkfs('ext4', image, '--from', layout.path)
    test_unpack.werunos('unpack', '--quiet', '--oci', layout.path, other)
    want, got = shown(other, tmp_path), shown(image, tmp_path)
    assert b'opq/new' in got and b'opq/old' not in got
    for tree in (want, got):
        tree.pop(b'')
    # Of directories that a layer works in without saying so the times are those of the copy.
    test_unpack.same({p: d for p, d in want.items() if d['type'] != stat.S_IFDIR}, {p: d for p, d in got.items() if d['type'] != stat.S_IFDIR})
    test_unpack.same(want, got, ('mtime',))


def test_owners_and_what_is_left_out(place, tmp_path):
    src, image = place / 'src', place / 'a.img'
    (src / 'a/skip').mkdir(parents=True)
    for name in ('one.o', 'one.c', 'skip/inside'):
        (src / 'a' / name).write_text('x')
    os.chown(src / 'a/one.c', 1000, 1001)
    mkfs('ext4', image, '--from', src, '--exclude', '*.o', '--exclude', 'a/skip', '--map', 'uid:1000=70000+2', '--map', 'gid:1001=7')
    got = shown(image, tmp_path)
    assert sorted(got) == [b'', b'a', b'a/one.c'] and (got[b'a/one.c']['uid'], got[b'a/one.c']['gid']) == (70000, 7)
    mkfs('--force', 'ext4', image, '--from', src, '--owner', '5:6')
    got = shown(image, tmp_path)
    assert len(got) == 6 and {(d['uid'], d['gid']) for d in got.values()} == {(5, 6)}


# ---- sizes ----

def blocks(image):
    head = mounts.run('dumpe2fs', '-h', image).decode()
    count, free, size = (int(re.search('^%s: +([0-9]+)' % k, head, re.M)[1]) for k in ('Block count', 'Free blocks', 'Block size'))
    return count * size, free * size


def full_tree(src, files=200, size=100000):
    src.mkdir()
    for i in range(files):
        (src / ('%04d' % i)).write_bytes(b'%04d' % i * (size // 4))
    return src


def test_sizes(place, tmp_path):
    src, image = full_tree(place / 'src'), place / 'a.img'
    mkfs('ext4', image, '--from', src)
    size, free = blocks(image)
    assert size == image.stat().st_size and 20 * MIB < size < 80 * MIB and 8 * MIB < free < 40 * MIB
    want = shown(image, tmp_path)
    mkfs('--force', 'ext4', image, '100M', '--from', src)
    assert image.stat().st_size == 100 * MIB and shown(image, tmp_path) == want
    # Too small: a new file is gone, an empty one is empty, and what was to go is gone.
    small = place / 'small.img'
    r = mkfs('ext4', small, '16M', '--from', src, code=1)
    assert r.stderr.count('\n') == 1 and 'full' in r.stderr, r.stderr
    assert not small.exists()
    small.write_bytes(b'')
    mkfs('ext4', small, '16M', '--from', src, code=1)
    assert small.stat().st_size == 0
    mkfs('--force', 'ext4', image, '16M', '--from', src, code=1)
    refused(image, place, ['unfinished'])
    mkfs('ext4', image, '--from', src)
    assert shown(image, tmp_path) == want


@pytest.mark.parametrize('kind', WORDS)
@pytest.mark.parametrize('what', ['large', 'many', 'nothing'])
def test_shrink(place, tmp_path, kind, what):
    src, image, small = place / 'src', place / 'a.img', place / 'b.img'
    full_tree(src, *{'large': (3, 9 * MIB), 'many': (5000, 40), 'nothing': (0, 0)}[what])
    mkfs(*WORDS[kind], image, '--from', src)
    mkfs(*WORDS[kind], small, '--from', src, '--shrink')
    (size, _), (least, free) = blocks(image), blocks(small)
    assert least == small.stat().st_size < size - 8 * MIB and free < 2 * MIB, (size, least, free)
    assert shown(image, tmp_path) == shown(small, tmp_path)
    r = mkfs(*WORDS[kind], '--force', small, '100M', '--from', src, '--shrink', code=1)
    assert '--shrink' in r.stderr and r.stderr.count('\n') == 1
    fsck(small)


def test_an_archive_that_says_less_than_it_holds(place, tmp_path):
    """Its names are twice as many as there are files with data; found out only when it is full, and made anew."""
    entries = [oci.entry('f%d' % i, body=b'') for i in range(20)]
    for i in range(600):
        entries.append(oci.entry('again', body=os.urandom(1) * 200000))
        entries.append(oci.entry('h%d' % i, tarfile.LNKTYPE, link='again'))
    (place / 'a.tar').write_bytes(oci.tar(entries))
    mkfs('ext4', place / 'a.img', '--from', place / 'a.tar')
    got = shown(place / 'a.img', tmp_path)
    assert len(got) == 622 and len({d['content'] for p, d in got.items() if p.startswith(b'h')}) > 100


# ---- the same again ----

@pytest.mark.parametrize('source', ['dir', 'tar', 'oci'])
@pytest.mark.parametrize('words', [['ext4'], ['ext4', '--shrink']], ids=['', 'shrink'])
def test_the_same_bytes(three, place, source, words):
    env = {**os.environ, 'SOURCE_DATE_EPOCH': '1700000000'}
    sums = []
    for n, threads in enumerate((1, 4, 2, 4)):
        image = place / ('%d.img' % n)
        if source == 'dir':
            # Reading is no change.
            os.utime(three['dir'] + '/d/big', ns=(time.time_ns(), os.stat(three['dir'] + '/d/big').st_mtime_ns))
        mkfs(*words, image, '--from', three[source], '--threads', threads, env=env)
        sums.append(digest(image))
        image.unlink()
    assert len(set(sums)) == 1
    mkfs(*words, place / 'x.img', '--from', three[source], env={**env, 'SOURCE_DATE_EPOCH': '1700000001'})
    assert digest(place / 'x.img') != sums[0]


def test_the_same_bytes_of_everything(world, place):
    env = {**os.environ, 'SOURCE_DATE_EPOCH': '1700000000'}
    sums = []
    for threads in (1, 4):
        mkfs('ext4', place / 'a.img', '--from', world[0], '--threads', threads, env=env)
        sums.append(mounts.run('sha256sum', place / 'a.img'))
        (place / 'a.img').unlink()
    assert sums[0] == sums[1]


# ---- broken off ----

def refused(image, place, words):
    """It is no volume, to anybody."""
    mnt = place / 'refused'
    mnt.mkdir(exist_ok=True)
    for args in (['info', image], ['ls', f'{image}:/'], ['mount', image, mnt], ['cp', '-a', f'{image}:/', mnt]):
        r = subprocess.run([mounts.WERUNOS, *map(str, args)], capture_output=True, text=True, timeout=30)
        assert r.returncode == 1 and r.stderr.count('\n') == 1 and any(w in r.stderr for w in words), (args, r.stderr)
    r = subprocess.run(['blkid', '-p', str(image)], capture_output=True, text=True)
    assert r.returncode == 2, r.stdout
    r = subprocess.run(['mount', '-t', 'ext4', '-o', 'loop,ro', str(image), str(mnt)], capture_output=True, text=True)
    if r.returncode == 0:
        mounts.unmount(mnt)
    assert r.returncode


def right(image, tmp_path, src):
    """Files that are there are whole. How many."""
    n = 0
    for path, d in shown(image, tmp_path).items():
        if d['type'] == stat.S_IFREG:
            assert d['content'] == digest(os.path.join(os.fsencode(str(src)), path)), path
            n += 1
    return n


@pytest.mark.parametrize('how', ['SIGKILL', 'SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('words', [['ext4'], ['ext4', '--shrink']], ids=['', 'shrink'])
def test_broken_off(place, tmp_path, how, words):
    src, image, rnd = full_tree(place / 'src', 1500, 30000), place / 'a.img', seed()
    start = time.monotonic()
    mkfs(*words, image, '--from', src)
    takes_s = time.monotonic() - start
    image.unlink()
    unfinished = 0
    for turn in range(12 if LONG else 6):
        p = subprocess.Popen([mounts.WERUNOS, 'mkfs', *words, str(image), '--from', str(src)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(rnd.uniform(0, 1.1 * takes_s))
        p.send_signal(getattr(signal, how))
        _, err = p.communicate(timeout=60)
        nr = getattr(signal, how)
        # It may have been through, or have begun nothing yet.
        assert p.returncode in ((0, -nr) if how == 'SIGKILL' else (0, -nr, 128 + nr)), (p.returncode, err)
        if not image.exists():
            assert p.returncode
            continue
        known = subprocess.run(['blkid', '-p', str(image)], capture_output=True).returncode == 0
        if known:
            n = right(image, tmp_path, src)
            assert n == 1500 or how != 'SIGKILL'
            image.unlink()
            continue
        assert p.returncode == -nr, (p.returncode, err)
        unfinished += 1
        refused(image, place, ['unfinished', 'holds no file system', 'is empty'])
        mkfs(*words, image, '--from', src)
        assert right(image, tmp_path, src) == 1500
        image.unlink()
    print('unfinished:', unfinished)


@pytest.mark.parametrize('there', ['new', 'empty', 'volume', 'loop'])
@pytest.mark.parametrize('how', ['SIGKILL', 'SIGINT'])
def test_broken_off_in_the_middle(place, tmp_path, there, how):
    """Half of an archive has come."""
    image, fifo = place / 'a.img', place / 'fifo'
    os.mkfifo(fifo)
    if there == 'empty':
        image.write_bytes(b'')
    elif there != 'new':
        mkfs('ext4', image, '64M')
    data = oci.tar([oci.entry('one', body=b'1' * MIB), oci.entry('two', body=b'2' * (24 * MIB))])
    target, size = image, ['64M']
    dev = mounts.run('losetup', '--show', '-f', image).decode().strip() if there == 'loop' else None
    try:
        target, size = (dev, []) if dev else (image, ['64M'])
        p = subprocess.Popen([mounts.WERUNOS, 'mkfs', '--force', 'ext4', str(target), *size, '--from', str(fifo)], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        with open(fifo, 'wb') as f:
            f.write(data[:16 * MIB])
            f.flush()
            time.sleep(0.3)
            p.send_signal(getattr(signal, how))
            time.sleep(0.1)
            try:
                f.write(data[16 * MIB:])
            except BrokenPipeError:
                pass
        _, err = p.communicate(timeout=60)
        if how == 'SIGINT':
            assert p.returncode == 130 and b'stopped' in err, (p.returncode, err)
            assert sorted(shown(target, tmp_path)) == [b'', b'one']
        else:
            assert p.returncode == -9
            refused(target, place, ['unfinished'])
            (place / 'a.tar').write_bytes(data)
            mkfs('ext4', target, '--from', place / 'a.tar')
            assert sorted(shown(target, tmp_path)) == [b'', b'one', b'two']
    finally:
        if dev:
            subprocess.run(['losetup', '-d', dev])


# ---- where to ----

def test_what_is_there_stays_without_force(place, tmp_path):
    src, image = full_tree(place / 'src', 5), place / 'a.img'
    mkfs('ext4', image, '32M')
    before = digest(image)
    for words in (['ext4', image], ['ext4', image, '64M']):
        r = mkfs(*words, '--from', src, code=1)
        assert 'holds an ext4 file system: --force' in r.stderr and r.stderr.count('\n') == 1
    assert digest(image) == before
    mkfs('--force', 'ext4', image, '--from', src)
    assert right(image, tmp_path, src) == 5


def test_devices_and_partitions(place, tmp_path):
    src, image = full_tree(place / 'src', 40), place / 'a.img'
    image.write_bytes(os.urandom(MIB) * 96)
    with mounts.loop(image) as dev:
        mkfs('ext4', dev, '--from', src)
        assert right(dev, tmp_path, src) == 40
        assert blocks(dev)[0] == 96 * MIB
        assert mkfs('ext4', dev, '--from', src, code=1).stderr.count('\n') == 1
        mkfs('--force', '-b', '1024', 'ext4', dev, '64M', '--from', src)
        assert right(dev, tmp_path, src) == 40
    image.write_bytes(b'\xaa' * (96 * MIB))
    mounts.run('sfdisk', '-q', '--no-tell-kernel', image, input=b'label: gpt\nsize=20M\nsize=40M\n')
    head = image.read_bytes()[:21 * MIB]
    mkfs('ext4', f'{image}#p2', '--from', src)
    data = image.read_bytes()
    # But for the partition nothing was written to.
    assert data[:21 * MIB] == head and data[61 * MIB:95 * MIB] == b'\xaa' * (34 * MIB)
    (place / 'part.img').write_bytes(data[21 * MIB:61 * MIB])
    assert right(place / 'part.img', tmp_path, src) == 40
    mkfs('-p', '1', 'ext4', image, '--from', src)
    assert image.read_bytes()[21 * MIB:] == data[21 * MIB:]


# ---- what is wrong with the source ----

def test_hostile_archives_touch_nothing_else(place, tmp_path):
    outside = place / 'outside'
    outside.mkdir()
    (outside / 'file').write_text('mine')
    up = '../' * 20 + str(outside)[1:] + '/file'
    entries = [oci.entry('up', tarfile.SYMTYPE, link=str(outside)), oci.entry('up/file', body=b'evil'), oci.entry(up, body=b'evil'),
               oci.entry(str(outside) + '/file', body=b'inside'), oci.entry('hard', tarfile.LNKTYPE, link=up), oci.entry('hard2', tarfile.LNKTYPE, link='up/file'),
               oci.entry('d/../../x', body=b'evil'), oci.entry('after', body=b'after')]
    (place / 'a.tar').write_bytes(oci.tar(entries))
    image = place / 'a.img'
    r = mkfs('ext4', image, '--from', place / 'a.tar', code=1)
    assert len(r.stderr.splitlines()) == 5, r.stderr
    got = shown(image, tmp_path)
    assert got[b'after'] and got[os.fsencode(str(outside)[1:] + '/file')] and not {b'hard', b'hard2', b'x', b'd/x'} & got.keys()
    assert os.listdir(outside) == ['file'] and (outside / 'file').read_text() == 'mine'


@pytest.mark.parametrize('args,says', [
    (['ext4', 'NEW', '--from', '/none/such'], 'No such file'),
    (['ext4', 'NEW', '--from', 'GARBAGE'], 'broken archive'),
    (['ext4', 'NEW', '--from', 'CUT'], 'broken archive'),
    (['ext4', 'NEW', '64M', '--from', 'CUT'], 'broken archive'),
    (['ext4', 'NEW', '--from', 'LAYOUT'], 'damaged or was changed'),
    (['ext4', 'NEW', '--from', 'LAYOUT:none'], 'none'),
    (['ext4', 'NEW', '--from', '-'], 'say how large'),
    (['ext4', 'NEW', '1G', '--shrink', '--from', 'SRC'], '--shrink'),
    (['ext4', 'NEW', '--platform', 'linux/amd64', '--from', 'SRC'], 'layout'),
    (['btrfs', 'NEW', '--from', 'SRC'], 'btrfs volumes cannot be made yet'),
    (['-O', 'extent,speed', 'ext4', 'NEW', '--from', 'SRC'], 'no feature "speed"'),
])
def test_refused(place, args, says):
    full_tree(place / 'SRC', 3)
    whole = oci.tar([oci.entry('a', body=b'1' * 50000)])
    (place / 'GARBAGE').write_bytes(b'x' * 10000)
    (place / 'CUT').write_bytes(whole[:20000])
    layout = layout_of(place / 'LAYOUT', [[oci.entry('a')]])
    blob = max((os.path.join(layout, 'blobs/sha256', n) for n in os.listdir(layout + '/blobs/sha256')), key=lambda p: open(p, 'rb').read(2) == b'\x1f\x8b')
    with open(blob, 'r+b') as f:
        f.seek(-1, 2)
        f.write(b'\xff')
    words = [re.sub('^(NEW|GARBAGE|CUT|LAYOUT|SRC)', lambda m: str(place / m[1]), a) for a in args]
    r = mkfs(*words, code=1)
    assert r.stderr.count('\n') == 1 and says in r.stderr, r.stderr
    assert not (place / 'NEW').exists()


def test_files_that_cannot_be_read(place, tmp_path):
    """Told of; the rest is there."""
    src, image = full_tree(place / 'src', 20), place / 'a.img'
    os.chmod(src, 0o755)
    os.chmod(src / '0007', 0)
    image.write_bytes(b'')
    os.chmod(place, 0o755)
    os.chown(image, 65534, 65534)
    r = subprocess.run(['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', mounts.WERUNOS, 'mkfs', 'ext4', str(image), '--from', str(src)],
                       capture_output=True, text=True)
    if 'cannot execute' in r.stderr or r.returncode in (126, 127):
        pytest.skip('the program cannot be reached by others')
    assert r.returncode == 1 and r.stderr.count('\n') == 1 and '0007' in r.stderr, r.stderr
    got = shown(image, tmp_path)
    assert len(got) == 20 and b'0007' not in got


def long_memory(tmp_path):
    src, image = tmp_path / 'src', tmp_path / 'a.img'
    for i in range(200000):
        d = src / ('%03d' % (i // 500))
        if i % 500 == 0:
            d.mkdir(parents=True)
        (d / ('%06d' % i)).write_bytes(b'%d' % i * 20)
    try:
        r = subprocess.run([*mounts.PEAK, str(tmp_path / 'peak'), mounts.WERUNOS, 'mkfs', '--json', 'ext4', str(image), '--from', str(src)],
                           stdout=subprocess.PIPE)
        said, peak_kib = json.loads(r.stdout), int((tmp_path / 'peak').read_text())
        assert r.returncode == 0 and peak_kib <= 256 << 10
        fsck(image)
        assert (said['files'], said['directories'], said['failed']) == (200000, 401, 0)
        print('peak resident: %d MiB' % (peak_kib >> 10))
    finally:
        mounts.run('rm', '-rf', src)
        image.unlink(missing_ok=True)


if LONG:
    test_memory = long_memory
