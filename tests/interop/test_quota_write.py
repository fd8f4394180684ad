"""
Quota files of volumes that are written: usage is exact for e2fsck after work of every kind, and hard limits are kept.
The kernel mounts such volumes only where it was built to.
"""
import os, random, subprocess, time
import pytest
import mounts
from test_fsck_mend_quota import BASE, File
from test_write import fsck, work

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: files of several owners are made')
KINDS = {
    'users': ['-b', '1024', '-O', BASE],
    'projects': ['-b', '4096', '-I', '256', '-O', BASE + ',project', '-E', 'quotatype=usrquota:grpquota:prjquota'],
    'clusters': ['-b', '1024', '-C', '16384', '-O', BASE + ',bigalloc'],
    'values': ['-b', '4096', '-I', '256', '-O', BASE + ',project,ea_inode', '-E', 'quotatype=usrquota:grpquota:prjquota'],
    'pointers': ['-b', '4096', '-I', '256', '-O', 'none,has_journal,ext_attr,dir_index,filetype,sparse_super,large_file,ea_inode,quota'],
    'nojournal': ['-b', '4096', '-O', BASE.replace('has_journal,', '').replace(',orphan_file', '')],
}


def make(path, kind, mib=128):
    with open(path, 'wb') as f:
        f.truncate(mib << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', *KINDS[kind], str(path))
    return path


def give_away(root, r):
    for d, _, names in os.walk(root):
        for n in names:
            if r.random() < 0.3 and os.path.islink(os.path.join(d, n)):
                os.unlink(os.path.join(d, n))
            elif r.random() < 0.5:
                os.lchown(os.path.join(d, n), r.choice([0, 1000, 1000 + r.randrange(200)]), r.randrange(40))


@pytest.mark.parametrize('kind', KINDS)
def test_usage(tmp_path, kind):
    image, d, seed = make(tmp_path / 'img', kind), tmp_path / 'm', int(os.environ.get('SEED', time.time()))
    print('seed', seed)
    r = random.Random(seed)
    d.mkdir()
    for _ in range(3):
        with mounts.werunos(image, d):
            for _ in range(3):
                work(d, r, 120)
                give_away(d, r)
        fsck(image)


def test_hard_limits(tmp_path):
    image, d = make(tmp_path / 'img', 'users'), tmp_path / 'm'
    d.mkdir()
    with mounts.werunos(image, d, '-o', 'allow_other'):
        (d / 'own').mkdir()
        (d / 'own' / 'f').touch()
        for name in ('own', 'own/f'):
            os.chown(d / name, 1000, 0)
    q = File(image, 3)
    leaf, off = q.record(1000)
    q.put(leaf, off + 8, '<Q', 4)  # inodes
    q.put(leaf, off + 32, '<Q', 200)  # KiB
    script = '''
import errno, os, time
def fails(f):
    try:
        f()
    except OSError as e:
        assert e.errno == errno.EDQUOT, e
    else:
        assert False, 'there was no limit'
def fill():
    fd = os.open('f', os.O_WRONLY)
    for _ in range(10):
        n = os.write(fd, bytes(65536))
        assert n
fails(fill)
for n in 'gh':
    os.close(os.open(n, os.O_CREAT | os.O_WRONLY))
fails(lambda: os.mkdir('one too many'))
assert 100 << 10 < os.stat('f').st_blocks * 512 <= 200 << 10
os.truncate('f', 0)
fails(lambda: os.mkdir('one too many'))
os.unlink('g')
# It is gone when the kernel has forgotten it.
for i in range(100):
    try:
        os.mkdir('room again')
        break
    except OSError as e:
        assert e.errno == errno.EDQUOT and i < 99, e
        time.sleep(0.05)
'''
    with mounts.werunos(image, d, '-o', 'allow_other'):
        subprocess.run(['setpriv', '--reuid', '1000', '--regid', '1000', '--clear-groups', '/usr/bin/python3', '-c', script],
                       cwd=d / 'own', check=True)
    fsck(image)
