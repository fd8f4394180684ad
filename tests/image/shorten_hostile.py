#!/usr/bin/python3
"""
shorten_hostile.py [--seed N] [--images N] [--base NAME] [--bases DIR] [--work DIR] [--keep DIR] [--jobs N] WERUNOS

Damaged ext4 volumes, made from sound ones by seed (corrupt_ext4.py), made shorter: there is an answer, 0 or 1 and a line that says why, and the volume is
not worse than before. What e2fsck would have kept of it, names and content that it always had, it keeps afterwards. No signal, no hang, no
sanitizer's report.
"""
import argparse, multiprocessing, os, random, shutil, sys, tempfile
from corrupt_ext4 import corrupt
from fsck_bases import BASES, base
from fsck_corpus import Bad, e2fsck, keep, memory, readable, run, sound


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('werunos')
    ap.add_argument('--seed', type=int, default=1, help='the first one')
    ap.add_argument('--images', type=int, default=60)
    ap.add_argument('--base', help='this kind of volume alone')
    ap.add_argument('--bases', help='where sound volumes lie, or are made')
    ap.add_argument('--work', help='where images are made shorter')
    ap.add_argument('--keep', help='where failing ones go')
    ap.add_argument('--jobs', type=int, default=2)
    return ap.parse_args()


def right(tree, before):
    return {path for path, was in before.items() if path in tree and tree[path][:2] == was[:2]}


def kept(image, before, shorter=False):
    """Of the sound volume's names, those that e2fsck keeps, with what they led to; None: it leaves damage behind."""
    length, full = os.path.getsize(image), False
    with open(image, 'rb') as f:
        as_it_lay = f.read()
    for _ in range(3):
        code, said = e2fsck(image, '-fy')
        full |= 'Could not allocate block' in said
        if code == 0:
            break
    clean = e2fsck(image, '-fn')[0] == 0
    os.truncate(image, length)  # it may write behind the volume's end
    tree = readable(image) if clean else None
    if tree is None:
        return None
    names = right(tree, before)
    if full and shorter:
        # What only has no room for a copy, of blocks that are claimed twice, is not lost.
        with open(image, 'wb') as f:
            f.write(as_it_lay)
        names |= right(readable(image) or {}, before)
    return names


def shorten(o, seed, before, image, broken):
    rnd = random.Random(seed)
    size = str(int(os.path.getsize(image) * rnd.uniform(.3, .97)))
    code, out = run(o.werunos, 'resize', image, *(['--minimum'] if rnd.random() < .4 else [size]))
    if code not in (0, 1) or (code and 'werunos: ' not in out):
        raise Bad('exit %d: %s' % (code, out[-300:]))
    if code and os.path.getsize(image) < os.path.getsize(broken):
        os.truncate(image, os.path.getsize(broken))
    had, has = kept(broken, before), kept(image, before, not code)
    if had is not None and has is None:
        raise Bad('exit %d, and e2fsck, which mends what it was before, does not mend it: %s' % (code, out[-300:]))
    if had and had - has:
        raise Bad('exit %d, and %d names are lost: %s' % (code, len(had - has), sorted(had - has)[:4]))
    return code


def one(args):
    """A line to print, whether all was well, and whether the volume became shorter."""
    o, seed = args
    name = o.base or list(BASES)[seed % len(BASES)]
    v, data, before, have = sound(o, name)
    v.data[:] = data
    said, _ = corrupt(v, seed, have)
    image, broken = (os.path.join(o.work, '%s-%d.%s' % (name, seed, end)) for end in ('img', 'broken'))
    v.save(broken)
    shutil.copyfile(broken, image)
    title = '%s:%d' % (name, seed)
    try:
        code = shorten(o, seed, before, image, broken)
        return 'ok - ' + title, True, code == 0
    except Bad as e:
        v.save(broken)
        keep(o, broken, image)
        return '\n'.join(['not ok - %s: %s' % (title, e)] + ['  ' + x for x in said]), False, False
    finally:
        os.unlink(image)
        os.unlink(broken)


def main():
    o = options()
    if os.geteuid() and not o.bases:
        print('ok - hostile shortening # SKIP not root: the kernel has to fill the volumes')
        return 0
    with tempfile.TemporaryDirectory(dir=o.work or memory(o.jobs)) as work:
        o.work, o.bases = work, o.bases or work
        for name in [o.base] if o.base else BASES:
            base(name, o.bases)
        bad = shorter = 0
        with multiprocessing.Pool(o.jobs) as pool:
            for line, well, done in pool.imap_unordered(one, [(o, o.seed + i) for i in range(o.images)], 4):
                bad += not well
                shorter += done
                print(line, flush=True)
    print('# seeds %d to %d: %d became shorter' % (o.seed, o.seed + o.images - 1, shorter))
    return bool(bad)


if __name__ == '__main__':
    sys.exit(main())
