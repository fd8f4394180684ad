"""
Volumes whose journal lies on a device of its own, made longer and shorter by werunos resize --journal: e2fsck and the kernel, which get that device too,
find nothing, and all that was there. Without it, or with another one, nothing changes. The power goes meanwhile.
"""
import contextlib, hashlib, json, os, random, subprocess
import pytest
import manifest, mounts
from test_shorten import BASE, CSUM, small_content, view

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')
# What mke2fs is told; the first word is the length of blocks.
KINDS = {
    'default': ('4096 -g 2048 -N 2000', CSUM + ',has_journal,extent,resize_inode,sparse_super,orphan_file,metadata_csum_seed'),
    '1k': ('1024 -g 2048 -N 2000', CSUM + ',has_journal,extent,resize_inode,sparse_super'),
    'ext3': ('1024 -g 2048 -I 128 -N 2000', 'has_journal,resize_inode,sparse_super'),
}


def sparse(path, mib):
    with open(path, 'wb') as f:
        f.truncate(mib << 20)


class Volume:
    def __init__(self, tmp, kind='1k', mib=48):
        self.image, self.journal, self.d = (str(tmp / n) for n in ('image', 'journal', 'd'))
        words, features = KINDS[kind]
        os.mkdir(self.d)
        sparse(self.image, mib)
        sparse(self.journal, 4 * int(words.split()[0]) // 1024)
        with mounts.loop(self.journal) as dev:
            mounts.run('mke2fs', '-q', '-F', '-b', words.split()[0], '-O', 'journal_dev', dev)
            mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-J', 'device=' + dev, '-b', *words.split(), '-O', BASE + features, self.image)

    @contextlib.contextmanager
    def kernel(self):
        with mounts.loop(self.journal) as dev, mounts.kernel(self.image, self.d, 'loop,noatime,journal_path=' + dev):
            yield self.d

    def clean(self):
        with mounts.loop(self.journal) as dev:
            mounts.run('e2fsck', '-fn', '-j', dev, self.image)
        mounts.run(mounts.WERUNOS, 'fsck', '-f', '-n', '--journal', self.journal, self.image)

    def resize(self, *words, journal=None):
        words = ['--journal', journal or self.journal, '--json', self.image, *words]
        return json.loads(subprocess.run([mounts.WERUNOS, 'resize', *words], stdout=subprocess.PIPE, check=True).stdout)

    def bytes(self):
        return [hashlib.md5(open(p, 'rb').read()).hexdigest() for p in (self.image, self.journal)]


@pytest.mark.parametrize('kind', KINDS)
def test_longer_and_shorter(kind, tmp_path):
    v, rng, moved = Volume(tmp_path, kind), random.Random(5), 0
    with v.kernel():
        small_content(v.d, rng, kind)
        want = view(v.d)
    for size in ('150M', '90M', '--minimum', '70M'):
        said = v.resize(size)
        assert said['after_bytes'] != said['before_bytes'] and not said.get('journal_moved'), said
        moved += said.get('blocks_moved', 0) > 0 and said['inodes_moved'] > 0
        v.clean()
        with v.kernel():
            assert not manifest.differences(want, view(v.d)), size
            if size != '--minimum':
                os.mkdir(v.d + '/' + size)
                small_content(v.d + '/' + size, rng, kind)
            want = view(v.d)
    assert moved


def test_mounted(tmp_path):
    """The mount has the journal already."""
    v = Volume(tmp_path)
    with mounts.werunos(v.image, v.d, '--journal', v.journal):
        for size, name in (('100M', 'a'), ('140M', 'b')):
            with open('%s/%s' % (v.d, name), 'wb') as f:
                f.write(os.urandom(20 << 20))
            mounts.run(mounts.WERUNOS, 'resize', v.d, size)
        want = view(v.d)
    assert os.path.getsize(v.image) == 140 << 20
    v.clean()
    with v.kernel():
        assert view(v.d) == want


def test_its_journal_is_wanted(tmp_path):
    """Nobody writes to the volume, or to any device, as long as the right one is not named."""
    v = Volume(tmp_path)
    other, inside, nothing = (str(tmp_path / n) for n in ('other', 'inside', 'nothing'))
    for path in (other, inside, nothing):
        sparse(path, 4)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-O', 'journal_dev', other)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-t', 'ext4', inside)
    before = v.bytes()
    for size in ('90M', '30M', '--minimum'):
        for words, sentence in (([], 'its journal is on another device (--journal names it)'), (['--journal', other], 'the journal of another volume'),
                                (['--journal', nothing], 'no journal device'), (['--journal', inside], 'no journal device'),
                                (['--journal', str(tmp_path / 'gone')], 'does not exist'), (['--journal', v.image], 'is in use')):
            r = subprocess.run([mounts.WERUNOS, 'resize', *words, v.image, size], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert r.returncode == 1 and sentence in r.stdout and r.stdout.count('\n') == 1, (size, words, r.stdout)
    r = subprocess.run([mounts.WERUNOS, 'resize', '--journal', v.journal, inside, '8M'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert r.returncode == 1 and 'its journal inside' in r.stdout and os.path.getsize(inside) == 4 << 20, r.stdout
    assert v.bytes() == before
    v.clean()


def test_edited(tmp_path):
    """The commands that change a volume without a mount take the option too."""
    v = Volume(tmp_path)
    r = subprocess.run([mounts.WERUNOS, 'mkdir', v.image + ':/a'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert r.returncode == 1 and '--journal names it' in r.stdout
    mounts.run(mounts.WERUNOS, 'mkdir', '--journal', v.journal, v.image + ':/a')
    mounts.run(mounts.WERUNOS, 'cp', '--journal', v.journal, __file__, v.image + ':/a')
    v.clean()
    with v.kernel():
        assert os.listdir(v.d + '/a') == [os.path.basename(__file__)]


@pytest.mark.parametrize('kind', ['1k', 'ext3'])
def test_power(kind, tmp_path):
    """At any write to one of the devices, with what neither has flushed lost or reordered."""
    v = Volume(tmp_path, kind, 24)
    with v.kernel():
        small_content(v.d, random.Random(int(os.environ.get('SEED', '1'))), kind)
    both = str(tmp_path / 'both')
    with open(both, 'wb') as out:
        for path in (v.image, v.journal):
            with open(path, 'rb') as f:
                out.write(f.read())
    crash = [os.path.join(mounts.BUILD, 'tests/crash/crash'), '--shorten', both, '--split', str(24 << 20), '--seed', os.environ.get('SEED', '1')]
    print(mounts.run(*crash, '--size', str(14000 << 10), '--states', os.environ.get('STATES', '100')))
    mounts.run(*crash, '--size', str(14000 << 10), '--states', '150', '--no-flush', '--expect-failure')
