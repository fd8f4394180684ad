"""The commands that change a volume without mounting it, as people use them: what each does, its errors, its exit code."""
import base64
import json
import os
import re
import resource
import subprocess
import sys
import uuid

import pytest

from mounting import WERUNOS, foreground, need_root, need_tools, run, scratch

PEAK = os.path.abspath("tests/support/peak.py")
PATHS = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
FEATURES = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,extra_isize,metadata_csum"


def tool(*args, **kw):
    return subprocess.run([*map(str, args)], check=True, capture_output=True, text=True, env=PATHS, **kw).stdout


def make(path, *options, features=FEATURES, mib=16):
    with open(path, "wb") as f:
        f.truncate(mib << 20)
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-O", features, "-L", "label", *options, path)
    return str(path)


def fsck(image):
    r = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, env=PATHS)
    assert r.returncode == 0, r.stdout


@pytest.fixture
def image():
    need_tools("mke2fs", "e2fsck", "debugfs")
    with scratch() as tmp:
        yield make(tmp / "a.img")
        fsck(f"{tmp}/a.img")


def ok(*args, **kw):
    r = run(*args, **kw)
    assert (r.returncode, r.stderr) == (0, ""), r.stderr
    return r.stdout


def one_line(r, code, *words):
    lines = r.stderr.splitlines()
    assert r.returncode == code and r.stdout == "" and len(lines) == (1 if code == 1 else 2), r
    for w in words:
        assert str(w) in lines[0], r.stderr


def stat(image, path):
    return json.loads(ok("stat", "--json", f"{image}:{path}"))


def names(image, path="/"):
    return ok("ls", "-a", f"{image}:{path}").split()[2:]


# ---- names ----


def test_mkdir(image):
    ok("mkdir", f"{image}:/a", f"{image}:/b", f"{image}:/a/c")
    ok("mkdir", "-p", f"{image}:/x/y//z/", f"{image}:/a")
    ok("mkdir", "-m", "1700", f"{image}:/sticky")
    ok("mkdir", "-p", "-m", "u=rwx,go=", f"{image}:/p/q")
    assert names(image) == ["a", "b", "lost+found", "p", "sticky", "x"] and names(image, "/x/y") == ["z"]
    assert stat(image, "/sticky")["permissions"] == "1700" and stat(image, "/p/q")["permissions"] == "0700"
    assert stat(image, "/p")["permissions"] == "0755" and stat(image, "/a")["uid"] == os.geteuid()
    one_line(run("mkdir", f"{image}:/a"), 1, "cannot make directory /a: File exists")
    one_line(run("mkdir", f"{image}:/no/a"), 1, "/no/a", "No such file")
    one_line(run("mkdir", f"{image}:/"), 1, "/: it is the volume's root directory")
    one_line(run("mkdir", "-m", "9", f"{image}:/n"), 64, '"9" is no mode')
    r = run("mkdir", f"{image}:/a", f"{image}:/new", f"{image}:/b")
    assert r.returncode == 1 and r.stderr.count("\n") == 2 and "new" in names(image)


def test_umask(image):
    for mask, want in ((0, "0777"), (0o077, "0700")):
        ok("mkdir", f"{image}:/m{mask}", preexec_fn=lambda: os.umask(mask))
        assert stat(image, f"/m{mask}")["permissions"] == want


def test_rm(image):
    ok("mkdir", "-p", f"{image}:/d/e/f", f"{image}:/empty")
    ok("touch", f"{image}:/f", f"{image}:/g", f"{image}:/d/e/h")
    ok("rm", f"{image}:/f")
    one_line(run("rm", f"{image}:/f"), 1, "cannot remove /f: No such file")
    ok("rm", "-f", f"{image}:/f", f"{image}:/f/x")
    ok("rm", "-f")
    one_line(run("rm", f"{image}:/d"), 1, "/d: it is a directory (-r")
    one_line(run("rm", "-d", f"{image}:/d"), 1, "/d: Directory not empty")
    ok("rm", "-d", f"{image}:/empty")
    one_line(run("rm", "-rf", f"{image}:/"), 1, "root directory")
    one_line(run("rm", "-rf", image), 1, "root directory")
    one_line(run("rm", "-r", f"{image}:/d/."), 1, "/d/.: it ends in no name")
    one_line(run("rm", f"{image}:/g/"), 1, "Not a directory")
    ok("rm", "-r", f"{image}:/d", f"{image}:/g")
    assert names(image) == ["lost+found"]
    one_line(run("rm"), 64, "a file is wanted")
    one_line(run("rm", "-x", f"{image}:/g"), 64, "-x: not an option")


def test_rmdir(image):
    ok("mkdir", "-p", f"{image}:/a/b")
    one_line(run("rmdir", f"{image}:/a"), 1, "cannot remove /a: Directory not empty")
    ok("rmdir", f"{image}:/a/b", f"{image}:/a")
    assert names(image) == ["lost+found"]
    ok("touch", f"{image}:/f")
    one_line(run("rmdir", f"{image}:/f"), 1, "Not a directory")
    one_line(run("rmdir"), 64, "a directory is wanted")


def test_mv(image):
    ok("mkdir", f"{image}:/d", f"{image}:/e", f"{image}:/d/sub")
    ok("touch", f"{image}:/a", f"{image}:/b", f"{image}:/d/b", f"{image}:/c")
    ok("mv", f"{image}:/a", f"{image}:/d")
    ok("mv", f"{image}:/d/a", f"{image}:/z")
    ok("mv", f"{image}:/c", f"{image}:/z")
    assert names(image) == ["b", "d", "e", "lost+found", "z"]
    before = stat(image, "/d/b")["inode"]
    ok("mv", "-n", f"{image}:/b", f"{image}:/d")
    assert stat(image, "/d/b")["inode"] == before and "b" in names(image)
    # Two files of one name: the second one would take the first one's place.
    one_line(run("mv", f"{image}:/b", f"{image}:/d/b", f"{image}:/e"), 1, "cannot move /d/b: its new name was given to another file")
    assert names(image, "/d") == ["b", "sub"] and names(image, "/e") == ["b"]
    one_line(run("mv", f"{image}:/d", f"{image}:/d/sub"), 1, "cannot move /d: it would lie in itself")
    one_line(run("mv", f"{image}:/z", f"{image}:/z"), 1, "it has that name already")
    one_line(run("mv", "-T", f"{image}:/z", f"{image}:/e"), 1, "its new name is a directory's")
    one_line(run("mv", "-T", f"{image}:/d", f"{image}:/z"), 1, "it is a directory, and its new name a file's")
    one_line(run("mv", "-T", f"{image}:/e", f"{image}:/d"), 1, "Directory not empty")
    one_line(run("mv", f"{image}:/none", f"{image}:/e"), 1, "cannot move /none: No such file")
    one_line(run("mv", f"{image}:/z", f"{image}:/d", f"{image}:/none"), 1, "/none: No such file")
    one_line(run("mv", f"{image}:/z", f"{image}:/none/x"), 1, "/z: No such file")
    one_line(run("mv", f"{image}:/z", f"{image}:/none/"), 1, "/z: Not a directory")
    one_line(run("mv", f"{image}:/z"), 64, "a source and a target")
    one_line(run("mv", "-T", f"{image}:/z", f"{image}:/d", f"{image}:/e"), 64, "-T takes one")
    ok("ln", f"{image}:/z", f"{image}:/z2")
    one_line(run("mv", f"{image}:/z", f"{image}:/z2"), 1, "it has that name already")


def test_ln(image):
    ok("mkdir", f"{image}:/d")
    ok("touch", f"{image}:/f", f"{image}:/g")
    ok("ln", f"{image}:/f", f"{image}:/h")
    ok("ln", f"{image}:/f", f"{image}:/g", f"{image}:/d")
    assert stat(image, "/f")["links"] == 3 and stat(image, "/d/f")["inode"] == stat(image, "/f")["inode"]
    one_line(run("ln", f"{image}:/g", f"{image}:/h"), 1, "cannot link /g: File exists")
    ok("ln", "-f", f"{image}:/g", f"{image}:/h")
    assert stat(image, "/h")["inode"] == stat(image, "/g")["inode"] and stat(image, "/f")["links"] == 2
    one_line(run("ln", "-f", f"{image}:/g", f"{image}:/h"), 1, "it has that name already")
    one_line(run("ln", f"{image}:/d", f"{image}:/e"), 1, "it is a directory")
    ok("ln", "-s", "../any where", f"{image}:/d/link")
    ok("ln", "-s", "d", f"{image}:/dir")
    ok("ln", "-s", "x", "y", f"{image}:/dir/")
    ok("ln", "-sfn", "f", f"{image}:/dir")
    assert stat(image, "/d/link")["target"] == "../any where" and stat(image, "/d/y")["target"] == "y"
    assert stat(image, "/dir")["target"] == "f"
    assert sorted(names(image)) == ["d", "dir", "f", "g", "h", "lost+found"]
    one_line(run("ln", "-s", "x" * 5000, f"{image}:/long"), 1, "File name too long")


def test_links_lead_nowhere_else(image):
    ok("ln", "-s", "/etc", f"{image}:/out")
    ok("ln", "-s", "../../../../../../tmp", f"{image}:/up")
    for link in ("out", "up"):
        one_line(run("touch", f"{image}:/{link}/werunos-was-here"), 1, "No such file")
        one_line(run("chmod", "600", f"{image}:/{link}"), 1, "No such file")
    ok("mkdir", f"{image}:/tmp")
    ok("touch", f"{image}:/up/here")
    assert names(image, "/tmp") == ["here"]


# ---- attributes ----


def test_chmod(image):
    ok("mkdir", "-p", f"{image}:/d/e")
    ok("touch", f"{image}:/d/f")
    ok("ln", "-s", "f", f"{image}:/d/l")
    ok("chmod", "u=rwX,g=rX,o=", f"{image}:/d/f", f"{image}:/d/e")
    assert stat(image, "/d/f")["permissions"] == "0640" and stat(image, "/d/e")["permissions"] == "0750"
    ok("chmod", "-R", "4700", f"{image}:/d")
    assert {p: stat(image, p)["permissions"] for p in ("/d", "/d/e", "/d/f")} == dict.fromkeys(("/d", "/d/e", "/d/f"), "4700")
    ok("chmod", "600", f"{image}:/d/l")
    assert stat(image, "/d/f")["permissions"] == "0600" and stat(image, "/d/l")["permissions"] == "0777"
    one_line(run("chmod", "u+q", f"{image}:/d"), 64, '"u+q" is no mode')
    one_line(run("chmod", "644"), 64, "a mode and a file")
    one_line(run("chmod", "644", f"{image}:/none"), 1, "cannot change mode of /none")


def test_chown(image):
    ok("mkdir", f"{image}:/d")
    ok("touch", f"{image}:/d/f")
    ok("chmod", "6755", f"{image}:/d/f")
    ok("ln", "-s", "f", f"{image}:/d/l")
    ok("chown", "70000:80000", f"{image}:/d/l")
    owner = lambda p: (stat(image, p)["uid"], stat(image, p)["gid"])
    assert owner("/d/f") == (70000, 80000) and owner("/d/l") != (70000, 80000)
    assert stat(image, "/d/f")["permissions"] == "0755"
    ok("chown", "-h", "7:8", f"{image}:/d/l")
    assert owner("/d/l") == (7, 8)
    ok("chown", ":9", f"{image}:/d/f")
    ok("chown", "10", f"{image}:/d")
    assert owner("/d/f") == (70000, 9) and owner("/d")[0] == 10
    ok("chown", "-R", "root:", f"{image}:/d")
    assert {owner(p) for p in ("/d", "/d/f", "/d/l")} == {(0, 0)}
    one_line(run("chown", "no-such-user", f"{image}:/d"), 64, 'no user "no-such-user"')
    one_line(run("chown", "0:no-such-group", f"{image}:/d"), 64, 'no group "no-such-group"')
    one_line(run("chown", "5:", f"{image}:/d"), 64, "group of a number")
    one_line(run("chown", "4294967295", f"{image}:/d"), 64, "4294967295")


def test_touch_and_truncate(image):
    ok("touch", f"{image}:/f")
    s = stat(image, "/f")
    assert s["permissions"] == "0644" and s["size"] == 0
    tool("debugfs", "-w", "-R", "set_inode_field f mtime @1000000", image)
    tool("debugfs", "-w", "-R", "set_inode_field f atime @1000000", image)
    ok("touch", "-a", f"{image}:/f")
    s = stat(image, "/f")
    assert s["modified"]["sec"] == 1000000 and s["accessed"]["sec"] > 1 << 30
    ok("touch", "-c", f"{image}:/none")
    ok("truncate", "-c", "-s", "5", f"{image}:/none")
    assert "none" not in names(image)
    ok("truncate", "-s", "1M", f"{image}:/f", f"{image}:/g")
    ok("truncate", "-s", "+5", f"{image}:/f")
    ok("truncate", "-s", "-3K", f"{image}:/g")
    assert stat(image, "/f")["size"] == (1 << 20) + 5 and stat(image, "/g")["size"] == (1 << 20) - 3072
    ok("truncate", "-s", "-9M", f"{image}:/g")
    assert stat(image, "/g")["size"] == 0
    one_line(run("truncate", "-s", "x", f"{image}:/g"), 64, '"x" is no size')
    one_line(run("truncate", f"{image}:/g"), 64, "a size and a file")
    one_line(run("truncate", "-s", "0", f"{image}:/"), 1, "/: Is a directory")
    one_line(run("truncate", "-s", "8191P", f"{image}:/g"), 64)


def test_xattrs(image):
    ok("touch", f"{image}:/f")
    value = bytes(range(256))
    for name, word in (("user.text", "plain"), ("user.quoted", '"a\\"b\\\\c\\101"'), ("user.hex", "0x00ff10"), ("user.64", "0s" + base64.b64encode(value).decode()),
                       ("user.half", "0s" + base64.b64encode(b"ab").decode()), ("security.capability", "0x0100000200040000000000000000000000000000")):
        ok("setfattr", "-n", name, "-v", word, f"{image}:/f")
    ok("setfattr", "-n", "user.empty", f"{image}:/f")
    assert ok("getfattr", "-n", "user.quoted", f"{image}:/f") == '# file: /f\nuser.quoted="a\\"b\\\\cA"\n\n'
    assert ok("getfattr", "-d", "-m", "^user.(hex|empty)", f"{image}:/f") == \
        '# file: /f\nuser.hex=0x00ff10\nuser.empty=""\n\n'
    assert f"user.64=0x{value.hex()}\n" in ok("getfattr", "-d", f"{image}:/f") and "security" not in ok("getfattr", f"{image}:/f")
    (file,) = json.loads(ok("getfattr", "--json", "-m", "-", f"{image}:/f"))["files"]
    assert file["path"] == "/f" and file["attributes"]["user.half"] == "ab" and "security.capability" in file["attributes"]
    ok("setfattr", "-x", "user.text", f"{image}:/f")
    one_line(run("setfattr", "-x", "user.text", f"{image}:/f"), 1, "it has no attribute user.text")
    one_line(run("getfattr", "-n", "user.text", f"{image}:/f"), 1, "it has no attribute user.text")
    one_line(run("setfattr", "-n", "bogus.x", "-v", "1", f"{image}:/f"), 1, "not supported")
    for args, why in ((("-n", "user.x", "-v", "0x123"), "no value"), (("-n", "user.x", "-v", "0s!"), "no value"), ((), "-n NAME or -x NAME"),
                      (("-n", "user.x", "-x", "user.y"), "-n NAME or -x NAME"), (("-x", "user.y", "-v", "1"), "-x takes no value")):
        one_line(run("setfattr", *args, f"{image}:/f"), 64, why)
    one_line(run("getfattr", "-m", "(", f"{image}:/f"), 64, "regular expression")
    # Of symbolic links only the system's attributes.
    ok("ln", "-s", "f", f"{image}:/l")
    ok("setfattr", "-h", "-n", "trusted.x", "-v", "1", f"{image}:/l")
    assert "trusted.x" in ok("getfattr", "-h", "-m", "-", f"{image}:/l") and "trusted.x" not in ok("getfattr", "-m", "-", f"{image}:/l")


# ---- volumes ----


def test_one_volume(image, tmp_path):
    other = make(tmp_path / "b.img")
    ok("touch", f"{image}:/f")
    one_line(run("mv", f"{image}:/f", f"{other}:/f"), 1, "not on one volume", "werunos cp")
    one_line(run("rm", f"{image}:/f", f"{other}:/f"), 1, "not on one volume")
    assert "f" in names(image)
    link = tmp_path / "same.img"
    link.symlink_to(image)
    ok("mv", f"{image}:/f", f"{link}:/g")
    assert "g" in names(image)
    fsck(other)


def test_refused(image, tmp_path):
    one_line(run("rm", "/none.img:/f"), 1, "/none.img:/f does not exist")
    (tmp_path / "text").write_text("no file system\n" * 1000)
    one_line(run("rm", f"{tmp_path}/text:/f"), 1, "no file system that is known")
    odd = make(tmp_path / "odd.img")
    subprocess.run(["debugfs", "-w", "-R", "feature shared_blocks", str(odd)], check=True, stderr=subprocess.DEVNULL)
    one_line(run("mkdir", f"{odd}:/d"), 1, "cannot be changed", "shared_blocks")
    one_line(run("label", odd, "new"), 1, "cannot be changed", "shared_blocks")
    with open(image, "r+b") as f:
        import fcntl
        fcntl.lockf(f, fcntl.LOCK_EX)
        r = run("mkdir", f"{image}:/d")
        one_line(r, 1, "in use by another program")
        assert "--ro" not in r.stderr
    os.chmod(image, 0o444)
    if os.geteuid():
        one_line(run("mkdir", f"{image}:/d"), 1, "no permission to write")
    os.chmod(image, 0o644)


def test_not_mounted_elsewhere(image, tmp_path):
    need_root()
    m = tmp_path / "m"
    m.mkdir()
    with foreground(image, m):
        one_line(run("mkdir", f"{image}:/d"), 1, "in use")
    tool("mount", "-o", "loop,ro", image, m)
    try:
        r = run("mkdir", f"{image}:/d")
        one_line(r, 1, "in use by /dev/loop")
        assert "--ro" not in r.stderr
    finally:
        tool("umount", m)
    ok("mkdir", f"{image}:/d")


def test_partition(image, tmp_path):
    need_tools("sfdisk")
    disk = tmp_path / "disk.img"
    with open(disk, "wb") as f:
        f.truncate(32 << 20)
    tool("sfdisk", "-q", "--no-tell-kernel", disk, input="label: gpt\nsize=1M\nsize=16M\n")
    with open(disk, "r+b") as f:
        f.seek(2 << 20)
        f.write(open(image, "rb").read())
    ok("mkdir", "-p", f"{disk}#p2:/a/b")
    ok("mkdir", "--part", "2", f"{disk}:/c")
    assert names(f"{disk}#p2") == ["a", "c", "lost+found"]
    ok("label", f"{disk}#p2", "second")
    assert ok("label", "-p", "2", disk) == "second\n"


def test_btrfs_is_not_changed(tmp_path):
    need_tools("mkfs.btrfs")
    b = tmp_path / "b.img"
    with open(b, "wb") as f:
        f.truncate(256 << 20)
    tool("mkfs.btrfs", "-q", "-L", "its name", "-U", "01234567-89ab-4cde-8f01-23456789abcd", b)
    before = b.read_bytes()
    assert ok("label", b) == "its name\n" and ok("uuid", b) == "01234567-89ab-4cde-8f01-23456789abcd\n"
    for args in (("mkdir", f"{b}:/d"), ("label", b, "new"), ("uuid", b, "random"), ("rm", "-rf", f"{b}:/x")):
        one_line(run(*args), 1, "cannot change a btrfs volume yet")
    assert b.read_bytes() == before


def test_what_cannot_be_made_durable(tmp_path):
    """A sparse image on a host that is full: the command fails, once, and what was there before is whole."""
    need_root()
    t = tmp_path / "t"
    t.mkdir()
    tool("mount", "-t", "tmpfs", "-o", "size=16M", "none", t)
    try:
        full = make(t / "full.img", "-N", "60000", "-E", "lazy_itable_init=1", mib=256)
        ok("mkdir", f"{full}:/before")
        with open(t / "ballast", "wb") as f:
            try:
                while True:
                    f.write(bytes(1 << 16))
                    f.flush()
            except OSError:
                pass
        for args in (["mkdir", *(f"{full}:/d{i}" for i in range(3000))], ["touch", *(f"{full}:/before/f{i}" for i in range(3000))]):
            r = run(*args)
            assert r.returncode == 1 and "No space left on device" in r.stderr and r.stderr.count("\n") < 10, r.stderr[-3000:]
        os.unlink(t / "ballast")
        # What stopped its journal wants to be looked into, as with the kernel's.
        r = run("touch", f"{full}:/after")
        assert r.returncode == 0 and "it has recorded errors: it should be checked (werunos fsck)" in r.stderr, r.stderr
        assert run("fsck", "-p", full).returncode == 1
        ok("touch", f"{full}:/after")
        assert {"before", "after"} < set(names(full))
        fsck(full)
    finally:
        tool("umount", t)


# ---- label and uuid ----


def test_label(image):
    assert ok("label", image) == "label\n" and json.loads(ok("label", "--json", image)) == {"label": "label"}
    ok("label", image, "0123456789abcdef")
    assert ok("label", image) == "0123456789abcdef\n" == tool("e2label", image)
    one_line(run("label", image, "0123456789abcdefg"), 1, "17 bytes", "room for 16")
    ok("label", image, "")
    assert ok("label", image) == "\n"
    one_line(run("label"), 64, "an image or device")
    one_line(run("label", image, "a", "b"), 64, "an image or device")


def test_uuid(image):
    old = tool("blkid", "-p", "-o", "value", "-s", "UUID", image)
    assert ok("uuid", image) == old
    ok("uuid", image, "random")
    new = ok("uuid", image)
    assert new != old and uuid.UUID(new.strip()).version == 4 and new == tool("blkid", "-p", "-o", "value", "-s", "UUID", image)
    assert "metadata_csum_seed" not in tool("dumpe2fs", "-h", image)
    fsck(image)
    r = run("uuid", image, "01234567-89AB-4cde-8f01-23456789abcd")
    assert r.returncode == 0 and r.stderr.count("\n") == 1 and "metadata_csum_seed" in r.stderr
    assert ok("uuid", image) == "01234567-89ab-4cde-8f01-23456789abcd\n"
    assert "metadata_csum_seed" in tool("dumpe2fs", "-h", image)
    ok("uuid", image, "random")
    assert json.loads(ok("uuid", "--json", image))["uuid"] == tool("blkid", "-p", "-o", "value", "-s", "UUID", image).strip()
    for bad in ("x", "01234567-89ab-4cde-8f01-23456789abc", "0123456789ab4cde8f0123456789abcd"):
        one_line(run("uuid", image, bad), 64, f'"{bad}" is no UUID')


# ---- trees that somebody made ----


def test_deep_tree(tmp_path):
    """More levels than any path can name; neither stack nor memory grow with them beyond some bytes for each."""
    need_root()
    levels = 100000
    deep = make(tmp_path / "deep.img", "-b", "1024", "-I", "128", "-N", "110000", mib=320)
    m = tmp_path / "m"
    m.mkdir()
    tool("mount", "-o", "loop", deep, m)
    try:
        back = os.open("/", os.O_RDONLY)
        os.chdir(m)
        for i in range(levels):
            os.mkdir("d")
            os.chdir("d")
        with open("f", "w") as f:
            f.write("at the bottom")
        os.fchdir(back)
        os.close(back)
    finally:
        os.chdir("/")
        tool("umount", m)
    for args in (("chmod", "-R", "u+s", f"{deep}:/d"), ("rm", "-r", f"{deep}:/d")):
        peak = tmp_path / "peak"
        r = subprocess.run([sys.executable, "-S", PEAK, peak, WERUNOS, *args], stderr=subprocess.PIPE,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20)))
        assert (r.returncode, r.stderr) == (0, b"") and int(peak.read_text()) < 400 << 10, r
    assert names(deep) == ["lost+found"]
    fsck(deep)


def debugfs(image, *commands):
    return tool("debugfs", "-w", "-f", "-", image, input="\n".join(commands) + "\n")


def test_tree_in_itself(tmp_path):
    loop = make(tmp_path / "loop.img")
    ok("mkdir", "-p", f"{loop}:/a/b/c", f"{loop}:/a/b/d")
    debugfs(loop, "link /a /a/b/again", "link /a/b /a/b/c/up")
    r = run("chmod", "-R", "700", f"{loop}:/a")
    assert r.returncode == 1 and r.stderr.count("another place in the tree") == 2, r.stderr
    r = run("rm", "-rf", f"{loop}:/a")
    assert r.returncode == 1 and "/a/b/again: this directory has another place in the tree" in r.stderr
    assert names(loop, "/a/b") == ["again", "c"]


def test_tree_with_many_ways(tmp_path):
    """Each directory twice in the one above, and what cannot be removed at the bottom: there are 2 to the 40th ways to it."""
    many = make(tmp_path / "many.img")
    path = "".join(f"/{i}" for i in range(40))
    ok("mkdir", "-p", f"{many}:{path}")
    ok("touch", f"{many}:{path}/f")
    inode = stat(many, f"{path}/f")["inode"]
    links = [f"link {path[:m.end()]} {path[:m.start()] or ''}/again" for m in re.finditer(r"/\d+", path)]
    debugfs(many, f"set_inode_field <{inode}> flags 0x80010", *links)
    r = run("rm", "-rf", f"{many}:/0")
    assert r.returncode == 1 and "/f: Operation not permitted" in r.stderr and r.stderr.count("\n") == 40, r.stderr
    assert run("chmod", "-R", "u+x", f"{many}:/0").returncode == 1


def test_wide_tree(image):
    big = make(image + ".big", "-N", "12000", mib=64)
    with scratch() as tmp:
        (tmp / "src/wide").mkdir(parents=True)
        for i in range(6000):
            (tmp / f"src/wide/{'n' * 40}{i}").touch()
        for i in range(600):
            (tmp / f"src/wide/d{i}/e").mkdir(parents=True)
        # So far down that directories above are listed again on the way back.
        for depth in (70, 75, 76):
            for i in range(300):
                (tmp / f"src/wide{'/x' * depth}/y{i}").mkdir(parents=True)
                (tmp / f"src/wide{'/x' * depth}/z{i}").touch()
        tool("mke2fs", "-q", "-F", "-t", "ext4", "-O", FEATURES, "-N", "12000", "-d", tmp / "src", big)
    ok("chmod", "-R", "u=rwX,go=", f"{big}:/wide")
    assert {r.split()[0] for r in ok("ls", "-l", f"{big}:/wide").splitlines()} == {"-rw-------", "drwx------"}
    fsck(big)
    ok("rm", "-r", f"{big}:/wide")
    assert names(big) == ["lost+found"]
    fsck(big)
