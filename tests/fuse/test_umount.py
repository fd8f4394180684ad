"""werunos umount: it returns when the server is gone, or says why not."""
import fcntl
import os
import signal
import subprocess

import pytest

from mounting import WERUNOS, foreground, mounts, need_tools, run, scratch, wait_for
from test_mount import Unprivileged


@pytest.fixture
def tmp():
    with scratch() as path:
        (path / "m").mkdir()
        yield path


def test_waits_for_the_server(tmp):
    with foreground("memfs:64M", tmp / "m") as server:
        (tmp / "m/a").write_bytes(b"x" * (20 << 20))
        r = run("umount", tmp / "m")
        assert (r.returncode, r.stderr) == (0, "")
        # Gone but for its parent's wait.
        assert open(f"/proc/{server.pid}/stat").read().rpartition(")")[2].split()[0] == "Z"
        assert str(tmp / "m") not in mounts()
        assert server.wait(1) == 0


def test_says_when_it_is_in_use(tmp):
    with foreground("memfs:16M", tmp / "m") as server:
        with open(tmp / "m/a", "w"):
            r = run("umount", tmp / "m")
            assert r.returncode == 1 and "in use" in r.stderr and r.stderr.count("\n") == 1
            assert server.poll() is None and str(tmp / "m") in mounts()
            lazy = subprocess.Popen([WERUNOS, "umount", "--lazy", tmp / "m"])
            wait_for(lambda: str(tmp / "m") not in mounts())
            assert lazy.poll() is None
        assert lazy.wait(10) == 0
        assert server.wait(10) == 0


def test_what_is_no_mount(tmp):
    assert "not mounted" in run("umount", tmp).stderr
    assert run("umount", tmp).returncode == 1
    assert "not a mount of werunos" in run("umount", "/proc").stderr
    assert run("umount", tmp / "none").returncode == 1
    assert run("umount").returncode == 64
    assert run("umount", "--soon", tmp).returncode == 64


def test_a_dead_server(tmp):
    with foreground("memfs:16M", tmp / "m") as server:
        server.send_signal(signal.SIGKILL)
        server.wait()
        assert run("umount", tmp / "m").returncode == 0
        assert str(tmp / "m") not in mounts()


def test_odd_names(tmp):
    odd = tmp / "a b\tc\\040"
    odd.mkdir()
    with foreground("memfs:16M", odd):
        r = run("umount", odd)
        assert (r.returncode, r.stderr) == (0, "")


def test_by_a_user(tmp):
    u = Unprivileged(tmp)
    r = u.sh('"$W" mount --daemon memfs:19M "$M"; echo hi >"$M/a"; sleep 60 <"$M/a" & sleep 0.3; ! "$W" umount "$M"; kill $!;'
             ' wait $! || :; "$W" umount "$M"; pgrep -f "mount --daemon memfs:19M $M" || echo gone; ! grep "$M" /proc/mounts')
    assert (r.returncode, r.stdout) == (0, "gone\n")
    assert "in use" in r.stderr


def test_after_a_shutdown(tmp):
    with foreground("memfs:16M", tmp / "m") as server:
        (tmp / "m/a").write_text("x")
        fd = os.open(tmp / "m", os.O_RDONLY)
        fcntl.ioctl(fd, 0x8004587D, bytes(4))
        os.close(fd)
        assert (tmp / "m/a").read_text() == "x"
        with pytest.raises(OSError):
            (tmp / "m/b").write_text("y")
        r = run("umount", tmp / "m")
        assert r.returncode == 1 and "stopped" in r.stderr
        server.wait(10)


def test_a_shutdown_is_a_power_cut(tmp):
    need_tools("mke2fs", "e2fsck", "dumpe2fs")
    image = tmp / "img"
    subprocess.run(["truncate", "-s", "64M", image], check=True)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^orphan_file", image], check=True)
    with foreground(image, tmp / "m") as server:
        with open(tmp / "m/durable", "w") as f:
            f.write("x" * 5000)
            f.flush()
            os.fsync(f.fileno())
        (tmp / "m/lost").write_text("y" * 5000)
        fd = os.open(tmp / "m", os.O_RDONLY)
        fcntl.ioctl(fd, 0x8004587D, bytes(4))
        os.close(fd)
        with pytest.raises(OSError):
            (tmp / "m/later").write_text("z")
        assert run("umount", tmp / "m").returncode == 1
        server.wait(10)
    assert "needs_recovery" in subprocess.run(["dumpe2fs", "-h", image], capture_output=True, text=True).stdout
    with foreground(image, tmp / "m"):
        assert (tmp / "m/durable").read_text() == "x" * 5000
        assert not (tmp / "m/lost").exists() and not (tmp / "m/later").exists()
        (tmp / "m/again").write_text("w")
    r = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout
    assert "with errors" not in subprocess.run(["dumpe2fs", "-h", image], capture_output=True, text=True).stdout


def test_trim(tmp):
    need_tools("mke2fs", "e2fsck", "fstrim")
    image = tmp / "img"
    subprocess.run(["truncate", "-s", "64M", image], check=True)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^orphan_file", image], check=True)
    with foreground(image, tmp / "m"):
        (tmp / "m/kept").write_bytes(b"k" * (3 << 20))
        (tmp / "m/a").write_bytes(os.urandom(20 << 20))
        os.unlink(tmp / "m/a")
        run("umount", tmp / "m")
    before = os.stat(image).st_blocks
    with foreground(image, tmp / "m"):
        r = subprocess.run(["fstrim", "-v", tmp / "m"], capture_output=True, text=True)
        assert r.returncode == 0 and "trimmed" in r.stdout, r.stderr
        assert (tmp / "m/kept").read_bytes() == b"k" * (3 << 20)
    assert os.stat(image).st_blocks < before - (15 << 20) // 512
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)
