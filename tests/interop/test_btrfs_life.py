"""
What happens to devices while a volume lives: written without one that came back, one replaced, removed while it was away, added, profiles
half converted. Files without checksums show which device was asked, as nothing else makes up for a wrong one.
"""
import contextlib, hashlib, os, random, shutil, subprocess, time
import pytest
import mounts
from test_btrfs import btrfs, kernel, pytestmark  # noqa: F401

LONG = bool(os.environ.get('LONG'))


class Volume:
    def __init__(self, d, devices, data, meta, mib=300):
        self.d, self.mib, self.sums = d, mib, {}
        self.seed = random.randrange(1 << 32)
        print('seed', self.seed)
        self.rnd = random.Random(self.seed)
        (d / 'k').mkdir()
        self.paths = [self.image('%d' % i) for i in range(devices)]
        mounts.run('mkfs.btrfs', '-q', '-f', '-d', data, '-m', meta, '-O', 'no-holes', '-R', 'free-space-tree', *map(str, self.paths))

    def image(self, name):
        with open(self.d / (name + '.img'), 'wb') as f:
            f.truncate(self.mib << 20)
        return self.d / (name + '.img')

    def kernel(self, paths, options=''):
        return kernel(paths, self.d / 'k', options)

    def write(self, root, tag, size=5 << 20):
        for where in ('sum', 'nosum'):
            if not os.path.isdir(root + '/' + where):
                os.mkdir(root + '/' + where)
                if where == 'nosum':
                    mounts.run('chattr', '+C', root + '/nosum')
            body = self.rnd.randbytes(size + self.rnd.randrange(9000))
            with open('%s/%s/%s' % (root, where, tag), 'wb') as f:
                f.write(body)
            self.sums['%s/%s' % (where, tag)] = hashlib.sha256(body).hexdigest()

    def change(self, root):
        for name in self.sums:
            with open(root + '/' + name, 'r+b') as f:
                for _ in range(20):
                    f.seek(self.rnd.randrange(5 << 20))
                    f.write(self.rnd.randbytes(self.rnd.randrange(1, 30000)))
            with open(root + '/' + name, 'rb') as f:
                self.sums[name] = hashlib.sha256(f.read()).hexdigest()

    def check(self, paths, *options, said=''):
        """Alone in a directory, named, and found beside the first one."""
        with contextlib.ExitStack() as stack:
            apart = self.d / 'apart'
            apart.mkdir()
            stack.callback(shutil.rmtree, apart)
            for p in paths:
                os.link(p, apart / p.name)
            named = [w for p in paths[1:] for w in ('--device', str(apart / p.name))]
            for extra in [named, []] if named else [[]]:
                for name, want in self.sums.items():
                    r = subprocess.run([mounts.WERUNOS, 'cat', *options, *extra, '%s:/%s' % (apart / paths[0].name, name)],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                    assert r.returncode == 0, r.stderr
                    assert hashlib.sha256(r.stdout).hexdigest() == want, (name, extra, r.stderr)
                    assert said in r.stderr.decode(), r.stderr


@pytest.mark.parametrize('data,devices', [('raid1', 2), ('raid6', 4)] + ([('raid1c3', 3), ('raid10', 4), ('raid5', 3)] if LONG else []))
def test_came_back(tmp_path, data, devices):
    """One device missed some commits: what it holds is old, and nothing but its superblock says so where there are no checksums."""
    v = Volume(tmp_path, devices, data, data)
    with v.kernel(v.paths) as root:
        v.write(root, 'a')
    with v.kernel(v.paths[1:], 'degraded') as root:
        v.change(root)
        v.write(root, 'b')
    for first in range(2):
        v.check(v.paths[first:] + v.paths[:first], said='missed the last')


@pytest.mark.parametrize('data,devices,mib', [('raid1', 2, 20)] + ([('raid5', 3, 100)] if LONG else []))
def test_replacement_under_way(tmp_path, data, devices, mib):
    v = Volume(tmp_path, devices, data, data, 600)
    target, copies = v.image('target'), []
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(v.kernel(v.paths))
        loop = stack.enter_context(mounts.loop(target))
        v.write(root, 'a', mib << 20)
        btrfs('filesystem', 'sync', root)
        uuid = mounts.run('findmnt', '-no', 'UUID', root).decode().strip()
        limit = '/sys/fs/btrfs/%s/devinfo/1/scrub_speed_max' % uuid
        if not os.path.exists(limit):
            pytest.skip('the kernel cannot be slowed down in replacing a device')
        with open(limit, 'w') as f:
            f.write('10m')
        p = subprocess.Popen(['btrfs', 'replace', 'start', '-B', '-f', '1', loop, root], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(p.wait)
        stack.callback(subprocess.run, ['btrfs', 'replace', 'cancel', root], stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while b'%' not in (status := mounts.run('btrfs', 'replace', 'status', '-1', root)) or status.startswith(b'0.0%'):
            assert p.poll() is None and time.monotonic() < end, status
            time.sleep(0.05)
        btrfs('filesystem', 'sync', root)
        for path in v.paths + [target]:
            copies.append(path.with_suffix('.copy'))
            mounts.run('cp', '--sparse=always', str(path), str(copies[-1]))
        assert p.poll() is None, 'the replacement ended too soon'
    last = copies[-1:]
    for paths in (copies[:-1], copies, last + copies[:-1]):
        v.check(paths, said='the replacement of device 1 is not finished')
    v.check(copies[1:], '-o', 'degraded', said='device 1 is missing')


def test_removed_while_away(tmp_path):
    """It still says that it belongs; later another gets its number."""
    v = Volume(tmp_path, 3, 'raid1', 'raid1')
    with v.kernel(v.paths) as root:
        v.write(root, 'a')
    with v.kernel(v.paths[:2], 'degraded') as root:
        btrfs('device', 'remove', 'missing', root)
        v.change(root)
        v.write(root, 'b')
    v.check(v.paths[:2])
    v.check(v.paths, said='2.img is not used')
    v.check(v.paths[2:] + v.paths[:2], said='2.img is not used')
    new = v.image('new')
    with v.kernel(v.paths[:2]) as root, mounts.loop(new) as loop:
        btrfs('device', 'add', '-f', loop, root)
        v.write(root, 'c')
        btrfs('balance', 'start', '--full-balance', root)
        mounts.unmount(root)
    v.check(v.paths[:2] + [new])
    v.check(v.paths[2:] + [new] + v.paths[:2])


@pytest.mark.parametrize('old,new', [('raid1', 'raid6')] + ([('single', 'raid1'), ('raid0', 'raid5'), ('raid5', 'raid10')] if LONG else []))
def test_half_converted(tmp_path, old, new):
    v = Volume(tmp_path, 4, old, 'raid1', 600)
    with v.kernel(v.paths) as root:
        # So that the files need a second chunk.
        mounts.run('fallocate', '-l', '200M', root + '/reserved')
        for i in range(4):
            v.write(root, 'a%d' % i, 15 << 20)
        btrfs('balance', 'start', '-dconvert=%s,limit=1' % new, root)
        v.write(root, 'b')
        kinds = btrfs('filesystem', 'df', root)
        assert all('Data, %s:' % x in kinds for x in (new.upper(), old.upper().replace('SINGLE', 'single'))), kinds
    v.check(v.paths)
