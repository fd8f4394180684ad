"""A full volume through the mount: who needed the space is told, and what was accepted is there."""
import errno
import os
import subprocess

import pytest

from mounting import foreground, need_tools, run, scratch


@pytest.fixture(params=["-O ^orphan_file", "-O ^orphan_file -b 1024", "-O ^orphan_file -b 4096 -N 200",
                        "-O ^orphan_file,bigalloc -C 16384", "-O ^orphan_file -b 16384"])
def image(request):
    need_tools("mke2fs", "e2fsck")
    with scratch() as path:
        (path / "m").mkdir()
        subprocess.run(["truncate", "-s", "24M", path / "img"], check=True)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", *request.param.split(), path / "img"],
                       check=True)
        yield path


def content(i):
    return (b"%06d " % i) * (100 + i * 37 % 900)


def fill(top, first):
    """Files until one does not fit; what of each was accepted."""
    accepted = {}
    for i in range(first, first + 100000):
        name, data, done = top / f"f{i}", content(i), 0
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT)
        except OSError as e:
            assert e.errno == errno.ENOSPC
            return accepted
        try:
            while done < len(data):
                done += os.write(fd, data[done:done + 1000])
        except OSError as e:
            assert e.errno == errno.ENOSPC
            return accepted
        finally:
            accepted[i] = done
            os.close(fd)


def check(top, accepted):
    for i, done in accepted.items():
        assert (top / f"f{i}").read_bytes() == content(i)[:done], i


def test_small_files(image):
    top = image / "m"
    with foreground(image / "img", top):
        accepted = fill(top, 0)
        assert len(accepted) > 100
        check(top, accepted)
        for turn in range(3):
            # What is deleted can be used at once.
            for i in list(accepted)[turn::3]:
                os.unlink(top / f"f{i}")
                del accepted[i]
            more = fill(top, 200000 * (turn + 1))
            assert len(more) > 10
            accepted.update(more)
        check(top, accepted)
        r = run("umount", top)
        assert (r.returncode, r.stderr) == (0, "")
    r = subprocess.run(["e2fsck", "-fn", image / "img"], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout
    with foreground(image / "img", top):
        check(top, accepted)


def test_with_writeback_fsync_says_so(image):
    top = image / "m"
    with foreground(image / "img", top, "-o", "writeback"):
        fd = os.open(top / "big", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError) as e:
            for _ in range(60):
                os.write(fd, bytes(1 << 20))
            os.fsync(fd)
        assert e.value.errno == errno.ENOSPC
        os.close(fd)
        os.unlink(top / "big")
        (top / "small").write_bytes(b"s" * 100000)
        fd = os.open(top / "small", os.O_RDWR)
        os.fsync(fd)
        os.close(fd)
        run("umount", top)
    subprocess.run(["e2fsck", "-fn", image / "img"], check=True, capture_output=True)
    with foreground(image / "img", top):
        assert (top / "small").read_bytes() == b"s" * 100000
