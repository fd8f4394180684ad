"""
Where the kernel puts the bytes of each profile, on one to six devices: every file that it wrote is read with all devices, without every
set of devices that the profile can spare, and, where it cannot spare them, refused instead of shown wrongly.
"""
import hashlib, itertools, os, subprocess
import pytest
import mounts
from test_btrfs import kernel, pytestmark  # noqa: F401

MIB = 256
# data profile, metadata profile, devices, how many may be missing
CASES = [
    ('single', 'raid1', 3, 0),
    ('raid0', 'raid1', 2, 0),
    ('raid0', 'raid1', 3, 0),
    ('raid1', 'raid1', 2, 1),
    ('raid1', 'raid1', 3, 1),
    ('raid1c3', 'raid1c3', 4, 2),
    ('raid1c4', 'raid1c4', 4, 3),
    ('raid10', 'raid10', 4, 1),
    ('raid10', 'raid1', 5, 1),
    ('raid5', 'raid1', 2, 1),
    ('raid5', 'raid1', 3, 1),
    ('raid5', 'raid5', 4, 1),
    ('raid6', 'raid1c3', 3, 2),
    ('raid6', 'raid1c3', 4, 2),
    ('raid6', 'raid6', 5, 2),
    ('raid6', 'raid1c3', 6, 2),
]
CASES = {'%s-%s-%d' % c[:3]: c for c in CASES}
QUICK = ['raid0-raid1-3', 'raid6-raid6-5']


def stamped(seed, n):
    """Every 16 bytes say where they belong."""
    return b''.join(b'%08x%08x' % (seed, i) for i in range(n // 16))


@pytest.fixture(params=list(CASES) if os.environ.get('LONG') else QUICK)
def volume(tmp_path, request):
    data, meta, n, spare = CASES[request.param]
    paths = [tmp_path / ('%d.img' % i) for i in range(n)]
    for p in paths:
        with open(p, 'wb') as f:
            f.truncate(MIB << 20)
    mounts.run('mkfs.btrfs', '-q', '-f', '-d', data, '-m', meta, '-O', 'no-holes', '-R', 'free-space-tree', *map(str, paths))
    (tmp_path / 'k').mkdir()
    sums = {}
    with kernel(paths, tmp_path / 'k') as root:
        # Of odd lengths, so that extents begin anywhere in a row of stripes.
        for i, size in enumerate([4096, 12288, 69632, 300000, 1 << 20, 3000016, 7 << 20, 20 << 20]):
            body = stamped(i, size)
            with open('%s/f%d' % (root, i), 'wb') as f:
                f.write(body)
                os.fsync(f.fileno())
            sums['f%d' % i] = hashlib.sha256(body).hexdigest()
    return paths, sums, spare, data in ('raid0', 'raid5', 'raid6')


def read(paths, name):
    """Without the devices that are not named; its sum, "" when it cannot be read, and what was said."""
    extra = [w for p in paths[1:] for w in ('--device', str(p))] or ['--device', str(paths[0])]
    r = subprocess.run([mounts.WERUNOS, 'cat', '-o', 'degraded', *extra, '%s:/%s' % (paths[0], name)], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)
    assert r.returncode in (0, 1), r.stderr
    return '' if r.returncode else hashlib.sha256(r.stdout).hexdigest(), r.stderr.decode()


def test_without_devices(volume):
    paths, sums, spare, striped = volume
    for gone in itertools.chain.from_iterable(itertools.combinations(paths, k) for k in range(spare + 2)):
        left = [p for p in paths if p not in gone]
        if not left:
            continue
        refused = 0
        for name, want in sums.items():
            got, err = read(left, name)
            assert got == want or (len(gone) > spare and err), (gone, name, err)
            refused += not got
        # Mirrors may have been lucky; what is spread over all devices not.
        assert refused or len(gone) <= spare or not striped, gone


def noise_over(path):
    """All that was written but superblocks; returns what it was."""
    kept, at = [], 1 << 20
    with open(path, 'r+b') as f:
        while True:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return kept
            end = min(os.lseek(f.fileno(), at, os.SEEK_HOLE), at + (1 << 20))
            if not at <= 64 << 20 < end:
                f.seek(at)
                kept.append((at, f.read(end - at)))
                f.seek(at)
                f.write(os.urandom(end - at))
                f.flush()
            at = end


def test_noise(volume):
    """What a device returns is noise: checksums tell, and the rest makes up for it. Each set of devices that can be spared."""
    paths, sums, spare, _ = volume
    said = set()
    for bad in itertools.combinations(paths, spare) if spare else ():
        kept = {p: noise_over(p) for p in bad}
        for name in ('f3', 'f6', 'f7'):
            got, err = read(paths, name)
            assert got == sums[name], (bad, name, err)
            blamed = {p for p in paths if '%s: wrong checksum' % p in err}
            assert blamed <= set(bad), err
            said |= blamed
        for p, pieces in kept.items():
            with open(p, 'r+b') as f:
                for at, body in pieces:
                    f.seek(at)
                    f.write(body)
    assert said or not spare


def test_what_two_bad_copies_have_together(tmp_path):
    """One device ends in the middle of what is read at once, the other has a bad sector before that."""
    paths = [tmp_path / ('%d.img' % i) for i in range(2)]
    for p in paths:
        with open(p, 'wb') as f:
            f.truncate(MIB << 20)
    mounts.run('mkfs.btrfs', '-q', '-f', '-d', 'raid1', '-m', 'raid1', '-O', 'no-holes', '-R', 'free-space-tree', *map(str, paths))
    (tmp_path / 'k').mkdir()
    body = stamped(1, 1 << 20)
    with kernel(paths, tmp_path / 'k') as root, open(root + '/f', 'wb') as f:
        f.write(body)
    at = [p.read_bytes().index(body) for p in paths]
    os.truncate(paths[0], at[0] + (512 << 10))
    with open(paths[1], 'r+b') as f:
        f.seek(at[1] + (64 << 10))
        f.write(bytes(4096))
    assert read(paths, 'f')[0] == hashlib.sha256(body).hexdigest()
