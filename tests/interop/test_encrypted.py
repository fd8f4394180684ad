"""
Directories that the kernel encrypted: we have no key, and keep them whole. We delete by the names that are shown instead, rename, link and change
attributes where that needs no key, and end in a crash now and then; the kernel, with the key, finds the rest as it was, byte by byte.
"""
import errno, fcntl, os, random, struct, subprocess
import pytest
import mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to encrypt')

ADD_KEY, SET_POLICY = 0xc0506617, 0x800c6613
BY_IDENTIFIER = 2
AES_256_XTS, AES_256_CTS, PAD_32 = 1, 4, 3
KEY = bytes(range(64))
BASE = 'none,has_journal,ext_attr,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,encrypt'
KINDS = {
    'default': ['-O', BASE + ',metadata_csum,metadata_csum_seed,orphan_file,dir_index'],
    '1k': ['-b', '1024', '-O', BASE + ',dir_index'],
    'linear': ['-b', '2048', '-O', BASE + ',metadata_csum,stable_inodes'],
    'clusters': ['-b', '1024', '-C', '8192', '-O', BASE + ',bigalloc,dir_index,metadata_csum'],
}


def add_key(root):
    """The key's identifier."""
    arg = bytearray(struct.pack('<II32xII32x', BY_IDENTIFIER, 0, len(KEY), 0) + KEY)
    fd = os.open(root, os.O_RDONLY)
    fcntl.ioctl(fd, ADD_KEY, arg)
    os.close(fd)
    return bytes(arg[8:24])


def encrypt(path, key):
    fd = os.open(path, os.O_RDONLY)
    fcntl.ioctl(fd, SET_POLICY, struct.pack('<BBBB4x', 2, AES_256_XTS, AES_256_CTS, PAD_32) + key)
    os.close(fd)


def fill(top, r, count):
    for i in range(count):
        name = '%s/%d-%s' % (top, i, 'n' * r.choice([1, 20, 100, 200]))
        if i % 9 == 0:
            os.mkdir(name)
            for k in range(4):
                with open('%s/in %d' % (name, k), 'wb') as f:
                    f.write(r.randbytes(r.randrange(20000)))
        elif i % 9 == 1:
            os.symlink('t' * r.choice([5, 80, 500]), name)
        else:
            with open(name, 'wb') as f:
                f.write(r.randbytes(r.choice([0, 10, 4096, 70000])))
            if i % 9 == 2:
                os.link(name, name + '.l')
            os.setxattr(name, 'user.note', r.randbytes(50))


def told(root):
    """{path: what is there}, which we are to keep."""
    out = {}
    for d, dirs, files in os.walk(root):
        for path in [os.path.join(d, n) for n in dirs + files if n != 'lost+found']:
            st, rel = os.lstat(path), os.path.relpath(path, root)
            if os.path.islink(path):
                out[rel] = (st.st_ino, os.readlink(path))
            elif os.path.isdir(path):
                out[rel] = (st.st_ino,)
            else:
                with open(path, 'rb') as f:
                    out[rel] = (st.st_ino, st.st_size, f.read(), os.listxattr(path) and os.getxattr(path, 'user.note'))
    return out


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def refused(code, call, *args):
    with pytest.raises(OSError) as e:
        call(*args)
    assert e.value.errno == code, e.value


def lock_pick(root, enc, r):
    """What needs a key is refused; deletes a third of what lies there. Inodes of which a name went."""
    gone = set()
    for d, dirs, files in os.walk(enc, topdown=False):
        for name in files:
            path = os.path.join(d, name)
            if os.path.islink(path):
                continue
            refused(errno.ENOKEY, os.open, path, os.O_RDONLY)
            refused(errno.ENOKEY, os.truncate, path, 0)
            os.chmod(path, 0o600)
            os.utime(path, (5, 6))
        refused(errno.ENOKEY, open, d + '/new', 'wb')
        refused(errno.ENOKEY, os.mkdir, d + '/new')
        if files:
            refused(errno.ENOKEY, os.rename, os.path.join(d, files[0]), os.path.join(d, 'other'))
        for name in files:
            if r.random() < 0.33:
                gone.add(os.lstat(os.path.join(d, name)).st_ino)
                os.unlink(os.path.join(d, name))
        for name in dirs:
            path = os.path.join(d, name)
            if not os.path.islink(path) and not os.listdir(path):
                gone.add(os.lstat(path).st_ino)
                os.rmdir(path)
    return gone


@pytest.mark.parametrize('kind', KINDS)
def test_kept(tmp_path, kind):
    image, d, r = tmp_path / 'img', tmp_path / 'd', random.Random('encrypted ' + kind)
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(64 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', *KINDS[kind], '-N', '4000', str(image))
    enc = 'enc'
    for turn in range(4):
        with mounts.kernel(image, d) as root:
            key = add_key(root)
            if not turn:
                os.mkdir(root + '/enc')
                encrypt(root + '/enc', key)
            else:
                after = told(root + '/' + enc)
                # A name less, or all of it: the rest has not changed.
                assert all(before.get(p) == what for p, what in after.items())
                lost = [p for p in before if p not in after]
                assert gone and {before[p][0] for p in lost} == gone
            os.mkdir('%s/%s/%d' % (root, enc, turn))
            fill('%s/%s/%d' % (root, enc, turn), r, 150)
            before = told(root + '/' + enc)
        crash = turn % 2
        p = subprocess.Popen([mounts.WERUNOS, 'mount', str(image), str(d)], stderr=subprocess.DEVNULL)
        try:
            assert mounts.within(30, lambda: os.path.ismount(d) or p.poll() is not None) and p.poll() is None
            gone = lock_pick(str(d), '%s/%s' % (d, enc), r)
            os.rename('%s/%s' % (d, enc), '%s/moved%d' % (d, turn))
            enc = 'moved%d' % turn
            (d / ('plain%d' % turn)).write_bytes(r.randbytes(300000))
            sync(d)
            if crash:
                p.kill()
            else:
                mounts.unmount(d)
            assert p.wait(20) == (-9 if crash else 0)
        finally:
            p.kill()
            p.wait()
            subprocess.run(['umount', '-l', str(d)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not crash:
            mounts.run('e2fsck', '-fn', str(image))
    with mounts.kernel(image, d):
        pass
    mounts.run('e2fsck', '-fn', str(image))
