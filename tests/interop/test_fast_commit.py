"""
Volumes whose kernel went away with fast commits in their journal. What we show of them is what the kernel shows after it has applied
them itself, and what is then on the volume is sound, whether we only read it or recover it for writing.

The kernel's own way leaves some of what is in no record as it happens to come: times of directories, and their link counts and sizes. Of these
e2fsck is the judge. What SEEK_HOLE says of preallocated pieces depends on
what the kernel has in its page cache: bytes are compared.
"""
import fcntl, os, random, struct, subprocess
import pytest
import manifest, mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to write the images')

EXT4_IOC_SHUTDOWN = 0x8004587d
NO_LOG_FLUSH = struct.pack('<I', 2)
RECOVERED = os.path.abspath(mounts.BUILD + '/tests/tools/recovered')
CRASH = os.path.abspath(mounts.BUILD + '/tests/crash/crash')
KINDS = {'4k': ['-b', '4096', '-g', '8192'], '1k': ['-b', '1024', '-O', '^metadata_csum,^64bit'], '1k-seed': ['-b', '1024', '-O', 'metadata_csum_seed'],
         'clusters': ['-b', '1024', '-C', '8192', '-g', '1024', '-O', 'bigalloc,^resize_inode'], 'clusters-4k': ['-b', '4096', '-C', '16384', '-g', '512', '-O', 'bigalloc,^resize_inode']}


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def work(root, r, rounds):
    files, dirs, n = [], [''], 0
    for i in range(rounds):
        n += 1
        kind = r.randrange(14)
        new = os.path.join(r.choice(dirs), 'f%d' % n)
        if kind < 4 or not files:
            with open(os.path.join(root, new), 'wb') as f:
                f.write(r.randbytes(r.choice([0, 10, 5000, 70000])))
            files.append(new)
        elif kind < 7:
            with open(os.path.join(root, r.choice(files)), 'r+b') as f:
                f.seek(r.randrange(100000))
                f.write(r.randbytes(r.randrange(1, 20000)))
        elif kind == 7:
            os.truncate(os.path.join(root, r.choice(files)), r.randrange(60000))
        elif kind == 8:
            os.link(os.path.join(root, r.choice(files)), os.path.join(root, new))
            files.append(new)
        elif kind == 9:
            old = files.pop(r.randrange(len(files)))
            os.rename(os.path.join(root, old), os.path.join(root, new))
            files.append(new)
        elif kind == 10:
            os.mkdir(os.path.join(root, new))
            dirs.append(new)
        elif kind == 11:
            subprocess.run(['fallocate', '-o', str(r.randrange(50000)), '-l', str(r.randrange(1, 50000)),
                            os.path.join(root, r.choice(files))], check=True)
        else:
            os.unlink(os.path.join(root, files.pop(r.randrange(len(files)))))
        if r.randrange(3) == 0 and files:
            sync(os.path.join(root, r.choice(files)))
    sync(os.path.join(root, files[-1] if files else ''))


def crashed(tmp_path, kind, seed):
    """An image with fast commits, and how many."""
    image, d = tmp_path / 'live.img', tmp_path / 'k'
    d.mkdir(exist_ok=True)
    with open(image, 'wb') as f:
        f.truncate(64 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', 'fast_commit', '-J', 'size=8', *KINDS[kind], str(image))
    r = random.Random(seed)
    with mounts.loop(image) as dev, mounts.kernel(dev, d, 'commit=300'):
        work(str(d), r, 30)
        subprocess.run(['sync', '-f', str(d)], check=True)
        # Names of a second round must not meet those of the first.
        os.mkdir(d / 'second')
        work(str(d / 'second'), r, 60)
        with open('/proc/fs/ext4/%s/fc_info' % os.path.basename(dev)) as f:
            commits = int(f.read().split('\n')[1].split()[0])
        fd = os.open(d, os.O_RDONLY)
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        os.close(fd)
    return image, commits


def goes_away(dev, d):
    """The kernel, with changes that only its fast commits have."""
    with open('/proc/fs/ext4/%s/fc_info' % os.path.basename(dev)) as f:
        assert int(f.read().split('\n')[1].split()[0]), 'the kernel made no fast commit: nothing is tested'
    fd = os.open(d, os.O_RDONLY)
    fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
    os.close(fd)


def comparable(m):
    """Without what no record tells, and how many blocks the map itself takes."""
    out = {}
    for path, d in m.items():
        d = dict(d)
        for key in ('atime', 'blocks') + (('mtime', 'ctime', 'nlink', 'size') if d['type'] == 0o040000 else ()):
            d.pop(key, None)
        out[path] = d
    return out


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('kind', list(KINDS))
def test_fast_commits(tmp_path, kind, seed):
    image, commits = crashed(tmp_path, kind, seed)
    print('kind %s seed %d: %d fast commits' % (kind, seed, commits))
    assert commits, 'the kernel made no fast commit: nothing is tested'
    for d in ('w', 'r'):
        (tmp_path / d).mkdir()
    with mounts.werunos(image, tmp_path / 'w', '--ro'):
        got = manifest.take(tmp_path / 'w', holes=False)
    # What a read-only mount makes of it in memory.
    out = tmp_path / 'recovered.img'
    mounts.run(RECOVERED, str(image), str(out))
    subprocess.run(['debugfs', '-w', '-R', 'feature -needs_recovery', str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mounts.run('e2fsck', '-fn', str(out))
    # What a read-write mount makes of it, on the volume.
    ours = tmp_path / 'ours.img'
    mounts.run('cp', '--sparse=always', str(image), str(ours))
    with mounts.werunos(ours, tmp_path / 'w'):
        kept = manifest.take(tmp_path / 'w', holes=False)
    mounts.run('e2fsck', '-fn', str(ours))
    assert comparable(kept) == comparable(got)
    # The power goes while it is recovered.
    out = mounts.run(CRASH, '--recover', str(image), '--states', '25', '--seed', str(seed))
    assert b'ok 1' in out
    # And the kernel.
    with mounts.kernel(image, tmp_path / 'r', 'loop'):
        want = manifest.take(tmp_path / 'r', holes=False)
    diff = manifest.differences(comparable(want), comparable(got))
    assert not diff, '\n'.join(diff)


def scattered(tmp_path, files):
    """An image whose fast commits change a few bytes in every 4 KiB of the inode table; its journal is as small as they come."""
    image, d = tmp_path / 'live.img', tmp_path / 'k'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(128 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', 'fast_commit', '-E', 'lazy_itable_init=0', '-J', 'size=1,fast_commit_size=1000',
               '-b', '1024', '-I', '256', '-N', str(20 * files), str(image))
    with mounts.loop(image) as dev, mounts.kernel(dev, d, 'commit=300'):
        for i in range(16 * files):
            (d / ('f%d' % i)).touch()
        subprocess.run(['sync', '-f', str(d)], check=True)
        for i in range(0, 16 * files, 16):
            (d / ('f%d' % i)).write_bytes(b'%d' % i * 300)
        sync(d / 'f0')
        goes_away(dev, d)
    return image


def test_small_changes_all_over_a_volume(tmp_path):
    """What is changed counts against the journal's room, not what lies beside it."""
    image = scattered(tmp_path, 80)
    ours = tmp_path / 'ours.img'
    mounts.run('cp', '--sparse=always', str(image), str(ours))
    (tmp_path / 'w').mkdir()
    with mounts.werunos(ours, tmp_path / 'w'):
        got = manifest.take(tmp_path / 'w', holes=False)
        (tmp_path / 'w' / 'written').touch()
    out = mounts.run('e2fsck', '-fn', str(ours))
    assert b'wrong' not in out, out.decode()
    out = mounts.run(CRASH, '--recover', str(image), '--states', '40', '--seed', '1')
    assert b'ok 1' in out
    with mounts.kernel(image, tmp_path / 'k', 'loop'):
        want = manifest.take(tmp_path / 'k', holes=False)
    diff = manifest.differences(comparable(want), comparable(got))
    assert not diff, '\n'.join(diff)


def test_new_directory_is_hashed(tmp_path):
    """Its inode says so in the record that comes before the names."""
    image, d = tmp_path / 'live.img', tmp_path / 'k'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(64 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', 'fast_commit', '-J', 'size=16,fast_commit_size=4096', '-b', '1024', str(image))
    with mounts.loop(image) as dev, mounts.kernel(dev, d, 'commit=300'):
        (d / 'old').touch()
        subprocess.run(['sync', '-f', str(d)], check=True)
        (d / 'new').mkdir()
        for i in range(300):
            (d / 'new' / ('a-name-of-some-length-%d' % i)).touch()
        sync(d / 'new' / 'a-name-of-some-length-0')
        goes_away(dev, d)
    for options in ['--ro'], []:
        with mounts.werunos(image, d, *options):
            assert sorted(os.listdir(d / 'new')) == sorted('a-name-of-some-length-%d' % i for i in range(300))
            if not options:
                (d / 'new' / 'one more').touch()
    mounts.run('e2fsck', '-fn', str(image))
    assert 'Flags: 0x81000' in mounts.run('debugfs', '-R', 'stat new', str(image)).decode()


def test_cluster_elsewhere(tmp_path):
    """Clusters of a file become others, of which not all is mapped: the old ones are not lost."""
    image, d = tmp_path / 'live.img', tmp_path / 'k'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(64 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', 'fast_commit', '-J', 'size=8', *KINDS['clusters'], str(image))
    with mounts.loop(image) as dev, mounts.kernel(dev, d, 'commit=300'):
        (d / 'f').write_bytes(b'x' * 24576)
        subprocess.run(['sync', '-f', str(d)], check=True)
        os.truncate(d / 'f', 8192)
        with open(d / 'f', 'r+b') as f:
            f.seek(14336)
            f.write(b'y' * 8192)
        sync(d / 'f')
        goes_away(dev, d)
    with mounts.werunos(image, d):
        assert (d / 'f').read_bytes() == b'x' * 8192 + bytes(6144) + b'y' * 8192
    mounts.run('e2fsck', '-fn', str(image))
