"""
Verity files: whatever is read of them was checked. The kernel here has no fs-verity: trees and descriptors are made by verity.py,
compared with fsverity-utils where that is installed, and written behind the ends of files by mke2fs -d and debugfs.
"""
import errno, fcntl, json, os, random, shutil, struct, subprocess, sys
import pytest
import mounts, verity
from turns import work

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: /dev/fuse must be open')

FEATURES = ('none,ext_attr,dir_index,filetype,sparse_super,large_file,extent,huge_file,dir_nlink,extra_isize,64bit,flex_bg,'
            'metadata_csum,verity')
FS_IOC_MEASURE_VERITY = 0xc0046686
SEED = int(os.environ.get('SEED', 0)) or random.SystemRandom().randrange(1 << 32)


def content(n, seed=1):
    return random.Random(seed * 1000003 + n).randbytes(n)


def sparse(n):
    """Pieces of data in zeros, the first and the last of them zeros too."""
    data = bytearray(n)
    for at in range(20000, n - 20000, 70000):
        data[at:at + 5000] = content(5000, at)
    return bytes(data)


def debugfs(image, commands):
    return mounts.run('debugfs', '-w', '-f', '-', str(image), input='\n'.join(commands).encode()).decode(errors='replace')


def build(tmp_path, files, block=4096, mib=64, more=''):
    """files: name to verity.File; more: features besides."""
    d, image = tmp_path / 'src', tmp_path / 'img'
    d.mkdir()
    for name, v in files.items():
        v.write(d / name)
    with open(image, 'wb') as f:
        f.truncate(mib << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES + more, '-b', str(block), '-d', str(d), str(image))
    debugfs(image, [c for name, v in files.items() for c in v.commands('/' + name)])
    shutil.rmtree(d)
    mounts.run('e2fsck', '-fn', str(image))
    return image


def stat(image, name):
    return json.loads(mounts.run(mounts.WERUNOS, 'stat', '--json', '--extents', '%s:/%s' % (image, name)))


def measure(path, room=64):
    buf = bytearray(struct.pack('<HH', 0, room) + bytes(64))
    with open(path, 'rb') as f:
        fcntl.ioctl(f, FS_IOC_MEASURE_VERITY, buf)
    number, n = struct.unpack('<HH', buf[:4])
    return number, bytes(buf[4:4 + n]).hex()


SIZES = [0, 1, 1023, 1024, 4095, 4096, 4097, 65535, 65536, 65537, 524288, 524289, 3000000]
FORMS = [dict(), dict(salt=b'\x01'), dict(alg='sha512', salt=bytes(range(32))), dict(log=10), dict(log=10, alg='sha512', salt=b'pepper'),
         dict(log=16), dict(signature=b'any bytes' * 50)]


@pytest.mark.parametrize('block', [1024, 4096, 65536])
def test_good_files(tmp_path, block):
    files = {}
    for i, form in enumerate(FORMS):
        for n in SIZES:
            files['f%d-%d' % (i, n)] = verity.File(content(n, i), block, **form)
        files['sparse%d' % i] = verity.File(sparse(1500000), block, **form)
    assert max(len(v.levels) for v in files.values()) >= 3
    image = build(tmp_path, files, block, mib=512)
    (tmp_path / 'm').mkdir()
    r = random.Random(SEED)
    print('SEED=%d' % SEED)
    with mounts.werunos(image, tmp_path / 'm', '--ro') as d:
        for name, v in files.items():
            path = os.path.join(d, name)
            with open(path, 'rb') as f:
                for _ in range(6):  # before readahead has the whole: at any place
                    at, n = r.randrange(len(v.data) + 2), r.choice((1, 100, 4096, 70000))
                    assert os.pread(f.fileno(), n, at) == v.data[at:at + n], (name, at, n)
                assert f.read() == v.data, name
                if v.data:
                    end = os.lseek(f.fileno(), 0, os.SEEK_HOLE)
                    assert end <= len(v.data), name
            assert os.stat(path).st_size == len(v.data)
            with pytest.raises(OSError):
                open(path, 'r+b').close()
        v = files['sparse0']
        with open(os.path.join(d, 'sparse0'), 'rb') as f:
            assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 20000 // block * block
    for name, v in files.items():
        s = stat(image, name)
        assert s['verity'] == '%s:%s' % (v.alg, v.digest), name
        end = -(-len(v.data) // block) * block
        for e in s['extents']:
            if e['kind'] != 'hole':
                assert e['offset'] + e['length'] <= end, (name, e)


def test_digests_by_another_program(tmp_path):
    if not shutil.which('fsverity'):
        pytest.skip('fsverity is not installed')
    for n in SIZES:
        for form in FORMS[:6]:
            (tmp_path / 'f').write_bytes(content(n))
            v = verity.File(content(n), **form)
            args = ['--hash-alg=' + v.alg, '--block-size=%d' % (1 << v.log)]
            if form.get('salt'):
                args.append('--salt=' + form['salt'].hex())
            out = mounts.run('fsverity', 'digest', '--compact', *args, str(tmp_path / 'f')).decode().split()
            assert out[-1] == v.digest, (n, form)


def test_measured_through_a_mount(tmp_path):
    files = {'a': verity.File(content(100000)), 'b': verity.File(content(5), alg='sha512', salt=b'x')}
    image = build(tmp_path, files)
    debugfs(image, ['write /etc/hostname plain'])
    (tmp_path / 'm').mkdir()
    with mounts.werunos(image, tmp_path / 'm', '--ro') as d:
        for name, v in files.items():
            try:
                assert measure(os.path.join(d, name)) == (verity.NUMBER[v.alg], v.digest)
            except OSError as e:
                if e.errno == errno.EOVERFLOW and tuple(map(int, os.uname().release.split('.')[:2])) < (6, 18):
                    pytest.skip('the kernel in front does not know the command')
                raise
        with pytest.raises(OSError) as e:
            measure(os.path.join(d, 'a'), room=31)
        assert e.value.errno == errno.EOVERFLOW
        with pytest.raises(OSError) as e:
            measure(os.path.join(d, 'plain'))
        assert e.value.errno == errno.ENODATA


def place(image, name, at, block):
    """Where the volume has that byte of the file, also behind its end."""
    out = mounts.run('debugfs', '-R', 'bmap /%s %d' % (name, at // block), str(image)).decode().split()
    return int(out[-1]) * block + at % block


def flip(image, at):
    with open(image, 'r+b') as f:
        f.seek(at)
        b = f.read(1)[0]
        f.seek(at)
        f.write(bytes([b ^ 1 << at % 8]))


def unreadable(path, v, step):
    """Offsets of the pages that cannot be read; the others have the right bytes."""
    bad = []
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for at in range(0, len(v.data), step):
            try:
                assert os.pread(fd, step, at) == v.data[at:at + step], at
            except OSError as e:
                assert e.errno == errno.EIO
                bad.append(at)
    finally:
        os.close(fd)
    return bad


@pytest.mark.parametrize('block,log', [(4096, 12), (1024, 10), (4096, 10)])
def test_a_flipped_bit_fails_what_it_covers(tmp_path, block, log):
    """Of content, of each level of the tree, of the descriptor; through a mount, which reads pages of 4096."""
    v = verity.File(content(200 * 4096 + 123), block, log, salt=bytes(range(1, 33)))
    image, m = build(tmp_path, {'f': v}, block), tmp_path / 'm'
    m.mkdir()
    unit, per = 1 << log, (1 << log) // 32
    pages = range(0, len(v.data), 4096)
    cases = [(at, [at // 4096 * 4096]) for at in (0, 4096 * 7 + 5, 4096 * 100 + 4095, len(v.data) - 1)]
    level_at, starts = v.tree_at, {}
    for i in reversed(range(len(v.levels))):
        starts[i] = level_at
        level_at += len(v.levels[i])
    for i, level in enumerate(v.levels):
        for piece in {0, len(level) // unit - 1}:
            covers = unit * per**(i + 1)
            lo, hi = piece * covers, (piece + 1) * covers
            cases.append((starts[i] + piece * unit + 17, [p for p in pages if p < hi and p + 4096 > lo]))
    everything = list(pages)
    cases += [(v.desc_at + off, everything) for off in (0, 1, 2, 3, 4 + 3, 8, 16, 47, 0x50, 0x50 + 3, 0x70, 255)]
    cases += [(v.size_at + 1, everything)]
    for at, expected in cases:
        where = place(image, 'f', at, block)
        flip(image, where)
        with mounts.werunos(image, m, '--ro') as d:
            path = os.path.join(d, 'f')
            if expected == everything and at >= v.desc_at:
                assert os.stat(path).st_size == len(v.data)
                with pytest.raises(OSError) as e:
                    open(path, 'rb').read()
                assert e.value.errno in (errno.EIO, errno.EUCLEAN, errno.EOPNOTSUPP), at
            else:
                bad = unreadable(path, v, 4096)
                assert bad == expected, (at, bad, expected)
            # What is read in one piece is right up to where it fails.
            with open(path, 'rb', buffering=0) as f:
                got = 0
                try:
                    while part := f.read(65536):
                        assert part == v.data[got:got + len(part)], got
                        got += len(part)
                    assert False, 'the wrong bytes went unnoticed'
                except OSError:
                    assert got <= (expected[0] if expected else 0)
        flip(image, where)
    with mounts.werunos(image, m, '--ro') as d:
        assert not unreadable(os.path.join(d, 'f'), v, 4096)


def test_a_hole_in_place_of_data_is_noticed(tmp_path):
    v = verity.File(content(30 * 4096))
    image = build(tmp_path, {'f': v})
    debugfs(image, ['punch /f 5 6'])
    (tmp_path / 'm').mkdir()
    with mounts.werunos(image, tmp_path / 'm', '--ro') as d:
        assert unreadable(os.path.join(d, 'f'), v, 4096) == [5 * 4096, 6 * 4096]


def test_unknown_kinds_are_refused_by_name(tmp_path):
    v = verity.File(content(10000))
    image = build(tmp_path, {'f': v, 'good': verity.File(content(10000))})
    for off, value, says in ((0, 2, 'version 2'), (1, 7, 'algorithm 7')):
        with open(image, 'r+b') as f:
            f.seek(place(image, 'f', v.desc_at + off, 4096))
            old = f.read(1)
            f.seek(-1, 1)
            f.write(bytes([value]))
        r = subprocess.run([mounts.WERUNOS, 'cat', '%s:/f' % image], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert r.returncode and not r.stdout and says in r.stderr.decode(), r
        assert says in stat(image, 'f')['verity']
        assert mounts.run(mounts.WERUNOS, 'cat', '%s:/good' % image) == v.data
        with open(image, 'r+b') as f:
            f.seek(place(image, 'f', v.desc_at + off, 4096))
            f.write(old)
    assert mounts.run(mounts.WERUNOS, 'cat', '%s:/f' % image) == v.data


def test_hostile_descriptors(tmp_path):
    """Descriptors with random members: each read ends, and gives the file's bytes or an error."""
    r = random.Random(SEED)
    print('SEED=%d' % SEED)
    v = verity.File(content(300000), 1024, 10)
    image = build(tmp_path, {'f': v}, 1024)
    base, size_at = place(image, 'f', v.desc_at, 1024), place(image, 'f', v.size_at, 1024)
    inode_size = [0, 1, 65536, 1 << 20, (1 << 32) - 1, 1 << 40, (1 << 42) - 1]
    right = 0
    for i in range(150):
        desc, size = bytearray(v.desc), len(v.desc)
        for _ in range(r.randrange(1, 4)):
            what = r.randrange(6)
            if what == 0:
                desc[r.randrange(16)] = r.choice((0, 1, 2, 9, 10, 12, 16, 17, 31, 32, 33, 64, 255))
            elif what == 1:
                desc[r.randrange(256)] = r.randrange(256)
            elif what == 2:
                size = r.choice((0, 1, 255, 256, 257, 600, 16384, 16385, 1 << 31, (1 << 32) - 1))
            elif what == 3:
                desc[4:8] = struct.pack('<I', r.choice((1, 0, 1 << 31, (1 << 32) - 1)))
        data_size = r.choice(inode_size) if r.random() < 0.3 else len(v.data)
        if data_size != len(v.data):
            desc[8:16] = struct.pack('<Q', data_size)
        debugfs(image, ['sif /f size %d' % data_size])
        with open(image, 'r+b') as f:
            for at, what in ((base, desc), (size_at, struct.pack('<I', size))):
                f.seek(at)
                f.write(what)
        p = subprocess.run([mounts.WERUNOS, 'cat', '%s:/f' % image], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert p.returncode in (0, 1) and b'Sanitizer' not in p.stderr, p.stderr.decode(errors='replace')
        if p.returncode == 0:
            assert p.stdout == v.data[:data_size] and data_size in (0, len(v.data)), (i, desc.hex(), data_size)
            right += data_size != 0
        else:
            assert len(p.stderr.splitlines()) == 1, p.stderr
    assert right < 75


def test_readers_side_by_side(tmp_path):
    v = verity.File(content(20 << 20), log=10)
    image = build(tmp_path, {'f': v})
    (tmp_path / 'm').mkdir()
    reader = ('import os, sys, random\n'
              'r = random.Random(int(sys.argv[3])); data = open(sys.argv[2], "rb").read(); fd = os.open(sys.argv[1], os.O_RDONLY)\n'
              'for _ in range(300):\n'
              '    at, n = r.randrange(len(data)), r.randrange(1, 200000)\n'
              '    assert os.pread(fd, n, at) == data[at:at + n], at\n')
    (tmp_path / 'plain').write_bytes(v.data)
    print('SEED=%d' % SEED)
    with mounts.werunos(image, tmp_path / 'm', '--ro') as d:
        all_of_them = [subprocess.Popen([sys.executable, '-c', reader, os.path.join(d, 'f'), str(tmp_path / 'plain'), str(SEED + i)])
                       for i in range(4)]
        assert [p.wait(120) for p in all_of_them] == [0] * 4


def test_kept(tmp_path):
    """On a mount that writes: nothing changes the content, all else can be changed, and what is deleted is gone with its tree."""
    files = {n: verity.File(content(size), 4096) for n, size in [('a', 300000), ('b', 4096), ('c', 100)]}
    image, m = build(tmp_path, files), tmp_path / 'm'
    m.mkdir()
    digest = {n: stat(image, n)['verity'] for n in files}
    with mounts.werunos(image, m) as d:
        before = os.statvfs(d).f_bfree
        for n in files:
            path = os.path.join(d, n)
            for flags in [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND]:
                with pytest.raises(PermissionError):
                    os.open(path, flags)
            with pytest.raises(PermissionError):
                os.truncate(path, 10)
            os.chmod(path, 0o640)
            os.chown(path, 1, 2)
            os.setxattr(path, 'user.note', b'kept')
            os.utime(path, (1, 2))
            os.link(path, path + '.link')
            os.rename(path, path + '.moved')
            with open(path, 'wb') as f:
                f.write(bytes(100000))
            os.unlink(path)
        mounts.run('sync', '-f', d)
        for n, v in files.items():
            assert open(os.path.join(d, n + '.moved'), 'rb').read() == v.data
        os.unlink(os.path.join(d, 'a.link'))
        os.unlink(os.path.join(d, 'a.moved'))
        mounts.run('sync', '-f', d)
        assert os.statvfs(d).f_bfree > before + 300000 // 4096
    mounts.run('e2fsck', '-fn', str(image))
    for n in 'bc':
        assert stat(image, n + '.moved')['verity'] == digest[n]


@pytest.mark.parametrize('block,more', [(4096, ',has_journal'), (1024, ',has_journal,orphan_file,encrypt,stable_inodes'), (65536, ',has_journal,casefold')])
def test_kept_through_crashes(tmp_path, block, more):
    """Whatever happens beside them, and whenever the server is gone: verity files have their content, their tree and their descriptor."""
    files = {'keep-%d' % n: verity.File(content(n), block) for n in (0, 100, 70000, 600000)}
    image, d, r = build(tmp_path, files, block, 512 if block == 65536 else 96, more), tmp_path / 'm', random.Random(SEED)
    print('SEED=%d' % SEED)
    d.mkdir()
    digest = {n: stat(image, n)['verity'] for n in files}
    paths = {n: n for n in files}
    for turn in range(4):
        p = subprocess.Popen([mounts.WERUNOS, 'mount', str(image), str(d)], stderr=subprocess.DEVNULL)
        try:
            assert mounts.within(30, lambda: os.path.ismount(d) or p.poll() is not None) and p.poll() is None
            for n, v in files.items():
                assert (d / paths[n]).read_bytes() == v.data, n
            work(str(d), r, 80)
            home = 'keep%d' % turn
            os.mkdir(d / home)
            for n in files:
                os.rename(d / paths[n], d / home / n)
                paths[n] = home + '/' + n
            fd = os.open(d / home, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            work(str(d), r, 40)
        finally:
            p.kill()
            p.wait()
            subprocess.run(['umount', '-l', str(d)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        copy = tmp_path / 'copy'
        shutil.copyfile(image, copy)
        out = subprocess.run(['e2fsck', '-fp', str(copy)], capture_output=True, text=True)
        assert out.returncode in (0, 1), out.stdout + out.stderr
        mounts.run('e2fsck', '-fn', str(copy))
        for n in files:
            assert stat(copy, paths[n])['verity'] == digest[n], n
