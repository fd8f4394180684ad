"""Multiple mount protection: the block that says who has the volume, as another machine would see and write it."""
import contextlib
import hashlib
import os
import signal
import struct
import subprocess
import threading
import time

import pytest

from mounting import WERUNOS, foreground, need_root, need_tools, run, scratch, unmount, wait_for

BASE = "none,has_journal,extent,64bit,filetype,dir_index,flex_bg,sparse_super,large_file,extra_isize,mmp"
CLEAN, FSCK = 0xff4d4d50, 0xe24d4d50
CHECK_S = 5


class Block:
    """The block in the image: sequence number, time and name, as somebody else may write them."""

    def __init__(self, image):
        self.image = image
        with open(image, "rb") as f:
            f.seek(1024)
            d = f.read(1024)
        self.bytes = 1024 << struct.unpack_from("<I", d, 24)[0]
        self.at = struct.unpack_from("<Q", d, 0x168)[0] * self.bytes

    def read(self):
        with open(self.image, "rb") as f:
            f.seek(self.at)
            return f.read(1024)

    def seq(self):
        return struct.unpack_from("<I", self.read(), 4)[0]

    def node(self):
        return self.read()[16:80].rstrip(b"\0").decode()

    def write(self, seq, node=b"elsewhere"):
        d = bytearray(self.read())
        struct.pack_into("<IQ64s32s", d, 4, seq, 86400 * 365, node, b"sdx7")
        with open(self.image, "r+b") as f:
            f.seek(self.at)
            f.write(d)

    @contextlib.contextmanager
    def moving(self):
        """Another machine that has it mounted."""
        stop = threading.Event()

        def work():
            seq = 1
            while not stop.wait(0.2):
                seq += 1
                self.write(seq)

        self.write(1)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def volume():
    need_tools("mke2fs", "e2fsck")
    with scratch() as path:
        (path / "m").mkdir()
        image = path / "img"
        subprocess.run(["truncate", "-s", "24M", image], check=True)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-E", "mmp_update_interval=1", "-O", BASE, image], check=True)
        yield path


def digest(image):
    """Of all but the block."""
    block = Block(image)
    with open(image, "rb") as f:
        data = bytearray(f.read())
    data[block.at:block.at + block.bytes] = bytes(block.bytes)
    return hashlib.sha256(data).hexdigest()


def clean(image):
    r = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout


def test_is_taken_kept_and_given_back(volume):
    image, top = volume / "img", volume / "m"
    block = Block(image)
    assert block.seq() == CLEAN
    begin = time.monotonic()
    with foreground(image, top, "-o", "rw"):
        assert time.monotonic() - begin < 3, "a clean number is waited for"
        first = block.seq()
        assert first not in (CLEAN, FSCK) and block.node() == os.uname().nodename
        (top / "a").write_text("a")
        wait_for(lambda: block.seq() != first, 3)
    assert block.seq() == CLEAN
    clean(image)
    with foreground(image, top, "-o", "ro"):
        assert block.seq() == CLEAN and (top / "a").read_text() == "a"


def break_free_blocks(image):
    """Something to mend that no block shows but the superblock."""
    with open(image, "r+b") as f:
        f.seek(1024 + 12)
        f.write(struct.pack("<I", 1))


@pytest.mark.parametrize("how", ["rw", "ro", "label", "fsck"])
def test_another_machine_is_seen(volume, how):
    image, block = volume / "img", Block(volume / "img")
    words = {"rw": ["mount", "-o", "rw", image, volume / "m"], "ro": ["mount", "-o", "ro", image, volume / "m"],
             "label": ["label", image, "new"], "fsck": ["fsck", "-f", "-y", image]}[how]
    if how == "fsck":
        break_free_blocks(image)
    with block.moving():
        before = digest(image)
        r = run(*words)
        assert r.returncode
        assert 'machine "elsewhere", device "sdx7"' in r.stderr and "1971-01-01" in r.stderr, (r.stdout, r.stderr)
        assert digest(image) == before


def test_check_is_seen(volume):
    image = volume / "img"
    Block(image).write(FSCK)
    r = run("mount", "-o", "rw", image, volume / "m")
    assert r.returncode and "is being checked on" in r.stderr and "clear_mmp" in r.stderr


def test_dead_machine_is_waited_for(volume):
    image, top = volume / "img", volume / "m"
    Block(image).write(77)
    begin = time.monotonic()
    server = subprocess.Popen([WERUNOS, "mount", "-o", "rw", str(image), str(top)], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: os.path.ismount(top), 40)
        # Once to see that the number stands still, once to see that nobody else had waited for that.
        assert time.monotonic() - begin >= 2 * (2 * CHECK_S + 1)
        (top / "a").write_text("a")
    finally:
        unmount(top)
        server.wait(20)
    assert Block(image).seq() == CLEAN
    clean(image)


@pytest.mark.parametrize("how", ["--fix", "--dry-run"])
def test_check_waits_for_the_dead_once_and_for_its_like_once(volume, how):
    image, undo = volume / "img", volume / "undo"
    break_free_blocks(image)
    Block(image).write(77)
    before = image.read_bytes()
    begin = time.monotonic()
    r = run("fsck", "-f", "-y", *(["--undo", undo] if how == "--fix" else [how]), image)
    waits = (time.monotonic() - begin) / (2 * CHECK_S + 1)
    assert r.returncode == 1, (r.stdout, r.stderr)
    if how == "--dry-run":
        assert 1 <= waits < 1.8 and image.read_bytes() == before
        return
    assert 2 <= waits < 2.8
    assert Block(image).seq() == CLEAN
    clean(image)
    r = run("undo", undo, image)
    assert r.returncode == 0 and image.read_bytes() == before, r.stderr


def refused(path):
    try:
        with open(path, "w") as f:
            f.write("x" * 100000)
            f.flush()
            os.fsync(f.fileno())
    except OSError:
        return True
    return False


def test_taken_by_another(volume):
    """Nothing is written from the moment when the other's number is found."""
    image, top = volume / "img", volume / "m"
    block = Block(image)
    server = subprocess.Popen([WERUNOS, "mount", "-o", "rw", str(image), str(top)], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: os.path.ismount(top))
        (top / "a").write_text("a")
        block.write(4711)
        wait_for(lambda: refused(top / "b"), 5)
        before = digest(image)
        assert refused(top / "c")
    finally:
        unmount(top)
        server.wait(20)
    assert digest(image) == before and block.seq() == 4711
    assert 'was taken meanwhile by machine "elsewhere", device "sdx7"' in server.stderr.read()


@pytest.mark.parametrize("stolen", [False, True])
def test_late(volume, stolen):
    """A program that was stopped for longer than others wait: before anything else is written, the number is looked at."""
    image, top = volume / "img", volume / "m"
    block = Block(image)
    server = subprocess.Popen([WERUNOS, "mount", "-o", "rw", str(image), str(top)], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: os.path.ismount(top))
        with open(top / "a", "w") as f:
            f.write("a" * 5000)
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(CHECK_S + 1)
        if stolen:
            block.write(4711)
        before = digest(image)
        os.kill(server.pid, signal.SIGCONT)
        if stolen:
            assert refused(top / "b")
        else:
            (top / "b").write_text("b")
    finally:
        os.kill(server.pid, signal.SIGCONT)
        unmount(top)
        server.wait(20)
    if stolen:
        assert digest(image) == before and block.seq() == 4711
    else:
        assert block.seq() == CLEAN
        clean(image)


def test_kernel_and_we_see_each_other(volume):
    need_root()
    image, top, other = volume / "img", volume / "m", volume / "k"
    other.mkdir()
    with foreground(image, top, "-o", "rw"):
        r = subprocess.run(["mount", "-o", "loop", image, other], capture_output=True, text=True)
        if not r.returncode:
            unmount(other)
        assert r.returncode
    subprocess.run(["mount", "-o", "loop", image, other], check=True)
    try:
        (other / "k").write_text("k")
        # The image itself is locked; another name for its bytes is not: a device over it.
        dev = subprocess.run(["losetup", "--show", "-f", image], capture_output=True, text=True, check=True).stdout.strip()
        try:
            r = run("mount", "-o", "rw", dev, top)
        finally:
            subprocess.run(["losetup", "-d", dev])
        assert r.returncode and f'machine "{os.uname().nodename}", device "loop' in r.stderr, r.stderr
    finally:
        unmount(other)
    with foreground(image, top, "-o", "rw"):
        assert (top / "k").read_text() == "k"
    clean(image)
