"""The suites that judge file systems notice each fault that can be planted (support/fs_fault.c)."""
import os
import pathlib
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("B", "build/release")) / "tests"
CONFORM = BUILD / "conform" / "conform"


def faults():
    return subprocess.run([CONFORM, "--faults"], capture_output=True, text=True, check=True).stdout.split()


def conform(fault):
    return subprocess.run([CONFORM, "vfs:memfs"], capture_output=True, text=True, check=False,
                          env={**os.environ, "FS_FAULT": fault})


@pytest.fixture(scope="module")
def healthy():
    return set(conform("").stdout.splitlines())


@pytest.mark.parametrize("fault", faults())
def test_conform_notices(fault, healthy):
    run = conform(fault)
    assert run.returncode == 1, f"{fault} was not noticed"
    assert {line for line in run.stdout.splitlines() if line.startswith("not ok")} - healthy
