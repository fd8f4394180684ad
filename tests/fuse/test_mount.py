"""werunos mount: coming, going, options, and what it says when it cannot."""
import contextlib
import errno
import fcntl
import os
import re
import signal
import stat
import subprocess
import time

import pytest

from mounting import (USER, WERUNOS, Unprivileged, end, foreground, mounts, need_fuse, need_root, need_tools, run, scratch, servers,
                      unmount, wait_for)


@pytest.fixture
def tmp():
    with scratch() as path:
        (path / "m").mkdir()
        yield path


# ---- coming and going ----

def test_shown_as_what_it_is(tmp):
    with foreground("memfs:16M", tmp / "m"):
        source, kind, options, superopts = mounts()[str(tmp / "m")]
        assert (source, kind) == ("memfs:16M", "fuse.werunos")
        assert {"rw", "nosuid", "nodev"} <= set(options)
        assert "default_permissions" in superopts
    assert str(tmp / "m") not in mounts()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unmounts(tmp, sig):
    with foreground("memfs:16M", tmp / "m") as server:
        (tmp / "m/a").write_text("x")
        server.send_signal(sig)
        assert server.wait(10) == 0
        assert server.stderr.read() == ""
        assert str(tmp / "m") not in mounts()


def test_a_signal_detaches_a_mount_in_use(tmp):
    with foreground("memfs:16M", tmp / "m") as server:
        with open(tmp / "m/a", "w+") as f:
            server.send_signal(signal.SIGTERM)
            wait_for(lambda: str(tmp / "m") not in mounts())
            f.write("served to the end")
            f.flush()
            os.fsync(f.fileno())
            f.seek(0)
            assert f.read() == "served to the end"
            assert server.poll() is None
        assert server.wait(10) == 0
        assert "in use" in server.stderr.read()


def test_a_second_signal_cuts_off(tmp):
    with foreground("memfs:16M", tmp / "m") as server:
        with open(tmp / "m/a", "w") as f:
            server.send_signal(signal.SIGTERM)
            wait_for(lambda: str(tmp / "m") not in mounts())
            server.send_signal(signal.SIGINT)
            assert server.wait(10) == 0
            assert "cut off" in server.stderr.read()
            with pytest.raises(OSError) as e:
                os.write(f.fileno(), b"x")
            assert e.value.errno == errno.ENOTCONN
            with contextlib.suppress(OSError):
                f.close()


@pytest.mark.parametrize("command", [["umount"], ["fusermount3", "-u"]])
def test_ends_when_unmounted(tmp, command):
    with foreground("memfs:16M", tmp / "m") as server:
        subprocess.run([*command, tmp / "m"], check=True)
        assert server.wait(10) == 0


def test_daemon_is_ready_when_it_returns(tmp):
    need_fuse()
    for _ in range(5):
        r = run("mount", "--daemon", "memfs:16M", tmp / "m")
        assert (r.returncode, r.stdout, r.stderr) == (0, "", "")
        (tmp / "m/a").write_text("x")
        assert os.listdir(tmp / "m") == ["a"]
        subprocess.run(["umount", tmp / "m"], check=True)


def test_daemon_leaves_the_terminal_and_the_directory(tmp):
    need_fuse()
    r = run("mount", "--daemon", "memfs:17M", tmp / "m", cwd=tmp)
    assert r.returncode == 0
    (pid,) = servers("memfs:17M")
    for fd in 0, 1, 2:
        assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    end(pid)
    wait_for(lambda: not servers("memfs:17M"))


def test_daemon_reports_errors_to_its_parent(tmp):
    r = run("mount", "--daemon", tmp / "nothing", tmp / "m")
    assert r.returncode == 1
    assert r.stderr == f"werunos: {tmp}/nothing does not exist\n"


def test_a_killed_server_leaves_a_mount_that_can_be_cleared(tmp):
    with foreground("memfs:16M", tmp / "m") as server:
        server.kill()
        server.wait()
        r = run("mount", "memfs:16M", tmp / "m")
        assert r.returncode == 1 and "fusermount3 -u" in r.stderr
        subprocess.run(["fusermount3", "-u", tmp / "m"], check=True)


def test_two_mounts_of_one_process_name_do_not_meet(tmp):
    (tmp / "n").mkdir()
    with foreground("memfs:16M", tmp / "m"), foreground("memfs:16M", tmp / "n"):
        (tmp / "m/a").write_text("1")
        assert os.listdir(tmp / "n") == []


def test_as_mount_helper(tmp):
    need_fuse()
    helper = tmp / "mount.werunos"
    helper.symlink_to(WERUNOS)
    r = subprocess.run([helper, "memfs:18M", tmp / "m", "-n", "-o", "rw,noatime,x-test"], capture_output=True)
    assert (r.returncode, r.stderr) == (0, b"")
    assert "noatime" in mounts()[str(tmp / "m")][2]
    subprocess.run(["umount", tmp / "m"], check=True)
    assert subprocess.run([helper, "-f", "memfs:18M", tmp / "m"]).returncode == 0
    assert str(tmp / "m") not in mounts()


# ---- options ----

def test_read_only(tmp):
    with foreground("memfs:16M", tmp / "m", "--ro"):
        assert "ro" in mounts()[str(tmp / "m")][2]
        with pytest.raises(OSError) as e:
            (tmp / "m/a").write_text("x")
        assert e.value.errno == errno.EROFS
        assert os.listdir(tmp / "m") == []


def test_flags_reach_the_kernel(tmp):
    with foreground("memfs:16M", tmp / "m", "-o", "noexec,nodev,nosuid,noatime,sync,dirsync,nodiratime,nofail"):
        assert {"noexec", "nodev", "nosuid", "noatime", "nodiratime"} <= set(mounts()[str(tmp / "m")][2])
        assert {"sync", "dirsync"} <= set(mounts()[str(tmp / "m")][3] + mounts()[str(tmp / "m")][2])


def test_reads_far_ahead_where_it_may(tmp):
    need_root()
    with foreground("memfs:16M", tmp / "m"):
        dev = os.stat(tmp / "m").st_dev
        knob = f"/sys/class/bdi/{os.major(dev)}:{os.minor(dev)}/read_ahead_kb"
        wait_for(lambda: int(open(knob).read()) == (4096 if os.access(knob, os.W_OK) else 128))


def test_owner_and_masks(tmp):
    need_root()
    with foreground("memfs:16M", tmp / "m", "-o", "uid=77,gid=78,fmask=0137,dmask=027"):
        st = os.stat(tmp / "m")
        assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (77, 78, 0o750)


def test_pairs(tmp):
    need_root()
    with foreground("memfs:16M", tmp / "m", "--map", "uid:0=4000", "-o", "map=uid:7=0"):
        os.mkdir(tmp / "m/d")
        st = os.stat(tmp / "m/d")
        assert st.st_uid == 0
        os.chown(tmp / "m/d", 4000, -1)
        assert os.stat(tmp / "m/d").st_uid == 4000
        with pytest.raises(OSError) as e:
            os.chown(tmp / "m/d", 5, -1)
        assert e.value.errno == errno.EOVERFLOW


def test_statistics_and_log(tmp):
    log = tmp / "log"
    with foreground("memfs:16M", tmp / "m", "--log", log, "--debug") as server:
        (tmp / "m/a").write_text("x")
        server.send_signal(signal.SIGUSR1)
        wait_for(lambda: "FUSE requests" in log.read_text())
        assert server.poll() is None
    with foreground("memfs:16M", tmp / "m", "--stats") as server:
        server.send_signal(signal.SIGINT)
        server.wait(10)
        assert "FUSE requests" in server.stderr.read()


# ---- what it says when it cannot ----

def one_line(r, code, *words):
    assert r.returncode == code, r.stderr
    lines = r.stderr.splitlines()
    assert len(lines) == (1 if code == 1 else 2), r.stderr
    for word in words:
        assert str(word) in lines[0], r.stderr
    assert r.stdout == ""


def test_bad_sources(tmp):
    m = tmp / "m"
    (tmp / "empty").touch()
    (tmp / "text").write_text("no file system\n" * 1000)
    (tmp / "fifo").touch()
    os.remove(tmp / "fifo")
    os.mkfifo(tmp / "fifo")
    one_line(run("mount", tmp / "none", m), 1, tmp / "none", "does not exist")
    one_line(run("mount", tmp, m), 1, tmp, "is a directory")
    one_line(run("mount", tmp / "empty", m), 1, "empty is empty")
    one_line(run("mount", tmp / "text", m), 1, "no file system that is known")
    one_line(run("mount", tmp / "fifo", m), 1, "neither a file nor a block device")
    one_line(run("mount", "/dev/null", m), 1, "neither a file nor a block device")
    one_line(run("mount", "-p", 1, tmp / "text", m), 1, "has no partition table")
    one_line(run("mount", f"{tmp}/text#p2", m), 1, "has no partition table")
    one_line(run("mount", "--offset", "1M", tmp / "text", m), 1, "beyond the end")
    one_line(run("mount", "memfs:lots", m), 1, "size")


def test_bad_mount_points(tmp):
    (tmp / "file").touch()
    one_line(run("mount", "memfs:16M", tmp / "none"), 1, "does not exist", "mkdir")
    one_line(run("mount", "memfs:16M", tmp / "file"), 1, "not a directory")


def test_bad_usage(tmp):
    one_line(run("mount"), 64, "source")
    one_line(run("mount", "memfs:16M"), 64, "directory")
    one_line(run("mount", "memfs:16M", tmp / "m", "x"), 64)
    one_line(run("mount", "--bogus", "memfs:16M", tmp / "m"), 64, "--bogus")
    one_line(run("mount", "-o", "bogus", "memfs:16M", tmp / "m"), 1, '"bogus" is not known')
    one_line(run("mount", "-o", "ro,uid=x", "memfs:16M", tmp / "m"), 64, "uid")
    one_line(run("mount", "-p", "1", "--offset", "4096", "memfs:16M", tmp / "m"), 64, "exclude")
    one_line(run("mount", "-p"), 64, "-p")
    assert run("bogus").returncode == 64
    assert run().returncode == 64
    assert run("--version").stdout.split()[0] == "werunos"
    assert run("help").returncode == 0
    assert run("help", "mount").returncode == 0


def test_each_command_helps():
    names = re.findall(r"^  (\S+) ", run("help").stdout, re.M)
    assert len(names) > 20
    for name in names:
        r = run(name, "--help")
        assert (r.returncode, r.stderr) == (0, "") and r.stdout.startswith(f"usage: werunos {name} ")


@pytest.mark.parametrize("make,words", [
    (["mkswap"], ["swap space"]),
    (["mkfs.minix"], ["a minix file system"]),
    (b"LUKS\xba\xbe\0\1", ["a LUKS volume", "cryptsetup"]),
])
def test_foreign_volumes_are_named(tmp, make, words):
    image = tmp / "image"
    with open(image, "wb") as f:
        f.truncate(128 << 20)
        if isinstance(make, bytes):
            f.write(make)
    if isinstance(make, list):
        need_tools(make[0])
        subprocess.run([*make, image], check=True, capture_output=True,
                       env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    one_line(run("mount", image, tmp / "m"), 1, *words)


def test_partitions(tmp):
    need_tools("sfdisk")
    image = tmp / "disk"
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["sfdisk", "-q", "--no-tell-kernel", image], input=b"label: gpt\nsize=8MiB\nsize=8MiB\n", check=True, capture_output=True)
    one_line(run("mount", image, tmp / "m"), 1, "choose one with -p", "1, 2")
    one_line(run("mount", "-p", 3, image, tmp / "m"), 1, "has no partition 3", "1, 2")
    one_line(run("mount", f"{image}#p3", tmp / "m"), 1, "has no partition 3", "1, 2")
    one_line(run("mount", "-p", 2, image, tmp / "m"), 1, "no file system that is known")
    os.truncate(image, 10 << 20)
    r = run("mount", "-p", 2, image, tmp / "m")
    one_line(r, 1, image)


def test_below_its_own_mount_point(tmp):
    (tmp / "m/image").write_bytes(b"\0" * 65536)
    one_line(run("mount", tmp / "m/image", tmp / "m"), 1, "below the mount point")


def test_locks(tmp):
    image = tmp / "image"
    image.write_bytes(b"\0" * 65536)
    with open(image, "r+b") as f:
        fcntl.lockf(f, fcntl.LOCK_SH)
        one_line(run("mount", image, tmp / "m"), 1, "no file system that is known")
        fcntl.lockf(f, fcntl.LOCK_EX)
        one_line(run("mount", "--ro", image, tmp / "m"), 1, "in use by another program")
        fcntl.lockf(f, fcntl.LOCK_UN)
        one_line(run("mount", image, tmp / "m"), 1, "no file system that is known")


def test_loop_devices(tmp):
    need_root()
    need_tools("losetup")
    image = tmp / "image"
    image.write_bytes(b"\0" * (1 << 20))
    for mode, words in ("", "detach"), ("-r", "no file system"):
        made = subprocess.run(["losetup", "-f", "--show", *mode.split(), image], capture_output=True, text=True)
        if made.returncode:
            pytest.skip("no loop devices")
        loop = made.stdout.strip()
        try:
            one_line(run("mount", image, tmp / "m"), 1, words)
            one_line(run("mount", "--ro", image, tmp / "m"), 1, words)
        finally:
            subprocess.run(["losetup", "-d", loop], check=True)


def test_mounted_devices(tmp):
    need_root()
    need_tools("losetup", "mkfs.ext4")
    image = tmp / "image"
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    made = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True)
    if made.returncode:
        pytest.skip("no loop devices")
    loop = made.stdout.strip()
    (tmp / "k").mkdir()
    try:
        for mode, words in ("rw", "unmount that first"), ("ro", None):
            subprocess.run(["mount", "-o", mode, loop, tmp / "k"], check=True)
            try:
                r = run("mount", "--daemon", "--ro", loop, tmp / "m")
                if words:
                    one_line(r, 1, words)
                else:
                    assert "unmount that first" not in r.stderr
                    unmount(tmp / "m")
            finally:
                subprocess.run(["umount", tmp / "k"], check=True)
    finally:
        wait_for(lambda: not servers(loop))
        subprocess.run(["losetup", "-d", loop], check=True)


def test_no_permission(tmp):
    need_root()
    need_tools("setpriv")
    image = tmp / "image"
    image.write_bytes(b"\0" * 65536)
    image.chmod(0o600)
    as_user = ["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
    program = tmp / "werunos"
    program.write_bytes(open(WERUNOS, "rb").read())
    program.chmod(0o755)
    r = subprocess.run([*as_user, program, "mount", image, tmp / "m"], capture_output=True, text=True)
    one_line(r, 1, "no permission to read", image)
    image.chmod(0o644)
    r = subprocess.run([*as_user, program, "mount", image, tmp / "m"], capture_output=True, text=True)
    one_line(r, 1, "no file system that is known")


# ---- an ordinary user ----

def test_user_mounts_and_unmounts(tmp):
    u = Unprivileged(tmp)
    r = u.sh('"$W" mount --daemon memfs:19M "$M"; cd "$M"; echo hi >a; mkdir d; chmod 700 d; cat a; stat -c "%u %a" . d a;'
             ' cd /; fusermount3 -u "$M"; test ! -e "$M/a"')
    assert (r.returncode, r.stderr) == (0, "")
    assert r.stdout.split("\n") == ["hi", f"{USER} 755", f"{USER} 700", f"{USER} 644", ""]
    wait_for(lambda: not servers("memfs:19M"))


def test_user_unmounts_by_signal(tmp):
    u = Unprivileged(tmp)
    r = u.sh('"$W" mount memfs:19M "$M" & for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; grep -q "$M" /proc/mounts && break;'
             ' done; touch "$M/a"; kill -INT $!; wait $!; echo $?; ! grep "$M" /proc/mounts')
    assert (r.returncode, r.stdout, r.stderr) == (0, "0\n", "")


def test_user_cannot_mount_where_he_may_not(tmp):
    u = Unprivileged(tmp)
    os.chown(tmp / "m", 0, 0)
    r = u.sh('"$W" mount --daemon memfs:19M "$M"')
    one_line(r, 1, "cannot mount on", tmp / "m")


def test_user_cannot_open_the_mount_to_others_unless_allowed(tmp):
    u = Unprivileged(tmp)
    if "\nuser_allow_other" in open("/etc/fuse.conf").read():
        pytest.skip("fuse.conf allows it")
    one_line(u.sh('"$W" mount --daemon -o allow_other memfs:19M "$M"'), 1, "allow_other")


def test_user_map_none(tmp):
    u = Unprivileged(tmp)
    r = u.sh('"$W" mount --daemon --map none memfs:19M "$M"; stat -c %u "$M"; fusermount3 -u "$M"')
    assert (r.returncode, r.stdout) == (0, "0\n"), r.stderr


def test_user_owns_his_files_on_an_image(tmp):
    need_tools("mke2fs")
    u = Unprivileged(tmp)
    (tmp / "src/other").mkdir(parents=True)
    for name, owner in ("mine", USER), ("first", 1000), ("roots", 0), ("strange", 33):
        (tmp / "src" / name).write_text(name)
        (tmp / "src" / name).chmod(0o600)
        os.chown(tmp / "src" / name, owner, owner)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tmp / "src", tmp / "image", "16M"], check=True,
                   env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    (tmp / "image").chmod(0o644)
    r = u.sh('"$W" mount --daemon --ro image "$M"; cd "$M"; cat mine first roots; ! cat strange 2>/dev/null;'
             ' stat -c %u mine first roots strange; cd /; fusermount3 -u "$M"')
    assert (r.returncode, r.stderr) == (0, "")
    assert r.stdout == f"minefirstroots{USER}\n{USER}\n{USER}\n65534\n"
    r = u.sh('"$W" mount --daemon --ro --map none image "$M"; stat -c %u "$M/mine" "$M/first" "$M/strange"; fusermount3 -u "$M"')
    assert (r.returncode, r.stdout) == (0, f"{USER}\n1000\n33\n"), r.stderr
