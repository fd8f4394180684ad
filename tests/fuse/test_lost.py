"""What a mount took and could not write later is told to each who has the file open, once: its image lies where no room is left."""
import contextlib
import errno
import os
import subprocess

import pytest

from mounting import foreground, need_root, need_tools, scratch


@pytest.fixture
def place():
    """A mount, and a directory beside its image which takes the room that is left."""
    need_root()
    need_tools("mke2fs", "e2fsck")
    with scratch() as path:
        (path / "m").mkdir()
        (path / "small").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20M", "small", path / "small"], check=True)
        try:
            image = path / "small/img"
            subprocess.run(["truncate", "-s", "64M", image], check=True)
            subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-J", "size=4", "-N", "512", "-E",
                            "nodiscard,lazy_itable_init=0,lazy_journal_init=0", image], check=True)
            with foreground(image, path / "m"):
                yield path
            subprocess.run(["e2fsck", "-fn", image], check=True, stdout=subprocess.DEVNULL)
        finally:
            subprocess.run(["umount", path / "small"], check=True)


def take_the_room(path):
    with open(path / "small/rest", "wb", buffering=0) as f, pytest.raises(OSError):
        while True:
            f.write(bytes(4096))


def hears(fd):
    try:
        os.fsync(fd)
    except OSError as e:
        assert e.errno in (errno.ENOSPC, errno.EIO), e
        return True
    return False


@pytest.mark.parametrize("length", [5, 256 << 10])
def test_each_hears_once(place, length):
    name = place / "m/file"
    with contextlib.ExitStack() as fds:
        def opened(how):
            fd = os.open(name, how | os.O_CREAT)
            fds.callback(os.close, fd)
            return fd

        writer = opened(os.O_RDWR)
        others = [opened(how) for how in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY)]
        os.write(writer, bytes(4096))
        os.fsync(writer)
        # The volume's own blocks that a commit writes have their place.
        take_the_room(place)
        assert os.write(writer, b"x" * length) == length
        assert [hears(fd) for fd in (others[0], writer, *others[1:])] == [True] * 4
        later = opened(os.O_RDWR)
        assert [hears(fd) for fd in (writer, *others, later)] == [False] * 5
        assert os.fstat(writer).st_size == 4096
        os.unlink(place / "small/rest")
    assert name.read_bytes() == bytes(4096)
    with open(name, "ab") as f:
        f.write(b"y" * length)
        f.flush()
        os.fsync(f.fileno())
    assert name.read_bytes() == bytes(4096) + b"y" * length
