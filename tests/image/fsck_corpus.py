#!/usr/bin/python3
"""
fsck_corpus.py [--seed N] [--images N] [--fsck werunos|e2fsck|find] [--base NAME] [--bases DIR] [--work DIR] [--keep DIR] [--jobs N] [--least PERCENT] WERUNOS

Damaged ext4 volumes, made from sound ones by seed (corrupt_ext4.py), and what becomes of them. After werunos fsck -y: it is clean for us and for
e2fsck; every name and content that e2fsck -fy keeps is kept; undo gives the damaged image back. --fsck e2fsck lets e2fsck mend, which proves
this program; --fsck find compares the verdicts of both and mends nothing. What fails is kept in --keep, as it was before.

--least: so many of a hundred have to be mended whole. For the others, what was not mended, or is not as e2fsck would have it, is said and no
failure; a signal, a hang, a sanitizer's report, a silent change, or an undo that is not exact always is one.
"""
import argparse, hashlib, multiprocessing, os, re, shutil, struct, subprocess, sys, tempfile
from corrupt_ext4 import corrupt, pieces
from ext4_edit import Broken, Volume
from fsck_bases import BASES, base

TIMEOUT_S = 60
ANSWERED, MENDED, LEFT, FAILED = 0, 1, 4, 8
EMPTY = hashlib.sha256(b'0').hexdigest()[:16]  # what Volume.content says of such a file
known = {}


class Bad(Exception):
    pass


class Left(Bad):
    """Not mended, or not as well as e2fsck does it; but said so, or undone."""


class Refused(Left):
    pass


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('werunos')
    ap.add_argument('--seed', type=int, default=1, help='the first one')
    ap.add_argument('--images', type=int, default=60)
    ap.add_argument('--fsck', choices=('werunos', 'e2fsck', 'find'), default='werunos')
    ap.add_argument('--base', help='this kind of volume alone')
    ap.add_argument('--kinds', help='this metadata alone: super, descriptor, bitmap, inode, extent, …', type=lambda s: s.split(','))
    ap.add_argument('--bases', help='where sound volumes lie, or are made')
    ap.add_argument('--work', help='where images are mended')
    ap.add_argument('--keep', help='where failing ones go')
    ap.add_argument('--jobs', type=int, default=2)
    ap.add_argument('--least', type=int, default=100)
    return ap.parse_args()


def run(*cmd):
    """Exit code and output; a signal, a hang or a sanitizer's report is a failure whatever was wanted."""
    try:
        r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Bad('%s: no answer after %d s' % (' '.join(cmd[:3]), TIMEOUT_S))
    out = r.stdout.decode(errors='replace')
    if r.returncode < 0 or 'Sanitizer' in out or 'runtime error' in out:
        raise Bad('%s: signal %d: %s' % (' '.join(cmd[:3]), -r.returncode, out[-1500:]))
    return r.returncode, out


def e2fsck(image, *how):
    return run('e2fsck', *how, image)


def readable(image):
    """Its tree; None: it is damaged."""
    try:
        return Volume(image).tree()
    except (Broken, IndexError, ValueError, struct.error):
        return None


def tree_of(image):
    tree = readable(image)
    if tree is None:
        raise Left('cannot be read after the mending')
    return tree


def link_of(tree, path):
    """The directory, the name, and what it leads to."""
    above, _, name = path.rpartition(b'/')
    return tree[above][2] if above in tree else 2, name, tree[path][2]


def lost(before, ours, theirs):
    """What e2fsck keeps and we do not, as sentences. before: {} where it is not known."""
    out = []
    reached = {(ino, kind) for kind, _, ino in ours.values()}
    was, have = ({link_of(tree, path) for path in tree} for tree in (before or theirs, ours))
    for path, (kind, content, ino) in theirs.items():
        name = path.decode(errors='replace')
        if path not in ours:
            # Of a name that e2fsck made up, or made lead elsewhere than it did, counts what it leads to. (Empty files without a name it clears.)
            kept = link_of(theirs, path) in was and not re.search(rb'^/lost\+found/#|~\d+(/|$)', path)
            if link_of(theirs, path) in have if kept else (ino, kind) in reached or content == EMPTY:
                continue
            out.append('%s is lost, which e2fsck keeps' % name)
        elif before.get(path, (0, 0, 0))[:2] == (kind, content) and ours[path][:2] != (kind, content):
            out.append('the content of %s is lost, which e2fsck keeps' % name)
    return out


def judge_names(before, image, broken):
    ours = tree_of(image)
    if all(ours.get(path) == was for path, was in before.items()):
        return
    copy = image + '.theirs'
    shutil.copyfile(broken, copy)
    try:
        for _ in range(3):
            if e2fsck(copy, '-fy')[0] == 0:
                break
        # What it leaves damaged without saying so is no measure; it may write terabytes behind the volume's end.
        clean = e2fsck(copy, '-fn')[0] == 0
        os.truncate(copy, os.path.getsize(broken))
        theirs = readable(copy) if clean else None
        gone = lost(before, ours, theirs or {})
        if gone:
            raise Left('%d names: %s' % (len(gone), '; '.join(gone[:4])))
    finally:
        os.unlink(copy)


def same_bytes(a, b):
    with open(a, 'rb') as f, open(b, 'rb') as g:
        return f.read() == g.read()


def clean_for_e2fsck(image):
    code, out = e2fsck(image, '-fn')
    # It judges no volume with features that it does not know: 8 it says, too, of what a kernel of today mounts.
    if code and 'has unsupported feature' not in out:
        said = [x for x in out.splitlines() if x.strip() and not x.startswith(('Pass', 'e2fsck'))]
        raise Left('not clean for e2fsck: %s' % ' | '.join(said[:4]))


def mended(werunos, image, broken):
    """Mends the image, a copy of `broken`: then nothing is found any more, by us and by e2fsck. False: it is no volume that can be mended."""
    code, out = run(werunos, 'fsck', '-f', '-y', '--undo', image + '.undo', image)
    if code == FAILED:
        # It cannot be opened, or has unknown features: e2fsck has to say so, too.
        shutil.copyfile(broken, image)
        if e2fsck(image, '-fy')[0] < FAILED:
            raise Refused('refused: %s' % out.strip()[-300:])
        return False
    if code not in (ANSWERED, MENDED):
        left = [x for x in out.splitlines() if x.endswith(']')]
        raise Left('exit %d: %d left: %s' % (code, len(left), ' | '.join(x[:80] + x[max(80, x.rindex('[')):] for x in left[:8])))
    # A log that was replayed is no repair.
    if code == ANSWERED and not same_bytes(image, broken) and run(werunos, 'fsck', '-f', '-n', broken)[0] != ANSWERED:
        raise Bad('exit 0, but something was changed')
    code, out = run(werunos, 'fsck', '-f', image)
    if code != ANSWERED:
        raise Left('not clean for us: exit %d: %s' % (code, ' | '.join(out.splitlines()[:3])))
    clean_for_e2fsck(image)
    return True


def undone(werunos, image, broken):
    """The mended image becomes the broken one."""
    if os.path.exists(image + '.undo'):
        code, out = run(werunos, 'undo', image + '.undo', image)
        if code or not same_bytes(image, broken):
            raise Bad('undo: exit %d, or not the same image: %s' % (code, out[-300:]))
    elif not same_bytes(image, broken):
        raise Bad('there is nothing to undo it with')


def mend(o, before, image, broken):
    if o.fsck == 'e2fsck':
        e2fsck(image, '-fy')
        e2fsck(image, '-fy')
        clean_for_e2fsck(image)
        judge_names(before, image, broken)
        return
    left = None
    try:
        if not mended(o.werunos, image, broken):
            return
        judge_names(before, image, broken)
    except Refused:
        raise
    except Left as e:
        left = e
    undone(o.werunos, image, broken)
    if left:
        raise left


def find(o, image):
    code, out = run(o.werunos, 'fsck', '-f', '-n', image)
    if code not in (ANSWERED, LEFT, FAILED):
        raise Bad('exit %d: %s' % (code, out[-300:]))
    theirs, said = e2fsck(image, '-fn')
    # To find more than e2fsck is no failure: something is wrong with each of these volumes.
    if code == ANSWERED and theirs:
        raise Left('not found: %s' % ' | '.join(x for x in said.splitlines() if x.strip() and not x.startswith(('Pass', 'e2fsck')))[:500])


def sound(o, name):
    if name not in known:
        v = Volume(base(name, o.bases))
        known[name] = v, bytes(v.data), v.tree(), pieces(v)
    return known[name]


def keep(o, broken, image):
    if o.keep:
        os.makedirs(o.keep, exist_ok=True)
        shutil.copyfile(broken, os.path.join(o.keep, os.path.basename(image)))


def one(args):
    """A line to print, and whether all was well."""
    o, seed = args
    name = o.base or list(BASES)[seed % len(BASES)]
    v, data, before, have = sound(o, name)
    v.data[:] = data
    said, _ = corrupt(v, seed, have, o.kinds)
    image, broken = (os.path.join(o.work, '%s-%d.%s' % (name, seed, end)) for end in ('img', 'broken'))
    v.save(broken)
    title = '%s:%d' % (name, seed)
    try:
        shutil.copyfile(broken, image)
        if o.fsck == 'find':
            find(o, image)
        else:
            mend(o, before, image, broken)
        return 'ok - ' + title, True
    except Left as e:
        keep(o, broken, image)
        if o.least == 100:
            return '\n'.join(['not ok - %s: %s' % (title, e)] + ['  ' + x for x in said]), False
        return '# left - %s: %s' % (title, e), False
    except Bad as e:
        keep(o, broken, image)
        return '\n'.join(['not ok - %s: %s' % (title, e)] + ['  ' + x for x in said]), False
    finally:
        for path in (image, broken, image + '.undo'):
            if os.path.exists(path):
                os.unlink(path)


def memory(jobs):
    """Where nothing waits for a disk, if there is room; else None."""
    room = shutil.disk_usage('/dev/shm').free if os.access('/dev/shm', os.W_OK) else 0
    return '/dev/shm' if room > (256 + 128 * jobs) << 20 else None


def main():
    o = options()
    if os.geteuid() and not o.bases:
        print('ok - corpus # SKIP not root: the kernel has to fill the volumes')
        return 0
    with tempfile.TemporaryDirectory(dir=o.work or memory(o.jobs)) as work:
        o.work, o.bases = work, o.bases or work
        for name in [o.base] if o.base else BASES:
            base(name, o.bases)
        good = bad = 0
        with multiprocessing.Pool(o.jobs) as pool:
            for line, well in pool.imap_unordered(one, [(o, o.seed + i) for i in range(o.images)], 4):
                good += well
                bad += line.startswith('not ok')
                print(line, flush=True)
    print('# seeds %d to %d: %d of %d' % (o.seed, o.seed + o.images - 1, good, o.images))
    enough = good * 100 >= o.least * o.images
    print('%s - at least %d %% are mended whole' % ('ok' if enough else 'not ok', o.least))
    return bool(bad or not enough)


if __name__ == '__main__':
    sys.exit(main())
