"""A test's mount namespace does not hold what other tests unmount: their volumes would be written to after that."""
import os, subprocess
import pytest
import mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the image')


def test_unmounted_everywhere(tmp_path):
    if subprocess.run(['findmnt', '-no', 'PROPAGATION', '/'], stdout=subprocess.PIPE, text=True).stdout.strip() == 'private':
        pytest.skip('mounts are not shared here: tests/run.sh sees to that')
    image, d = tmp_path / 'image', tmp_path / 'd'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(8 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', image)
    mounts.run('mount', '-o', 'loop', image, d)
    try:
        with subprocess.Popen([*mounts.APART, 'cat'], stdin=subprocess.PIPE) as other:
            seen = '/proc/%d/mounts' % other.pid
            assert mounts.within(5, lambda: os.readlink('/proc/%d/ns/mnt' % other.pid) != os.readlink('/proc/self/ns/mnt'))
            assert str(d) in open(seen).read()
            mounts.unmount(d)
            assert mounts.within(5, lambda: not mounts.on_loops(image)) and str(d) not in open(seen).read()
            other.stdin.close()
    finally:
        mounts.unmount(d)
