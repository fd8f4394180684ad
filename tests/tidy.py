#!/usr/bin/python3
"""The rules of the house, proved: make tidy.

    tidy.py BUILD [--root DIR] [--no-format]

BUILD is the directory of the objects (build/release). One result line for each rule ("ok - tidy: NAME" or
"not ok - tidy: NAME"), and before a failed one its errors, each "# FILE:LINE: what is wrong". Exit code 1 when a rule is broken.

The arrows of ALLOWED are those of the architecture: an object may need symbols of its own layer and of the
named ones; within a layer the objects must form no circle.
"""
import collections
import pathlib
import re
import subprocess
import sys

FS = ("fs/memfs", "fs/ext4", "fs/btrfs")
ALLOWED = {
    "lib": (),
    "block": ("lib",),
    "jbd2": ("block", "lib"),
    "vfs": ("block", "lib"),
    "fs/memfs": ("vfs", "block", "lib"),
    "fs/ext4": ("jbd2", "vfs", "block", "lib"),
    "fs/btrfs": ("vfs", "block", "lib"),
    "fs": FS + ("vfs", "block", "lib"),
    "api": ("fs", "vfs", "block", "lib"),
    "host": ("api", "fs", "vfs", "block", "lib"),
}
# Of host, what is the program's alone; the rest is in libwerunos too, and is the layer "api".
PROGRAM = re.compile(r"host/(fuse/.*|cmd_\w+\.c|(main|cli|tool|edit|mode|mountopts|import/copy_cli)\.[ch]|cmd\.h)")
# What a library leaves to the process: its output, its end, its signals, and what all of its threads share.
PROCESS = re.compile(r"_?exit|printf|__printf_chk|puts|putchar|perror|stdout|signal|sigaction|umask|chdir|setrlimit|setlocale|fork|daemon")
# A library's symbols and headers: the only sources that may use them.
WRAPPED = {
    "io_uring_": r"kernel/block/uring\.c",
    "fuse_": r"host/fuse/.*",
    "archive_": r"host/import/archive_lib\.h",
}
HEADERS = {
    r"<liburing": r"kernel/block/uring\.c",
    r"<fuse": r"host/fuse/.*",
    r"<(linux/|sys/(ioctl|syscall|mount)\.h)": r"(kernel/block/(uring|dev_file)|kernel/lib/os)\.c|host/.*",
    r"<jansson": r"kernel/lib/doc\.c|host/import/oci\.c",
    r"<archive": r"host/import/archive_lib\.h",
    r"<isa-l": r"kernel/lib/crc\.c|kernel/fs/btrfs/raid56\.c",
}
PUBLIC = re.compile(r"lib/\w+\.h|(block/block|jbd2/jbd2|vfs/vfs|vfs/acl)\.h")
BANNED = re.compile(r"\b(FIXME|TODO|XXX|HACK|ERR_PTR|packed)\b")
HOST_INT = re.compile(r"^\s+(?:const\s+)?(?:unsigned|signed|char|short|int|long|[us](?:16|32|64)|u?int\d*_t|size_t)\b")
FILE_MAX, FUNCTION_MAX = 900, 70


class House:
    def __init__(self, root, build):
        self.root, self.build = pathlib.Path(root), pathlib.Path(build)
        self.sources = sorted(p for top in ("kernel", "host", "tests", "examples") if (self.root / top).is_dir()
                              for p in (self.root / top).rglob("*.[ch]"))
        self.text = {p: p.read_text(errors="replace").splitlines() for p in self.sources}

    def name(self, path):
        return path.relative_to(self.root).as_posix()

    def find(self, source, pattern):
        """FILE:LINE of the first line that matches outside a one-line comment, else the file's first line."""
        for i, line in enumerate(self.text.get(self.root / source, []), 1):
            if re.search(pattern, line) and not line.lstrip().startswith(("*", "/*")):
                return f"{source}:{i}"
        return f"{source}:1"


def layer_of(name):
    """The layer a source belongs to: "kernel/fs/ext4/x.c" is of fs/ext4, host is two."""
    if name.startswith("host/"):
        return "host" if PROGRAM.fullmatch(name) else "api"
    parts = name.split("/")[1:-1]
    if parts[:1] == ["fs"]:
        return "/".join(parts[:2])
    return parts[0] if parts else None


def objects(house):
    """source -> (defined, undefined) symbols, for the objects whose source still exists."""
    out = {}
    paths = [p for top in ("kernel", "host") for p in (house.build / top).rglob("*.o")]
    for p in sorted(paths):
        source = p.relative_to(house.build).with_suffix(".c").as_posix()
        if not (house.root / source).exists():
            continue
        defined, undefined = set(), set()
        nm = subprocess.run(["nm", "-P", str(p)], capture_output=True, text=True, check=True).stdout
        for line in nm.splitlines():
            symbol, kind = line.split()[:2]
            if kind in "Uw":
                undefined.add(symbol)
            elif kind.isupper():
                defined.add(symbol)
        out[source] = (defined, undefined)
    return out


def circle(graph):
    """One circle of the graph as a list of nodes whose last is its first, else None."""
    state, path = {}, []

    def visit(node):
        state[node] = "open"
        path.append(node)
        for nxt in sorted(graph[node]):
            if state.get(nxt) == "open":
                return path[path.index(nxt):] + [nxt]
            if nxt not in state:
                found = visit(nxt)
                if found:
                    return found
        path.pop()
        state[node] = "done"
        return None

    for node in sorted(graph):
        if node not in state:
            found = visit(node)
            if found:
                return found
    return None


def rule_layers(house):
    """Symbols come from the own layer or an allowed one; libraries are used where they are wrapped."""
    objs = objects(house)
    if not objs:
        yield f"{house.build}:1: there are no objects: build first"
    owner = {s: source for source, (defined, _) in objs.items() for s in defined}
    for source, (_, undefined) in objs.items():
        layer = layer_of(source)
        for s in sorted(undefined):
            other = layer_of(owner[s]) if s in owner else None
            if other and other != layer and other not in ALLOWED.get(layer, ()):
                yield f"{house.find(source, rf'{s}')}: {layer} may not use {s} of {owner[s]}"
            for prefix, where in WRAPPED.items():
                if s.startswith(prefix) and s not in owner and not re.fullmatch(where, source):
                    yield f"{house.find(source, rf'{s}')}: {s} may be used in {where} only"


def rule_process(house):
    """What the library consists of leaves the process alone."""
    for source, (_, undefined) in objects(house).items():
        for s in sorted(undefined):
            if layer_of(source) != "host" and PROCESS.fullmatch(s):
                yield f"{house.find(source, rf'{s}')}: {s} is for the program, not for the library"


def rule_circles(house):
    """The files of one layer form no circle."""
    objs = objects(house)
    owner = {s: source for source, (defined, _) in objs.items() for s in defined}
    layers = collections.defaultdict(dict)
    for source, (_, undefined) in objs.items():
        needs = {owner[s] for s in undefined if s in owner}
        layers[layer_of(source)][source] = {n for n in needs if n != source and layer_of(n) == layer_of(source)}
    for layer, graph in sorted(layers.items()):
        while True:
            found = circle(graph)
            if not found:
                break
            steps = []
            for a, b in zip(found, found[1:]):
                s = sorted(s for s in objs[a][1] if owner.get(s) == b)[0]
                steps.append(f"{house.find(a, rf'{s}')} uses {s} of {b}")
            yield f"{steps[0].split(' ')[0]}: circle in {layer}: " + "; ".join(steps)
            graph[found[-2]].discard(found[-1])


def rule_includes(house):
    """A path with a slash names a public header of an allowed layer; system headers stay where they belong."""
    for p in house.sources:
        name = house.name(p)
        layer = layer_of(name) if not name.startswith("tests/") else None
        for i, line in enumerate(house.text[p], 1):
            m = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
            if not m:
                continue
            at, target = f"{name}:{i}", m.group(2)
            if m.group(1) == "<":
                for head, where in HEADERS.items():
                    if layer and re.match(head, "<" + target) and not re.fullmatch(where, name):
                        yield f"{at}: <{target}> may be included in {where} only"
                continue
            if layer is None:
                continue
            if "/" not in target:
                beside = (p.parent / target).exists() or (layer in ("api", "host") and (house.root / "host" / target).exists())
                if beside and layer == "api" and PROGRAM.fullmatch(f"host/{target}"):
                    yield f"{at}: \"{target}\" is the program's, not the library's"
                if not beside and not (target == "fs.h" and layer in ("fs", "api", "host")):
                    yield f"{at}: \"{target}\" is no header of this room"
            elif re.fullmatch(r"\.\./\w+\.h", target) and (p.parent / target).exists() \
                    and layer_of(house.name((p.parent / target).resolve())) == layer:
                continue  # a room within a layer
            elif layer == "host" and re.match(r"(fuse|import|api)/\w+\.h$", target):
                continue
            elif layer == "api" and re.match(r"(import|api)/\w+\.h$", target) and not PROGRAM.fullmatch(f"host/{target}"):
                continue
            elif not PUBLIC.fullmatch(target):
                yield f"{at}: \"{target}\" is no public header"
            elif target.split("/")[0] != layer and target.split("/")[0] not in ALLOWED.get(layer, ()):
                yield f"{at}: {layer} may not include \"{target}\""


def first_comment(lines):
    out = []
    for line in lines:
        out.append(line)
        if "*/" in line or not out[0].lstrip().startswith("/*"):
            break
    return " ".join(out) if out and out[0].lstrip().startswith("/*") else ""


def functions(lines):
    """(first line, last line, head comment) of each function, 1-based: a brace at column 0 opens its body."""
    start = None
    for i, line in enumerate(lines):
        if line.startswith("{") and not lines[i - 1].rstrip().endswith(("=", ";")):
            start = i
        elif line.startswith("}") and start is not None:
            head = start
            while head > 0 and lines[head - 1].strip() and not lines[head - 1].startswith(("}", "#")) \
                    and not lines[head - 1].rstrip().endswith(("*/", ";")):
                head -= 1
            top = head
            while top > 0 and lines[head - 1].rstrip().endswith("*/") and not lines[top].lstrip().startswith("/*"):
                top -= 1
            yield head + 1, i + 1, first_comment(lines[top:head])
            start = None


def rule_lengths(house):
    """Files and functions are short, or say why not."""
    for p in house.sources:
        lines, name = house.text[p], house.name(p)
        if len(lines) > FILE_MAX and "longer:" not in first_comment(lines):
            yield f"{name}:1: {len(lines)} lines, more than {FILE_MAX}"
        if p.suffix != ".c":
            continue
        for first, last, comment in functions(lines):
            if last - first + 1 > FUNCTION_MAX and "longer:" not in comment:
                yield f"{name}:{first}: function of {last - first + 1} lines, more than {FUNCTION_MAX}"


def rule_words(house):
    """Words that do not belong in the code."""
    for p in house.sources:
        for i, line in enumerate(house.text[p], 1):
            m = BANNED.search(line)
            if m:
                yield f"{house.name(p)}:{i}: the word {m.group(1)}"


def rule_ondisk(house):
    """Format structs hold disk integers."""
    for p in house.sources:
        inside = False
        for i, line in enumerate(house.text[p], 1) if p.name == "ondisk.h" else ():
            if re.match(r"(typedef\s+)?(struct|union)\b[^;]*\{", line):
                inside = True
            elif line.startswith("}"):
                inside = False
            elif inside and HOST_INT.match(line):
                yield f"{house.name(p)}:{i}: a host integer in a format struct"


def rule_format(house):
    """clang-format has nothing to say."""
    files = [str(p) for p in house.sources]
    if not files:
        return
    run = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], capture_output=True, text=True)
    seen = set()
    for line in run.stderr.splitlines():
        m = re.match(r"(.+?):(\d+):\d+: error:", line)
        if m and m.group(1) not in seen:
            seen.add(m.group(1))
            yield f"{house.name(pathlib.Path(m.group(1)))}:{m.group(2)}: not as clang-format has it (make format)"
    if run.returncode and not seen:
        yield f".clang-format:1: clang-format failed: {run.stderr.strip()[:200]}"


def main(argv):
    args = [a for a in argv if not a.startswith("--")]
    root = pathlib.Path(args.pop(1)) if "--root" in argv else pathlib.Path(__file__).resolve().parent.parent
    house = House(root, args[0])
    rules = [rule_layers, rule_process, rule_circles, rule_includes, rule_lengths, rule_words, rule_ondisk]
    if "--no-format" not in argv:
        rules.append(rule_format)
    bad = False
    for rule in rules:
        errors = list(rule(house))
        for e in errors:
            print(f"# {e}")
        print(f"{'not ok' if errors else 'ok'} - tidy: {rule.__name__[5:]}")
        bad = bad or bool(errors)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
