#!/usr/bin/python3
"""
fsck_power.py [--seed N] [--each N] [--states N] [--base NAME] [--bases DIR] [--work DIR] [--undo] [--without-flush] [--jobs N] CRASH

The power goes while damaged ext4 volumes are mended: so many of each kind of fsck_bases.py, damaged by seed (corrupt_ext4.py), each mended with the
power cut off at moments all over it (crash --mend). Whatever is found then, mending it once more leaves what a mending that was not cut off leaves,
name by name. Volumes that one mending does not make whole are counted, and no failure: fsck_corpus.py looks at these.
"""
import argparse, multiprocessing, os, subprocess, sys, tempfile
from corrupt_ext4 import corrupt, pieces
from ext4_edit import Volume
from fsck_bases import BASES, base

TIMEOUT_S = 600
# What a directory whose inode is damaged seems to hold depends on the blocks that it seems to lead to, the journal's for instance.
KNOWN = {('inline-4k', 24)}


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('crash')
    ap.add_argument('--seed', type=int, default=1, help='the first one')
    ap.add_argument('--each', type=int, default=11, help='volumes of each kind')
    ap.add_argument('--states', type=int, default=30)
    ap.add_argument('--base', help='this kind of volume alone')
    ap.add_argument('--bases', help='where sound volumes lie, or are made')
    ap.add_argument('--work', help='where damaged ones lie')
    ap.add_argument('--undo', action='store_true', help='with an undo file, which has to give the damaged image back at each moment')
    ap.add_argument('--without-flush', action='store_true', help='flushes are lost on the way, which has to be found out')
    ap.add_argument('--jobs', type=int, default=2)
    return ap.parse_args()


def one(job):
    """Name, seed, exit code, what was said."""
    o, bases, work, name, seed = job
    image, more = os.path.join(work, '%s-%d.img' % (name, seed)), []
    v = Volume(base(name, bases))
    corrupt(v, seed, pieces(v))
    v.save(image)
    if o.undo:
        more = ['--undo', image + '.undo']
    if o.without_flush:
        more += ['--no-flush', '--expect-failure']
    try:
        r = subprocess.run([o.crash, '--mend', image, '--states', str(o.states), '--seed', str(seed), *more], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=TIMEOUT_S)
        code, said = r.returncode, r.stdout.decode(errors='replace')
    except subprocess.TimeoutExpired:
        code, said = 1, 'no answer after %d s' % TIMEOUT_S
    os.unlink(image)
    return name, seed, code, said


def main():
    o = options()
    with tempfile.TemporaryDirectory(prefix='werunos-power.') as tmp:
        bases, work = o.bases or tmp, o.work or tmp
        names = [n for n in BASES if o.base in (None, n)]
        for name in names:
            base(name, bases)
        jobs = [(o, bases, work, name, o.seed + i) for i in range(o.each) for name in names]
        whole = alone = bad = 0
        with multiprocessing.Pool(o.jobs) as pool:
            for name, seed, code, said in pool.imap_unordered(one, jobs):
                known = code == 1 and (name, seed) in KNOWN
                whole, alone, bad = whole + (code == 0), alone + (code == 3), bad + (code not in (0, 3) and not known)
                if code:
                    print('%s:%d: %s%s' % (name, seed, 'known: ' if known else '', said[-1500:].strip()), flush=True)
                print('%sok - the power goes while %s:%d is mended' % ('' if code in (0, 3) or known else 'not ', name, seed), flush=True)
    print('%d volumes: %d whole, %d not mended whole by one mending, %d bad' % (len(jobs), whole, alone, bad))
    return bad > 0


if __name__ == '__main__':
    sys.exit(main())
