"""The suites that judge file systems notice each fault that can be planted (support/fs_fault.c)."""
import os
import pathlib
import subprocess

import pytest

BUILD = pathlib.Path(os.environ.get("B", "build/release")) / "tests"
# What the model leaves to conform: a listing that ends early, and set-id bits of files.
MODEL_BLIND = ("readdir", "keep-setid")
CONFORM = BUILD / "conform" / "conform"


def faults():
    return subprocess.run([CONFORM, "--faults"], capture_output=True, text=True, check=True).stdout.split()


def conform(fault):
    return subprocess.run([CONFORM, "vfs:memfs"], capture_output=True, text=True, check=False,
                          env={**os.environ, "FS_FAULT": fault})


def model(tmp_path, fault):
    return subprocess.run([BUILD / "model" / "model", "--oracle", f"dir:{tmp_path}", "--target", "vfs:memfs",
                           "--seed", "1", "--ops", "2000", "--runs", "4"],
                          capture_output=True, text=True, errors="replace", check=False,
                          env={**os.environ, "FS_FAULT": fault})


@pytest.fixture(scope="module")
def healthy():
    return set(conform("").stdout.splitlines())


@pytest.mark.parametrize("fault", faults())
def test_conform_notices(fault, healthy):
    run = conform(fault)
    assert run.returncode == 1, f"{fault} was not noticed"
    assert {line for line in run.stdout.splitlines() if line.startswith("not ok")} - healthy


def test_model_agrees_without_a_fault(tmp_path):
    run = model(tmp_path, "")
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("fault", [f for f in faults() if f not in MODEL_BLIND])
def test_model_notices_and_shrinks(tmp_path, fault):
    run = model(tmp_path, fault)
    assert run.returncode == 1, f"{fault} was not noticed"
    steps = [line for line in run.stdout.splitlines() if line.startswith("#   ")]
    assert 1 <= len(steps) <= 40


@pytest.mark.parametrize("fault", ["lost-write", "stale-tail", "punch", "keep-size", "copy"])
def test_fsx_notices(fault):
    run = subprocess.run([BUILD / "tools" / "fsx", "--target", "vfs:memfs", "--seed", "1", "--ops", "4000"],
                         capture_output=True, text=True, check=False, env={**os.environ, "FS_FAULT": fault})
    assert run.returncode == 1, f"{fault} was not noticed"


def test_stamps_notices():
    run = subprocess.run([BUILD / "tools" / "stamps", "--target", "vfs:memfs", "--seconds", "20"],
                         capture_output=True, text=True, check=False, env={**os.environ, "FS_FAULT": "stale-tail"})
    assert run.returncode == 1
