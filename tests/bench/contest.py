"""What the benches share: options, contestants that mount an image in turn, timing, and the table with its bars."""
import argparse, fcntl, json, os, re, shutil, signal, statistics, subprocess, sys, time

FEATURES = ('none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,'
            'large_file,huge_file,dir_nlink,extra_isize,metadata_csum,metadata_csum_seed,orphan_file')
STEP_S = 60


def options(doc):
    """A parser with the options that all have."""
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('werunos')
    ap.add_argument('--quick', action='store_true', help='smaller, one run: to see that it works')
    ap.add_argument('--reps', type=int)
    ap.add_argument('--only', default='', help='rows whose name contains one of these words')
    ap.add_argument('--dir', default='/var/tmp/werunos-bench')
    ap.add_argument('--shm', default='/dev/shm/werunos-bench')
    ap.add_argument('--json')
    return ap


def run(args, rows, measure_all):
    """measure_all(ROWS) -> results, of those that were asked for. The directories are this run's alone until it ends."""
    if os.geteuid():
        sys.exit('bench: needs root, for loop mounts and for dropping caches')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    words = [w for w in args.only.split(',') if w]
    for d in (args.dir, args.shm):
        os.makedirs(d, exist_ok=True)
    with open(args.dir + '/lock', 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit('bench: another run uses %s: wait for it, or name another --dir and --shm' % args.dir)
        wanted = [r for r in rows if not words or any(w in r[0] for w in words)]
        if not wanted:
            return
        out = measure_all(wanted)
        if args.json:
            with open(args.json, 'w') as f:
                json.dump(out, f, indent=1)


def sh(*cmd, check=True, timeout=600, **kw):
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, **kw)
    if check and r.returncode:
        raise RuntimeError('%s: exit %d: %s' % (' '.join(cmd), r.returncode, r.stderr.decode(errors='replace')[-400:]))
    return r.stdout


def drop_caches():
    with open('/proc/sys/vm/drop_caches', 'w') as f:
        f.write('3\n')


class Contestant:
    """Mounts an image and unmounts it, also when a step failed."""

    def __init__(self, name, program, write=False, options=''):
        self.name, self.program, self.write, self.options = name, program, write, options
        self.proc, self.dir = None, None

    def mount(self, img, mnt):
        os.makedirs(mnt, exist_ok=True)
        self.dir = mnt
        if self.name == 'kernel':
            sh('mount', '-o', 'loop' if self.write else 'loop,ro', img, mnt)
            return
        cmd = {'fuse2fs': ['fuse2fs', '-f', '-o', 'rw' if self.write else 'ro', img, mnt],
               'werunos': [self.program, 'mount', *(['-o', self.options] if self.options else []), img, mnt]}[self.name]
        self.proc = subprocess.Popen(cmd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        end = time.monotonic() + 20
        while not os.path.ismount(mnt):
            if self.proc.poll() is not None:
                raise RuntimeError('%s: %s' % (self.name, self.proc.stderr.read().decode(errors='replace')[-400:]))
            if time.monotonic() > end:
                raise RuntimeError('%s: not mounted after 20 s' % self.name)
            time.sleep(0.01)

    def rss_peak_kib(self):
        if not self.proc:
            return 0
        with open('/proc/%d/status' % self.proc.pid) as f:
            found = re.search(r'VmHWM:\s+(\d+)', f.read())
        if not found:
            raise RuntimeError('%s ended by itself' % self.name)
        return int(found.group(1))

    def unmount(self):
        if self.dir and os.path.ismount(self.dir):
            sh('umount', self.dir, check=False)
            if os.path.ismount(self.dir):
                sh('umount', '-l', self.dir, check=False)
        if self.proc:
            try:
                self.proc.wait(STEP_S)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        self.proc = None


def timed(fn):
    t = time.monotonic()
    fn()
    return time.monotonic() - t


def names():
    return ['kernel', 'werunos'] + (['fuse2fs'] if shutil.which('fuse2fs') else [])


def verdict(bars, t):
    """What the bars say: 'met', 'aim met' or 'MISSED'. bars: times the kernel's time at most, aim, times faster than fuse2fs at
    least, aim of that."""
    must, aim, xf, xf_aim = (tuple(bars) + (None,) * 4)[:4]
    k, f, w = t['kernel'], t['fuse2fs'], t['werunos']
    if w is None:
        return 'FAILED'
    if not any(bars):
        return 'measured'
    bad = must and k and w > must * k
    # A contestant that did not end in time counts with the time it was given.
    bad = bad or (xf and (f or STEP_S) / w < xf)
    if bad:
        return 'MISSED'
    if not aim and not xf_aim:
        return 'met'
    good = (not aim or (k and w <= aim * k)) and (not xf_aim or (f or STEP_S) / w >= xf_aim)
    return 'aim met' if good else 'met'


def bar_text(bars):
    must, aim, xf, xf_aim = (tuple(bars) + (None,) * 4)[:4]
    parts = (['<= %.1f xK' % must] if must else []) + (['aim %.1f' % aim] if aim else [])
    parts += (['>= %g xF' % xf] if xf else []) + (['aim %g' % xf_aim] if xf_aim else [])
    return ', '.join(parts) or 'no bar'


def head(unit):
    print('%-46s %9s %9s %9s %6s %6s  %s' % (unit, 'kernel', 'werunos', 'fuse2fs', 'xK', 'xF', 'bar'))


def sample(reps, measure, who):
    """Runs measure(NAME) `reps` times for each of `who` in turn. Seconds by name: all, and their medians. measure gives seconds or None."""
    got = {n: [] for n in who}
    for rep in range(reps):
        for n in got:
            if rep and not got[n]:
                continue  # too slow or failing: not asked again
            t = measure(n)
            if t is not None:
                got[n].append(t)
    return got, {n: statistics.median(v) if v else None for n, v in got.items()}


def show_s(v):
    return '%9.3f' % v if v is not None else '        -'


def show_ratio(ours, theirs):
    return '%6.2f' % (ours / theirs) if ours and theirs else '     -'


def row(title, bars, reps, measure, who=None):
    """Samples all contestants (or `who`), prints the row, returns it."""
    got, med = sample(reps, measure, who or names())
    med.setdefault('fuse2fs', None)
    w = med['werunos']
    print('%-46s %s %s %s %s %s  %s: %s' % (title, show_s(med['kernel']), show_s(w), show_s(med['fuse2fs']), show_ratio(w, med['kernel']),
                                            show_ratio(w, med['fuse2fs']), bar_text(bars), verdict(bars, med)), flush=True)
    return {'row': title, 'median_s': med, 'samples_s': got, 'verdict': verdict(bars, med)}
