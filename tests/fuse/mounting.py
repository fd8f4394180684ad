"""Mounts for tests: every mount made here is gone when its `with` ends, and so is its server."""
import contextlib
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import tempfile
import time

import pytest

WERUNOS = os.environ.get("WERUNOS") or str(pathlib.Path(__file__).parents[2] / "build/release/werunos")
USER = 1  # an ordinary user that every Debian has (fusermount3 asks for a name): daemon


def need_fuse():
    if not os.path.exists("/dev/fuse"):
        pytest.skip("no /dev/fuse")
    if os.geteuid() and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no right to /dev/fuse")


def need_root():
    if os.geteuid():
        pytest.skip("not root")


def need_tools(*tools):
    for tool in tools:
        if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            pytest.skip(f"{tool} is not installed")


def mounts():
    """{directory: (source, type, options, super options)}"""
    found = {}
    for line in open("/proc/self/mountinfo"):
        head, tail = line.split(" - ")
        kind, source, superopts = tail.split(" ", 2)
        undo = lambda s: s.encode().decode("unicode_escape")
        found[undo(head.split()[4])] = (undo(source), kind, head.split()[5].split(","), superopts.strip().split(","))
    return found


def wait_for(what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def run(*args, **kw):
    """The program, to its end."""
    return subprocess.run([WERUNOS, *map(str, args)], capture_output=True, text=True, timeout=60, **kw)


def unmount(directory):
    subprocess.run(["umount", "-l", str(directory)], capture_output=True)


@contextlib.contextmanager
def foreground(source, directory, *options):
    """Yields the server's process."""
    need_fuse()
    server = subprocess.Popen([WERUNOS, "mount", *map(str, options), str(source), str(directory)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: os.path.realpath(directory) in mounts() or server.poll() is not None)
        if server.poll() is not None:
            raise AssertionError(server.stderr.read())
        yield server
    finally:
        if os.path.realpath(directory) in mounts():
            unmount(directory)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise AssertionError("the server did not end when its mount did")


@contextlib.contextmanager
def scratch():
    """A directory that any user may enter."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="werunos-fuse."))
    path.chmod(0o755)
    try:
        yield path
    finally:
        for directory in sorted(mounts(), reverse=True):
            if directory.startswith(f"{path}/"):
                unmount(directory)
        shutil.rmtree(path)


def servers(source):
    """Processes that serve this source."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                words = open(f"/proc/{entry}/cmdline").read().split("\0")
                if "mount" in words[0:2] and str(source) in words:
                    found.append(int(entry))
    return found


def end(pid, sig=signal.SIGTERM):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


class Unprivileged:
    """Runs commands as an ordinary user to whom /dev/fuse is open, in a mount namespace of their own."""

    def __init__(self, tmp):
        need_root()
        need_fuse()
        need_tools("setpriv", "unshare", "fusermount3")
        self.tmp = tmp
        self.program = tmp / "werunos"
        self.program.write_bytes(open(WERUNOS, "rb").read())
        self.program.chmod(0o755)
        os.mknod(tmp / "fuse", 0o666 | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
        (tmp / "fuse").chmod(0o666)
        os.chown(tmp / "m", USER, USER)

    def sh(self, script):
        inner = f"exec setpriv --reuid {USER} --regid {USER} --clear-groups sh -ec '{script}'"
        outer = f"mount --bind {self.tmp}/fuse /dev/fuse && {inner}"
        return subprocess.run(["unshare", "-m", "--propagation", "slave", "sh", "-c", outer], capture_output=True, text=True, timeout=60,
                              cwd=self.tmp, env={**os.environ, "W": str(self.program), "M": str(self.tmp / "m")})
