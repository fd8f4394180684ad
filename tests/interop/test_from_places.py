"""`werunos mkfs --from`: the size that is found, the image in its own tree, and a host that has no room for it."""
import os, signal, subprocess, time
import pytest
import mounts

need_root = pytest.mark.skipif(os.geteuid() != 0, reason='not root: a small file system has to be mounted')


def mkfs(*args, code=0):
    r = subprocess.run([mounts.WERUNOS, 'mkfs', 'ext4', *map(str, args)], capture_output=True, text=True, errors='replace', timeout=120)
    assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
    return r


def names(image):
    return subprocess.run([mounts.WERUNOS, 'ls', f'{image}:/'], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def tree(tmp_path):
    d = tmp_path / 'tree'
    d.mkdir()
    (d / 'file').write_bytes(os.urandom(3 << 20))
    return d


def test_inodes_alone(tmp_path):
    """Empty files take no data, but a table of inodes that is larger than all else."""
    d, image = tmp_path / 'tree', tmp_path / 'a.img'
    d.mkdir()
    for i in range(25000):
        (d / str(i)).touch()
    mkfs('-I', '1024', '--from', d, image)
    mounts.run('e2fsck', '-fn', str(image))
    assert len(names(image)) == 25001


def test_image_in_its_tree(tree):
    image = tree / 'a.img'
    r = mkfs('--from', tree, image, code=1)
    assert 'a.img: it is what is copied to' in r.stderr and names(image) == ['file', 'lost+found'], r.stderr
    mkfs('--force', '--exclude', 'a.img', '--from', tree, image)
    mounts.run('e2fsck', '-fn', str(image))
    assert names(image) == ['file', 'lost+found']


@need_root
@pytest.mark.parametrize('size', [[], ['64M']], ids=['auto', 'given'])
def test_full_host(tmp_path, tree, size):
    """No larger volume helps there: it ends at once, with a sentence, and nothing is left."""
    small = tmp_path / 'small'
    small.mkdir()
    mounts.run('mount', '-t', 'tmpfs', '-o', 'size=2M', 'none', str(small))
    try:
        r = mkfs('--from', tree, small / 'a.img', *size, code=1)
        assert 'No space left on device' in r.stderr.splitlines()[-1], r.stderr
        assert os.listdir(small) == []
    finally:
        mounts.unmount(small)


def test_file_of_somebody(tmp_path, tree):
    """What is no file system is no empty place either; the mark of what was broken off, and zeros, are."""
    image = tmp_path / 'a.img'
    for content, held in ((b'important\n' * 9999, True), (bytes(5000) + b'x' * 99, True), (bytes(99999), False),
                          (b'unfinished werunos image\n' + bytes(99999), False)):
        for args in (['--from', tree], []):
            image.write_bytes(content + bytes(8 << 20))
            r = mkfs(*args, image, code=int(held))
            if held:
                assert 'data that is no file system: --force' in r.stderr and image.read_bytes() == content + bytes(8 << 20)
                mkfs('--force', *args, image)
            mounts.run('e2fsck', '-fn', str(image))


def test_killed(tmp_path):
    """However far it was, the image is complete, or none: nobody takes a copy of its superblock for it. Made anew it is without being forced."""
    d, image = tmp_path / 'tree', tmp_path / 'a.img'
    d.mkdir()
    for i in range(40):
        (d / str(i)).write_bytes(os.urandom(2 << 20))
    unfinished = 0
    for turn in range(12):
        p = subprocess.Popen([mounts.WERUNOS, 'mkfs', 'ext4', '--from', d, image, '200M'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and p.poll() is None and not (image.exists() and image.stat().st_blocks > 4096 * turn):
            time.sleep(0.001)
        p.send_signal(signal.SIGKILL)
        p.wait()
        for command in ('ls', 'info', 'label'):
            r = subprocess.run([mounts.WERUNOS, command, image], capture_output=True, text=True)
            assert r.returncode == 0 or 'unfinished image' in r.stderr or 'no file system that is known' in r.stderr, r.stderr
            assert 'copy of the superblock' not in r.stderr, r.stderr
        unfinished += 'unfinished' in r.stderr
        if unfinished == 1:
            mkfs('--from', d, image)
            mounts.run('e2fsck', '-fn', str(image))
        image.unlink()
    assert unfinished
