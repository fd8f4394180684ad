"""
What `werunos fsck -y` mends of btrfs: superblocks and their copies, bad copies of tree blocks and of data. Afterwards there is nothing to find, for us and for
`btrfs check`, and the kernel shows what it had written. What cannot be mended without changing a tree is left, and said.
"""
import hashlib, json, os, re, struct, subprocess, sys
import pytest
import mounts
from test_btrfs import btrfs, kernel, one, pytestmark, words, work  # noqa: F401
from test_btrfs_devices import noise_over, stamped
from test_btrfs_fsck import fsck, referee
sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'image'))
from btrfs_edit import INODE_ITEM, Volume, checksum  # noqa: E402

FIRST, MIRROR, MIB = 65536, 64 << 20, 1 << 20
GENERATION, LOG_ROOT, TOTAL, USED, DEVICES, ROOT_LEVEL, CHUNK_LEVEL, LABEL = 0x48, 0x60, 0x70, 0x78, 0x88, 0xc6, 0xc7, 0x12b


def mend(paths, *options):
    """Exit code; what was mended, and what is left and more than a hint."""
    extra = [w for p in paths[1:] for w in ('--device', str(p))]
    r = subprocess.run([mounts.WERUNOS, 'fsck', '--json', '-y', *options, *extra, str(paths[0])], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=120)
    assert r.returncode in (0, 1, 4), r.stderr.decode(errors='replace')
    found = json.loads(r.stdout)['found']
    return r.returncode, [x['code'] for x in found if x['repaired']], [x['code'] for x in found if not x['repaired'] and x['grade'] != 'hint']


def shown(root):
    """Every file that the kernel shows, with a sum of what it contains."""
    out = {}
    for d, _, files in os.walk(root):
        for f in files:
            path = os.path.join(d, f)
            with open(path, 'rb') as x:
                out[os.path.relpath(path, root)] = hashlib.sha256(x.read()).hexdigest()
    return out


def bytes_at(path, off, n=4096):
    with open(path, 'rb') as f:
        f.seek(off)
        return f.read(n)


def put_at(path, off, data):
    with open(path, 'r+b') as f:
        f.seek(off)
        f.write(data)


def change(path, at, fmt, more, places=(FIRST, MIRROR), seal=True):
    """Adds to a member of superblocks."""
    for off in places:
        d = bytearray(bytes_at(path, off))
        struct.pack_into(fmt, d, at, struct.unpack_from(fmt, d, at)[0] + more & (1 << 8 * struct.calcsize(fmt)) - 1)
        if seal:
            struct.pack_into('<I', d, 0, checksum(d[32:]))
        put_at(path, off, d)


@pytest.fixture(scope='module')
def base(work):
    """A volume that the kernel filled, and what it shows of it."""
    image = one(work, 'mend-base', '-n', '4096', '-m', 'dup', '-d', 'dup')
    with kernel([image], work / 'k', 'max_inline=0') as root:
        btrfs('subvolume', 'create', root + '/sub')
        for i in range(600):
            with open('%s/%sf%03d' % (root, 'sub/' if i % 4 == 0 else '', i), 'wb') as f:
                f.write(words(3000 + i * 17, i + 1))
        btrfs('filesystem', 'sync', root)
        files = shown(root)
    assert fsck([image], '--check-data')[0] == 0
    return image, files


@pytest.fixture
def mine(base, tmp_path):
    path = tmp_path / 'image'
    mounts.run('cp', '--sparse=always', '--reflink=auto', str(base[0]), str(path))
    return path


def all_is_well(paths, files, k):
    code, found, hints = fsck(paths, '--check-data')
    # Block groups that mkfs.btrfs has left in the free space tree.
    assert code == 0 and not found and not {x['code'] for x in hints} - {'free-space-stale'}, (found[:5], hints)
    assert referee(paths)
    with kernel(paths, k) as root:
        assert shown(root) == files


# ---- superblocks ----

SUPERS = {
    'superblock-bad': lambda p: change(p, 0x200, '<B', 1, [FIRST], seal=False),
    'superblock-bad copy': lambda p: change(p, 0x200, '<B', 1, [MIRROR], seal=False),
    'superblock-absent': lambda p: put_at(p, MIRROR, bytes(4096)),
    'superblock-old': lambda p: change(p, GENERATION, '<Q', -1, [MIRROR]),
    'superblock-differs': lambda p: change(p, LABEL, '<B', 65, [MIRROR]),
    'superblock-differs volume': lambda p: change(p, 0x20, '<Q', 1, [MIRROR]) or change(p, 0xc9 + 0x52, '<Q', 1, [MIRROR]),
    'superblock-value total': lambda p: change(p, TOTAL, '<Q', MIB),
    'superblock-value used': lambda p: change(p, USED, '<Q', 4096),
    'superblock-value devices': lambda p: change(p, DEVICES, '<Q', 1),
    'superblock-value level': lambda p: change(p, ROOT_LEVEL, '<B', 1),
    'superblock-value chunk level': lambda p: change(p, CHUNK_LEVEL, '<B', 1),
    'superblock-value generation': lambda p: change(p, GENERATION, '<Q', 3),
    'error-recorded': lambda p: change(p, 0x38, '<Q', 4),
}


@pytest.mark.parametrize('name', SUPERS)
def test_superblocks(base, mine, tmp_path, name):
    (tmp_path / 'k').mkdir()
    before = [bytes_at(mine, off) for off in (FIRST, MIRROR)]
    SUPERS[name](mine)
    code, mended, left = mend([mine])
    assert code == 1 and name.split()[0] in mended and not left, (mended, left)
    assert [bytes_at(mine, off) for off in (FIRST, MIRROR)] == before
    all_is_well([mine], base[1], tmp_path / 'k')


def test_a_first_superblock_that_is_gone(base, mine, tmp_path):
    """Not even its magic is left: another file system may lie there, and who wants it back says so by --sb."""
    (tmp_path / 'k').mkdir()
    put_at(mine, FIRST, bytes(4096))
    r = subprocess.run([mounts.WERUNOS, 'fsck', '-y', str(mine)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 8 and b'--sb 1' in r.stderr and bytes_at(mine, FIRST) == bytes(4096)
    code, mended, _ = mend([mine], '--sb', '1')
    assert code == 1 and mended == ['superblock-bad']
    all_is_well([mine], base[1], tmp_path / 'k')


def test_an_older_copy_that_was_named(base, mine):
    """It shows what was; nothing is written from it."""
    change(mine, GENERATION, '<Q', -1, [MIRROR])
    before = [bytes_at(mine, off) for off in (FIRST, MIRROR)]
    code, mended, _ = mend([mine], '--sb', '1')
    assert not mended and [bytes_at(mine, off) for off in (FIRST, MIRROR)] == before


def test_what_is_not_known_is_not_written(mine):
    change(mine, 0xb4, '<Q', 1 << 40)
    change(mine, 0x200, '<B', 1, [MIRROR], seal=False)
    before = bytes_at(mine, MIRROR)
    code, mended, left = mend([mine])
    assert code == 4 and not mended and 'superblock-bad' in left and bytes_at(mine, MIRROR) == before


# ---- copies ----

def damage_nodes(path, copies):
    v = Volume(path)
    nodes = sorted(v.nodes())[::3]
    for i, logical in enumerate(nodes):
        v.f.seek(v.places(logical)[copies[i % len(copies)]] + 700 * (i % 5))
        v.f.write(b'wrong')
    v.close()
    return len(nodes)


def test_tree_blocks(base, mine, tmp_path):
    """Every third node has one bad copy, the first or the second, of all trees."""
    (tmp_path / 'k').mkdir()
    n = damage_nodes(mine, (0, 1))
    code, mended, left = mend([mine])
    assert code == 1 and mended.count('node-copy-bad') == len(mended) == n and not left
    all_is_well([mine], base[1], tmp_path / 'k')


def test_data(base, mine, tmp_path):
    (tmp_path / 'k').mkdir()
    body = words(3000 + 599 * 17, 600)
    raw = mine.read_bytes()
    at = [raw.index(body[:4096])]
    at.append(raw.index(body[:4096], at[0] + 1))
    put_at(mine, at[0] + 100, b'wrong')
    put_at(mine, at[1] + 4096 + 100, b'wrong')
    assert mend([mine])[1] == [] and bytes_at(mine, at[0] + 100, 5) == b'wrong', 'data were not looked at'
    code, mended, left = mend([mine], '--check-data')
    assert code == 1 and mended == ['data-copy-bad'] * 2 and not left
    all_is_well([mine], base[1], tmp_path / 'k')


def test_what_needs_a_transaction_is_left(mine):
    v = Volume(mine)
    v.edit(5, lambda k: k[1] == INODE_ITEM and k[0] > 300, lambda d: struct.pack_into('<I', d, 0x28, 7))
    v.close()
    before = hashlib.sha256(mine.read_bytes()).hexdigest()
    code, mended, left = mend([mine])
    assert code == 4 and not mended and 'inode-links' in left
    assert hashlib.sha256(mine.read_bytes()).hexdigest() == before


# ---- the log ----

@pytest.fixture(scope='module')
def logged(work):
    image, crashed = one(work, 'mend-log', '-m', 'dup'), work / 'mend-crashed.img'
    with kernel([image], work / 'k', 'commit=300') as root:
        with open(root + '/before', 'wb') as f:
            f.write(words(400000, 3))
        btrfs('filesystem', 'sync', root)
        for i in range(7):
            with open('%s/late%d' % (root, i), 'wb') as f:
                f.write(words(9000 * i + 1, i + 2))
                f.flush()
                os.fsync(f.fileno())
        mounts.run('cp', '--sparse=always', str(image), str(crashed))
    return crashed


def test_a_log_is_kept_and_dropped_on_request(logged, tmp_path):
    mine, k = tmp_path / 'image', tmp_path / 'k'
    k.mkdir()
    mounts.run('cp', '--sparse=always', str(logged), str(mine))
    with kernel([mine], k, 'ro,rescue=nologreplay') as root:
        committed = shown(root)
    assert 'before' in committed and len(committed) < 8
    assert mend([mine]) == (0, [], []) and bytes_at(mine, FIRST)[LOG_ROOT:LOG_ROOT + 8] != bytes(8)
    code, mended, _ = mend([mine], '--clear-log')
    assert code == 1 and mended == ['log'] and bytes_at(mine, FIRST)[LOG_ROOT:LOG_ROOT + 8] == bytes(8)
    all_is_well([mine], committed, k)


def test_a_log_outlives_the_superblock_that_named_it(logged, tmp_path):
    """The first superblock is bad, and its mirror knows no log: what was synced is there after mending all the same."""
    mine, k = tmp_path / 'image', tmp_path / 'k'
    k.mkdir()
    mounts.run('cp', '--sparse=always', str(logged), str(mine))
    assert bytes_at(mine, MIRROR)[LOG_ROOT:LOG_ROOT + 8] == bytes(8)
    change(mine, 0x200, '<B', 1, [FIRST], seal=False)
    code, mended, _ = mend([mine])
    assert code == 1 and mended == ['superblock-bad']
    with kernel([mine], k) as root:
        assert sorted(shown(root)) == ['before'] + ['late%d' % i for i in range(7)]


def test_data_without_a_checksum_tree(logged, tmp_path):
    """Its only block is bad in both copies: said, and nothing is concluded about data."""
    mine = tmp_path / 'image'
    mounts.run('cp', '--sparse=always', str(logged), str(mine))
    v = Volume(mine)
    assert not v.level(v.node(v.tree(7)))
    for at in v.places(v.tree(7)):
        v.f.seek(at + 200)
        v.f.write(b'wrong')
    v.close()
    code, mended, left = mend([mine], '--check-data')
    assert code == 4 and not mended and 'node-bad' in left and not [x for x in left if x.startswith('data')]


# ---- the free space cache v1 ----

CACHE_GENERATION, FREE_SPACE, EXTENT_DATA = 0x22b, (1 << 64) - 11, 108


def cache_extents(v):
    """For each block group that has a file with its free space: where the file's bytes lie."""
    out, files = {}, {}
    for leaf in v.leaves(v.root):
        for key, off, _ in v.items(leaf):
            if key[:2] == (FREE_SPACE, 0):
                files[struct.unpack_from('<Q', leaf, off)[0]] = key[2]
            if key[1] == EXTENT_DATA and key[2] == 0:
                out[key[0]] = struct.unpack_from('<Q', leaf, off + 21)[0]
    return {group: out[ino] for ino, group in files.items() if ino in out}


def move_free_space(v, seal):
    """The second piece of free space is said to begin 4 KiB earlier, where something lies."""
    for group, logical in cache_extents(v).items():
        data = v.read_at(v.places(logical)[0], 65536)
        crcs = data[:64]
        pages = next((n for n in range(1, 17) if struct.unpack_from('<I', crcs)[0] == checksum(data[n * 4:4096])), 0)
        if not pages:
            continue
        at = pages * 4 + 8 + 17
        off, length, kind = struct.unpack_from('<QQB', data, at)
        assert kind == 1 and off > group + 4096
        struct.pack_into('<Q', data, at, off - 4096)
        if seal:
            struct.pack_into('<I', data, 0, checksum(data[pages * 4:4096]))
        for place in v.places(logical):
            v.f.seek(place)
            v.f.write(data[:4096])
        return
    raise KeyError('no cache')


@pytest.mark.parametrize('seal', [True, False])
def test_a_cache_of_free_space(tmp_path, seal):
    """One that would be believed and is wrong is not believed any more; one with a bad checksum would not be anyway."""
    mine, k = tmp_path / 'image', tmp_path / 'k'
    k.mkdir()
    with open(mine, 'wb') as f:
        # The kernel makes no cache of a block group below 100 MiB.
        f.truncate(3 << 30)
    mounts.run('mkfs.btrfs', '-q', '-f', '-m', 'dup', '-d', 'single', '-O', 'no-holes', '-R', '^free-space-tree', str(mine))
    with kernel([mine], k, 'space_cache=v1') as root:
        for i in range(300):
            with open('%s/f%03d' % (root, i), 'wb') as f:
                f.write(words(5000 + i * 37, i + 1))
        btrfs('filesystem', 'sync', root)
        for i in range(0, 300, 7):
            os.unlink('%s/f%03d' % (root, i))
        btrfs('filesystem', 'sync', root)
        files = shown(root)
    assert fsck([mine], '--check-data')[:2] == (0, [])
    v = Volume(mine)
    move_free_space(v, seal)
    v.close()
    assert referee([mine]) != seal
    code, mended, left = mend([mine])
    assert (code, mended, left) == ((1, ['space-cache'], []) if seal else (0, [], []))
    generation, cache = (struct.unpack_from('<Q', bytes_at(mine, FIRST), at)[0] for at in (GENERATION, CACHE_GENERATION))
    assert (generation != cache) == seal and cache
    all_is_well([mine], files, k)
    with kernel([mine], k, 'space_cache=v1') as root:
        with open(root + '/more', 'wb') as f:
            f.write(words(3000000, 5))
        files = shown(root)
    all_is_well([mine], files, k)


# ---- several devices ----

DEVICES_OF = {
    'raid1': (2, 'raid1', 'raid1', 1),
    'raid1c3': (3, 'raid1c3', 'raid1c3', 2),
    'raid10': (4, 'raid10', 'raid10', 1),
    'raid5': (3, 'raid5', 'raid5', 1),
    'raid6': (4, 'raid6', 'raid6', 1),
}


def volume(tmp_path, name):
    n, data, meta, spare = DEVICES_OF[name]
    paths, files = [tmp_path / ('%d.img' % i) for i in range(n)], {}
    for p in paths:
        with open(p, 'wb') as f:
            f.truncate(512 << 20)
    mounts.run('mkfs.btrfs', '-q', '-f', '-d', data, '-m', meta, '-O', 'no-holes', '-R', 'free-space-tree', *map(str, paths))
    (tmp_path / 'k').mkdir()
    with kernel(paths, tmp_path / 'k') as root:
        for i, size in enumerate([4096, 12288, 69632, 300000, 1 << 20, 3000016, 7 << 20]):
            with open('%s/f%d' % (root, i), 'wb') as f:
                f.write(stamped(i, size))
        files = shown(root)
    return paths, files, spare


@pytest.mark.parametrize('name', DEVICES_OF)
def test_noise_on_devices(tmp_path, name):
    """All that lies on them but superblocks is noise, and is written anew from the others."""
    paths, files, spare = volume(tmp_path, name)
    for p in paths[:spare]:
        noise_over(p)
    code, mended, left = mend(paths, '--check-data')
    parity = {'parity-bad'} if name in ('raid5', 'raid6') else set()
    assert code == 1 and set(mended) == {'node-copy-bad', 'data-copy-bad'} | parity and not left
    all_is_well(paths, files, tmp_path / 'k')


def test_superblocks_of_several_devices(tmp_path):
    paths, files, _ = volume(tmp_path, 'raid1c3')
    before = [[bytes_at(p, off) for off in (FIRST, MIRROR)] for p in paths]
    change(paths[0], 0x200, '<B', 1, [FIRST], seal=False)
    change(paths[1], 0x200, '<B', 1, [MIRROR], seal=False)
    change(paths[2], LABEL, '<B', 65)
    code, mended, left = mend(paths)
    assert code == 1 and sorted(set(mended)) == ['superblock-bad', 'superblock-differs'] and not left
    assert [[bytes_at(p, off) for off in (FIRST, MIRROR)] for p in paths] == before
    all_is_well(paths, files, tmp_path / 'k')


def test_a_device_whose_superblocks_are_gone(tmp_path):
    """The first: who names a copy has it back. All of them: nobody can tell which device it is, and nothing is written."""
    paths, files, _ = volume(tmp_path, 'raid1c3')
    put_at(paths[1], FIRST, bytes(4096))
    code, mended, left = mend(paths, '--sb', '1')
    assert code == 1 and mended == ['superblock-bad'] and not left
    all_is_well(paths, files, tmp_path / 'k')
    for off in (FIRST, MIRROR):
        put_at(paths[1], off, b'noise' * 800)
    before = [bytes_at(p, 0, MIRROR + MIB) for p in paths]
    extra = [w for p in paths[1:] for w in ('--device', str(p))]
    r = subprocess.run([mounts.WERUNOS, 'fsck', '-y', *extra, str(paths[0])], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 8 and b'1.img' in r.stderr, r.stderr
    assert [bytes_at(p, 0, MIRROR + MIB) for p in paths] == before


def test_a_missing_device_keeps_from_mending(tmp_path):
    paths, _, _ = volume(tmp_path, 'raid1')
    change(paths[0], 0x200, '<B', 1, [MIRROR], seal=False)
    before = bytes_at(paths[0], MIRROR)
    paths[1].unlink()
    r = subprocess.run([mounts.WERUNOS, 'fsck', '-y', '-o', 'degraded', str(paths[0])],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 4 and b'device-missing' in r.stdout, r.stderr
    assert bytes_at(paths[0], MIRROR) == before


# ---- parity ----

STRIPE = 65536


def rewritten(root):
    """Rows written in parts, again and again, and freed in between: some of what lies in them belongs to nobody, and some has no checksums."""
    for i in range(40):
        with open('%s/g%d' % (root, i), 'wb') as f:
            f.write(words(4096 * (1 + i * 7 % 37) + i * 13, i + 3))
        btrfs('filesystem', 'sync', root)
    for i in range(0, 40, 3):
        os.unlink('%s/g%d' % (root, i))
    btrfs('filesystem', 'sync', root)
    with open(root + '/nocow', 'wb') as f:
        mounts.run('chattr', '+C', root + '/nocow')
        for i in range(12):
            f.write(words(70000, i + 5))
            f.flush()
            with open('%s/beside%d' % (root, i), 'wb') as g:
                g.write(words(50000, i + 5))
            btrfs('filesystem', 'sync', root)
    mounts.run('fallocate', '-l', '3M', root + '/prealloc')
    for i in range(1, 40, 2):
        with open('%s/g%d' % (root, i), 'ab') as f:
            f.write(words(10000 * i % 70000 + 1, i))
    with open(root + '/prealloc', 'r+b') as f:
        for at in (0, 70000, 1 << 20):
            f.seek(at)
            f.write(words(9999, at + 1))
    btrfs('filesystem', 'sync', root)


def extents(path):
    """Of a file: (offset in it, address, bytes)."""
    out = mounts.run('filefrag', '-v', '-b4096', path).decode()
    return [tuple(int(x) * 4096 for x in m) for m in re.findall(r'^ *\d+: +(\d+)\.\. +\d+: +(\d+)\.\. +\d+: +(\d+):', out, re.M)]


def data_chunks(paths):
    """(address, bytes, [(device, offset) of each stripe])."""
    with mounts.contextlib.ExitStack() as stack:
        devs = [stack.enter_context(mounts.loop(p, '-r')) for p in paths]
        mounts.run('btrfs', 'device', 'scan', *devs)
        out = mounts.run('btrfs', 'inspect-internal', 'dump-tree', '-t', 'chunk', devs[0]).decode()
        mounts.forget(devs)
    found = []
    for item in out.split('\titem ')[1:]:
        if 'CHUNK_ITEM' in item and 'type DATA' in item:
            at, length = (int(re.search(p, item).group(1)) for p in (r'CHUNK_ITEM (\d+)\)', r'length (\d+)'))
            found.append((at, length, [(int(d) - 1, int(o)) for d, o in re.findall(r'devid (\d+) offset (\d+)', item)]))
    return found


def member(chunks, parities, logical, role):
    """Device, and where on it, of the sector with a role that stands above a data sector; roles from `data stripes` on are P and Q."""
    at, _, stripes = next(c for c in chunks if c[0] <= logical < c[0] + c[1])
    data = len(stripes) - parities
    row = (logical - at) // STRIPE // data
    device, off = stripes[(role + row) % len(stripes)]
    return device, off + row * STRIPE + (logical - at) % STRIPE


def parity_found(paths):
    code, found, _ = fsck(paths, '--check-data')
    assert {x['code'] for x in found} <= {'parity-bad'} and code == (4 if found else 0), found[:5]
    return [x['text'] for x in found]


@pytest.fixture(params=['raid5', 'raid6', 'raid5 2', 'raid6 5'])
def striped(tmp_path, request):
    """Devices, how many parities, addresses of the sectors of files with checksums, and of one without."""
    profile, n = (request.param.split() + [''])[:2]
    n, parities = int(n or DEVICES_OF[profile][0]), 1 + (profile == 'raid6')
    paths, d = [tmp_path / ('%d.img' % i) for i in range(n)], tmp_path / 'k'
    d.mkdir()
    for p in paths:
        # What was there before is no parity of anything.
        noise = os.urandom(MIB)
        with open(p, 'wb') as f:
            for _ in range(260):
                f.write(noise)
    mounts.run('mkfs.btrfs', '-q', '-f', '-K', '-d', profile, '-m', 'raid1', '-O', 'no-holes', '-R', 'free-space-tree', *map(str, paths))
    with kernel(paths, d) as root:
        rewritten(root)
        for i, size in enumerate([4096, 12288, 69632, 3000016]):
            with open('%s/f%d' % (root, i), 'wb') as f:
                f.write(stamped(i, size))
        btrfs('filesystem', 'sync', root)
        sectors = lambda name: [a + k for _, a, n in extents(root + '/' + name) for k in range(0, n, 4096)]  # noqa: E731
        summed = {n: sectors(n) for n in ['f0', 'f1', 'f2', 'f3'] + ['beside%d' % i for i in range(12)]}
        nocow, files = sectors('nocow'), shown(root)
    yield paths, parities, summed, nocow, files, d
    for p in paths:
        p.unlink()


def test_parity(striped):
    """What the kernel writes is sound, over noise and in any order. A sector of any P or Q that stands above data is missed, and written anew."""
    paths, parities, summed, _, files, d = striped
    all_is_well(paths, files, d)
    chunks = data_chunks(paths)
    for logical in summed['f3'][::97] + [summed['f%d' % i][0] for i in range(3)]:
        for role in range(len(chunks[0][2]) - parities, len(chunks[0][2])):
            device, at = member(chunks, parities, logical, role)
            good = bytes_at(paths[device], at)
            put_at(paths[device], at + 100, b'?')
            said = parity_found(paths)
            name = 'P' if role == len(chunks[0][2]) - parities else 'Q'
            assert len(said) == 1 and '4096 bytes of %s, at byte %d of device %d' % (name, at, device + 1) in said[0], said
            code, mended, left = mend(paths, '--check-data')
            assert (code, mended, left) == (1, ['parity-bad'], []) and bytes_at(paths[device], at) == good
    all_is_well(paths, files, d)


def test_parity_that_may_be_right(striped):
    """Data without a checksum that stand in a column with others: whether they or parity are wrong is not known. Alone they are not looked at."""
    paths, parities, summed, nocow, _, _ = striped
    chunks = data_chunks(paths)
    column = lambda a: member(chunks, parities, a, 0)  # noqa: E731
    sure = {column(a) for addresses in summed.values() for a in addresses}
    shared = [a for a in nocow if column(a) in sure]
    assert shared or len(chunks[0][2]) - parities == 1
    for logical in shared[:1]:
        device, at = member(chunks, parities, logical, len(chunks[0][2]) - parities)
        good = bytes_at(paths[device], at)
        put_at(paths[device], at, b'noise' * 40)
        assert len(parity_found(paths)) == 1
        code, mended, left = mend(paths, '--check-data')
        assert (code, mended, left) == (4, [], ['parity-bad'])
        put_at(paths[device], at, good)
    assert not parity_found(paths)


def test_parity_of_wrong_data(striped):
    """Data are mended first, by the parity that is right; what the kernel's scrub finds then is nothing."""
    paths, parities, summed, _, files, d = striped
    chunks = data_chunks(paths)
    logical = summed['f3'][50]
    at, _, stripes = next(c for c in chunks if c[0] <= logical < c[0] + c[1])
    device, off = member(chunks, parities, logical, (logical - at) // STRIPE % (len(stripes) - parities))
    good = bytes_at(paths[device], off)
    put_at(paths[device], off, b'noise' * 40)
    code, mended, left = mend(paths, '--check-data')
    assert (code, mended, left) == (1, ['data-copy-bad'], []) and bytes_at(paths[device], off) == good
    all_is_well(paths, files, d)
    with kernel(paths, d) as root:
        r = btrfs('scrub', 'start', '-B', root)
    assert 'no errors found' in (r.decode() if isinstance(r, bytes) else r), r
