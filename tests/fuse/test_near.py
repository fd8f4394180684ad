"""Answering beside a lone client (host/fuse/near.c): it happens, and no thread is left behind when the CPUs are busy."""
import contextlib
import os
import re
import subprocess
import sys
import time

import pytest

from mounting import foreground, need_root, need_tools, scratch, unmount

ASK = """
import os, sys, time
end = time.monotonic() + float(sys.argv[2])
i = 0
while time.monotonic() < end:
    i += 1
    try:
        os.lstat(f"{sys.argv[1]}/no{i}")
    except FileNotFoundError:
        pass
print(i)
"""


@pytest.fixture
def tmp():
    need_root()
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one CPU: everything is beside everything")
    with scratch() as path:
        (path / "m").mkdir()
        yield path


def ask(directory, seconds):
    return subprocess.Popen([sys.executable, "-c", ASK, str(directory), str(seconds)], stdout=subprocess.PIPE, text=True)


def counted(server):
    return int(re.search(r"replies beside a lone client +(\d+)", server.stderr.read())[1])


def classes(server):
    found = []
    for tid in os.listdir(f"/proc/{server.pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            found.append((os.sched_getscheduler(int(tid)), len(os.sched_getaffinity(int(tid)))))
    return found


def test_a_lone_client_is_answered_beside_it(tmp):
    with foreground("memfs:16M", tmp / "m", "--stats") as server:
        for _ in range(10):
            with ask(tmp / "m", 1) as client:
                assert int(client.communicate()[0]) > 1000
        unmount(tmp / "m")
        server.wait(10)
        assert counted(server) > 1000


def test_many_requests_at_a_time_are_not_answered_beside(tmp):
    need_tools("fio", "mke2fs")
    image = tmp / "image"
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", image], check=True)
    with foreground(image, tmp / "m", "--stats") as server:
        (tmp / "m/big").write_bytes(bytes(16 << 20))
        # Its own thread, which the server meets first here.
        fio = ["fio", "--name=r", f"--filename={tmp}/m/big", "--readonly", "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=libaio",
               "--iodepth=16", "--number_ios=30000", "--io_size=1g", "--thread"]
        subprocess.run(fio, check=True, stdout=subprocess.DEVNULL)
        unmount(tmp / "m")
        server.wait(10)
        assert counted(server) < 10000


def test_pages_written_back_are_their_clients(tmp):
    """With -o writeback each close waits for a WRITE that the kernel sends in nobody's name."""
    with foreground("memfs:64M", tmp / "m", "-o", "writeback", "--stats") as server:
        write = "import sys\nfor i in range(8000):\n    open(f'{sys.argv[1]}/{i}', 'w').write('x')\n"
        subprocess.run([sys.executable, "-c", write, str(tmp / "m")], check=True)
        unmount(tmp / "m")
        server.wait(10)
        assert counted(server) > 10000


def test_threads_that_start_meanwhile_are_ordinary_ones(tmp):
    """The one that writes ends of files, for example, starts with the first of them."""
    image = tmp / "image"
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", image], check=True)
    with foreground(image, tmp / "m", "--stats") as server:
        before = len(os.listdir(f"/proc/{server.pid}/task"))
        ask_then_write = ASK + "for i in range(3000):\n    open(f'{sys.argv[1]}/{i}', 'w').write('x')\n"
        subprocess.run([sys.executable, "-c", ask_then_write, str(tmp / "m"), "5"], check=True, stdout=subprocess.DEVNULL)
        time.sleep(0.2)
        after = classes(server)
        assert len(after) > before
        assert all(policy == os.SCHED_OTHER for policy, _ in after)
        unmount(tmp / "m")
        server.wait(10)
        assert counted(server) > 1000


def test_a_lone_worker_never_is_beside_its_client(tmp):
    with foreground("memfs:16M", tmp / "m", "--stats", "--threads", "1") as server:
        with ask(tmp / "m", 3) as client:
            assert int(client.communicate()[0]) > 100
        unmount(tmp / "m")
        server.wait(10)
        assert counted(server) == 0


def test_nobody_is_left_behind_on_busy_cpus(tmp):
    hogs = []
    try:
        with foreground("memfs:16M", tmp / "m") as server:
            client = ask(tmp / "m", 3)
            time.sleep(0.5)
            hogs += [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * os.cpu_count())]
            assert int(client.communicate(timeout=60)[0]) > 100
            # Another client, seen by nobody before, is answered while the CPUs are still busy.
            start = time.monotonic()
            os.mkdir(tmp / "m/d")
            assert time.monotonic() - start < 10
            while hogs:
                hogs[-1].kill()
                hogs.pop().wait()
            time.sleep(0.2)
            assert all(policy == os.SCHED_OTHER for policy, _ in classes(server))
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
