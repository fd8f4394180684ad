"""Trees of btrfs: every node and item as btrfs-progs prints them; older trees, damaged trees, and what the options make of them."""
import json, os, re, shutil, subprocess
import pytest
import mounts

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason='needs root to mount'),
    pytest.mark.skipif(not shutil.which('mkfs.btrfs', path=os.environ['PATH'] + ':/sbin:/usr/sbin'), reason='needs btrfs-progs'),
]

# By what is in it a volume has trees of one level to three.
VOLUMES = {
    'node-4k': ['-n', '4096', '-R', 'free-space-tree', '-m', 'single'],
    'node-16k': ['-n', '16384', '-R', 'free-space-tree,quota', '-m', 'dup'],
    'node-64k': ['-n', '65536', '-R', '^free-space-tree', '-m', 'dup', '--csum', 'sha256'],
}


def tool(*args):
    r = subprocess.run([mounts.WERUNOS, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return r.returncode, r.stdout, r.stderr.decode()


def dump(image, *words, options=()):
    code, out, said = tool('dump', '--json', *options, image, *words)
    assert code == 0, said
    return json.loads(out)


def progs(*args):
    return mounts.run('btrfs', *map(str, args)).decode(errors='replace')


def make(path, args, size=256 << 20):
    with open(path, 'wb') as f:
        f.truncate(size)
    mounts.run('mkfs.btrfs', '-qf', '-O', 'extref,skinny-metadata,no-holes', *args, str(path))


def fill(root):
    """Names, sizes, attributes, links, snapshots: items of most types, enough of them for trees of several levels."""
    os.makedirs(root + '/d/e')
    for i in range(1500):
        with open('%s/d/a-name-of-some-length-%d' % (root, i), 'wb') as f:
            f.write(b'x' * (i % 300))
    with open(root + '/big', 'wb') as f:
        for i in range(100):
            f.seek(i * 16384)
            f.write(os.urandom(5000))
    for i in range(300):
        os.link(root + '/big', '%s/d/e/link-%d' % (root, i))
    os.setxattr(root + '/d', 'user.name', b'value' * 100)
    os.mkfifo(root + '/fifo')
    os.symlink('d/e', root + '/link')
    progs('subvolume', 'create', root + '/sub')
    shutil.copy(root + '/big', root + '/sub/copy')
    progs('subvolume', 'snapshot', '-r', root, root + '/snap')
    progs('filesystem', 'sync', root)
    with open(root + '/big', 'r+b') as f:
        f.seek(50000)
        f.write(b'changed' * 1000)


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    d = tmp_path_factory.mktemp('trees')
    (d / 'k').mkdir()
    (d / 'w').mkdir()
    yield d
    mounts.unmount(d / 'k')
    mounts.unmount(d / 'w')


@pytest.fixture(scope='module', params=list(VOLUMES))
def volume(request, work):
    image = work / (request.param + '.img')
    make(image, VOLUMES[request.param])
    with mounts.kernel(image, work / 'k') as root:
        fill(root)
    return image


# ---- as btrfs-progs print it ----

RENAMED = {'UUID_KEY_SUBVOL': 'UUID_SUBVOL', 'UUID_KEY_RECEIVED_SUBVOL': 'UUID_RECEIVED_SUBVOL', 'UNTYPED': 0}


def their_nodes(image):
    """block -> (level, generation, owner, [(type, offset, size) of a leaf | block of a child])."""
    nodes, at = {}, None
    for line in progs('inspect-internal', 'dump-tree', image).splitlines():
        m = re.match(r'(leaf|node) (\d+) (?:level (\d+) )?items (\d+) free space \d+ generation (\d+) owner (\S+)', line)
        if m:
            at = nodes[int(m.group(2))] = (int(m.group(3) or 0), int(m.group(5)), int(m.group(4)), [])
        m = re.match(r'\titem \d+ key \((\S+) (\S+) (\S+)\) itemoff \d+ itemsize (\d+)', line)
        if m:
            at[3].append((RENAMED.get(m.group(2), m.group(2)), m.group(3), int(m.group(4))))
        m = re.match(r'\tkey \(\S+ \S+ \S+\) block (\d+) gen \d+', line)
        if m:
            at[3].append(int(m.group(1)))
    return nodes


def our_nodes(node, out):
    assert 'error' not in node, node['error']
    items = []
    for i in node.get('items', ()):
        assert 'error' not in i, (node['block'], i)
        items.append((i['type'], str(i['offset']), i['len']))
    for n in node.get('nodes', ()):
        items.append(n['block'])
        our_nodes(n, out)
    out[node['block']] = (node['level'], node['generation'], node['entries'], items)


def same_item(a, b):
    if isinstance(a, int) or isinstance(b, int):
        return a == b
    # An offset that is an id has a name there.
    return a[0] == b[0] and a[2] == b[2] and (a[1] == b[1] or not re.fullmatch(r'-?\d+|0x[0-9a-f]+', b[1]) or
                                              b[1].startswith('0x') or int(a[1]) == int(b[1]) - 2 ** 64)


def test_every_node_and_item(volume):
    want, got = their_nodes(volume), {}
    root = dump(volume, 'root')
    our_nodes(root, got)
    our_nodes(dump(volume, 'chunk'), got)
    trees = [i['objectid'] for i in items_of(root) if i['type'] == 'ROOT_ITEM']
    for tree in trees:
        our_nodes(dump(volume, 'tree', tree), got)
    assert len(trees) > 6 and max(n[0] for n in got.values()) >= (2 if '4k.' in volume.name and '64k' not in volume.name else 1)
    assert set(want) == set(got)
    for block in want:
        assert want[block][:3] == got[block][:3], block
        for a, b in zip(got[block][3], want[block][3]):
            assert same_item(a, b), (block, a, b)


def items_of(node):
    yield from node.get('items', ())
    for n in node.get('nodes', ()):
        yield from items_of(n)


def test_superblock(volume):
    theirs = dict(re.findall(r'^(\w+)[ \t]+(\S+)', progs('inspect-internal', 'dump-super', volume), re.M))
    ours = dump(volume, 'superblock')
    for name, there in (('generation', 'generation'), ('root', 'root'), ('chunk_root', 'chunk_root'), ('bytes_used', 'bytes_used'),
                        ('root_level', 'root_level'), ('num_devices', 'num_devices'), ('node_bytes', 'nodesize'),
                        ('sector_bytes', 'sectorsize'), ('total_bytes', 'total_bytes')):
        assert ours[name] == int(theirs[there]), name
    assert ours['fsid'] == theirs['fsid'] and ours['checksum_is'] == 'right' and len(ours['backups']) >= 2
    code, out, said = tool('dump', '--sb', 1, '--json', volume, 'superblock')
    assert code == 0 and json.loads(out)['at_byte'] == 64 << 20
    code, out, said = tool('dump', '--sb', 3, volume, 'superblock')
    assert code == 1 and '0 to 2' in said


def test_other_words(volume):
    node = dump(volume, 'root')['block']
    one = dump(volume, 'node', node)
    assert one['block'] == node and 'error' not in one and one['copies']
    inode = dump(volume, 'inode', 5, 256)
    assert inode['items'][0]['type'] == 'INODE_ITEM' and inode['items'][0]['item']['mode'] == '040755'
    subvolumes = dump(volume, 'subvolumes')['subvolumes']
    assert [s['path'] for s in subvolumes] == ['', 'sub', 'snap']
    assert dump(volume, 'devices')['devices'][0]['devid'] == 1
    assert len(dump(volume, 'backup')['backups']) >= 2
    for words in ([], ['tree'], ['tree', 'x'], ['what'], ['inode', '5']):
        code, out, said = tool('dump', volume, *words)
        assert code == 1 and said.count('\n') == 1, (words, said)
    for words in (['log'], ['tree', '77'], ['node', '3'], ['inode', '99', '256']):
        code, out, said = tool('dump', volume, *words)
        assert code == 1 and said.count('\n') == 1 and not out, (words, said)


def test_info(volume):
    code, out, said = tool('info', '--json', volume)
    info = json.loads(out)
    assert code == 0 and not said and info['state'] == 'clean' and info['devices'][0]['devid'] == 1
    used = sum(u['used_bytes'] for u in info['usage'])
    assert used == info['used_bytes'] and 'unknown_chunks' not in out.decode()


# ---- older trees ----

@pytest.fixture(scope='module')
def aged(work):
    """A volume of many generations, and what the kernel's files were in each: one more file each time."""
    image = work / 'aged.img'
    make(image, ['-m', 'single', '-R', 'free-space-tree'])
    generations = {}
    with mounts.kernel(image, work / 'k') as root:
        for i in range(10):
            with open('%s/file-%d' % (root, i), 'wb') as f:
                f.write(b'%d' % i * 10000)
            progs('filesystem', 'sync', root)
            shown = progs('inspect-internal', 'dump-super', image)
            generations[int(re.search(r'^generation\s+(\d+)', shown, re.M).group(1))] = i + 1
    return image, generations


def hurt(image, block, data=b'gone', at=100):
    """Overwrites a node in every copy."""
    for copy in dump(image, 'node', block)['copies']:
        with open(image, 'r+b') as f:
            f.seek(copy['at_byte'] + at)
            f.write(data)


def names(image, *options):
    code, out, said = tool('ls', *options, image)
    return out.decode().split() if code == 0 else said


def test_a_generation_is_chosen(aged):
    image, generations = aged
    newest = max(generations)
    backups = {b['tree_root_gen'] for b in dump(image, 'backup')['backups']}
    found = 0
    for generation, files in generations.items():
        got = names(image, '--generation', str(generation))
        if generation in backups or generation == newest:
            assert got == ['file-%d' % i for i in range(files)], generation
        elif isinstance(got, list):
            # Found by a search; nothing keeps what is no backup.
            assert got == ['file-%d' % i for i in range(files)], generation
            found += 1
        else:
            assert got.count('\n') == 1, got
    code, out, said = tool('ls', '--generation', min(backups - {newest}), image)
    assert 'shown as of generation' in said and said.count('\n') == 1
    assert 'no root tree of generation 1 ' in names(image, '--generation', '1')
    assert 'a number is wanted' in names(image, '--generation', 'x')


def test_the_superblock_forgets_the_backups(aged, work):
    """A generation that no superblock knows is found where it lies."""
    image = work / 'searched.img'
    shutil.copy(aged[0], image)
    backup = [b for b in dump(image, 'backup')['backups'] if b['tree_root_gen'] < max(aged[1])][-1]
    code, out, said = tool('ls', '--generation', backup['tree_root_gen'], image)
    want = out
    assert code == 0 and b'file' in out
    for off in (65536, 64 << 20):
        with open(image, 'r+b') as f:
            f.seek(off)
            sb = bytearray(f.read(4096))
            sb[0xb2b:0xb2b + 4 * 168] = bytes(4 * 168)
            sb[:4] = crc32c(bytes(sb[32:])).to_bytes(4, 'little')
            f.seek(off)
            f.write(sb)
    code, out, said = tool('ls', '--generation', backup['tree_root_gen'], image)
    assert code == 0 and out == want and 'a search of the metadata' in said


def crc32c(data):
    c = 0xffffffff
    for b in data:
        c ^= b
        for _ in range(8):
            c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff


def test_backup_roots(aged, work):
    image = work / 'backup.img'
    shutil.copy(aged[0], image)
    hurt(image, dump(image, 'superblock')['root'])
    code, out, said = tool('ls', image)
    assert code == 1 and 'usebackuproot' in said and said.count('\n') == 1
    for option in ('usebackuproot', 'rescue=usebackuproot', 'rescue=all', 'recovery', 'rescue=usebackuproot:nologreplay'):
        code, out, said = tool('ls', '-o', option, image)
        assert code == 0 and 'file-8' in out.decode() and 'generation' in said, said
    info = json.loads(tool('info', '--json', image)[1])
    assert 'cannot be read' in info['notice']
    assert 'error' in dump(image, 'root')


# ---- damaged trees ----

@pytest.fixture(scope='module')
def sound(work):
    image = work / 'sound.img'
    make(image, ['-m', 'single', '-n', '4096', '-R', 'free-space-tree'])
    with mounts.kernel(image, work / 'k') as root:
        for i in range(500):
            with open('%s/file-%03d' % (root, i), 'wb') as f:
                f.write(b'%d' % i * 3000)
    return image


def leaves(node):
    if 'items' in node:
        yield node
    for n in node.get('nodes', ()):
        yield from leaves(n)


def listed_leaf(image):
    """A leaf of the top-level subvolume that names are listed from."""
    return next(n for n in leaves(dump(image, 'tree', 5)) if sum(i['type'] == 'DIR_INDEX' for i in n['items']) > 5)


def test_no_checksum_tree(sound, work):
    image = work / 'csums.img'
    shutil.copy(sound, image)
    tree = dump(image, 'tree', 7)
    hurt(image, tree['block'])
    code, out, said = tool('cat', str(image) + ':/file-001')
    assert code == 1 and 'rescue=ignorebadroots' in said and said.count('\n') == 1
    for option in ('rescue=ignorebadroots', 'rescue=ibadroots', 'ignorebadroots', 'rescue=ignoredatacsums', 'rescue=all'):
        code, out, said = tool('cat', '-o', option, str(image) + ':/file-001')
        assert code == 0 and out == b'1' * 3000 and 'data is not checked' in said, (option, said)


def test_checksums_of_metadata_are_ignored(sound, work):
    """A node whose checksum alone is wrong."""
    image = work / 'metacsum.img'
    shutil.copy(sound, image)
    leaf = listed_leaf(image)
    hurt(image, leaf['block'], b'\0\0\0\0', 0)
    assert 'wrong checksum' in dump(image, 'node', leaf['block'])['error']
    code, whole, said = tool('ls', sound)
    code, out, said = tool('ls', image)
    assert code == 1 and out != whole
    code, out, said = tool('ls', '-o', 'rescue=ignoremetacsums', image)
    assert code == 0 and out == whole, said


def test_a_damaged_leaf_hides_itself_alone(sound, work):
    image = work / 'leaf.img'
    shutil.copy(sound, image)
    lost = listed_leaf(image)
    gone = {e['name'] for i in lost['items'] if i['type'] == 'DIR_INDEX' for e in i['item']['entries']}
    hurt(image, lost['block'])
    code, out, said = tool('ls', image)
    want = {'file-%03d' % i for i in range(500)}
    assert code == 1 and said.count('\n') == 1 and 'damaged' in said
    assert set(out.decode().split()) == want - gone


def test_a_damaged_chunk_tree(sound, work):
    image = work / 'chunks.img'
    shutil.copy(sound, image)
    tree = dump(image, 'chunk')
    hurt(image, tree['block'])
    code, out, said = tool('ls', image)
    assert code == 1 and said.count('\n') == 1 and 'tree block' in said
    info = json.loads(tool('info', '--json', image)[1])
    assert 'chunk tree cannot be read' in info['notice']
    assert 'wrong checksum' in dump(image, 'chunk')['error']


def test_an_older_chunk_tree(work):
    """The newest is damaged: what lies in the chunks that the one before knew is shown."""
    image = work / 'older-chunks.img'
    make(image, ['-m', 'single', '-R', 'free-space-tree'])
    with mounts.kernel(image, work / 'k') as root:
        open(root + '/name', 'w').close()
        progs('filesystem', 'sync', root)
        written = os.urandom(120 << 20)
        with open(root + '/big', 'wb') as f:
            f.write(written)
        progs('filesystem', 'sync', root)
    newest = dump(image, 'superblock')['chunk_root']
    older = {b['chunk_root'] for b in dump(image, 'backup')['backups']} - {newest}
    assert older, 'no chunk was made'
    hurt(image, newest)
    assert 'tree block %d' % newest in names(image)
    code, out, said = tool('ls', '-o', 'usebackuproot', image)
    assert code == 0 and out.decode().split() == ['big', 'name'] and 'an older chunk tree is used' in said, said
    # Where the kernel made all chunks of it before the last commit, it is all there.
    code, out, said = tool('cat', '-o', 'usebackuproot', str(image) + ':/big')
    assert code == 1 and said.count('\n') == 2 or code == 0 and out == written, said


def space(d):
    s = os.statvfs(d)
    return s.f_bsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_namemax


@pytest.mark.parametrize('args', [['-m', 'dup', '-d', 'dup', '-R', 'free-space-tree'], ['-m', 'single', '-R', '^free-space-tree']])
def test_df_of_a_full_volume(work, args):
    image = work / 'full.img'
    make(image, args)
    with mounts.kernel(image, work / 'k') as root:
        with pytest.raises(OSError):
            with open(root + '/big', 'wb', buffering=0) as f:
                while True:
                    f.write(os.urandom(1 << 20))
                    os.fsync(f.fileno())
    # Of a device that cannot be written the kernel counts nothing as available.
    with mounts.loop(image) as dev, mounts.kernel(dev, work / 'k', 'ro') as root:
        want = space(root)
    with mounts.werunos(image, work / 'w') as root:
        assert space(root) == want


def test_options(sound):
    idle = 'ssd,discard=async,space_cache=v2,compress=zstd:3,commit=30,autodefrag,thread_pool=4,noacl,nologreplay,skip_balance'
    assert len(names(sound, '-o', idle)) == 500
    for option, said in (('bogus', '"bogus"'), ('rescue=bogus', 'rescue=bogus'), ('subvolid=x', 'a number'), ('degraded=1', '"degraded=1"'),
                         ('subvol=none', '"none"'), ('subvolid=999', '999'), ('subvolid=7', '7'), ('subvol=/file-001', 'not a subvolume')):
        got = names(sound, '-o', option)
        assert isinstance(got, str) and said in got and got.count('\n') == 1, got
    assert len(names(sound, '-o', 'subvolid=5')) == len(names(sound, '-o', 'subvolid=0,subvol=/')) == 500
