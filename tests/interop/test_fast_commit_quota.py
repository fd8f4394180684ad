"""
Fast commits beside quota files: the kernel went away with changes that only its fast commits have, and these say nothing of usage. Once we have
applied them usage is exact for e2fsck, whose files have names and content as the kernel shows them.

Few kernels write volumes with quota. So this one is written while its superblock does not say that it has any, by fast commits alone: quota files are then
as they would be.
"""
import fcntl, json, os, random, shutil, struct, subprocess, sys
import pytest
import manifest, mounts

for room in ('image', 'fuzz'):
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', room))
import fast_commit
from crc32c import crc32c
from test_fast_commit import CRASH, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH, comparable, sync, work
from test_fsck import debugfs, e2fsck, fsck
from test_fsck_mend_quota import File

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to write the images')
BASE = ('none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,'
        'metadata_csum,quota,fast_commit')
ALL = ['-E', 'quotatype=usrquota:grpquota:prjquota,lazy_itable_init=0']
KINDS = {
    '1k': ['-b', '1024', '-O', BASE, '-E', 'lazy_itable_init=0'],
    'projects': ['-b', '4096', '-O', BASE + ',project,orphan_file', *ALL],
    'orphans': ['-b', '4096', '-O', BASE.replace('metadata_csum,', '') + ',project', *ALL],
    'clusters': ['-b', '1024', '-C', '8192', '-g', '1024', '-O', BASE + ',project,bigalloc', *ALL],
    'values': ['-b', '4096', '-O', BASE + ',project,ea_inode', *ALL],
}
QUOTA, METADATA_CSUM, PROJECT = 0x100, 0x400, 0x2000
OWNERS = [0, 1000, 1001, 1002]


def features(image, clear=0, add=0):
    """Changes the superblock; and what the log has of it, where nothing has a checksum."""
    data = bytearray(image.read_bytes())
    was, = struct.unpack_from('<I', data, 1024 + 0x64)
    for at in range(1024, len(data), 4096) if not was & METADATA_CSUM else [1024]:
        if data[at + 0x38:at + 0x3a] == b'\x53\xef':
            struct.pack_into('<I', data, at + 0x64, was & ~clear | add)
    if was & METADATA_CSUM:
        struct.pack_into('<I', data, 1024 + 0x3fc, crc32c(0xffffffff, data[1024:1024 + 0x3fc]))
    image.write_bytes(data)
    return was & clear


def owned(path, r, owners=OWNERS):
    os.lchown(path, r.choice(owners), r.choice(owners))


def fill(root, kind, r):
    """Files of several owners and projects."""
    files = []
    for i in range(40):
        path = os.path.join(root, 'old%d' % i)
        with open(path, 'wb') as f:
            f.write(r.randbytes(r.choice([0, 10, 5000, 70000])))
        if kind == 'values' and i % 2:
            os.setxattr(path, 'user.big', r.randbytes(r.randrange(5000, 30000)))
        if kind != '1k' and i % 3 == 0:
            mounts.run('chattr', '-p', '7', path)
        owned(path, r)
        files.append(path)
    for n in ('dir', 'grows'):
        os.mkdir(os.path.join(root, n))
        os.chown(os.path.join(root, n), 1001, 1002)
    # No limit keeps from being counted what is there.
    mounts.run(mounts.WERUNOS, 'quota', '--set', 'user:1000', '--space-hard', '1k', '--inodes-hard', '1', root)
    for n in ('orphan', 'orphan-too'):
        with open(os.path.join(root, n), 'wb') as f:
            f.write(bytes(50000))
        os.chown(os.path.join(root, n), 1000, 1000)
    return files


def transactions(dev):
    """How many full ones the kernel has committed."""
    name = os.path.basename(dev)
    for d in os.listdir('/proc/fs/jbd2'):
        if d.split('-')[0] == name:
            with open('/proc/fs/jbd2/%s/info' % d) as f:
                return int(f.read().split()[0])
    raise AssertionError('no journal of ' + dev)


def old_ones_change(files, r):
    """
    What this kernel puts into fast commits: links that are symbolic, devices and attributes it does not, nor the end of a file whose attributes have
    values elsewhere, nor what is synced by a directory.
    """
    for path in r.sample(files, len(files)):
        kind = r.randrange(9)
        if kind == 0 and not os.listxattr(path):
            os.unlink(path)
            continue
        if kind == 1:
            os.truncate(path, r.randrange(60000))
        elif kind == 2:
            with open(path, 'ab') as f:
                f.write(r.randbytes(r.randrange(1, 100000)))
        elif kind == 3:
            os.rename(path, path + '-renamed')
            path += '-renamed'
        elif kind == 4:
            subprocess.run(['fallocate', '-p', '-o', '4096', '-l', '20000', path], check=True)
        elif kind == 5:
            os.link(path, path + '-link')
        elif kind < 8:
            owned(path, r, OWNERS + [70000, 4000000000])
        if r.randrange(3) == 0:
            sync(path)


def all_change(root, files, r):
    old_ones_change(files, r)
    for i in range(3):
        d = os.path.join(root, 'new%d' % i)
        os.mkdir(d)
        work(d, r, 20)
        for at, _, names in os.walk(d):
            for n in names:
                if r.randrange(3) == 0:
                    owned(os.path.join(at, n), r)
            owned(at, r)
    # No record has the directory itself.
    for i in range(40):
        open(os.path.join(root, 'grows', '%d' % i * 100), 'wb').close()
    # The kernel's own way fails when the number becomes another directory's.
    os.rmdir(os.path.join(root, 'dir'))
    with open(os.path.join(root, 'last'), 'wb') as f:
        f.write(b'last')
    sync(os.path.join(root, 'last'))


names = {}  # in each image, when the kernel went away


def crashed(tmp_path, kind, seed):
    """An image whose quota files are as its last full transaction, with fast commits behind that. None: the kernel made another full one."""
    image, d, r = tmp_path / 'live.img', tmp_path / 'k', random.Random(seed)
    d.mkdir(exist_ok=True)
    with open(image, 'wb') as f:
        f.truncate(64 << 20)
    mounts.run('mke2fs', '-q', '-F', '-J', 'size=16,fast_commit_size=4096', *KINDS[kind], str(image))
    with mounts.werunos(image, d):
        files = fill(str(d), kind, r)
    assert e2fsck(image).returncode == 0
    quota = features(image, clear=QUOTA | PROJECT)
    with mounts.loop(image) as dev, mounts.kernel(dev, d, 'commit=300'):
        orphans = [open(d / n, 'r+b') for n in ('orphan', 'orphan-too')] if kind == 'orphans' else []
        for f in orphans:
            os.unlink(f.name)
        # There are no fast commits before the first full one.
        os.chmod(d, 0o711)
        subprocess.run(['sync', '-f', str(d)], check=True)
        full = transactions(dev)
        for f in orphans[1:]:
            f.write(r.randbytes(90000))
            os.fchown(f.fileno(), 1001, 1002)
            os.fsync(f.fileno())
        all_change(str(d), files, r)
        with open('/proc/fs/ext4/%s/fc_info' % os.path.basename(dev)) as f:
            commits = int(f.read().split('\n')[1].split()[0])
        again = transactions(dev) != full
        names[image] = set(manifest.take(d, holes=False))
        fd = os.open(d, os.O_RDONLY)
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        os.close(fd)
        for f in orphans:
            f.close()
    assert commits, 'the kernel made no fast commit: nothing is tested'
    features(image, add=quota)
    return None if again else image


def report(image):
    return json.loads(subprocess.run([mounts.WERUNOS, 'quota', '--json', str(image)], check=True, stdout=subprocess.PIPE).stdout)


def kernels(image, to):
    """As the kernel makes it of the image."""
    shutil.copyfile(image, to)
    quota = features(to, clear=QUOTA | PROJECT)
    d = to.with_suffix('.d')
    d.mkdir()
    with mounts.kernel(to, d):
        m = manifest.take(d, holes=False)
    features(to, add=quota)
    return m


@pytest.fixture(scope='module')
def lefts(tmp_path_factory):
    made = {}

    def get(kind, seed):
        for i in range(5):
            if not made.get((kind, seed)):
                made[kind, seed] = crashed(tmp_path_factory.mktemp(kind), kind, 10 * seed + i)
        if not made[kind, seed]:
            pytest.skip('the kernel is short of memory: it makes full transactions')
        return made[kind, seed]
    return get


@pytest.fixture(params=[(kind, seed) for kind in KINDS for seed in range(2)], ids=lambda p: '%s-%d' % p)
def left(request, lefts):
    return lefts(*request.param)


def assert_exact(image, but=frozenset()):
    out = e2fsck(image)
    assert out.returncode == 0 and b'QUOTA' not in out.stdout, out.stdout.decode()
    assert {code for code, _, _ in fsck(image, '-n')[1]} <= but


def test_usage(left, tmp_path):
    seen, d, ours = report(left), tmp_path / 'w', tmp_path / 'ours.img'
    assert {code for code, _, _ in fsck(left, '-n')[1]} <= {'orphans-left'}
    shutil.copyfile(left, ours)
    d.mkdir()
    with mounts.werunos(ours, d):
        got = manifest.take(d, holes=False)
        (d / 'written').touch()
        os.unlink(d / 'written')
    assert_exact(ours)
    assert set(got) == names[left]
    # The kernel's own way fails where a file without names is in fast commits.
    if 'orphans' in str(left):
        assert report(ours) != seen
        return
    assert report(ours) == seen
    want = kernels(left, tmp_path / 'kernel.img')
    # There was something to be counted.
    assert b'QUOTA WARNING' in e2fsck(tmp_path / 'kernel.img').stdout
    # And now and then it loses names.
    assert set(want) != names[left] or not manifest.differences(comparable(want), comparable(got))


def test_power_goes(left):
    out = mounts.run(CRASH, '--recover', str(left), '--states', '25', '--seed', '1')
    assert b'ok 1' in out
    # Were not all of it counted, that would be found out.
    out = subprocess.run([CRASH + '_teeth', '--recover', str(left), '--states', '25', '--seed', '1'], stdout=subprocess.PIPE, env={**os.environ, 'CRASH_TOOTH': 'usage'})
    assert b'not ok 1' in out.stdout, out.stdout.decode()


@pytest.mark.parametrize('words', ['fsck -fy @', 'touch @:/new', 'cp README.md @:/new', 'rm -r @:/grows', 'defrag @', 'label @ new', 'resize @ 80M', 'resize --minimum @',
                                   'quota --set user:1000 --space-hard 100M @'])
def test_commands(lefts, words, tmp_path):
    """Who opens the volume to change it finds it so."""
    image = tmp_path / 'v.img'
    shutil.copyfile(lefts('projects', 0), image)
    mounts.run(mounts.WERUNOS, *words.replace('@', str(image)).split())
    assert_exact(image)


def test_undo(lefts, tmp_path):
    left, image, undo = lefts('projects', 0), tmp_path / 'v.img', tmp_path / 'undo'
    shutil.copyfile(left, image)
    mounts.run(mounts.WERUNOS, 'fsck', '-fy', '--undo', str(undo), str(image))
    assert_exact(image)
    mounts.run(mounts.WERUNOS, 'undo', str(undo), str(image))
    assert image.read_bytes() == left.read_bytes()


# ---- damaged quota files ----

def head(image):
    File(image, 3).put(0, 0, '<I', 0)


def leaf(image):
    """The record of 1001 is another's."""
    q = File(image, 3)
    at, off = q.record(1001)
    q.put(at, off, '<I', 5)


def root_node(image):
    File(image, 4).put(1, 0, '<I', 0x7fffffff)


@pytest.mark.parametrize('how', [head, leaf, root_node], ids=lambda f: f.__name__)
def test_damaged_files(lefts, how, tmp_path):
    """All changes are there, and a check sets usage right."""
    left, image, untouched, d = lefts('1k', 0), tmp_path / 'v.img', tmp_path / 'untouched.img', tmp_path / 'd'
    d.mkdir()
    with mounts.werunos(left, d, '--ro'):
        want = comparable(manifest.take(d, holes=False))
    shutil.copyfile(left, image)
    how(image)
    shutil.copyfile(image, untouched)
    with mounts.werunos(image, d, '--ro'):
        assert comparable(manifest.take(d, holes=False)) == want
    if how == head:
        r = subprocess.run([mounts.WERUNOS, 'mount', str(image), str(d)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20)
        assert r.returncode and b'user quota is damaged: check it first' in r.stdout, r.stdout
    else:
        with mounts.werunos(image, d):
            (d / 'written').touch()
            os.unlink(d / 'written')
    assert 'clean with errors' in debugfs(image, 'stats')
    for v in image, untouched:
        mounts.run('bash', '-c', '%s fsck -fy %s; [ $? = 1 ]' % (mounts.WERUNOS, v))
        assert_exact(v)
        with mounts.werunos(v, d, '--ro'):
            assert comparable(manifest.take(d, holes=False)) == want


# ---- records that no kernel writes ----

def add_records(image, body):
    """One more fast commit behind those that there are."""
    journal = json.loads(mounts.run(mounts.WERUNOS, 'dump', '--json', str(image), 'journal'))
    blocks = [int(n) for n in fast_commit.ask(str(image), 'blocks <8>').split()]
    data = bytearray(image.read_bytes())
    area = blocks[journal['fast_commit_first']:]
    at = next(b for b in area if not any(data[1024 * b:1024 * (b + 1)])) * 1024
    tid = struct.unpack_from('<I', data, 1024 * area[0] + 8)[0]
    body += struct.pack('<HHI', fast_commit.TAIL, 1024 - len(body) - 4, tid)
    body += struct.pack('<I', fast_commit.crc32c(0, body))
    data[at:at + len(body)] = body
    image.write_bytes(data)


def new_inode(ino, mode, uid, gid, name, flags=0x80000):
    raw = bytearray(fast_commit.inode(mode, 0, 1, flags))
    struct.pack_into('<H', raw, 2, uid & 0xffff)
    struct.pack_into('<H', raw, 24, gid & 0xffff)
    struct.pack_into('<HH', raw, 120, uid >> 16, gid >> 16)
    return (fast_commit.record(fast_commit.INODE, struct.pack('<I', ino) + raw) + fast_commit.name(fast_commit.CREAT, 2, ino, name))


HOSTILE = {
    'owners': new_inode(700, 0o100644, 0xffffffff, 0x80000000, b'nobody') + new_inode(701, 0o40755, 0xfffffffe, 0xffffffff, b'dir'),
    'values': new_inode(700, 0o100644, 5, 6, b'value', 0x80000 | 0x200000),
    'quota-names': fast_commit.name(fast_commit.LINK, 2, 3, b'user') + fast_commit.name(fast_commit.LINK, 2, 4, b'group') + fast_commit.name(fast_commit.LINK, 3, 2, b'root'),
    'quota-maps': fast_commit.record(fast_commit.ADD, struct.pack('<IIHHI', 3, 0, 3, 0, 20000)) + fast_commit.record(fast_commit.DEL, struct.pack('<III', 4, 0, 1)),
    'quota-inode': new_inode(3, 0o100600, 7, 8, b'three'),
}


@pytest.mark.parametrize('how', HOSTILE)
def test_hostile_records(lefts, how, tmp_path):
    image, d = tmp_path / 'v.img', tmp_path / 'd'
    shutil.copyfile(lefts('1k', 0), image)
    add_records(image, HOSTILE[how])
    d.mkdir()
    if how == 'quota-inode':
        with mounts.werunos(image, d):
            assert 'nobody' not in os.listdir(d)
            with pytest.raises(OSError, match='Read-only'):
                (d / 'written').touch()
        return
    with mounts.werunos(image, d):
        got = os.listdir(d)
        (d / 'written').touch()
    assert ('nobody' in got) == (how == 'owners') and 'last' in got
    assert_exact(image, {'super-state'} if how == 'values' else set())
