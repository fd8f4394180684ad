"""Everything that can be seen of a tree, as one line a file, so that two views of it can be compared."""
import errno, hashlib, os, stat

SEEK_DATA, SEEK_HOLE = os.SEEK_DATA, os.SEEK_HOLE
HASH_WHOLE = 64 << 20  # larger files are sparse: their data is hashed piece by piece


def pieces(fd, size):
    """Data ranges by SEEK_DATA and SEEK_HOLE."""
    at, out = 0, []
    while at < size:
        try:
            data = os.lseek(fd, at, SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:
                break
            raise
        at = os.lseek(fd, data, SEEK_HOLE)
        out.append((data, at))
    return out


def content(path, size):
    fd = os.open(path, os.O_RDONLY)
    try:
        runs = pieces(fd, size)
        h = hashlib.sha256()
        for start, end in runs if size > HASH_WHOLE else [(0, size)]:
            while start < end:
                chunk = os.pread(fd, min(1 << 20, end - start), start)
                if not chunk:
                    break
                h.update(b'%d:' % start if size > HASH_WHOLE else b'')
                h.update(chunk)
                start += len(chunk)
        return h.hexdigest(), runs
    finally:
        os.close(fd)


def xattrs(path):
    out = {}
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        try:
            out[name] = os.getxattr(path, name, follow_symlinks=False)
        except OSError as e:
            out[name] = errno.errorcode[e.errno]
    return out


def describe(path, holes=True):
    st = os.lstat(path)
    d = {'type': stat.S_IFMT(st.st_mode), 'mode': stat.S_IMODE(st.st_mode), 'uid': st.st_uid, 'gid': st.st_gid,
         'nlink': st.st_nlink, 'mtime': st.st_mtime_ns, 'ctime': st.st_ctime_ns, 'atime': st.st_atime_ns,
         'ino': st.st_ino, 'blocks': st.st_blocks, 'xattrs': xattrs(path)}
    if stat.S_ISREG(st.st_mode):
        d['size'] = st.st_size
        try:
            d['content'], runs = content(path, st.st_size)
            if holes:
                d['holes'] = runs
        except OSError as e:
            d['content'] = errno.errorcode[e.errno]
    elif stat.S_ISLNK(st.st_mode):
        d['target'] = os.readlink(path)
    elif stat.S_ISDIR(st.st_mode):
        d['size'] = st.st_size
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        d['rdev'] = st.st_rdev
    return d


def take(root, holes=True):
    """{path: description}, the root as b''. Paths are bytes: names need not be text."""
    root = os.fsencode(root)
    out = {b'': describe(root, holes)}
    for top, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(top, name)
            out[os.path.relpath(path, root)] = describe(path, holes)
    return out


def differences(want, got, most=20):
    out = ['only in the first: %r' % p for p in sorted(want.keys() - got.keys())]
    out += ['only in the second: %r' % p for p in sorted(got.keys() - want.keys())]
    for p in sorted(want.keys() & got.keys()):
        for k in want[p]:
            if want[p][k] != got[p].get(k):
                out.append('%r %s: %r is %r' % (p, k, want[p][k], got[p].get(k)))
    return out[:most] + (['… and %d more' % (len(out) - most)] if len(out) > most else [])
