#!/usr/bin/python3
"""Volumes of ext4 that differ in everything they can differ in: combinations drawn so that every two choices meet that can.

  pairs.py list [--rows N]                       one line each: name, choices
  pairs.py run [--rows N] [--only ROW,...] [--ops N] [--states N] [--seed N] BUILD_DIR

run does with each: random operations beside the kernel's own volume of that kind, a crash sample, two of its teeth, a full disk; after
each e2fsck, our fsck and (where it can) the kernel look at the volume. One line for each in TAP. The same rows come every time.
"""
import argparse, itertools, os, random, re, subprocess, sys

CHOICES = {
    'block': ['1k', '2k', '4k', '8k', '64k'],
    'cluster': ['none', 'x2', 'x16'],
    'map': ['extents', 'pointers'],
    'journal': ['ordered', 'data', 'writeback', 'fast_commit', 'none'],
    'sums': ['none', 'uninit_bg', 'metadata_csum', 'seed'],
    'inode': ['128', '256', '512'],
    'width': ['32', '64'],
    'layout': ['plain', 'flex_bg', 'resize_inode', 'meta_bg', 'sparse_super2'],
    'dirs': ['linear', 'dir_index', 'large_dir'],
    'inline': ['no', 'yes'],
    'fold': ['no', 'yes'],
    'values': ['block', 'ea_inode'],
    'quota': ['none', 'users', 'projects'],
    'mmp': ['no', 'yes'],
    'orphans': ['list', 'file'],
}
BYTES = {'1k': 1024, '2k': 2048, '4k': 4096, '8k': 8192, '64k': 65536}
PAGE = os.sysconf('SC_PAGESIZE')
TOP = os.path.dirname(os.path.abspath(__file__))


def possible(c):
    """What mke2fs makes. A partial combination is possible when nothing in it contradicts."""
    has = lambda k, *v: c.get(k) in v
    no = []
    no.append(has('cluster', 'x2', 'x16') and has('map', 'pointers'))
    no.append(has('cluster', 'x2', 'x16') and has('layout', 'resize_inode'))
    no.append(has('map', 'pointers') and has('width', '64'))  # the kernel wants extents there
    no.append(has('inode', '128') and (has('inline', 'yes') or has('quota', 'projects')))
    no.append(has('map', 'pointers') and has('inline', 'yes'))
    no.append(has('journal', 'none') and has('orphans', 'file'))
    # A journal has 1024 blocks at least: the crash suite's volumes are small.
    no.append(has('block', '64k') and c.get('journal') not in (None, 'none'))
    return not any(no)


def completes(c):
    """There is a whole combination with this in it."""
    if not possible(c):
        return False
    k = next((k for k in CHOICES if k not in c), None)
    return k is None or any(completes({**c, k: v}) for v in CHOICES[k])


def pairs_of(c):
    return {((a, c[a]), (b, c[b])) for a, b in itertools.combinations(CHOICES, 2)}


def rows(count):
    """Greedy: of many random combinations the one with the most pairs that none before it has."""
    rnd = random.Random(1)
    left = {((a, x), (b, y)) for a, b in itertools.combinations(CHOICES, 2) for x in CHOICES[a] for y in CHOICES[b]
            if completes({a: x, b: y})}
    out = []
    for _ in range(count):
        best = None
        for _ in range(60):
            c = {}
            if left:
                for k, v in rnd.choice(sorted(left)):
                    c[k] = v
            keys = [k for k in CHOICES if k not in c]
            rnd.shuffle(keys)
            for k in keys:
                fit = [v for v in CHOICES[k] if completes({**c, k: v})]
                new = lambda v: sum(1 for o in c if ((o, c[o]), (k, v)) in left or ((k, v), (o, c[o])) in left)
                c[k] = max(fit, key=lambda v: (new(v), rnd.random()))
            if best is None or len(pairs_of(c) & left) > len(pairs_of(best) & left):
                best = c
        left -= pairs_of(best)
        out.append({k: best[k] for k in CHOICES})
    return out, left


def mke2fs(c):
    """Its options, by name; words of -E; what tune2fs does afterwards, or None. (Whether the root folds case is not mke2fs's to say.)"""
    f = ['none', 'ext_attr', 'filetype', 'sparse_super', 'large_file']
    opts, ext = ['-b', str(BYTES[c['block']]), '-I', c['inode']], []
    if c['map'] == 'extents':
        f += ['extent', 'huge_file', 'dir_nlink']
    if c['inode'] != '128':
        f.append('extra_isize')
    if c['cluster'] != 'none':
        f.append('bigalloc')
        opts += ['-C', str(BYTES[c['block']] * int(c['cluster'][1:]))]
    if c['journal'] != 'none':
        f.append('has_journal')
    if c['journal'] == 'fast_commit':
        f.append('fast_commit')
    f += {'none': [], 'uninit_bg': ['uninit_bg'], 'metadata_csum': ['metadata_csum'], 'seed': ['metadata_csum', 'metadata_csum_seed']}[c['sums']]
    if c['width'] == '64':
        f.append('64bit')
    f += {'plain': [], 'flex_bg': ['flex_bg'], 'resize_inode': ['flex_bg', 'resize_inode'], 'meta_bg': ['meta_bg'],
          'sparse_super2': ['sparse_super2', 'flex_bg']}[c['layout']]
    if c['layout'] == 'sparse_super2':
        f.remove('sparse_super')
        ext.append('num_backup_sb=2')
    f += {'linear': [], 'dir_index': ['dir_index'], 'large_dir': ['dir_index', 'large_dir']}[c['dirs']]
    if c['inline'] == 'yes':
        f.append('inline_data')
    if c['fold'] == 'yes':
        f.append('casefold')
        ext += ['encoding=utf8', 'root_owner=0:0']
    if c['values'] == 'ea_inode':
        f.append('ea_inode')
    if c['quota'] != 'none':
        f.append('quota')
        ext.append('quotatype=usrquota:grpquota' + (':prjquota' if c['quota'] == 'projects' else ''))
    if c['quota'] == 'projects':
        f.append('project')
    if c['mmp'] == 'yes':
        f.append('mmp')
        ext.append('mmp_update_interval=1')
    if c['orphans'] == 'file':
        f.append('orphan_file')
    if c['block'] in ('8k', '64k'):
        opts += ['-i', '32768']
    opts += ['-O', ','.join(f)]
    tune = {'data': 'journal_data', 'writeback': 'journal_data_writeback'}.get(c['journal'])
    return opts, ext, tune


def kernels(c):
    """The kernel's volume beside it: of the same kind as far as it mounts that and writes it well."""
    k = {**c, 'fold': 'no', 'inline': 'no', 'quota': 'none', 'mmp': 'no', 'journal': 'ordered', 'orphans': 'list'}
    if BYTES[c['block']] > PAGE:
        k['block'] = '4k'
    return k


def name(i, c):
    return 'pairs/%02d: %s' % (i, ' '.join('%s' % v if k == 'block' else '%s=%s' % (k, v) for k, v in c.items() if v not in ('no', 'none')))


def words(c):
    opts, ext, tune = mke2fs(c)
    return ' '.join(opts + (['-E', ','.join(ext)] if ext else [])) + (' --then tune2fs -o %s IMAGE' % tune if tune else '') + \
        (' --then %s/tools/casefolded.sh IMAGE' % TOP if c['fold'] == 'yes' else '')


def run(cmd, seconds, env=None):
    p = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace',
                       timeout=seconds, env={**os.environ, **(env or {})})
    bad = p.returncode or re.search(r'^not ok', p.stdout, re.M)
    return not bad, p.stdout


def judge(what, cmd, seconds=1800, env=None):
    try:
        good, said = run(cmd, seconds, env)
    except subprocess.TimeoutExpired:
        good, said = False, 'took longer than %d s' % seconds
    if not good:
        for line in [l for l in said.splitlines() if not l.startswith('ok ')][-25:]:
            print('# ' + line)
        print('# ' + ' '.join("'%s'" % w if ' ' in w else w for w in cmd))
    print('%s - %s' % ('ok' if good else 'not ok', what), flush=True)
    return good


def crash(a, i, c, *words, program='crash'):
    opts, ext, tune = mke2fs(c)
    unit = BYTES[c['block']] * (1 if c['cluster'] == 'none' else int(c['cluster'][1:]))
    cmd = [a.build + '/tests/crash/' + program, '--mke2fs', ' '.join(opts), '--mib', str(max(24, unit >> 10)), '--seed', str(a.seed + i)]
    # Of several groups, so that there is a copy of the superblock for when it is torn.
    group = 256 if c['cluster'] != 'none' else (8 << 20) // BYTES[c['block']]
    cmd[2] += ' -g %d' % group
    if ext:
        cmd += ['--extended', ''.join(',' + e for e in ext)]
    if tune:
        cmd += ['--tune2fs', '-o ' + tune]
    if c['fold'] == 'yes':
        cmd += ['--fold']
    return cmd + list(words)


def test(a, i, c):
    tool = lambda t: '%s/tests/%s' % (a.build, t)
    with_ = TOP + '/with.sh'
    image, small = 'image:' + words(c), 'image:-S %s %s' % ('48M' if BYTES[c['block']] > PAGE else '16M', words(c))
    target = ('fold:' if c['fold'] == 'yes' else '') + 'vfs:ext4:@image'
    n, good, env = name(i, c), True, {'FSCK': a.build + '/werunos'}
    # The kernel's SEEK_DATA passes over what waits for a place in maps of pointers.
    beside = words(kernels(c)) + (' --then tune2fs -E mount_opts=nodelalloc IMAGE' if c['map'] == 'pointers' else '')
    good &= judge(n + ': as the kernel', [with_, image, with_, 'ext4:' + beside, tool('model/model'), '--oracle', 'dir:@ext4', '--target',
                                         target, '--seed', str(a.seed + i), '--ops', '2500', '--runs', str(max(1, a.ops // 2500)),
                                         '--values', '65536' if c['values'] == 'ea_inode' else '0'], env=env)
    if c['journal'] != 'none':
        # Of a volume with mmp others wait for the machine that is gone: they see a few states.
        others = 0 if c['mmp'] == 'yes' else max(1, a.states // 4)
        good &= judge(n + ': the power goes', crash(a, i, c, '--states', str(a.states), '--others', str(others)))
        tooth = ['--others', '0', '--states', '100', '--expect-failure']
        good &= judge(n + ': the power goes, without flushes', crash(a, i, c, '--work', 'mixed', '--no-flush', *tooth))
        good &= judge(n + ': the power goes, without orphans', crash(a, i, c, '--work', 'orphans', *tooth, program='crash_teeth'), env={'CRASH_TOOTH': 'orphan'})
        if c['mmp'] == 'yes':
            good &= judge(n + ': the power goes, as others see it', crash(a, i, c, '--work', 'mixed', '--states', '2', '--others', '1'))
    good &= judge(n + ': full', [with_, small, tool('tools/stress'), target, str(a.seed + i), '8', '2000', 'full'], env=env)
    return good


def main():
    ap = argparse.ArgumentParser(usage=__doc__)
    ap.add_argument('what', choices=['list', 'run'])
    ap.add_argument('build', nargs='?')
    ap.add_argument('--rows', type=int, default=48)
    ap.add_argument('--only', default='')
    ap.add_argument('--ops', type=int, default=20000)
    ap.add_argument('--states', type=int, default=40)
    ap.add_argument('--seed', type=int, default=1)
    a = ap.parse_intermixed_args()
    made, left = rows(a.rows)
    if a.what == 'list':
        for i, c in enumerate(made):
            print(name(i, c))
        print('%d rows; pairs that do not meet: %d' % (len(made), len(left)))
        return 0
    only = [int(n) for n in a.only.split(',') if n]
    return 0 if all([test(a, i, c) for i, c in enumerate(made) if not only or i in only]) else 1


if __name__ == '__main__':
    sys.exit(main())
