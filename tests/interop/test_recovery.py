"""
Volumes that were in use when their kernel went away: our read-only mount, which applies the journal in memory, shows what the
kernel shows after it has replayed the journal, and the image is not touched.
"""
import errno, fcntl, hashlib, os, random, struct, subprocess, threading, time
import pytest
import manifest, mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to write the images')

EXT4 = ('none,has_journal,ext_attr,dir_index,filetype,sparse_super,large_file,extent,huge_file,dir_nlink,extra_isize,flex_bg,'
        'resize_inode')
KINDS = {
    'csum-v3': (EXT4 + ',64bit,metadata_csum', ['-b', '4096']),
    'csum-v3-1k-seed': (EXT4 + ',64bit,metadata_csum,metadata_csum_seed', ['-b', '1024']),
    'no-csum-32bit': (EXT4, ['-b', '4096']),
    'no-csum-64bit-1k': (EXT4 + ',64bit', ['-b', '1024']),
    'ext3': ('none,has_journal,ext_attr,dir_index,filetype,sparse_super,large_file', ['-b', '1024', '-I', '128']),
}


EXT4_IOC_SHUTDOWN = 0x8004587d
NO_LOG_FLUSH = struct.pack('<I', 2)


def work_on(root, seed):
    """Creates, writes, renames, removes and syncs at random, until the volume is gone."""
    r, names, n = random.Random(seed), [], 0
    try:
        while True:
            n += 1
            path = '%s/d%d/%s-%d' % (root, r.randrange(8), seed, n)
            kind = r.randrange(10) if len(names) < 300 else 7
            if kind < 5 or not names:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, 'wb') as f:
                    f.write(os.urandom(r.choice([0, 10, 5000, 70000])))
                    if r.randrange(4) == 0:
                        f.flush()
                        os.fsync(f.fileno())
                names.append(path)
            elif kind < 7:
                old = names.pop(r.randrange(len(names)))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.rename(old, path)
                names.append(path)
            elif kind < 9:
                os.unlink(names.pop(r.randrange(len(names))))
            else:
                os.setxattr(r.choice(names), 'user.n', b'%d' % n * 20)
    except OSError as e:
        assert e.errno in (errno.EIO, errno.EROFS), e


def sha(path):
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest()


def copies_after_a_crash(tmp_path, kind, count):
    """
    Copies of the image as a power cut leaves it: the kernel is told to drop the volume at once, in the middle of work. (A copy
    taken while the volume is written would be of many moments, which no journal mends.)
    """
    features, args = KINDS[kind]
    image, d = tmp_path / 'live.img', tmp_path / 'k'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(64 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', features, '-J', 'size=4', *args, str(image))
    out = []
    for i in range(count):
        # Direct I/O below the loop device: a write is in the file, in order, or it is not.
        with mounts.loop(image, '--direct-io=on') as dev, mounts.kernel(dev, d, 'commit=1'):
            worker = threading.Thread(target=work_on, args=(str(d), '%s-%d' % (kind, i)))
            worker.start()
            time.sleep(1.3)
            fd = os.open(d, os.O_RDONLY)
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
            os.close(fd)
            worker.join()
        copy = tmp_path / ('copy%d.img' % i)
        mounts.run('cp', '--sparse=always', str(image), str(copy))
        out.append(copy)
    return out


def needs_recovery(image):
    return b'needs_recovery' in subprocess.run(['dumpe2fs', '-h', str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def replayed(image):
    """What e2fsck's journal replay alone makes of it."""
    subprocess.run(['e2fsck', '-y', '-E', 'journal_only', str(image)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize('kind', list(KINDS))
def test_journal_applied_in_memory(tmp_path, kind):
    seen = 0
    (tmp_path / 'w').mkdir()
    (tmp_path / 'r').mkdir()
    for copy in copies_after_a_crash(tmp_path, kind, 2):
        if not needs_recovery(copy):
            continue
        seen += 1
        before = sha(copy)
        with mounts.werunos(copy, tmp_path / 'w', '--ro'):
            got = manifest.take(tmp_path / 'w')
        assert sha(copy) == before, 'a read-only mount changed the image'
        replayed(copy)
        assert not needs_recovery(copy)
        # The state is one that a crash may leave: then nothing is wrong with it after replay.
        mounts.run('e2fsck', '-fn', str(copy))
        with mounts.kernel(copy, tmp_path / 'r', 'loop,ro'):
            want = manifest.take(tmp_path / 'r')
        diff = manifest.differences(want, got)
        assert not diff, '\n'.join(diff)
        copy.unlink()
    assert seen, 'no copy needed recovery: nothing was tested'


def test_without_recovery_the_volume_is_shown_as_it_lies(tmp_path):
    for name in ('w', 'r'):
        (tmp_path / name).mkdir()
    copy = copies_after_a_crash(tmp_path, 'csum-v3', 1)[0]
    with mounts.werunos(copy, tmp_path / 'w', '--ro', '-o', 'norecovery'):
        os.listdir(tmp_path / 'w')
    assert needs_recovery(copy)


@pytest.mark.parametrize('block', ['1024', '4096'])
def test_journal_on_a_device_of_its_own(tmp_path, block):
    """Read with its journal as the kernel shows it; without, or with another volume's, that is said; nothing is written."""
    image, journal, other = (tmp_path / n for n in ('v.img', 'j.img', 'o.img'))
    for d in ('k', 'w'):
        (tmp_path / d).mkdir()
    for f, mib in ((image, 48), (journal, 8), (other, 8)):
        with open(f, 'wb') as out:
            out.truncate(mib << 20)
    with mounts.loop(journal) as jdev:
        mounts.run('mke2fs', '-q', '-F', '-b', block, '-O', 'journal_dev', jdev)
        mounts.run('mke2fs', '-q', '-F', '-b', block, '-O', 'journal_dev', str(other))
        mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-b', block, '-J', 'device=' + jdev, str(image))
        with mounts.loop(image) as dev, mounts.kernel(dev, tmp_path / 'k', 'commit=1,journal_path=' + jdev):
            worker = threading.Thread(target=work_on, args=(str(tmp_path / 'k'), 'outside'))
            worker.start()
            time.sleep(1.3)
            fd = os.open(tmp_path / 'k', os.O_RDONLY)
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
            os.close(fd)
            worker.join()
    assert needs_recovery(image)
    before = sha(image), sha(journal)
    with mounts.werunos(image, tmp_path / 'w', '--ro', '--journal', str(journal)):
        got = manifest.take(tmp_path / 'w')
    for args, sentence in ((['--ro'], b'--journal'), (['--ro', '--journal', str(other)], b'another volume')):
        r = subprocess.run(['timeout', '-s', 'INT', '1', mounts.WERUNOS, 'mount', *args, str(image), str(tmp_path / 'w')],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert sentence in r.stdout, r.stdout
    assert (sha(image), sha(journal)) == before, 'a read-only mount changed something'
    with mounts.loop(journal) as jdev, mounts.kernel(image, tmp_path / 'k', 'loop,journal_path=' + jdev):
        want = manifest.take(tmp_path / 'k')
    diff = manifest.differences(want, got)
    assert not diff, '\n'.join(diff)
    assert len(want) > 20


def test_written_with_a_journal_on_a_device_of_its_own(tmp_path):
    """Our server is killed in the middle; recovered from that journal, by us and by the kernel, what was synced is there."""
    image, journal, d = tmp_path / 'v.img', tmp_path / 'j.img', tmp_path / 'w'
    for n in ('k', 'w'):
        (tmp_path / n).mkdir()
    for f, mib in ((image, 48), (journal, 8)):
        with open(f, 'wb') as out:
            out.truncate(mib << 20)
    with mounts.loop(journal) as jdev:
        mounts.run('mke2fs', '-q', '-F', '-b', '4096', '-O', 'journal_dev', jdev)
        mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-J', 'device=' + jdev, str(image))
    p = subprocess.Popen([mounts.WERUNOS, 'mount', '--journal', str(journal), str(image), str(d)])
    try:
        while not os.path.ismount(d):
            assert p.poll() is None
            time.sleep(0.01)
        for i in range(50):
            with open(d / ('f%d' % i), 'w') as f:
                f.write('%d' % i * 3000)
                f.flush()
                os.fsync(f.fileno())
        os.unlink(d / 'f7')
        fd = os.open(d, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    finally:
        p.kill()
        p.wait()
        mounts.unmount(d)
    assert needs_recovery(image)
    copy, jcopy = tmp_path / 'v2.img', tmp_path / 'j2.img'
    mounts.run('cp', '--sparse=always', str(image), str(copy))
    mounts.run('cp', '--sparse=always', str(journal), str(jcopy))
    with mounts.werunos(image, d, '--journal', str(journal)):
        got = {n: open(d / n).read() for n in os.listdir(d) if n != 'lost+found'}
    assert got == {'f%d' % i: '%d' % i * 3000 for i in range(50) if i != 7}
    with mounts.loop(journal) as jdev:
        mounts.run('e2fsck', '-fn', '-j', jdev, str(image))
    with mounts.loop(jcopy) as jdev, mounts.kernel(copy, tmp_path / 'k', 'loop,journal_path=' + jdev):
        assert {n: open(tmp_path / 'k' / n).read() for n in os.listdir(tmp_path / 'k') if n != 'lost+found'} == got
