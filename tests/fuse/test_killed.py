"""A server that is killed while programs write: what they were told is durable is there after the next mount."""
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from mounting import foreground, need_tools, run, scratch

FEATURES = ("none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
            "dir_nlink,extra_isize,metadata_csum")


@pytest.fixture
def image():
    need_tools("mke2fs", "e2fsck")
    with scratch() as path:
        (path / "m").mkdir()
        subprocess.run(["truncate", "-s", "128M", path / "img"], check=True)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", FEATURES, path / "img"], check=True)
        yield path


def killed(image, code, seconds, *options):
    """Runs python code with the mount as its argument, and so long after its first words kills the server; what it said, line by line."""
    said = image / "said"
    with foreground(image / "img", image / "m", *options) as server, open(said, "w") as out:
        child = subprocess.Popen([sys.executable, "-u", "-c", code, str(image / "m")], stdout=out, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while said.read_text().count("\n") < 12 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(seconds)
        server.send_signal(signal.SIGKILL)
        server.wait()
        child.wait(timeout=20)
        run("umount", image / "m")
    return said.read_text().split("\n")[:-1]


DATABASE = """
import os, sqlite3, sys
top = os.open(sys.argv[1], os.O_RDONLY)
db = sqlite3.connect(sys.argv[1] + "/db", isolation_level=None)
db.execute("pragma journal_mode=%s")
db.execute("pragma synchronous=extra")  # full does not make the removal of a journal durable
db.execute("create table if not exists t(a integer primary key, b text)")
n = db.execute("select count(*) from t").fetchone()[0]
while True:
    db.execute("begin")
    for _ in range(7):
        n += 1
        db.execute("insert into t values(?, hex(randomblob(?)))", (n, n * 37 %% 900))
    if n %% 5 == 0:
        db.execute("update t set b = hex(randomblob(100)) where a %% 11 = ?", (n %% 11,))
    db.execute("commit")
    # SQLite says that all is well also when it cannot open the directory of the journal that it removed.
    os.fsync(top)
    print(n)
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("option", ["async", "writeback"])
def test_database(image, mode, option):
    acknowledged = 0
    for _ in range(3):
        said = killed(image, DATABASE % mode, random.uniform(0.4, 1.2), "-o", option)
        acknowledged = int(said[-1]) if said else acknowledged
        with foreground(image / "img", image / "m"):
            with sqlite3.connect(image / "m/db") as db:
                assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
                assert db.execute("select count(*) from t").fetchone()[0] >= acknowledged
            db.close()
        subprocess.run(["e2fsck", "-fn", image / "img"], check=True, capture_output=True)
    assert acknowledged > 20


FILES = """
import os, random, sys
top = sys.argv[1]
rnd = random.Random(int.from_bytes(os.urandom(4), "little"))
n = 0
while True:
    n += 1
    name = f"{top}/f{rnd.randrange(40)}"
    data = (f"{n} " * rnd.randrange(1, 3000)).encode()
    fd = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)
    os.rename(name + ".new", name)
    fd = os.open(top, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    print(name, len(data), n)
    with open(f"{top}/log", "ab", buffering=0) as log:
        log.write(f"{n}\\n".encode())
        os.fsync(log.fileno())
    print("log", n)
"""


def test_files(image):
    for _ in range(3):
        said = [line.split() for line in killed(image, FILES, random.uniform(0.4, 1.0))]
        newest = {words[0]: (int(words[1]), int(words[2])) for words in said if words[0] != "log"}
        last = max((int(words[1]) for words in said if words[0] == "log"), default=0)
        assert newest
        with foreground(image / "img", image / "m"):
            for name, (size, n) in newest.items():
                data = open(name, "rb").read()
                # The next version may have come as well, or none of it.
                found = int(data.split(b" ", 1)[0])
                assert found >= n and set(data.split()) == {b"%d" % found}
                assert found > n or len(data) == size
            lines = open(image / "m/log").read().split()
            assert lines == [str(i) for i in range(1, len(lines) + 1)] and len(lines) >= last
            os.unlink(image / "m/log")
        subprocess.run(["e2fsck", "-fn", image / "img"], check=True, capture_output=True)


def test_what_is_only_some_seconds_old(image):
    """Without fsync: names and bytes are durable after a while, ends of files that are appended to as well."""
    with foreground(image / "img", image / "m") as server:
        for i in range(50):
            (image / f"m/f{i}").write_text(f"{i}" * 777)
        with open(image / "m/log", "a") as log:
            for i in range(30):
                log.write(f"line {i}\n")
                log.flush()
        time.sleep(13)
        server.send_signal(signal.SIGKILL)
        server.wait()
        run("umount", image / "m")
    with foreground(image / "img", image / "m"):
        for i in range(50):
            assert (image / f"m/f{i}").read_text() == f"{i}" * 777
        assert (image / "m/log").read_text() == "".join(f"line {i}\n" for i in range(30))
