"""What reaches the device's own durability calls, seen from outside: each fsync through a mount waits for them."""
import os, re, shutil
import pytest
import mounts

pytestmark = [pytest.mark.skipif(not os.path.exists('/dev/fuse'), reason='no /dev/fuse'),
              pytest.mark.skipif(not shutil.which('strace'), reason='strace is not installed')]
N = 20


def calls(log):
    """(flushes, writes that are durable when they return), in the trace so far."""
    with open(log) as f:
        text = f.read()
    return len(re.findall(r'\b(?:fdatasync|fsync)\(', text)), len(re.findall(r'\bpwritev2?\(.*RWF_DSYNC', text))


@pytest.mark.parametrize('features', ['extent,has_journal,64bit,metadata_csum', 'extent,^has_journal,64bit,metadata_csum'])
def test_each_fsync_flushes(tmp_path, features):
    image, d, log = tmp_path / 'v.img', tmp_path / 'm', tmp_path / 'trace'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(64 << 20)
    journalled = ',has_journal' in features
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', features, *(['-J', 'size=4'] if journalled else []), str(image))
    trace = ['strace', '-f', '-q', '-s', '0', '-e', 'trace=fdatasync,fsync,pwritev2', '-o', str(log)]
    with mounts.werunos(image, d, wrap=trace):
        fd = os.open(d / 'f', os.O_RDWR | os.O_CREAT)
        os.fsync(fd)
        for i in range(N):
            os.pwrite(fd, b'%08d' % i * 512, i * 4096)
            before = calls(log)
            os.fsync(fd)
            flushes, durable = (a - b for a, b in zip(calls(log), before))
            assert flushes >= 1, 'fsync %d returned without a flush' % i
            if journalled:
                # One that covers the data and the log, and one for the commit block: by itself, or with the block.
                assert flushes + durable >= 2, 'fsync %d: %d flushes, %d durable writes' % (i, flushes, durable)
                assert flushes + durable <= 4, 'fsync %d: %d flushes, %d durable writes' % (i, flushes, durable)
        os.close(fd)
    mounts.run('e2fsck', '-fn', str(image))
