"""tidy.py catches what it claims to catch: each rule is broken once in a small planted house."""
import pathlib
import subprocess

import pytest

TIDY = pathlib.Path(__file__).resolve().parent.parent / "tidy.py"
CLEAN = {
    "kernel/lib/low.h": "int low(void);\n",
    "kernel/lib/low.c": '#include "lib/low.h"\nint low(void)\n{\n\treturn 1;\n}\n',
    "kernel/block/dev.c": '#include "lib/low.h"\nint dev(void);\nint dev(void)\n{\n\treturn low();\n}\n',
    "kernel/vfs/a.c": "int a(void);\nint a(void)\n{\n\treturn 1;\n}\n",
    "kernel/fs/ext4/ondisk.h": "typedef struct { unsigned char b[4]; } le32;\nstruct d {\n\tle32 x;\n};\n",
}


def tidy(tmp_path, planted):
    for name, text in {**CLEAN, **planted}.items():
        source = tmp_path / name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text)
        if source.suffix == ".c":
            obj = (tmp_path / "build" / name).with_suffix(".o")
            obj.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["gcc", "-c", "-I", tmp_path / "kernel", "-o", obj, source], check=True)
    run = subprocess.run([TIDY, tmp_path / "build", "--root", tmp_path, "--no-format"],
                         capture_output=True, text=True, check=False)
    return run.returncode, run.stdout


def test_clean_house_passes(tmp_path):
    code, out = tidy(tmp_path, {})
    assert code == 0 and "not ok" not in out


LONG = "int big(void);\nint big(void)\n{\n" + "\t;\n" * 80 + "\treturn 0;\n}\n"
PLANTED = {
    "upward call": ({"kernel/block/up.c": "int a(void);\nint up(void)\n{\n\treturn a();\n}\n"},
                    "kernel/block/up.c:1: block may not use a of kernel/vfs/a.c"),
    "host into a module": ({"kernel/fs/ext4/x.c": "int ext4_x(void)\n{\n\treturn 0;\n}\n",
                            "host/h.c": "int ext4_x(void);\nint h(void)\n{\n\treturn ext4_x();\n}\n"},
                           "host/h.c:1: api may not use ext4_x of kernel/fs/ext4/x.c"),
    "module into module": ({"kernel/fs/ext4/x.c": "int e(void)\n{\n\treturn 0;\n}\n",
                            "kernel/fs/btrfs/y.c": "int e(void);\nint y(void)\n{\n\treturn e();\n}\n"},
                           "kernel/fs/btrfs/y.c:1: fs/btrfs may not use e of kernel/fs/ext4/x.c"),
    "circle of three": ({"kernel/vfs/c1.c": "int c2(void);\nint c1(void)\n{\n\treturn c2();\n}\n",
                         "kernel/vfs/c2.c": "int c3(void);\nint c2(void)\n{\n\treturn c3();\n}\n",
                         "kernel/vfs/c3.c": "int c1(void);\nint c3(void)\n{\n\treturn c1();\n}\n"},
                        "kernel/vfs/c1.c:1: circle in vfs: kernel/vfs/c1.c:1 uses c2 of kernel/vfs/c2.c; "
                        "kernel/vfs/c2.c:1 uses c3 of kernel/vfs/c3.c; "
                        "kernel/vfs/c3.c:1 uses c1 of kernel/vfs/c1.c"),
    "liburing elsewhere": ({"kernel/block/w.c": "int io_uring_x(void);\nint w(void)\n{\n\treturn io_uring_x();\n}\n"},
                           "kernel/block/w.c:1: io_uring_x may be used in"),
    "a library that prints": ({"host/h.c": "int printf(const char *, ...);\nint h(int x)\n{\n\treturn printf(\"%d\", x);\n}\n"},
                              "host/h.c:1: printf is for the program, not for the library"),
    "library into the program": ({"host/cli.c": "int cli(void);\nint cli(void)\n{\n\treturn 0;\n}\n",
                                  "host/h.c": "int cli(void);\nint h(void)\n{\n\treturn cli();\n}\n"},
                                 "host/h.c:1: api may not use cli of host/cli.c"),
    "the program's header": ({"host/tool.h": "\n", "host/h.c": '#include "tool.h"\n'},
                             'host/h.c:1: "tool.h" is the program\'s, not the library\'s'),
    "fuse elsewhere": ({"host/w.c": "int fuse_x(void);\nint w(void)\n{\n\treturn fuse_x();\n}\n"},
                       "host/w.c:1: fuse_x may be used in"),
    "private header": ({"kernel/vfs/in.h": "\n", "kernel/vfs/b.c": '#include "vfs/in.h"\n'},
                       'kernel/vfs/b.c:1: "vfs/in.h" is no public header'),
    "header above": ({"kernel/vfs/vfs.h": "\n", "kernel/block/b.c": '#include "vfs/vfs.h"\n'},
                     'kernel/block/b.c:1: block may not include "vfs/vfs.h"'),
    "long function": ({"kernel/vfs/big.c": LONG}, "kernel/vfs/big.c:2: function of 84 lines"),
    "long file": ({"kernel/vfs/big.c": "\n" * 901}, "kernel/vfs/big.c:1: 901 lines"),
    "banned word": ({"kernel/vfs/w.c": "\n/* FIXME */\n"}, "kernel/vfs/w.c:2: the word FIXME"),
    "host integer": ({"kernel/fs/ext4/ondisk.h": "struct d {\n\tu32 x;\n};\n"},
                     "kernel/fs/ext4/ondisk.h:2: a host integer"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted(tmp_path, name):
    files, message = PLANTED[name]
    code, out = tidy(tmp_path, files)
    assert code == 1
    assert message in out


@pytest.mark.parametrize("files", [
    {"kernel/vfs/big.c": "/* A table. longer: it is one table */\n" + "\n" * 901},
    {"kernel/vfs/big.c": LONG.replace("int big(void)\n{", "/* longer: one switch\n * over all */\nint big(void)\n{")},
    {"kernel/vfs/ok.c": "int unpacked;\n"},
])
def test_reasons_are_accepted(tmp_path, files):
    code, out = tidy(tmp_path, files)
    assert code == 0, out
