"""run.sh counts right: a failure, a crash, a silence and an overrun are never a pass."""
import os
import pathlib
import subprocess

import pytest

RUN = pathlib.Path(__file__).resolve().parent.parent / "run.sh"


def run(tmp_path, script, limit=20, **env):
    prog = tmp_path / "prog"
    prog.write_text("#!/bin/bash\n" + script)
    prog.chmod(0o755)
    (tmp_path / "plan").write_text(f"job prog {limit} {prog}\n")
    (tmp_path / "skips").write_text("prog: may *\treason\n")
    out = subprocess.run([RUN, "all"], capture_output=True, text=True, check=False,
                         env={**os.environ, "CHECK_STRICT": "0", "PLAN": str(tmp_path / "plan"),
                              "SKIPS": str(tmp_path / "skips"), **env})
    return out.returncode, out.stdout, out.stdout.splitlines()[-1]


@pytest.mark.parametrize("script, code, last", [
    ("echo ok 1 - a; echo ok - b", 0, "2 passed, 0 failed, 0 skipped"),
    ("echo ok 1 - a; echo not ok 2 - b; exit 1", 1, "1 passed, 1 failed, 0 skipped"),
    ("echo not ok - b", 1, "0 passed, 1 failed, 0 skipped"),
    ("echo ok 1 - a; kill -SEGV $$", 1, "1 passed, 1 failed, 0 skipped"),
    ("exit 0", 1, "0 passed, 1 failed, 0 skipped"),
    ("echo 'ok 1 - a # SKIP no root'", 0, "0 passed, 0 failed, 1 skipped"),
    ("echo no root; echo 'not ok 1 # SKIP a'", 0, "0 passed, 0 failed, 1 skipped"),
], ids=["passes", "failure", "failure that exits 0", "crash", "silence", "skip", "skip of cmocka"])
def test_counts(tmp_path, script, code, last):
    assert run(tmp_path, script)[::2] == (code, last)


def test_failure_shows_its_output(tmp_path):
    _, out, _ = run(tmp_path, "echo the cause; echo not ok - b")
    assert "FAILED: prog" in out and "the cause" in out


def test_time_limit(tmp_path):
    code, out, last = run(tmp_path, "echo ok - a; sleep 60", limit=1)
    assert code == 1 and "ran longer than 1 s" in out and last == "1 passed, 1 failed, 0 skipped"


def test_strict(tmp_path):
    script = "echo 'ok - may be absent # SKIP no root'; echo 'ok - other # SKIP no tool'; echo ok - a"
    code, out, last = run(tmp_path, script, CHECK_STRICT="1")
    assert (code, last) == (1, "1 passed, 1 failed, 1 skipped")
    assert "skipped: prog: other: no tool" in out
    assert run(tmp_path, script)[0] == 0
