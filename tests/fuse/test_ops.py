"""Operations that only a mount has: what the adapter itself answers for."""
import array
import contextlib
import ctypes
import errno
import fcntl
import os
import random
import stat
import struct
import subprocess
import threading
import time

import pytest

from mounting import foreground, need_root, need_tools, scratch, wait_for

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = -100, 0x400, 0x1000


@pytest.fixture(params=["", "noopen", "writeback"])
def m(request):
    with scratch() as path:
        (path / "m").mkdir()
        with foreground("memfs:128M", path / "m", *(["-o", request.param] if request.param else [])):
            yield path / "m"


def fails(code, fn, *args, **kw):
    with pytest.raises(OSError) as e:
        fn(*args, **kw)
    assert e.value.errno == code, e.value


def test_tree_survives_copying(m):
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + "/kernel"
    subprocess.run(["cp", "-a", source, m / "k"], check=True)
    subprocess.run(["diff", "-r", source, m / "k"], check=True)
    subprocess.run(["rm", "-r", m / "k"], check=True)
    assert os.listdir(m) == []


def test_many_names_are_listed_once(m):
    names = {f"name-{i:05}" for i in range(3000)}
    for n in names:
        (m / n).touch()
    assert sorted(os.listdir(m)) == sorted(names)
    seen = []
    with os.scandir(m) as entries:
        for i, e in enumerate(entries):
            seen.append(e.name)
            if i % 3 == 0:
                os.unlink(m / e.name)
    assert sorted(seen) == sorted(names)
    assert len(os.listdir(m)) == 2000


def test_deleted_while_open(m):
    with open(m / "a", "w+b") as f:
        f.write(b"x" * 100000)
        os.unlink(m / "a")
        assert os.fstat(f.fileno()).st_nlink == 0
        f.seek(0)
        assert f.read() == b"x" * 100000
    free = os.statvfs(m)
    wait_for(lambda: os.statvfs(m).f_bfree == os.statvfs(m).f_blocks or os.statvfs(m).f_bfree >= free.f_bfree)


def test_space_of_deleted_files_returns(m):
    before = os.statvfs(m).f_bfree
    with open(m / "a", "wb") as f, open(m / "b", "wb") as g:
        for h in f, g:
            h.write(b"x" * (10 << 20))
            h.flush()
            os.fsync(h.fileno())
        assert os.statvfs(m).f_bfree <= before - (20 << 20) // os.statvfs(m).f_frsize
        os.unlink(m / "a")
        os.rename(m / "b", m / "c")
        (m / "d").touch()
        os.rename(m / "d", m / "c")
    os.unlink(m / "c")
    wait_for(lambda: os.statvfs(m).f_bfree >= before - 16)


def test_nameless_file_gets_a_name(m):
    fd = os.open(m, os.O_TMPFILE | os.O_RDWR, 0o640)
    try:
        assert os.listdir(m) == []
        assert os.fstat(fd).st_nlink == 0
        os.write(fd, b"hello")
        assert not libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(m / "named"), AT_SYMLINK_FOLLOW)
    finally:
        os.close(fd)
    assert (m / "named").read_bytes() == b"hello"
    assert os.stat(m / "named").st_nlink == 1
    fd = os.open(m, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    os.close(fd)


def test_time_of_creation(m):
    need_tools("stat")
    (m / "a").touch()
    born = subprocess.run(["stat", "-c", "%W", m / "a"], capture_output=True, text=True, check=True).stdout
    assert abs(int(born) - time.time()) < 60


def test_truncation_by_open(m):
    (m / "a").write_bytes(b"x" * 5000)
    with open(m / "a", "wb") as f:
        assert os.fstat(f.fileno()).st_size == 0
        f.write(b"y")
    assert (m / "a").read_bytes() == b"y"
    os.truncate(m / "a", 10000)
    assert (m / "a").read_bytes() == b"y" + bytes(9999)


def test_append_from_two(m):
    with open(m / "a", "ab", 0) as f, open(m / "a", "ab", 0) as g:
        for i in range(100):
            f.write(b"1")
            g.write(b"2")
    assert (m / "a").read_bytes() == b"12" * 100


def test_what_was_written_is_read(m):
    """Random writes, truncations and holes against a copy in memory, through several descriptors."""
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    print(f"seed {seed}")
    rnd = random.Random(seed)
    copy = bytearray()
    with open(m / "a", "w+b", 0) as f, open(m / "a", "r+b", 0) as g:
        for _ in range(400):
            at, n = rnd.randrange(3 << 20), rnd.choice([1, 100, 4096, 70000, 1 << 20])
            h = rnd.choice([f, g])
            what = rnd.random()
            if what < 0.5:
                data = rnd.randbytes(n)
                os.pwrite(h.fileno(), data, at)
                copy.extend(bytes(max(0, at - len(copy))))
                copy[at:at + n] = data
            elif what < 0.6:
                os.ftruncate(h.fileno(), at)
                copy = copy[:at] + bytes(max(0, at - len(copy)))
            elif what < 0.7 and copy:
                assert not libc.fallocate(h.fileno(), 3, ctypes.c_long(at), ctypes.c_long(n))  # punch, keep size
                end = min(at + n, len(copy))
                if at < end:
                    copy[at:end] = bytes(end - at)
            else:
                assert os.pread(h.fileno(), n, at) == bytes(copy[at:at + n])
        assert os.fstat(f.fileno()).st_size == len(copy)
    assert (m / "a").read_bytes() == copy


def test_holes_are_found(m, request):
    with open(m / "a", "w+b", 0) as f:
        os.pwrite(f.fileno(), b"x", 1 << 20)
        os.ftruncate(f.fileno(), 3 << 20)
        os.fsync(f.fileno())
        # With -o writeback all is data: the kernel would say that what it has not written back is a hole.
        if os.lseek(f.fileno(), 0, os.SEEK_DATA) != 0 or "writeback" not in request.node.name:
            assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 1 << 20
            assert os.lseek(f.fileno(), 1 << 20, os.SEEK_HOLE) == (1 << 20) + 4096
            fails(errno.ENXIO, os.lseek, f.fileno(), 2 << 20, os.SEEK_DATA)
    with open(m / "b", "w+b", 0) as f:
        f.write(b"x")
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 0
    # With -o writeback the kernel asks again only after the file is closed.
    assert os.stat(m / "a").st_blocks == 8


def test_ranges_are_copied(m):
    (m / "a").write_bytes(bytes(range(256)) * 1000)
    with open(m / "a", "rb") as f, open(m / "b", "wb") as g:
        done = 0
        while done < 256000:
            n = os.copy_file_range(f.fileno(), g.fileno(), 256000 - done)
            assert n > 0
            done += n
    assert (m / "b").read_bytes() == (m / "a").read_bytes()


def test_renames(m):
    for n in "ab":
        (m / n).write_text(n)
    renameat2 = lambda a, b, flags: libc.renameat2(AT_FDCWD, os.fsencode(m / a), AT_FDCWD, os.fsencode(m / b), flags)
    assert renameat2("a", "b", 1) == -1 and ctypes.get_errno() == errno.EEXIST
    assert renameat2("a", "b", 2) == 0
    assert (m / "a").read_text() == "b" and (m / "b").read_text() == "a"
    os.rename(m / "a", m / "b")
    assert (m / "b").read_text() == "b"
    assert os.listdir(m) == ["b"]


def test_links_and_kinds(m):
    (m / "a").write_text("x")
    os.link(m / "a", m / "b")
    assert os.stat(m / "a").st_nlink == os.stat(m / "b").st_nlink == 2
    assert os.stat(m / "a").st_ino == os.stat(m / "b").st_ino
    os.symlink("t" * 4000, m / "s")
    assert os.readlink(m / "s") == "t" * 4000
    os.mkfifo(m / "f")
    assert stat.S_ISFIFO(os.stat(m / "f").st_mode)
    if not os.geteuid():
        os.mknod(m / "c", 0o600 | stat.S_IFCHR, os.makedev(259, 70000))
        assert os.stat(m / "c").st_rdev == os.makedev(259, 70000)
    os.unlink(m / "a")
    assert os.stat(m / "b").st_nlink == 1


def test_names_of_all_lengths_and_bytes(m):
    good = [os.fsencode("n" * n) for n in (1, 2, 254, 255)] + [bytes([c]) * 3 for c in range(1, 256) if c != ord("/")]
    root = os.fsencode(m)
    for n in good:
        os.mkdir(root + b"/" + n)
    assert sorted(os.listdir(root)) == sorted(set(good))
    fails(errno.ENAMETOOLONG, os.mkdir, root + b"/" + b"n" * 256)


def test_attributes(m):
    (m / "a").touch()
    os.setxattr(m / "a", "user.one", b"1")
    os.setxattr(m / "a", "user.big", b"x" * 3000)
    assert os.getxattr(m / "a", "user.one") == b"1"
    assert sorted(os.listxattr(m / "a")) == ["user.big", "user.one"]
    fails(errno.EEXIST, os.setxattr, m / "a", "user.one", b"2", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, m / "a", "user.two", b"2", os.XATTR_REPLACE)
    os.removexattr(m / "a", "user.one")
    fails(errno.ENODATA, os.getxattr, m / "a", "user.one")
    fails(errno.ENODATA, os.removexattr, m / "a", "user.one")


def test_default_acl_beats_the_umask(m):
    need_tools("setfacl")
    old = os.umask(0o077)
    try:
        os.mkdir(m / "plain")
        assert stat.S_IMODE(os.stat(m / "plain").st_mode) == 0o700
        subprocess.run(["setfacl", "-m", "d:u::rwx,d:g::rx,d:o::rx,d:u:12345:rwx", m / "plain"], check=True)
        os.mkdir(m / "plain/below")
        assert stat.S_IMODE(os.stat(m / "plain/below").st_mode) == 0o775
        acl = subprocess.run(["getfacl", "-cpE", m / "plain/below"], capture_output=True, text=True, check=True).stdout
        assert "user:12345:rwx" in acl
    finally:
        os.umask(old)


def test_set_id_bits_go_when_written(m):
    need_root()
    need_tools("setpriv")
    for n, command in ("w", "echo >>w"), ("t", ": >t"):
        (m / n).write_text("x")
        os.chmod(m / n, 0o6777)
        os.chmod(m, 0o777)
        subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", command],
                       cwd=m, check=True)
        assert stat.S_IMODE(os.stat(m / n).st_mode) == 0o777
    (m / "r").write_text("x")
    os.chmod(m / "r", 0o6777)
    with open(m / "r", "a") as f:
        f.write("by root")
    assert stat.S_IMODE(os.stat(m / "r").st_mode) == 0o6777
    os.chown(m / "r", 5, 5)
    assert stat.S_IMODE(os.stat(m / "r").st_mode) == 0o777


def test_permissions_are_checked(m):
    need_root()
    need_tools("setpriv")
    os.chmod(m, 0o755)
    (m / "secret").write_text("x")
    os.chmod(m / "secret", 0o600)
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    assert subprocess.run([*user, "cat", m / "secret"], capture_output=True).returncode == 1
    assert subprocess.run([*user, "touch", m / "mine"], capture_output=True).returncode == 1
    assert subprocess.run([*user, "ls", m], capture_output=True).returncode == 0


def test_inode_flags(m):
    need_tools("lsattr")
    (m / "a").touch()
    r = subprocess.run(["lsattr", m / "a"], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr


def test_files_that_may_only_grow(m):
    need_root()
    need_tools("chattr")
    (m / "a").write_text("1")
    if subprocess.run(["chattr", "+a", m / "a"], capture_output=True).returncode:
        pytest.skip("no flags here")
    for _ in range(3):
        with open(m / "a", "a") as f:
            f.write("2")
    fails(errno.EPERM, os.unlink, m / "a")
    fails(errno.EPERM, os.truncate, m / "a", 0)
    with pytest.raises(OSError):
        with open(m / "a", "r+b", 0) as f:
            f.write(b"x")
            os.fsync(f.fileno())
    subprocess.run(["chattr", "-a", m / "a"], check=True)
    assert (m / "a").read_text() == "1222"


@pytest.mark.parametrize("flag", ["i", "a"])
def test_protected_files_refuse_to_be_opened(flag):
    need_root()
    need_tools("chattr")
    with scratch() as path:
        (path / "m").mkdir()
        with foreground("memfs:16M", path / "m"):
            name = path / "m/a"
            name.write_text("1")
            subprocess.run(["chattr", f"+{flag}", name], check=True)
            fails(errno.EPERM, os.open, name, os.O_WRONLY)
            fails(errno.EPERM, os.open, name, os.O_RDWR)
            fails(errno.EPERM, os.open, name, os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
            if flag == "i":
                fails(errno.EPERM, os.open, name, os.O_WRONLY | os.O_APPEND)
                fails(errno.EPERM, os.link, name, path / "m/b")
                fails(errno.EPERM, os.chmod, name, 0o600)
            assert name.read_text() == "1"
            subprocess.run(["chattr", f"-{flag}", name], check=True)
            name.write_text("2")


def test_extended_flags(m):
    need_root()
    fd = os.open(m, os.O_RDONLY)
    try:
        x = bytearray(28)
        fcntl.ioctl(fd, 0x801C581F, x)
        struct.pack_into("=I", x, 0, 0x80)  # FS_XFLAG_NODUMP
        fcntl.ioctl(fd, 0x401C5820, x)
        fcntl.ioctl(fd, 0x801C581F, x)
        assert struct.unpack_from("=I", x)[0] == 0x80
        flags = array.array("i", [0])
        fcntl.ioctl(fd, 0x80086601, flags)
        assert flags[0] == 0x40
    finally:
        os.close(fd)


def test_commands_for_the_volume_are_for_its_master(m):
    need_root()
    need_tools("setpriv")
    trim = ("import fcntl, os, sys; fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), int(sys.argv[2], 16),"
            " bytes(8) + b'\\xff' * 8 + bytes(8))")
    for number in "c0185879", "8004587d", "80047771", "7772":
        r = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c", trim,
                            m, number], capture_output=True, text=True)
        assert "Operation not permitted" in r.stderr, number
    r = subprocess.run(["/usr/bin/python3", "-c", trim, m, "c0185879"], capture_output=True, text=True)
    assert r.returncode == 0 or "not supported" in r.stderr


def access_time(option, change):
    """Whether reading what was changed `change` seconds ago, and read two days ago, moves its time of access."""
    with scratch() as path:
        (path / "m").mkdir()
        with foreground("memfs:16M", path / "m", "-o", option):
            name = path / "m/a"
            name.write_text("x" * 100)
            now = time.time()
            os.utime(name, (now - 60, now - change))
            time.sleep(0.01)
            before = os.stat(name).st_atime_ns
            fd = os.open(name, os.O_RDONLY | os.O_DIRECT)  # so that the read arrives
            os.preadv(fd, [bytearray(4096)], 0)
            os.close(fd)
            return os.stat(name).st_atime_ns > before


def test_times_of_access():
    # A change of times is a change of the inode: ctime is newer than atime, which is news to relatime.
    assert access_time("relatime", 30)
    assert access_time("strictatime", 30)
    assert access_time("lazytime", 30)
    assert not access_time("noatime", 30)
    with scratch() as path:
        (path / "m").mkdir()
        with foreground("memfs:16M", path / "m"):
            name = path / "m/a"
            name.write_text("x" * 100)
            times = []
            for _ in range(3):
                time.sleep(0.01)
                fd = os.open(name, os.O_RDONLY | os.O_DIRECT)
                os.preadv(fd, [bytearray(4096)], 0)
                os.close(fd)
                times.append(os.stat(name).st_atime_ns)
            assert times[0] > os.stat(name).st_mtime_ns and times[0] == times[1] == times[2]
            time.sleep(0.01)
            fd = os.open(name, os.O_RDWR | os.O_DIRECT | os.O_NOATIME)
            os.utime(name)
            before = os.stat(name).st_atime_ns
            os.preadv(fd, [bytearray(4096)], 0)
            os.close(fd)
            assert os.stat(name).st_atime_ns == before


def test_small_appends(m):
    """What was just appended is there for all, and after the file has gone from the kernel's cache."""
    with open(m / "log", "ab", buffering=0) as f:
        for i in range(3000):
            f.write(b"line %06d\n" % i)
            if i % 100 == 7:
                assert os.stat(m / "log").st_size == 12 * (i + 1)
            if i % 500 == 33:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                fd = os.open(m / "log", os.O_RDONLY | os.O_DIRECT)
                back = os.pread(fd, 1 << 20, 0)
                os.close(fd)
                assert back == b"".join(b"line %06d\n" % k for k in range(i + 1))
    assert (m / "log").read_bytes() == b"".join(b"line %06d\n" % k for k in range(3000))


def test_shared_mapping(m):
    import mmap
    (m / "a").write_bytes(bytes(3 * 4096))
    with open(m / "a", "r+b") as f, mmap.mmap(f.fileno(), 0) as a:
        a[5000:5005] = b"hello"
        a.flush()
        os.fsync(f.fileno())
    assert (m / "a").read_bytes()[5000:5005] == b"hello"


def test_direct_io(m):
    import mmap
    buf = mmap.mmap(-1, 1 << 20)
    buf.write(os.urandom(1 << 20))
    fd = os.open(m / "a", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    try:
        assert os.pwritev(fd, [buf], 4096) == 1 << 20
        back = mmap.mmap(-1, 1 << 20)
        assert os.preadv(fd, [back], 4096) == 1 << 20
        assert back[:] == buf[:]
    finally:
        os.close(fd)


def test_many_at_once(m):
    """Threads that make, fill, read, rename and remove; what remains is what each left."""
    failed = []

    def work(k):
        rnd = random.Random(k)
        try:
            d = m / f"d{k}"
            d.mkdir()
            for i in range(150):
                data = rnd.randbytes(rnd.randrange(20000))
                (d / f"{i}").write_bytes(data)
                assert (d / f"{i}").read_bytes() == data
                os.rename(d / f"{i}", m / f"shared-{k}-{i}")
                if i % 2:
                    os.unlink(m / f"shared-{k}-{i}")
                os.listdir(m)
        except Exception as e:
            failed.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    assert len([n for n in os.listdir(m) if n.startswith("shared")]) == 6 * 75


def test_no_space_is_said_and_survived(m):
    with open(m / "a", "wb", 0) as f:
        try:
            while True:
                f.write(b"x" * (1 << 20))
                os.fsync(f.fileno())
        except OSError as e:
            assert e.errno == errno.ENOSPC
    os.unlink(m / "a")
    wait_for(lambda: os.statvfs(m).f_bfree > 1000)
    (m / "b").write_bytes(b"x" * (1 << 20))


def test_operations_without_support_say_so(m):
    (m / "a").touch()
    with open(m / "a", "r+b") as f:
        ctypes.set_errno(0)
        assert libc.fallocate(f.fileno(), 0x08, ctypes.c_long(0), ctypes.c_long(4096)) == -1  # collapse
        assert ctypes.get_errno() == errno.EOPNOTSUPP
        fails(errno.ENOTTY, fcntl.ioctl, f, 0x12345678, array.array("b", [0] * 64))


def test_a_volume_without_labels_says_so():
    """Until one is given; ls then asks no file but the first."""
    need_root()
    with scratch() as d:
        (d / "m").mkdir()
        with foreground("memfs:16M", d / "m"):
            for name in ("a", "b"):
                (d / "m" / name).touch()
            fails(errno.EOPNOTSUPP, os.getxattr, d / "m/a", "security.selinux")
            os.setxattr(d / "m/b", "security.selinux", b"label")
            assert os.getxattr(d / "m/b", "security.selinux") == b"label"
            fails(errno.ENODATA, os.getxattr, d / "m/a", "security.selinux")
        with open(d / "img", "wb") as f:
            f.truncate(16 << 20)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", d / "img"], check=True)
        subprocess.run(["debugfs", "-w", "-R", "ea_set / security.selinux label", d / "img"], check=True, stderr=subprocess.DEVNULL)
        with foreground(d / "img", d / "m"):
            fails(errno.ENODATA, os.getxattr, d / "m/lost+found", "security.selinux")
