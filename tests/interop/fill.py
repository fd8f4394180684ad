"""Fills a mounted file system with one of everything that any of them can hold."""
import ctypes, os, socket, stat, struct


def put(path, data, mode=0o644):
    with open(path, 'wb') as f:
        f.write(data)
    os.chmod(path, mode)


def acl(*entries):
    """The value of system.posix_acl_access: (tag, permissions, id)."""
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', t, p, i & 0xffffffff) for t, p, i in entries)


def fallocate(path, mode, off, length):
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        if libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(length)):
            return ctypes.get_errno()
    finally:
        os.close(fd)
    return 0


def fill_files(root, block):
    rnd = os.urandom(1 << 20)
    for n in (0, 1, 59, 60, 61, 100, 150, 156, 160, 400, 1023, 1024, 1025, 4095, 4096, 4097, 65536, 300000):
        put('%s/size-%d' % (root, n), rnd[:n])
    # Fragments: two files written in turns, one of them removed.
    with open(root + '/frag', 'wb') as a, open(root + '/frag2', 'wb') as b:
        for i in range(400):
            a.write(rnd[i * 100:][:block])
            a.flush()
            os.fsync(a.fileno()) if i % 40 == 0 else None
            b.write(b'y' * block)
            b.flush()
    os.unlink(root + '/frag2')
    with open(root + '/every-other', 'wb') as f:
        for i in range(700):
            f.seek(i * 2 * block)
            f.write(b'%06d' % i)
    with open(root + '/sparse-huge', 'wb') as f:
        for at in (0, 5 << 30, (7 << 30) + 12345, 15 << 30):
            f.seek(at)
            f.write(b'here at %d' % at)
        f.truncate((15 << 30) + 5000)
    os.truncate(root + '/size-300000', 200001)
    fallocate(root + '/prealloc', 0, 0, 300000)
    fallocate(root + '/prealloc-keep', 1, 0, 300000)
    fallocate(root + '/prealloc', 3, 8192, 16384)
    with open(root + '/prealloc', 'r+b') as f:
        f.seek(100000)
        f.write(b'written inside')
    put(root + '/holes-only', b'')
    os.truncate(root + '/holes-only', 1000000)


def fill_names(root):
    d = os.fsencode(root) + b'/names'
    os.mkdir(d)
    for c in range(1, 256):
        if c not in (ord('/'), ord('.')):
            put(d + b'/' + bytes([c]), b'')
    put(d + b'/' + b'n' * 255, b'long')
    put(d + b'/' + '\u00fc\u20ac\U0001f600'.encode(), b'utf8')
    put(d + b'/..x', b'')
    many = root + '/many'
    os.mkdir(many)
    for i in range(10000):
        os.close(os.open('%s/file-number-%05d' % (many, i), os.O_CREAT | os.O_WRONLY))
    for i in range(0, 10000, 7):
        os.unlink('%s/file-number-%05d' % (many, i))
    deep = root
    for i in range(40):
        deep += '/deep%d' % i
        os.mkdir(deep)
    put(deep + '/bottom', b'here')
    for i in range(300):
        os.mkdir('%s/subdir%d' % (root + '/deep0', i))


def fill_special(root):
    os.symlink('x', root + '/link-1')
    os.symlink('x' * 59, root + '/link-59')
    os.symlink('x' * 60, root + '/link-60')
    os.symlink('y' * 1000, root + '/link-1000')
    os.mknod(root + '/chr-small', stat.S_IFCHR | 0o600, os.makedev(5, 1))
    os.mknod(root + '/chr-large', stat.S_IFCHR | 0o600, os.makedev(300, 70000))
    os.mknod(root + '/blk', stat.S_IFBLK | 0o660, os.makedev(8, 17))
    os.mkfifo(root + '/fifo')
    s = socket.socket(socket.AF_UNIX)
    s.bind(root + '/socket')
    s.close()
    put(root + '/hard', b'three names')
    os.link(root + '/hard', root + '/hard2')
    os.link(root + '/hard', root + '/names/hard3')
    put(root + '/suid', b'#!', 0o6755)
    os.chmod(root + '/names', 0o1777)
    put(root + '/owner', b'')
    os.chown(root + '/owner', 70000, 4000000000)


def fill_attributes(root):
    put(root + '/x-small', b'')
    os.setxattr(root + '/x-small', 'user.one', b'1')
    os.setxattr(root + '/x-small', 'user.empty', b'')
    os.setxattr(root + '/x-small', 'trusted.t', b'\0\1\2')
    os.setxattr(root + '/x-small', 'security.s', b'label')
    put(root + '/x-block', b'data too')
    for i in range(8):
        os.setxattr(root + '/x-block', 'user.name-%d' % i, os.urandom(50))
    os.setxattr(root + '/many', 'user.on-a-directory', b'z' * 300)
    for i in range(3):
        put(root + '/x-shared%d' % i, b'')
        os.setxattr(root + '/x-shared%d' % i, 'user.same', b's' * 400)
    try:
        put(root + '/x-large', b'')
        os.setxattr(root + '/x-large', 'user.large', bytes(range(256)) * 150)
    except OSError:
        pass  # only with ea_inode
    put(root + '/acl-file', b'')
    os.setxattr(root + '/acl-file', 'system.posix_acl_access',
                acl((1, 7, -1), (2, 6, 1000), (2, 4, 70000), (4, 5, -1), (8, 1, 50), (0x10, 7, -1), (0x20, 4, -1)))
    os.mkdir(root + '/acl-dir')
    os.setxattr(root + '/acl-dir', 'system.posix_acl_default',
                acl((1, 7, -1), (2, 6, 1000), (4, 5, -1), (0x10, 7, -1), (0x20, 0, -1)))
    put(root + '/acl-dir/inherits', b'')


def fill_times(root):
    d = root + '/times'
    os.mkdir(d)
    for s in (-2147483648, -1, 0, 1, 2147483647, 2147483648, 4294967295, 4294967296, 6442450943, 8589934591, 15032385535):
        for ns in (0, 1, 999999999):
            path = '%s/%d.%d' % (d, s, ns)
            put(path, b'')
            os.utime(path, ns=(s * 10**9 + ns, (s + 1) * 10**9 - ns - 1 if s < 15032385535 else s * 10**9))


def fill(root, block):
    fill_files(root, block)
    fill_names(root)
    fill_special(root)
    fill_attributes(root)
    fill_times(root)
