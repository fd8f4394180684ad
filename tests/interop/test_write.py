"""
Volumes written through a mount: e2fsck finds nothing, the kernel shows what we showed, and both take turns on one volume.
Killed in the middle: what was synced is there, and nothing needs repair that the journal does not mend.
"""
import os, random, shutil, subprocess, time
import pytest
import manifest, mounts
from turns import many_names, same, seen, work

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ALL = subprocess.run(['bash', '-c', '. tests/features.sh; echo $ext4_volumes'], cwd=TOP, capture_output=True, text=True).stdout.split()
# Blocks longer than a page: the kernel does not mount such volumes.
LONG_BLOCKS = [k for k in ALL if k in ('8k', '16k', '32k') or k.startswith('64k')]
# The kernel's own writing of inline data has crashed it (6.18): such volumes it only reads.
KINDS = [k for k in ALL if k not in LONG_BLOCKS + ['inline', 'clusters_large']] if os.environ.get('LONG') else \
    ['default', '1k', 'ext3', 'nojournal', 'uninit', 'clusters', 'jdata']


def make(path, kind, mib=256):
    words, _, then = subprocess.run(['bash', '-c', '. tests/features.sh; ext4_volume ' + kind], cwd=TOP, capture_output=True,
                                    text=True).stdout.partition(' --then ')
    with open(path, 'wb') as f:
        f.truncate(mib << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', *words.split(), str(path))
    if then:
        mounts.run(*then.replace('IMAGE', str(path)).split())
    return path


def fsck(image):
    r = subprocess.run(['e2fsck', '-fn', str(image)], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


@pytest.mark.parametrize('kind', KINDS)
def test_written_by_turns(tmp_path, kind):
    """We, the kernel, we, the kernel: after each, e2fsck is content and the next one sees all that the last one saw."""
    image, d = make(tmp_path / 'img', kind), tmp_path / 'd'
    d.mkdir()
    r = random.Random('turns ' + kind)
    before = None
    for turn in range(20 if os.environ.get('LONG') else 4):
        with (mounts.kernel(image, d) if turn % 2 else mounts.werunos(image, d)) as root:
            if before is not None:
                same(before, seen(root))
            else:
                many_names(root, 3000)
            work(root, r, 250)
            mounts.run('sync', '-f', root)
            before = seen(root)
        fsck(image)
    with mounts.kernel(image, d) as root:
        same(before, seen(root))


@pytest.mark.parametrize('kind', ['inline', 'clusters_large'])
def test_inline(tmp_path, kind):
    """As above, the kernel reading only."""
    image, d = make(tmp_path / 'img', kind), tmp_path / 'd'
    d.mkdir()
    r = random.Random(kind)
    for turn in range(3):
        with mounts.werunos(image, d) as root:
            work(root, r, 250)
            before = seen(root)
        fsck(image)
        with mounts.kernel(image, d, 'loop,ro') as root:
            same(before, seen(root))


def told(root):
    """What rdump keeps."""
    out = manifest.take(root, holes=False)
    return {p: [d.get(k) for k in ('type', 'mode', 'uid', 'gid', 'content', 'target')] for p, d in out.items() if p != '.'}


@pytest.mark.parametrize('kind', LONG_BLOCKS if os.environ.get('LONG') else ['64k'])
def test_long_blocks(tmp_path, kind):
    """debugfs shows what we wrote, where the kernel cannot."""
    image, d, out = make(tmp_path / 'img', kind, 512), tmp_path / 'd', tmp_path / 'out'
    d.mkdir()
    r = random.Random(kind)
    for turn in range(2):
        with mounts.werunos(image, d) as root:
            if not turn:
                many_names(root, 3000)
            work(root, r, 250)
            before = told(root)
        fsck(image)
        out.mkdir()
        mounts.run('debugfs', '-R', 'rdump / %s' % out, str(image))
        assert before == told(str(out))
        shutil.rmtree(out)


@pytest.mark.parametrize('kind', [k for k in KINDS if k not in ('nojournal', 'clusters_nojournal')][:5])
def test_killed(tmp_path, kind):
    """SIGKILL is a crash: what was synced before is all there, and e2fsck only replays and clears orphans."""
    image, d = make(tmp_path / 'img', kind), tmp_path / 'd'
    d.mkdir()
    r = random.Random('killed ' + kind)
    for turn in range(3):
        server = subprocess.Popen([mounts.WERUNOS, 'mount', str(image), str(d)], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + 20
            while not os.path.ismount(d):
                assert server.poll() is None and time.monotonic() < end
                time.sleep(0.01)
            work(str(d), r, 150)
            keep = '%s/keep%d' % (d, turn)
            os.mkdir(keep)
            for i in range(20):
                with open('%s/%d' % (keep, i), 'wb') as f:
                    f.write(b'%d' % i * 3000)
                    f.flush()
                    os.fsync(f.fileno())
            work(str(d), r, 60)
        finally:
            server.kill()
            server.wait()
            mounts.unmount(d)
        copy = tmp_path / 'copy'
        shutil.copyfile(image, copy)
        out = subprocess.run(['e2fsck', '-fy', '-E', 'journal_only', str(copy)], capture_output=True, text=True)
        assert out.returncode in (0, 1), out.stdout
        out = subprocess.run(['e2fsck', '-fp', str(copy)], capture_output=True, text=True)
        assert out.returncode in (0, 1), out.stdout + out.stderr
        fsck(copy)
        with mounts.kernel(copy, d) as root:
            for i in range(20):
                with open('%s/keep%d/%d' % (root, turn, i), 'rb') as f:
                    assert f.read() == b'%d' % i * 3000
            kernels = seen(root)
        with mounts.werunos(image, d) as root:
            same(kernels, seen(root))
        fsck(image)
