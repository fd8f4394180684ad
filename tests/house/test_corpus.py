"""What judges fsck: the corrupter's checksums are right, it does the same twice, and the runner notices an fsck that does nothing, or too much."""
import os
import pathlib
import subprocess
import sys

import pytest

IMAGE = pathlib.Path("tests/image").absolute()
sys.path[:0] = [str(IMAGE), str(IMAGE.parent / "interop")]
from corrupt_ext4 import corrupt, pieces  # noqa: E402
from ext4_edit import Volume  # noqa: E402
from fsck_bases import BASES, base  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not root: the kernel has to fill the volumes")
WERUNOS = pathlib.Path(os.environ.get("B", "build/release")).absolute() / "werunos"


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return tmp_path_factory.mktemp("bases")


@pytest.mark.parametrize("name", BASES)
def test_sums_of_a_sound_volume_are_right(bases, name):
    volume = Volume(base(name, str(bases)))
    before = bytes(volume.data)
    have = pieces(volume)
    assert {"super", "descriptor", "bitmap", "inode", "directory", "index", "xattr"} <= set(have)
    for kind, some in have.items():
        for piece in some[:20]:
            piece.seal()
            assert volume.data == before, f"{kind}: {piece.name}"


def test_the_same_seed_is_the_same_image(bases):
    made = []
    for seed in (1, 1, 2):
        volume = Volume(base("1k", str(bases)))
        said, _ = corrupt(volume, seed, pieces(volume))
        assert said
        made.append(bytes(volume.data))
    assert made[0] == made[1] != made[2]


def corpus(bases, program, *options):
    return subprocess.run([sys.executable, IMAGE / "fsck_corpus.py", "--bases", bases, "--images", "15", *options, program],
                          capture_output=True, text=True, check=False).stdout.splitlines()


# What it does instead: nothing at all, nothing but saying so, mending without a way back, giving up, crashing, throwing away.
IMPOSTORS = {
    "silent": "exit 0",
    "boasting": '[ "$3" = -y ] && exit 1; exit 0',
    "without-undo": f'[ "$1" = undo ] && exit 0; exec {WERUNOS} "$@"',
    "refusing": "exit 8",
    "crashing": "kill -SEGV $$",
    "formatting": 'eval image=\\${$#}; [ "$3" = -y ] && mke2fs -q -F -b 1024 "$image"; [ "$3" = -y ] && exit 1; exit 0',
}


@pytest.mark.parametrize("impostor", IMPOSTORS)
def test_the_runner_notices(bases, tmp_path, impostor):
    program = tmp_path / "werunos"
    program.write_text("#!/bin/bash\n" + IMPOSTORS[impostor] + "\n")
    program.chmod(0o755)
    lines = corpus(bases, program)
    bad = [line for line in lines if line.startswith("not ok")]
    assert len(bad) >= 10, lines


def test_the_runner_is_content_with_e2fsck(bases):
    """Nearly: e2fsck leaves some for a third run, or for another superblock."""
    good = [line for line in corpus(bases, WERUNOS, "--fsck", "e2fsck", "--kinds", "inode,directory,bitmap") if line.startswith("ok")]
    assert len(good) >= 13


def test_find_notices_who_finds_nothing(bases, tmp_path):
    program = tmp_path / "werunos"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    bad = [line for line in corpus(bases, program, "--fsck", "find") if line.startswith("not ok")]
    assert len(bad) >= 10
