"""btrfs by the command line: what every command says of a volume with subvolumes, in text and JSON, and how it fails."""
import errno
import hashlib
import json
import os
import re
import subprocess

import pytest

from mounting import WERUNOS, Unprivileged, foreground, mounts, need_root, need_tools, run, scratch, servers, wait_for

PATHS = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
MKFS = ["mkfs.btrfs", "-q", "-f", "-d", "single", "-m", "dup", "-n", "16384", "-s", "4096", "-O", "no-holes,skinny-metadata,extref",
        "-R", "free-space-tree"]
TEXT = b"a line of text that compresses\n" * 20000


def tool(*args, **kw):
    return subprocess.run([*map(str, args)], check=True, capture_output=True, text=True, env=PATHS, **kw).stdout


def ok(*args):
    r = run(*args)
    assert (r.returncode, r.stderr) == (0, ""), (args, r.stderr)
    return r.stdout


def doc(*args):
    return json.loads(ok(*args))


def one_line(r, code, *words):
    lines = r.stderr.splitlines()
    assert r.returncode == code and r.stdout == "" and len(lines) == (1 if code == 1 else 2), r
    assert lines[0].startswith("werunos")
    for w in words:
        assert str(w) in lines[0], r.stderr


def make(image, *options, mib=256):
    with open(image, "wb") as f:
        f.truncate(mib << 20)
    tool(*MKFS, *options, image)


@pytest.fixture(scope="module")
def plain():
    """A volume that mkfs filled; no root is needed for it."""
    need_tools("mkfs.btrfs")
    with scratch() as tmp:
        src = tmp / "src"
        (src / "dir/deep").mkdir(parents=True)
        (src / "hello").write_text("hello\n")
        (src / "dir/data").write_bytes(bytes(range(256)) * 5000)
        (src / "dir/.hidden").touch()
        (src / "dir/deep/x").write_text("x")
        (src / "link").symlink_to("dir/data")
        (src / "evil\x1b[2J\n").touch()
        os.mkfifo(src / "fifo")
        for name, owner in ("mine", 1), ("roots", 0), ("strange", 33):
            (src / name).write_text(name)
            (src / name).chmod(0o600)
            if not os.geteuid():
                os.chown(src / name, owner, owner)
        make(tmp / "a.img", "-L", "label", "--csum", "sha256", "--rootdir", src)
        (tmp / "m").mkdir()
        yield tmp


@pytest.fixture(scope="module")
def nest():
    """A volume whose default subvolume is /a, which has one in it; and a snapshot of /a, read-only."""
    need_root()
    need_tools("mkfs.btrfs", "btrfs", "mount")
    with scratch() as tmp:
        image, k = tmp / "n.img", tmp / "k"
        k.mkdir()
        make(image, "--csum", "xxhash")
        r = subprocess.run(["mount", "-o", "loop", image, k], capture_output=True, text=True, env=PATHS)
        if r.returncode:
            pytest.skip("the kernel does not mount btrfs here: " + r.stderr.strip())
        try:
            tool("btrfs", "subvolume", "create", k / "a")
            (k / "a/d").mkdir()
            tool("btrfs", "subvolume", "create", k / "a/d/inner")
            (k / "a/d/inner/f").write_text("in\n")
            (k / "a/f").write_text("one\n")
            tool("btrfs", "subvolume", "snapshot", "-r", k / "a", k / "snap")
            (k / "a/f").write_text("two\n")
            os.setxattr(k / "a/f", "user.one", b"1")
            # The owner rw, user 33 r, mask r: as acl(5) has it in an attribute.
            os.setxattr(k / "a/f", "system.posix_acl_access", bytes.fromhex(
                "02000000" "01000600ffffffff" "0200040021000000" "04000400ffffffff" "10000400ffffffff" "20000400ffffffff"))
            for kind in "zstd", "zlib", "lzo":
                with open(k / "a" / kind, "wb") as f:
                    tool("btrfs", "property", "set", k / "a" / kind, "compression", kind)
                    f.write(TEXT)
            with open(k / "a/sparse", "wb") as f:
                f.seek(1 << 30)
                f.write(b"end" * 3000)
            tool("btrfs", "subvolume", "set-default", k / "a")
        finally:
            tool("umount", k)
        (tmp / "m").mkdir()
        yield tmp


# ---- the reading commands ----

def test_ls(plain):
    a = f"{plain}/a.img"
    assert ok("ls", a).splitlines() == ["dir", "evil\\x1b[2J\\x0a", "fifo", "hello", "link", "mine", "roots", "strange"]
    assert ok("ls", "-a", f"{a}:/dir").split() == [".", "..", ".hidden", "data", "deep"]
    assert ok("ls", "-R", f"{a}:/dir") == "/dir:\ndata\ndeep\n\n/dir/deep:\nx\n"
    rows = {r.split()[7]: r.split() for r in ok("ls", "-l", a).splitlines()}
    assert rows["hello"][0] == "-rw-r--r--" and rows["hello"][4] == "6" and rows["fifo"][0].startswith("p")
    assert rows["link"][8:] == ["->", "dir/data"]
    entries = {e["name"]: e for e in doc("ls", "--json", a)["entries"]}
    assert entries["evil\x1b[2J\n"]["size"] == 0 and entries["link"]["target"] == "dir/data"
    assert entries["hello"]["modified"]["sec"] == int(os.stat(plain / "src/hello").st_mtime)


def test_tree(plain, nest):
    assert ok("tree", f"{plain}/a.img:/dir") == "/dir\n├── data\n└── deep\n    └── x\n"
    assert ok("tree", f"{nest}/n.img:/d") == "/d\n└── inner\n    └── f\n"
    (d,) = [e for e in doc("tree", "--json", "-o", "subvolid=5", f"{nest}/n.img")["entries"] if e["name"] == "snap"]
    # What was nested is not in the snapshot.
    assert [e for e in d["entries"] if e["name"] == "d"][0]["entries"][0]["entries"] == []


def test_cat(plain, nest):
    r = subprocess.run([WERUNOS, "cat", f"{plain}/a.img:/hello", f"{plain}/a.img:/link"], capture_output=True, check=True)
    assert r.stdout == b"hello\n" + bytes(range(256)) * 5000 and not r.stderr
    for kind in "zstd", "zlib", "lzo":
        assert subprocess.run([WERUNOS, "cat", f"{nest}/n.img:/{kind}"], capture_output=True, check=True).stdout == TEXT
    assert ok("cat", f"{nest}/n.img:/d/inner/f") == "in\n"


def test_stat(nest):
    n = f"{nest}/n.img"
    text = ok("stat", f"{n}:/f")
    assert "type: regular file\n" in text and "user.one: 1\n" in text and "system.posix_acl_access: " in text and "created: 20" in text
    d = doc("stat", "--json", f"{n}:/f")
    assert d["attributes"]["user.one"] == "1" and d["inode"] == 258 and d["generation"] > 0
    # Shown by its own number, and those of other subvolumes by numbers of this mount.
    assert doc("stat", "--json", f"{n}:/")["inode"] == 256
    assert doc("stat", "--json", f"{n}:/d/inner")["inode"] == 257 << 40 | 256
    assert "attributes" not in doc("stat", "--json", "-o", "noacl,subvol=a", f"{n}:/d")


def test_stat_extents(nest):
    kinds = lambda name: {e["kind"] for e in doc("stat", "--json", "--extents", f"{nest}/n.img:/{name}")["extents"]}
    assert kinds("f") == {"inline"} and kinds("zstd") == kinds("zlib") == kinds("lzo") == {"encoded"}
    assert kinds("sparse") == {"hole", "data"}
    assert "kind: encoded\n" in ok("stat", "--extents", f"{nest}/n.img:/zlib")
    (data,) = [e for e in doc("stat", "--json", "--extents", f"{nest}/n.img:/sparse")["extents"] if e["kind"] == "data"]
    assert data["offset"] == 1 << 30 and data["length"] == 12288 and data["device_offset"] > 0
    for e in doc("stat", "--json", "--extents", f"{nest}/n.img:/lzo")["extents"]:
        assert 0 < e["device_length"] < e["length"] and e["device_offset"] % 4096 == 0


def test_in_a_partition(plain):
    need_tools("sfdisk")
    disk = plain / "disk.img"
    with open(disk, "wb") as f:
        f.truncate(300 << 20)
    subprocess.run(["sfdisk", "-q", "--no-tell-kernel", disk], input=b"label: gpt\nsize=1M\nsize=256M\n", check=True, capture_output=True,
                   env=PATHS)
    tool("dd", f"if={plain}/a.img", f"of={disk}", "bs=1M", "seek=2", "conv=notrunc,sparse")
    for args in (f"{disk}#p2:/hello",), ("-p", 2, f"{disk}:/hello"), ("--offset", "2M", f"{disk}:/hello"):
        assert ok("cat", *args) == "hello\n"
    rows = {d["name"].rpartition("/")[2]: d for d in doc("devices", "--json", disk)["devices"]}
    p2 = rows["disk.img#p2"]
    assert (p2["fs"], p2["label"], p2["mountable"]) == ("btrfs", "label", True)
    assert re.search(r"disk.img#p2 .* btrfs +label$", ok("devices", disk), re.M)


# ---- info, dump, subvolume list ----

def test_info(plain):
    a = f"{plain}/a.img"
    d = doc("info", "--json", a)
    assert (d["type"], d["label"], d["state"], d["sector_bytes"], d["node_bytes"], d["checksums"]) == \
        ("btrfs", "label", "clean", 4096, 16384, "sha256")
    assert "no-holes" in d["features"]["incompat"] and "free-space-tree" in d["features"]["compat_ro"]
    assert [(x["devid"], x["name"]) for x in d["devices"]] == [(1, a)] and d["size_bytes"] == 256 << 20
    assert {u["use"]: u["profile"] for u in d["usage"]} == {"data": "single", "system": "DUP", "metadata": "DUP"}
    text = ok("info", a)
    for line in "type: btrfs", "label: label", f"uuid: {d['uuid']}", "    - no-holes":
        assert f"{line}\n" in text
    with open(plain / "damaged.img", "wb") as f:
        f.write(open(a, "rb").read())
        f.seek(65536 + 48)  # where the superblock says that it is
        f.write(b"\0" * 8)
    one_line(run("info", plain / "damaged.img"), 1, "damaged.img")


WORDS = ["superblock", "backup", "chunk", "devices", "root", "subvolumes", "tree 5", "tree 256", "tree -9", "inode 5 256",
         "inode 256 258", "node ROOT", "node CHUNK"]


@pytest.mark.parametrize("words", WORDS)
def test_dump(nest, words):
    n = f"{nest}/n.img"
    if words.startswith("node"):
        which = words.split()[1].lower()
        block = doc("dump", "--json", n, "superblock")[{"root": "root", "chunk": "chunk_root"}[which]]
        words = f"node {block}"
    d = doc("dump", "--json", n, *words.split())
    text = ok("dump", n, *words.split())
    assert d and [line.split(":")[0] for line in text.splitlines() if re.match(r"\w", line)] == list(d)
    assert '"error"' not in json.dumps(d)
    if words.startswith("tree 256"):
        assert re.search(r"name: sparse\n", text)


def test_dump_fails(nest):
    n = f"{nest}/n.img"
    known = "superblock, backup, chunk, devices, root, subvolumes, log; or tree ID, node BYTE, inode SUBVOLUME NUMBER"
    for words in "", "nothing", "tree", "tree 5 6", "node", "inode 5", "superblock 1":
        one_line(run("dump", n, *words.split()), 1, known)
    for words, what in (("log", "no log"), ("tree x", '"x" is not a number'), ("tree 99", "no tree 99"), ("node 1", "no chunk"),
                        ("inode 5 9999", "no inode 9999"), ("inode 999 256", "no subvolume 999"), ("inode 7 256", "no subvolume 7")):
        one_line(run("dump", n, *words.split()), 1, what)
        one_line(run("dump", "--json", n, *words.split()), 1, what)


def test_subvolume_list(nest):
    n = f"{nest}/n.img"
    rows = {s["path"]: s for s in doc("subvolume", "list", "--json", n)["subvolumes"]}
    assert set(rows) == {"", "a", "a/d/inner", "snap"} and rows[""]["id"] == 5
    assert (rows["a/d/inner"]["parent"], rows["snap"]["parent"], rows["a"]["parent"]) == (rows["a"]["id"], 5, 5)
    assert [p for p in rows if rows[p]["shown"]] == ["a"] and [p for p in rows if rows[p]["readonly"]] == ["snap"]
    assert [p for p in rows if rows[p]["snapshot"]] == ["snap"] and rows["snap"]["parent_uuid"] == rows["a"]["uuid"]
    lines = ok("subvolume", "list", n).splitlines()
    assert lines[0].split() == ["ID", "PARENT", "GEN", "FLAG", "UUID", "PATH"]
    fields = [line.split() for line in lines[1:]]
    assert [(f[0], f[3], f[4], f[5]) for f in fields] == [
        (str(s["id"]), ("*" if s["shown"] else "-") + ("r" if s["readonly"] else "-") + ("s" if s["snapshot"] else "-") + "-",
         s["uuid"], "/" + s["path"]) for s in rows.values()]
    shown = doc("subvolume", "list", "--json", "-o", "subvol=snap", n)["subvolumes"]
    assert [s["path"] for s in shown if s["shown"]] == ["snap"]


def test_subvolume_list_fails(nest, plain):
    for args in [], ["show", nest / "n.img"], ["list"], ["list", nest / "n.img", "more"], ["list", "--bogus", nest / "n.img"]:
        one_line(run("subvolume", *args), 64)
    one_line(run("subvolume", "list", "/none"), 1, "/none does not exist")
    one_line(run("subvolume", "list", "memfs:8M"), 1)


# ---- options ----

def test_which_subvolume(nest):
    n = f"{nest}/n.img"
    of = lambda *o: ok("ls", *o, n).split()
    default = ["d", "f", "lzo", "sparse", "zlib", "zstd"]
    assert of() == of("-o", "subvol=a") == of("-o", "subvol=/a") == of("-o", "subvolid=256") == default
    assert of("-o", "subvolid=5") == of("-o", "subvolid=0") == of("-o", "subvol=/") == ["a", "snap"]
    assert of("-o", "subvol=/a/d/inner") == of("-o", "subvol=a/d/inner,subvolid=257") == ["f"]
    assert ok("cat", "-o", "subvol=snap", f"{n}:/f") == "one\n" and ok("cat", f"{n}:/f") == "two\n"
    for words, why in (("subvol=nothing", 'no subvolume "nothing"'), ("subvol=a/d", '"a/d" is not a subvolume'), ("subvolid=99", "99"),
                       ("subvolid=x", "a number is wanted"), ("subvol=a,subvolid=5", "has the id 256, not 5")):
        one_line(run("ls", "-o", words, n), 1, why)


def test_words(plain):
    a = f"{plain}/a.img"
    idle = "compress=zstd:3,compress-force=lzo,ssd,nossd,space_cache=v2,discard=async,autodefrag,commit=30,max_inline=0,nodatacow,notreelog"
    rescue = "degraded,usebackuproot,nologreplay,rescue=usebackuproot:ignorebadroots:nologreplay,rescue=all"
    for words in *idle.split(","), idle, *rescue.split(","), "noacl", "acl", "barrier":
        assert ok("cat", "-o", words, f"{a}:/hello") == "hello\n", words
    for words, why in (("bogus", '"bogus" is not known'), ("bogus=1", '"bogus=1" is not known'), ("rescue=bogus", "rescue=bogus"),
                       ("degraded=1", '"degraded=1"'), ("generation=x", "a number"), ("data=journal", '"data=journal" is not known')):
        one_line(run("ls", "-o", words, a), 1, why)
        one_line(run("mount", "-o", words, a, plain / "m"), 1, why)


def test_superblocks(plain):
    a = f"{plain}/a.img"
    assert ok("cat", "--sb", 0, f"{a}:/hello") == "hello\n"
    r = run("cat", "--sb", 1, f"{a}:/hello")
    assert (r.returncode, r.stdout) == (0, "hello\n") and f"copy of the superblock is used, the one at byte {64 << 20}" in r.stderr
    one_line(run("ls", "--sb", 2, a), 1, "no superblock")
    one_line(run("ls", "--sb", 3, a), 1, "0 to 2")
    assert doc("dump", "--json", "--sb", 1, a, "superblock")["at_byte"] == 64 << 20
    now = doc("info", "--json", a)["generation"]
    assert ok("cat", "--generation", now, f"{a}:/hello") == "hello\n"
    one_line(run("ls", "--generation", now + 50, a), 1, f"generation {now + 50}")
    with open(plain / "lost.img", "wb") as f:
        f.write(open(a, "rb").read())
        f.seek(65536)
        f.write(bytes(4096))
    for command in ("ls", "info"):
        one_line(run(command, plain / "lost.img"), 1, "no file system that is known, but copy 1 of a superblock of btrfs", "--sb 1 shows")
    assert run("cat", "--sb", 1, f"{plain}/lost.img:/hello").stdout == "hello\n"
    # Damaged, it is still the volume's: the copy is used, and that is said.
    with open(plain / "lost.img", "r+b") as f:
        f.seek(65536)
        f.write(open(a, "rb").read(65536 + 4096)[65536:])
        f.seek(65536 + 1000)
        f.write(b"noise")
    r = run("cat", f"{plain}/lost.img:/hello")
    assert (r.returncode, r.stdout) == (0, "hello\n") and "copy of the superblock" in r.stderr and r.stderr.count("\n") == 1
    assert doc("info", "--json", plain / "lost.img")["superblock_copy"] == 1


# ---- a mount ----

def test_mount(nest):
    m = nest / "m"
    with foreground(nest / "n.img", m, "--ro"):
        assert "ro" in mounts()[str(m)][2]
        assert (m / "zstd").read_bytes() == TEXT and sorted(os.listdir(m)) == ["d", "f", "lzo", "sparse", "zlib", "zstd"]
        assert os.getxattr(m / "f", "user.one") == b"1" and os.listdir(m / "d/inner") == ["f"]
        fd = os.open(m / "sparse", os.O_RDONLY)
        assert os.lseek(fd, 0, os.SEEK_DATA) == 1 << 30
        os.close(fd)
        for change in (lambda: (m / "f").write_text("x"), lambda: os.mkdir(m / "x"), lambda: os.chmod(m / "f", 0o777),
                       lambda: os.unlink(m / "f"), lambda: os.setxattr(m / "f", "user.two", b"2")):
            with pytest.raises(OSError) as e:
                change()
            assert e.value.errno == errno.EROFS
    with foreground(nest / "n.img", m, "--ro", "-o", "subvol=snap"):
        assert (m / "f").read_text() == "one\n" and os.stat(m).st_ino == 256
    for _ in range(2):
        r = run("mount", "--daemon", "--ro", nest / "n.img", m)
        assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
        assert (m / "f").read_text() == "two\n"
        assert ok("umount", m) == ""
        assert not servers(nest / "n.img") and str(m) not in mounts()


def test_read_only_is_said(nest):
    m = nest / "m"
    r = run("mount", "--daemon", nest / "n.img", m)
    assert r.returncode == 0 and r.stderr.count("\n") == 1 and "shown read-only" in r.stderr
    assert "ro" in mounts()[str(m)][2]
    ok("umount", m)
    for options in ["-o", "rw"], ["-o", "rw,subvol=snap"], ["--daemon", "-o", "rw"]:
        one_line(run("mount", *options, nest / "n.img", m), 1, "can only be mounted with -o ro: ")
    assert str(m) not in mounts() and not servers(nest / "n.img")


def test_as_mount_helper(nest):
    helper = nest / "mount.werunos"
    helper.symlink_to(WERUNOS)
    r = subprocess.run([helper, nest / "n.img", nest / "m", "-o", "ro,noatime,subvol=a/d/inner,compress=zstd"], capture_output=True)
    assert (r.returncode, r.stderr) == (0, b"")
    assert os.listdir(nest / "m") == ["f"]
    subprocess.run(["umount", nest / "m"], check=True)
    wait_for(lambda: not servers(nest / "n.img"))
    # mount(8) adds rw by itself.
    r = subprocess.run([helper, nest / "n.img", nest / "m", "-o", "rw"], capture_output=True, text=True)
    assert r.returncode == 0 and "shown read-only" in r.stderr
    subprocess.run(["umount", nest / "m"], check=True)
    wait_for(lambda: not servers(nest / "n.img"))


def test_the_source_is_only_read(nest):
    before = (nest / "n.img").read_bytes()
    with foreground(nest / "n.img", nest / "m"):
        assert (nest / "m/f").read_text() == "two\n"
        # Others may read it meanwhile.
        assert ok("ls", "-o", "subvol=snap", nest / "n.img").split() == ["d", "f"]
    assert (nest / "n.img").read_bytes() == before


# ---- errors ----

def test_errors_are_one_line(plain):
    a = f"{plain}/a.img"
    for args, why in ((["ls", f"{a}:/none"], "/none"), (["cat", f"{a}:/dir"], "is a directory"), (["cat", f"{a}:/fifo"], "no content"),
                      (["cat", f"{a}:/none"], "/none"), (["stat", f"{a}:/none"], "/none"), (["tree", f"{a}:/hello"], "not a directory"),
                      (["cat", f"{a}:/hello/x"], "/hello/x"), (["ls", f"{a}#p1"], "no partition table")):
        one_line(run(*args), 1, why)
    for args in (["info"], ["dump"], ["info", a, "more"], ["ls", "--sb", "x", a], ["cat", "--device"], ["info", "--generation", a],
                 ["ls", "--bogus", a], ["mount", a], ["mount", "-o"]):
        one_line(run(*args), 64)


def test_a_truncated_image(plain):
    short = plain / "short.img"
    short.write_bytes((plain / "a.img").read_bytes()[:20 << 20])
    for command in ["ls", short], ["mount", short, plain / "m"]:
        one_line(run(*command), 1, f"short.img is cut off, it has {20 << 20} of {256 << 20} bytes")


def test_refused_by_name(plain):
    """A feature that nobody knows yet, in each superblock."""
    odd = plain / "odd.img"
    odd.write_bytes((plain / "a.img").read_bytes())
    with open(odd, "r+b") as f:
        for at in 64 << 10, 64 << 20:
            f.seek(at)
            block = bytearray(f.read(4096))
            block[188 + 5] |= 1
            block[:32] = hashlib.sha256(block[32:]).digest()
            f.seek(at)
            f.write(block)
    for command in ["ls", odd], ["mount", odd, plain / "m"]:
        one_line(run(*command), 1, "features that werunos cannot read")
    assert "features" in doc("info", "--json", odd)["refused"]


def test_a_user(plain):
    u = Unprivileged(plain)
    (plain / "a.img").chmod(0o644)
    r = u.sh('"$W" mount --daemon --ro a.img "$M"; cd "$M"; cat hello mine roots; ! cat strange 2>/dev/null; stat -c %u mine roots strange;'
             ' ls dir; cd /; "$W" umount "$M"; test ! -e "$M/hello"')
    assert (r.returncode, r.stderr) == (0, ""), r
    assert r.stdout == "hello\nmineroots1\n1\n65534\ndata\ndeep\n"
    r = u.sh('"$W" ls a.img:/dir; "$W" cat a.img:/strange; "$W" info a.img | head -n 2 | tail -n 1')
    assert (r.returncode, r.stdout) == (0, "data\ndeep\nstrangetype: btrfs\n"), r.stderr
    (plain / "a.img").chmod(0o600)
    try:
        for command in "ls", "info", "subvolume list":
            one_line(u.sh(f'"$W" {command} a.img'), 1, "no permission to read")
        one_line(u.sh('"$W" mount --ro a.img "$M"'), 1, "no permission to read")
    finally:
        (plain / "a.img").chmod(0o644)
