"""Volumes of several devices: named, found beside the first, missing, copies of each other, somebody else's."""
import contextlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from mounting import USER, foreground, need_fuse, need_root, need_tools, run, scratch, wait_for

PATHS = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
SIZE = 256 << 20


def tool(*args):
    return subprocess.run([*map(str, args)], check=True, capture_output=True, text=True, env=PATHS).stdout


def make(paths, *args, data="raid1", meta="raid1"):
    for p in paths:
        with open(p, "wb") as f:
            f.truncate(SIZE)
    tool("mkfs.btrfs", "-q", "-f", "-O", "no-holes", "-R", "free-space-tree", "-d", data, "-m", meta, *args, *paths)


def detach(dev):
    subprocess.run(["losetup", "-d", dev], env=PATHS)
    # While somebody looks at it (udev, other tests) it stays.
    wait_for(lambda: not os.path.exists(f"/sys/block/{os.path.basename(dev)}/loop"))


@contextlib.contextmanager
def loops(paths, *options):
    with contextlib.ExitStack() as stack:
        devs = []
        for p in paths:
            r = subprocess.run(["losetup", "-f", "--show", *options, p], capture_output=True, text=True, env=PATHS)
            if r.returncode:
                pytest.skip("no loop devices")
            devs.append(r.stdout.strip())
            stack.callback(detach, devs[-1])
        yield devs


def forget(devs):
    """Of these alone: what other tests are about to mount is to be found."""
    for d in devs:
        subprocess.run(["btrfs", "device", "scan", "--forget", d], capture_output=True, env=PATHS)


@contextlib.contextmanager
def kernel(devs, directory, *options):
    """The kernel's mount; afterwards it forgets the devices, which have the ids of others here."""
    directory.mkdir(exist_ok=True)
    words = ",".join([*(f"device={d}" for d in devs), *options])
    r = subprocess.run(["mount", "-t", "btrfs", "-o", words, devs[0], directory], capture_output=True, text=True, env=PATHS)
    if r.returncode and "unknown filesystem" in r.stderr:
        pytest.skip("the kernel has no btrfs")
    assert not r.returncode, r.stderr
    try:
        yield directory
    finally:
        tool("umount", directory)
        forget(devs)


def content(paths, tmp, name, text):
    """Writes a file by the kernel: another generation, on all of the devices."""
    with loops(paths) as devs, kernel(devs, tmp / "kernel") as d:
        (d / name).write_text(text)


@pytest.fixture
def tmp():
    need_root()
    need_tools("mkfs.btrfs", "losetup", "mount", "btrfstune")
    with scratch() as path:
        yield path


@pytest.fixture
def two(tmp):
    """A volume on two images, in a directory that also holds what has nothing to do with it."""
    paths = [tmp / "vol-a.img", tmp / "vol-b.img"]
    make(paths)
    make([tmp / "vol-other.img"], data="single", meta="single")
    (tmp / "vol-notes.txt").write_text("no volume")
    (tmp / "vol-empty").touch()
    (tmp / "vol-dir").mkdir()
    (tmp / "vol-dangling").symlink_to("nowhere")
    os.mkfifo(tmp / "vol-fifo")
    content(paths, tmp, "hello", "one\n")
    return paths


def cat(image, *args):
    r = run("cat", *args, f"{image}:/hello")
    return r.stdout if not r.returncode else r.stderr


def one_line(r, *words):
    assert r.returncode == 1 and r.stderr.count("\n") == 1, r.stderr
    for w in words:
        assert w in r.stderr, r.stderr


def uuids(image):
    return {d["devid"]: d["uuid"] for d in json.loads(run("info", "--json", image).stdout)["devices"]}


def test_found_beside(two):
    assert cat(two[0]) == "one\n" and cat(two[1]) == "one\n"
    names = [d["name"] for d in json.loads(run("info", "--json", two[1]).stdout)["devices"]]
    assert sorted(names) == [str(p) for p in two]
    assert run("ls", two[0]).stdout == "hello\n"
    assert run("dump", two[0], "devices").returncode in (0, 1)


def test_through_a_link_elsewhere(two, tmp):
    (tmp / "vol-dir" / "link").symlink_to(two[0])
    assert cat(tmp / "vol-dir" / "link") == "one\n"


def test_mounted(two, tmp):
    mnt = tmp / "mnt"
    mnt.mkdir()
    with foreground(two[0], mnt):
        assert (mnt / "hello").read_text() == "one\n"
        # Locked as the first is: nobody writes to it.
        with loops([two[1]], "-r"):
            pass
        r = run("info", two[1])
        assert not r.returncode


def test_missing(two, tmp):
    aside = tmp / "vol-dir" / "b.img"
    second = uuids(two[0])[2]
    two[1].rename(aside)
    one_line(run("ls", two[0]), "device 2", second, "--device", "-o degraded")
    r = run("ls", "-o", "degraded", two[0])
    assert r.stdout == "hello\n" and "device 2 is missing" in r.stderr
    assert run("cat", "-o", "degraded", f"{two[0]}:/hello").stdout == "one\n"
    assert cat(two[0], "--device", aside) == "one\n"
    assert cat(aside, "--device", two[0]) == "one\n"
    mnt = tmp / "mnt"
    mnt.mkdir()
    with foreground(two[0], mnt, "--device", aside):
        assert (mnt / "hello").read_text() == "one\n"
    with foreground(two[0], mnt, "-o", f"device={aside}"):
        assert (mnt / "hello").read_text() == "one\n"
    with foreground(two[0], mnt, "-o", "degraded"):
        assert (mnt / "hello").read_text() == "one\n"
    # What was named is all that there is: nothing is looked for then.
    aside.rename(two[1])
    one_line(run("ls", two[0], "--device", two[0]), "device 2")


def test_named_wrongly(two, tmp):
    one_line(run("ls", "--device", tmp / "nothing", two[0]), "nothing does not exist")
    one_line(run("ls", "--device", tmp / "vol-notes.txt", two[0]), "vol-notes.txt", "no superblock")
    one_line(run("ls", "--device", tmp / "vol-other.img", two[0]), "vol-other.img is a device of another volume")
    one_line(run("ls", "--device", two[1], "--device", tmp / "vol-other.img", two[0]), "vol-other.img is a device of another volume")
    assert run("ls", "--device").returncode == 64


def test_one_device_is_enough(tmp):
    """No directory is searched when there is nothing to look for; ext4 takes one alone."""
    make([tmp / "a.img"], data="single", meta="single")
    shutil.copy(tmp / "a.img", tmp / "b.img")
    assert not run("ls", tmp / "a.img").returncode
    with open(tmp / "e.img", "wb") as f:
        f.truncate(16 << 20)
    tool("mke2fs", "-q", "-t", "ext4", tmp / "e.img")
    one_line(run("ls", "--device", tmp / "a.img", tmp / "e.img"), "one device")


def test_older_copies_beside(two, tmp):
    """A set of images and an older set of copies of them: each is whole."""
    old = [tmp / f"{p.name}.old" for p in two]
    for p, o in zip(two, old):
        shutil.copy(p, o)
    # Alike as yet: who of the two is meant must be said.
    one_line(run("ls", two[0]), "copies of one device", "--device")
    assert cat(two[0], "--device", old[1]) == "one\n"
    content(two, tmp, "hello", "two\n")
    assert cat(two[0]) == "two\n" and cat(two[1]) == "two\n"
    assert cat(old[0]) == "one\n" and cat(old[1]) == "one\n"
    # The first alone has an older copy: the newest of the second is what there is.
    two[1].unlink()
    r = run("cat", f"{two[0]}:/hello")
    assert r.stdout == "two\n" and "missed the last" in r.stderr
    # Hard links are one file.
    os.link(old[1], tmp / "vol-b.link")
    assert cat(old[0]) == "one\n"


def test_left_behind_device(two, tmp):
    """A device that missed what was written degraded is not believed."""
    with loops(two[:1]) as devs, kernel(devs, tmp / "kernel", "degraded") as d:
        (d / "hello").write_text("two\n")
        (d / "more").write_text("new\n")
    r = run("cat", f"{two[1]}:/hello", f"{two[1]}:/more")
    assert r.stdout == "two\nnew\n" and "missed the last" in r.stderr


def test_truncated(two):
    os.truncate(two[1], SIZE // 4)
    r = run("cat", f"{two[0]}:/hello")
    assert r.stdout == "one\n" and "too short" in r.stderr


def test_loop_devices(two, tmp):
    """Among the machine's block devices."""
    with loops(two, "-r") as devs:
        assert cat(devs[0]) == "one\n" and cat(devs[1]) == "one\n"
        rows = {d["name"]: d for d in json.loads(run("devices", "--json").stdout)["devices"]}
        assert [rows[d]["devid"] for d in devs] == [1, 2]
        assert rows[devs[0]]["uuid"] == rows[devs[1]]["uuid"] and rows[devs[1]]["devices"] == 2
        assert rows[devs[0]]["device_uuid"] != rows[devs[1]]["device_uuid"]
        # One image behind two devices.
        with loops(two[1:], "-r"):
            one_line(run("ls", devs[0]), "copies of one device")
    with loops(two, "-r") as devs, kernel(devs, tmp / "kernel", "ro"):
        assert cat(devs[1]) == "one\n"
    with loops(two) as devs, kernel(devs, tmp / "kernel"):
        for d in devs:
            one_line(run("ls", d), "is mounted on")
        one_line(run("ls", two[1]), "is in use by")


def test_busy_second(two):
    with loops(two[1:]):
        one_line(run("ls", two[0]), "is in use by /dev/loop")


def test_many_files_beside(two, tmp):
    """The likely names are looked at first; how many, is bounded."""
    many = tmp / "many"
    many.mkdir()
    for p in two:
        p.rename(many / f"zz-{p.name}")
    for i in range(1500):
        (many / f"a{i}").write_bytes(b"x" * 100000)
    assert cat(many / "zz-vol-a.img") == "one\n"
    (many / "zz-vol-b.img").rename(many / "b")
    one_line(run("ls", many / "zz-vol-a.img"), "device 2")


def test_seed(tmp):
    """A seed is a volume of its own, with an id of its own."""
    seed, sprout = tmp / "seed.img", tmp / "sprout.img"
    make([seed], data="single", meta="single")
    content([seed], tmp, "hello", "seed\n")
    tool("btrfstune", "-f", "-S", "1", seed)
    with open(sprout, "wb") as f:
        f.truncate(SIZE)
    with loops([seed], "-r") as a, loops([sprout]) as b, kernel(a, tmp / "kernel") as d:
        tool("btrfs", "device", "add", "-f", b[0], d)
        tool("mount", "-o", "remount,rw", d)
        (d / "new").write_text("sprout\n")
    assert cat(seed) == "seed\n" and cat(sprout) == "seed\n"
    assert run("cat", f"{sprout}:/new").stdout == "sprout\n"
    devices = json.loads(run("info", "--json", sprout).stdout)["devices"]
    assert [(pathlib.Path(d["name"]).name, d.get("seed", False)) for d in devices] == [("sprout.img", False), ("seed.img", True)]
    (tmp / "aside").mkdir()
    seed.rename(tmp / "aside" / "seed.img")
    one_line(run("ls", sprout), "device 1")
    assert cat(sprout, "--device", tmp / "aside" / "seed.img") == "seed\n"
    # Its checksum tree still lies on the seed.
    r = run("cat", "-o", "degraded,rescue=ignorebadroots", f"{sprout}:/new")
    assert r.stdout == "sprout\n" and "cannot be read without" in r.stderr, r.stderr


def test_metadata_uuid(two, tmp):
    with loops(two) as devs:
        tool("btrfstune", "-f", "-m", devs[0])
        forget(devs)
    info = json.loads(run("info", "--json", two[0]).stdout)
    assert info["metadata_uuid"] != info["uuid"]
    assert not any(d.get("seed") for d in info["devices"])
    assert cat(two[0]) == "one\n" and cat(two[1]) == "one\n"


def test_another_user(two, tmp):
    """What may not be read is not looked into, and not found."""
    need_fuse()
    os.chmod(two[1], 0)
    r = subprocess.run(["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", os.environ.get("WERUNOS") or
                        str(pathlib.Path(__file__).parents[2] / "build/release/werunos"), "ls", two[0]], capture_output=True, text=True)
    one_line(r, "device 2")


def test_a_reformatted_device(two):
    """Where the first superblock is gone another file system may lie now; the copy is shown on request only."""
    with open(two[0], "r+b") as f:
        f.seek(65536)
        f.write(bytes(4096))
    one_line(run("ls", two[0]), "no file system that is known")
    assert cat(two[0], "--sb", "1", "--device", two[1]) == "one\n"
