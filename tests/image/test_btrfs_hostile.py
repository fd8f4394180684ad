"""Hostile and broken btrfs volumes: each ends with an answer. No signal, no hang, no sanitizer report, no wrong byte."""
import glob, lzma, os, random, shutil, struct, subprocess
import pytest
from btrfs_edit import EXTENT_DATA, HEADER, ITEM, PTR, Volume
from test_hostile import explore

CHECK, FUZZ = '../shared/fixtures/btrfs-check', '../shared/fixtures/btrfs-fuzz'
WERUNOS = os.path.abspath(os.environ.get('BUILD', 'build/release') + '/werunos')


def restored(path, out):
    """The volume of a fixture: as it is, unpacked, or made again from a dump of its metadata."""
    data = lzma.open(path).read() if path.endswith('.xz') else open(path, 'rb').read()
    out.write_bytes(data)
    if data[65536 + 64:65536 + 72] == b'_BHRfS_M' or os.sep + 'btrfs-fuzz' + os.sep in path:
        return out
    dump = out.with_suffix('.dump')
    out.rename(dump)
    r = subprocess.run(['btrfs-image', '-r', str(dump), str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    dump.unlink()
    return out if out.exists() and r.returncode == 0 else None


@pytest.mark.skipif(not os.path.isdir(CHECK), reason='no ../shared: the broken volumes lie there')
@pytest.mark.parametrize('where', [CHECK, FUZZ], ids=['check', 'fuzz'])
def test_broken_volumes(tmp_path, where):
    seen = 0
    for path in sorted(glob.glob(where + '/**/*', recursive=True)):
        if os.path.isdir(path) or not path.endswith(('.img', '.xz', '.raw')):
            continue
        image = restored(path, tmp_path / 'image')
        if image:
            explore('explore', image)
            seen += 1
            image.unlink()
    assert seen >= (20 if where == CHECK else 10)


FUZZED = sorted(glob.glob(FUZZ + '/*.xz'))
ANSWER_S = 20


@pytest.mark.skipif(not FUZZED, reason='no ../shared: the broken volumes lie there')
@pytest.mark.parametrize('path', FUZZED, ids=[os.path.basename(p).split('.')[0] for p in FUZZED])
def test_fuzzed_volumes_are_checked(tmp_path, path):
    """An answer of fsck in time, whatever it is asked for: sound, mended, errors left, or one line that says why it cannot be looked at."""
    image = restored(path, tmp_path / 'image')
    before = image.read_bytes()
    for how in ([], ['--check-data'], ['--check-data', '--json'], ['--dry-run'], ['-y', '--check-data', '--clear-log', '--undo', str(tmp_path / 'undo')]):
        r = subprocess.run([WERUNOS, 'fsck', '-f', *how, str(image)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=ANSWER_S)
        err = r.stderr.decode(errors='replace')
        assert r.returncode in (0, 1, 4, 8) and 'Sanitizer' not in err and 'runtime error' not in err, (how, r.returncode, err[-3000:])
        assert (r.returncode == 8) == err.startswith('werunos: ') and len(err.splitlines()) == (r.returncode == 8), (how, err)
        if '-y' not in how:
            assert image.read_bytes() == before, how
    if (tmp_path / 'undo').exists():
        r = tools('undo', tmp_path / 'undo', image)
        assert r.returncode == 0, r.stderr
    assert image.read_bytes() == before
    image.unlink()


def test_all_fuzzed_volumes_are_there():
    assert not os.path.isdir(FUZZ) or len(FUZZED) >= 12


# ---- volumes that are wrong in one place ----

@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    """Small, with a tree of several levels: many files in nodes of 4 KiB, every one of them different."""
    d = tmp_path_factory.mktemp('btrfs')
    src = d / 'src'
    src.mkdir()
    for i in range(30):
        (src / ('d%d' % i)).mkdir()
        for k in range(40):
            (src / ('d%d' % i) / ('file-with-a-name-%d' % k)).write_bytes(b'%d %d ' % (i, k) * (1 + i * k * 3))
    image = d / 'sound.img'
    with open(image, 'wb') as f:
        f.truncate(160 << 20)
    subprocess.run(['mkfs.btrfs', '-q', '-f', '-n', '4096', '-s', '4096', '-m', 'dup', '-d', 'single', '--csum', 'crc32c', '-O',
                    'no-holes,skinny-metadata,extref', '--rootdir', str(src), str(image)], check=True, stdout=subprocess.DEVNULL)
    return image, src


def tools(*words):
    return subprocess.run([WERUNOS, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)


def wrong_bytes(image, src):
    """Reads some files through us: names of those whose content is wrong. What cannot be read is not wrong."""
    bad = []
    for path in sorted(p for p in src.rglob('*') if p.is_file())[::50]:
        r = tools('cat', '%s:/%s' % (image, path.relative_to(src)))
        if r.returncode == 0 and r.stdout != path.read_bytes():
            bad.append(path)
    return bad


def test_the_sound_one(sound):
    image, src = sound
    assert explore('explore', image) == ['%s: explored' % image]
    assert tools('cat', '%s:/d3/file-with-a-name-7' % image).stdout == (src / 'd3/file-with-a-name-7').read_bytes()


def test_a_node_is_two_things(sound, tmp_path):
    """Each pointer of an interior node of the file tree, and each tree's root, led to every kind of node there is."""
    image, src = sound
    v = Volume(image)
    nodes, parent = v.nodes(), v.tree(5)
    assert v.level(v.node(parent)) >= 1
    kinds = {}
    for logical, kind in nodes.items():
        kinds.setdefault(kind, logical)
    generation = v.generation
    v.close()
    copy = tmp_path / 'copy.img'
    for kind, target in sorted(kinds.items()):
        shutil.copy(image, copy)
        v = Volume(copy)
        v.point(parent, 1, target, generation)
        v.close()
        explore('explore', copy)
    # A cycle: the root is its own child.
    shutil.copy(image, copy)
    v = Volume(copy)
    v.point(parent, 0, parent, generation)
    v.close()
    line, = explore('explore', copy)
    assert 'explored' not in line
    copy.unlink()


def test_a_lost_write_on_one_mirror(sound, tmp_path):
    """One copy holds an older node that is sound in itself: the other one is read."""
    image, src = sound
    copy = tmp_path / 'copy.img'
    shutil.copy(image, copy)
    v = Volume(copy)
    changed = 0
    for logical, (tree, level) in v.nodes().items():
        if tree != 5:
            continue
        node = v.node(logical)
        struct.pack_into('<Q', node, 0x50, 3)  # generation
        if level == 0:
            struct.pack_into('<I', node, 0x60, max(1, v.count(node) - 1))
        v.write(logical, node, copies=[0])
        changed += 1
    v.close()
    assert changed > 5
    assert explore('explore', copy) == ['%s: explored' % copy]
    assert tools('cat', '%s:/d29/file-with-a-name-39' % copy).stdout == (src / 'd29/file-with-a-name-39').read_bytes()
    assert tools('ls', '%s:/d29' % copy).stdout.count(b'file-with') == 40


def test_chunks_that_overlap(sound, tmp_path):
    image, src = sound
    copy = tmp_path / 'copy.img'
    v = Volume(image)
    leaf_at = next(l for l, n in v.walk(v.chunk_root) if not v.level(n))
    leaf = v.node(leaf_at)
    chunks = [(k, off) for k, off, size in v.items(leaf) if k[1] == 228]
    v.close()
    assert len(chunks) >= 3
    for (key, off), (after, _) in zip(chunks, chunks[1:]):
        shutil.copy(image, copy)
        v = Volume(copy)
        node = v.node(leaf_at)
        struct.pack_into('<Q', node, off, after[2] - key[2] + 4096 * 16)
        v.write(leaf_at, node)
        v.close()
        explore('explore', copy)
        assert not wrong_bytes(copy, src), key


def test_random_damage_with_right_sums(sound, tmp_path):
    """Bytes of nodes changed at random: an answer, and never the wrong bytes of a file whose extents were not touched."""
    image, src = sound
    seed = int(os.environ.get('SEED', random.randrange(10**6)))
    print('seed', seed)
    rnd = random.Random(seed)
    v = Volume(image)
    nodes = list(v.nodes())
    v.close()
    copy = tmp_path / 'copy.img'
    shutil.copy(image, copy)
    for turn in range(200 if os.environ.get('LONG') else 15):
        v = Volume(image)
        hurt = rnd.sample(nodes, 3)
        saved = [(l, v.node(l)) for l in hurt]
        v.close()
        v = Volume(copy)
        for logical, node in saved:
            node = bytearray(node)
            for _ in range(rnd.randrange(1, 4)):
                at = rnd.choice([rnd.randrange(0x20, 101), rnd.randrange(101, 400), rnd.randrange(101, len(node))])
                node[at] = rnd.choice([0, 1, 0x7f, 0x80, 0xff, node[at] ^ (1 << rnd.randrange(8))])
            v.write(logical, node)
        v.close()
        try:
            explore('explore', copy)
        except AssertionError:
            raise AssertionError('seed %d turn %d' % (seed, turn))
        with open(copy, 'r+b') as f:
            v = Volume(image)
            for logical, node in saved:
                for at in v.places(logical):
                    f.seek(at)
                    f.write(node)
            v.close()


@pytest.mark.parametrize('field,value', [
    (0x90, 0), (0x90, 512), (0x90, 1 << 31), (0x94, 0), (0x94, 2048), (0x94, 1 << 20), (0xa0, 0), (0xa0, 2049), (0xa0, 20),
    (0xc4, 99), (0xc6, 8), (0xc7, 255), (0x50, 0), (0x50, 3), (0x58, 1 << 62), (0x88, 0), (0x70, 0),
], ids=lambda x: hex(x))
def test_superblocks(sound, tmp_path, field, value):
    image, src = sound
    copy = tmp_path / 'copy.img'
    shutil.copy(image, copy)
    v = Volume(copy)
    size = {0x90: '<I', 0x94: '<I', 0xa0: '<I', 0xc4: '<H', 0xc6: '<B', 0xc7: '<B'}.get(field, '<Q')
    struct.pack_into(size, v.super, field, value)
    v.write_super()
    v.close()
    line, = explore('explore', copy)
    assert 'explored' not in line, line
