"""The commands that read a volume without mounting it, on an ext4 image of known content."""
import json
import os
import subprocess

import pytest

from mounting import WERUNOS, need_root, need_tools, run, scratch

PATHS = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


@pytest.fixture(scope="module")
def world():
    need_tools("mke2fs", "sfdisk", "debugfs")
    with scratch() as tmp:
        src = tmp / "src"
        (src / "dir/deep").mkdir(parents=True)
        (src / "hello").write_text("hello\n")
        (src / "dir/data").write_bytes(bytes(range(256)) * 5000)
        (src / "dir/.hidden").touch()
        (src / "dir/deep/x").write_text("x")
        (src / "link").symlink_to("dir/data")
        (src / "evil\x1b[2J\n").touch()
        os.link(src / "hello", src / "dir/again")
        os.mkfifo(src / "fifo")
        image = tmp / "a.img"
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "label", "-d", src, image, "16M"], check=True, env=PATHS)
        for command in ("ea_set hello user.one 1", "set_inode_field hello mtime @0x60000000"):
            subprocess.run(["debugfs", "-w", "-R", command, image], check=True, capture_output=True, env=PATHS)
        disk = tmp / "disk.img"
        with open(disk, "wb") as f:
            f.truncate(32 << 20)
        subprocess.run(["sfdisk", "-q", "--no-tell-kernel", disk], input=b"label: gpt\nsize=1M,name=first\nsize=16M,name=second\n", check=True,
                       capture_output=True, env=PATHS)
        with open(disk, "r+b") as f:
            f.seek(2 << 20)
            f.write(image.read_bytes())
        yield tmp


@pytest.fixture(params=["a.img", "disk.img#p2"])
def image(world, request):
    return f"{world}/{request.param}"


def ok(*args):
    r = run(*args)
    assert (r.returncode, r.stderr) == (0, ""), r.stderr
    return r.stdout


def doc(*args):
    return json.loads(ok(*args))


def test_ls(image):
    names = ok("ls", image).splitlines()
    assert names == ["dir", "evil\\x1b[2J\\x0a", "fifo", "hello", "link", "lost+found"]
    assert ok("ls", f"{image}:/dir").split() == ["again", "data", "deep"]
    assert ok("ls", "-a", f"{image}:/dir").split() == [".", "..", ".hidden", "again", "data", "deep"]
    assert ok("ls", f"{image}:/hello") == "/hello\n"


def test_ls_long(image):
    rows = {r.split()[7]: r.split() for r in ok("ls", "-l", image).splitlines()}
    assert rows["hello"][0] == "-rw-r--r--" and rows["hello"][1] == "2" and rows["hello"][4] == "6"
    assert rows["hello"][5:7] == ["2021-01-14", "08:25"]
    assert rows["dir"][0].startswith("d") and rows["fifo"][0].startswith("p")
    assert rows["link"][8:] == ["->", "dir/data"]


def test_ls_below(image):
    out = ok("ls", "-R", f"{image}:/dir")
    assert out == "/dir:\nagain\ndata\ndeep\n\n/dir/deep:\nx\n"


def test_ls_json(image):
    entries = {e["name"]: e for e in doc("ls", "--json", image)["entries"]}
    assert set(entries) == {"dir", "evil\x1b[2J\n", "fifo", "hello", "link", "lost+found"}
    assert entries["hello"]["size"] == 6 and entries["hello"]["links"] == 2
    assert entries["hello"]["modified"] == {"sec": 0x60000000, "nsec": 0}
    assert entries["link"]["target"] == "dir/data"


def test_tree(image):
    assert ok("tree", f"{image}:/dir") == "/dir\n├── again\n├── data\n└── deep\n    └── x\n"
    top = doc("tree", "--json", image)
    (d,) = [e for e in top["entries"] if e["name"] == "dir"]
    assert [e["name"] for e in d["entries"]] == ["again", "data", "deep"]


def test_cat(image):
    r = subprocess.run([WERUNOS, "cat", f"{image}:/hello", f"{image}:/link"], capture_output=True, check=True)
    assert r.stdout == b"hello\n" + bytes(range(256)) * 5000


def test_cat_to_a_terminal_is_escaped(image):
    need_tools("script")
    r = subprocess.run(["script", "-qec", f"'{WERUNOS}' cat '{image}:/dir/data'", "/dev/null"], capture_output=True)
    assert b"\x1b" not in r.stdout and b"\\x1b" in r.stdout


def test_stat(image):
    text = ok("stat", f"{image}:/hello")
    assert "type: regular file\n" in text and "user.one: 1\n" in text and "2021-01-14" in text
    d = doc("stat", "--json", "--extents", f"{image}:/hello")
    assert d["attributes"] == {"user.one": "1"}
    assert d["extents"][0]["length"] > 0
    assert doc("stat", "--json", f"{image}:/link")["type"] == "symbolic link"


def test_info(image):
    d = doc("info", "--json", image)
    assert d["type"] == "ext4"
    assert "label" in ok("info", image)


def test_dump(image):
    assert "magic" in ok("dump", image, "superblock")
    assert doc("dump", "--json", image, "inode", "2")
    assert ok("dump", image, "group", "0")
    for words in [], ["nothing"], ["inode", "x"], ["inode", "999999999"]:
        r = run("dump", image, *words)
        assert r.returncode == 1 and len(r.stderr.splitlines()) == 1, r


def test_options_name_the_place(world):
    disk = f"{world}/disk.img"
    assert "hello" in ok("ls", "-p", "2", disk)
    assert "hello" in ok("ls", "--offset", "2M", disk)
    assert "hello" in ok("ls", "--part", 2, f"{disk}:/")


def test_devices(world):
    rows = {d["name"].rpartition("/")[2]: d for d in
            doc("devices", "--json", world / "a.img", world / "disk.img")["devices"]}
    assert set(rows) == {"a.img", "disk.img", "disk.img#p1", "disk.img#p2"}
    assert rows["a.img"]["fs"] == "ext4" and rows["a.img"]["label"] == "label" and rows["a.img"]["mountable"]
    assert rows["disk.img"]["table"] == "GPT" and not rows["disk.img"]["mountable"]
    assert rows["disk.img#p1"]["partition_name"] == "first" and not rows["disk.img#p1"]["mountable"]
    p2 = rows["disk.img#p2"]
    assert (p2["fs"], p2["offset"], p2["size"], p2["partition_type"]) == ("ext4", 2 << 20, 16 << 20, "Linux data")
    text = ok("devices", world / "disk.img").splitlines()
    assert len(text) == 4 and text[3].split()[0].endswith("disk.img#p2")


def test_devices_of_an_mbr_disk_with_logical_partitions(world):
    disk = world / "mbr.img"
    with open(disk, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["sfdisk", "-q", "--no-tell-kernel", disk], input=b"label: dos\nd1 : size=8M,type=83\n"
                   b"d2 : size=40M,type=5\nd5 : size=8M,type=83\nd6 : size=8M,type=83\n", check=True,
                   capture_output=True, env=PATHS)
    rows = doc("devices", "--json", disk)["devices"]
    assert rows[0]["table"] == "MBR"
    assert [r["partition"] for r in rows[1:]] == [1, 2, 5, 6]
    r = run("ls", "-p", 2, disk)
    assert r.returncode == 1 and "only holds other partitions" in r.stderr


def test_devices_of_this_machine():
    r = run("devices")
    assert r.returncode == 0 and r.stdout.startswith("NAME"), r.stderr
    names = [d["name"] for d in doc("devices", "--json")["devices"]]
    assert len(names) == len(set(names))
    for name in os.listdir("/sys/class/block"):
        if int(open(f"/sys/class/block/{name}/size").read()):
            assert f"/dev/{name.replace('!', '/')}" in names


def test_a_disk_with_large_sectors(world):
    """A GPT whose unit is 4096 bytes, on the device and in its image."""
    need_root()
    disk = world / "large.img"
    with open(disk, "wb") as f:
        f.truncate(64 << 20)
    made = subprocess.run(["losetup", "-f", "--show", "-b", "4096", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip("no loop devices with large sectors")
    loop = made.stdout.strip()
    try:
        subprocess.run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", loop], input=b"label: gpt\nsize=16M\n", check=True,
                       capture_output=True, env=PATHS)
        rows = doc("devices", "--json", loop)["devices"]
        assert rows[0]["table"] == "GPT" and rows[1]["size"] == 16 << 20
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)
    rows = doc("devices", "--json", disk)["devices"]
    assert rows[0]["table"] == "GPT" and rows[1]["size"] == 16 << 20


def test_errors_are_one_line(world):
    image = f"{world}/a.img"
    for args in (["ls", f"{image}:/none"], ["cat", f"{image}:/dir"], ["cat", f"{image}:/fifo"], ["cat", f"{image}:/none"],
                 ["stat", f"{image}:/none"], ["tree", f"{image}:/hello"], ["ls", "/none"], ["info", "/none"],
                 ["info", world], ["devices", "/none"], ["ls", f"{image}#p1"], ["info", "/dev/null"],
                 ["ls", "-p", "3", f"{world}/disk.img"], ["ls", f"{world}/disk.img"]):
        r = run(*args)
        assert r.returncode == 1 and len(r.stderr.splitlines()) == 1 and r.stderr.startswith("werunos: "), (args, r)
    for args in (["ls"], ["cat"], ["stat"], ["tree"], ["info"], ["dump"], ["ls", "--bogus", image], ["ls", "-p", "x", image],
                 ["info", image, "more"], ["devices", "--bogus"], ["ls", "--offset", "1Q", image]):
        r = run(*args)
        assert r.returncode == 64 and len(r.stderr.splitlines()) == 2, (args, r)


def test_a_truncated_image_is_said_to_be(world):
    short = world / "short.img"
    short.write_bytes((world / "a.img").read_bytes()[:10 << 20])
    (world / "m").mkdir()
    r = run("mount", short, world / "m")
    assert r.returncode == 1 and "cut off" in r.stderr and len(r.stderr.splitlines()) == 1


def test_a_lost_superblock_has_copies(world):
    lost = world / "lost.img"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-d", world / "src", lost, "32M"], check=True, env=PATHS)
    with open(lost, "r+b") as f:
        f.seek(1024)
        f.write(bytes(1024))
    r = run("ls", "--sb", 8193, lost)
    assert r.returncode == 0 and "hello" in r.stdout and "8193" in r.stderr
    assert doc("info", "--json", "--sb", 8193, lost)["type"] == "ext4"


def test_a_closed_pipe_ends_it_quietly(world):
    r = subprocess.run(["sh", "-c", f"'{WERUNOS}' cat '{world}/a.img:/dir/data' | head -c 1 >/dev/null"], capture_output=True)
    assert r.stderr in (b"", b"werunos: the output cannot be written: Broken pipe\n")
