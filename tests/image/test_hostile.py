"""Hostile and broken ext4 volumes: each ends with an answer. No signal, no hang, no sanitizer report."""
import glob, gzip, os, subprocess
import pytest

BUILD = os.environ.get('BUILD', 'build/release')
FIXTURES = '../shared/fixtures/e2fsck'
SCRIPT = 'tests/fuzz/images.sh'


SEEDS = range(5 if os.environ.get('LONG') else 1)


def explore(program, *images):
    r = subprocess.run([*(BUILD + '/tests/tools/' + program).split(), *map(str, images)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=120)
    assert r.returncode == 0, r.stderr.decode(errors='replace')[-3000:]
    lines = r.stdout.decode(errors='replace').splitlines()
    assert len(lines) == len(images)
    return lines


@pytest.mark.skipif(not os.path.isdir(FIXTURES), reason='no ../shared: the broken volumes lie there')
def test_broken_volumes(tmp_path):
    images = []
    for gz in sorted(glob.glob(FIXTURES + '/*.img.gz')):
        images.append(tmp_path / os.path.basename(gz)[:-3])
        images[-1].write_bytes(gzip.open(gz).read())
    assert len(images) > 60
    for image in images:
        explore('explore', image)
        for seed in SEEDS:
            explore('abuse %d 300' % seed, image)


@pytest.mark.skipif(not os.path.isdir(FIXTURES), reason='no ../shared: the broken volumes lie there')
def test_broken_volumes_changed(tmp_path):
    """By single commands: an answer each, 0 or 1, and a line for what could not be done."""
    for gz in sorted(glob.glob(FIXTURES + '/*.img.gz')):
        for command in (['chmod', '-R', 'u+rw'], ['rm', '-r']):
            image = tmp_path / os.path.basename(gz)[:-3]
            image.write_bytes(gzip.open(gz).read())
            listed = subprocess.run([BUILD + '/werunos', 'ls', str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
            paths = ['%s:/%s' % (image, n) for n in listed.stdout.decode().splitlines() if '\\' not in n] or ['%s:/lost+found' % image]
            r = subprocess.run([BUILD + '/werunos', *command, *paths], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
            err = r.stderr.decode(errors='replace')
            assert r.returncode in (0, 1) and 'Sanitizer' not in err and 'runtime error' not in err, (gz, command, err[-3000:])
            assert r.returncode == 0 or err, (gz, command)
        for command in (['defrag', str(image)], ['label', str(image), 'new'], ['uuid', str(image), 'random']):
            r = subprocess.run([BUILD + '/werunos', *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
            assert r.returncode in (0, 1) and b'Sanitizer' not in r.stderr and b'runtime error' not in r.stderr, (gz, command, r.stderr[-3000:])


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    d = tmp_path_factory.mktemp('images')
    subprocess.run([SCRIPT, str(d)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return d


def debugfs(image, *commands):
    return subprocess.run(['debugfs', '-w', '-f', '-', str(image)], input='\n'.join(commands).encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout.decode(errors='replace')


def number(text, word):
    return int(text.split(word)[1].split()[0].strip(':,'))


def find_blocks(image):
    """The blocks of each kind, and the debugfs commands that make X a block of that kind too."""
    group = subprocess.run(['dumpe2fs', str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           check=True).stdout.decode()
    return {
        'directory': int(debugfs(image, 'bmap d 0').split()[-1]),
        'xattr': number(debugfs(image, 'stat d'), 'File ACL:'),
        'bitmap': number(group, 'Block bitmap at '),
        'inode bitmap': number(group, 'Inode bitmap at '),
        'inode table': int(group.split('Inode table at ')[1].split('-')[0]),
        'map': map_block(image),
    }


def map_block(image):
    """The extent node, or the indirect block, of the file with many holes."""
    text = debugfs(image, 'stat holes')
    return number(text, '(ETB0):' if '(ETB0):' in text else '(IND):')


def pointers(image):
    """How X is made a block of each kind as well. i_block[4] is the first child of an extent root; the 13th the indirect block."""
    extents = '(ETB0):' in debugfs(image, 'stat holes')
    return {
        'directory': lambda x: ['sif d block[%d] %d' % (5 if extents else 0, x)],
        'xattr': lambda x: ['sif small file_acl %d' % x],
        'bitmap': lambda x: ['set_bg 0 block_bitmap %d' % x, 'set_bg 0 checksum calc'],
        'inode bitmap': lambda x: ['set_bg 0 inode_bitmap %d' % x, 'set_bg 0 checksum calc'],
        'inode table': lambda x: ['set_bg 0 inode_table %d' % x, 'set_bg 0 checksum calc'],
        'map': lambda x: ['sif holes block[%s] %d' % ('4' if extents else 'IND', x)],
    }


@pytest.mark.parametrize('name', ['csum', 'gdt', 'ext2'])
def test_one_block_is_two_things(sound, tmp_path, name):
    """One block is a directory, a map node, an attribute block, a bitmap and an inode table, in every pair; sums count as valid."""
    image = sound / (name + '.img')
    blocks, make = find_blocks(image), pointers(image)
    copies = []
    for is_kind, x in blocks.items():
        for also in make:
            if also == is_kind:
                continue
            copy = tmp_path / ('%s-as-%s.img' % (is_kind, also)).replace(' ', '-')
            copy.write_bytes(image.read_bytes())
            debugfs(copy, *make[also](x))
            assert copy.read_bytes() != image.read_bytes(), 'debugfs changed nothing for %s' % copy.name
            copies.append(copy)
    assert len(copies) == 30
    explore('explore', *copies)
    explore('explore_any_sum', *copies)
    for seed in SEEDS:
        explore('abuse %d 200' % seed, *copies)
        explore('abuse_any_sum %d 200' % seed, *copies)
