"""
tar archives and container images into volumes, and volumes into archives: makers and readers are GNU tar, bsdtar, Python and umoci; the kernel
shows what came of it. Hostile ones are refused, and nothing outside of the volume is touched.
"""
import json, os, random, signal, stat, struct, subprocess, tarfile, time
import pytest
import manifest, mounts, oci

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')
FEATURES = '^metadata_csum,has_journal,extent,64bit,dir_index,ext_attr,large_file,flex_bg,sparse_super'
# VFS_CAP_REVISION_2 with the effective bit: CAP_NET_RAW.
CAPABILITY = struct.pack('<5I', 0x02000001, 1 << 13, 0, 0, 0)
KEPT = ('type', 'mode', 'uid', 'gid', 'mtime', 'xattrs', 'content', 'target', 'rdev')


def make(path, mib=64, label='v'):
    with open(path, 'wb') as f:
        f.truncate(mib << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-L', label, '-O', FEATURES.replace('^metadata_csum', 'metadata_csum'),
               '-I', '256', str(path))
    return str(path)


def werunos(*args, code=0, **kw):
    r = subprocess.run([mounts.WERUNOS, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, **kw)
    err = r.stderr.decode(errors='replace')
    assert r.returncode == code, 'exit %d: %s' % (r.returncode, err)
    assert 'Sanitizer' not in err and 'runtime error' not in err, err
    return r.stdout, err


def fsck(image):
    r = subprocess.run(['e2fsck', '-fn', str(image)], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


def view(root, holes=False):
    """What an archive says of a tree, hard links as groups of names."""
    seen, out = {}, {}
    for path, d in manifest.take(root, holes).items():
        if path.startswith(b'lost+found'):
            continue
        out[path] = {k: d[k] for k in KEPT if k in d}
        if holes and 'holes' in d:
            out[path]['holes'] = d['holes']
        if d['type'] != stat.S_IFDIR:
            seen.setdefault(d['ino'], []).append(path)
    for names in seen.values():
        for n in names:
            out[n]['names'] = tuple(sorted(names))
    return out


def same(a, b, but=()):
    assert a.keys() == b.keys(), 'only one has %s' % sorted(a.keys() ^ b.keys())
    for path in a:
        x, y = ({k: v for k, v in t[path].items() if k not in but} for t in (a, b))
        assert x == y, path


def shown(image, tmp_path, holes=False):
    d = tmp_path / 'shown'
    d.mkdir(exist_ok=True)
    fsck(image)
    with mounts.kernel(image, d, 'loop,ro'):
        return view(d, holes)


@pytest.fixture
def host(tmp_path):
    """A file system of the kernel's, for what others unpack and for trees to pack: it has every kind of attribute."""
    d = tmp_path / 'host'
    d.mkdir()
    with mounts.kernel(make(tmp_path / 'host.img', 128), d):
        os.rmdir(str(d) + '/lost+found')
        yield str(d)


def fill(top):
    """Something of everything that tar knows."""
    os.makedirs(top + '/d/e/f')
    os.makedirs(os.fsencode(top) + b'/d/\xff\xfe\xc3\xa9 e\xcc\x81')
    w = lambda name, data: open(os.path.join(os.fsencode(top), name), 'wb').write(data)
    w(b'd/small', b'hello\n')
    w(b'd/empty', b'')
    w(b'd/\xff\xfe\xc3\xa9 e\xcc\x81/\xf0\x9f\x98\x80\n', b'x')
    w(b'd/big', random.Random(1).randbytes(3 << 20))
    w(b'd/suid', b'#!')
    os.chmod(top + '/d/suid', 0o6755)
    os.chmod(top + '/d/e', 0o1777)
    for n in (98, 99, 100, 101, 154, 155, 156, 255):
        w(b'd/e/f/' + b'n' * n, b'%d' % n)
    deep = top + '/d'
    for _ in range(5):
        deep += '/' + 'l' * 200
        os.mkdir(deep)
    open(deep + '/file', 'w').write('deep')
    os.link(top + '/d/small', top + '/d/hard')
    os.link(deep + '/file', top + '/z-hard')
    os.symlink('../../anywhere', top + '/d/sym')
    os.symlink('t' * 300, top + '/d/long-sym')
    os.mkfifo(top + '/d/fifo')
    os.mknod(top + '/d/chr', stat.S_IFCHR | 0o600, os.makedev(4095, 1048575))
    os.mknod(top + '/d/blk', stat.S_IFBLK | 0o640, os.makedev(8, 1))
    with open(top + '/d/holes', 'wb') as f:
        f.truncate(40 << 20)
        for at in (0, 1 << 20, 7 << 20, 39 << 20):
            f.seek(at)
            f.write(b'data' * 3000)
    with open(top + '/d/all-hole', 'wb') as f:
        f.truncate(5000000)
    os.chown(top + '/d/small', 1000, 4294967294)
    os.chown(top + '/d/empty', 2097151, 2097152)
    os.setxattr(top + '/d/small', 'user.bin', b'a\0\nb=%\xff')
    os.setxattr(top + '/d/small', 'user.empty', b'')
    os.setxattr(top + '/d/e', 'trusted.t', b'v' * 500)
    os.setxattr(top + '/d/big', 'security.capability', CAPABILITY)
    mounts.run('setfacl', '-m', 'u:1234:rwx,g:77:r', top + '/d/big')
    mounts.run('setfacl', '-d', '-m', 'u:1234:rwx', top + '/d/e')
    os.utime(top + '/d/small', ns=(1, 981173106123456789))
    os.utime(top + '/d/empty', ns=(1, -1500000000))
    os.utime(top + '/d/e', ns=(1, 4000000000000000001))


MAKERS = {
    'gnu-pax': ['tar', '--format=pax', '--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner', '-S'],
    'gnu-gnu': ['tar', '--format=gnu', '-S'],
    'gnu-pax-0.0': ['tar', '--format=pax', '--sparse-version=0.0', '-S'],
    'gnu-pax-0.1': ['tar', '--format=pax', '--sparse-version=0.1', '-S'],
    'bsdtar-pax': ['bsdtar', '--format=pax', '--xattrs', '--acls', '--numeric-owner'],
    'bsdtar-gnu': ['bsdtar', '--format=gnutar'],
}


@pytest.mark.parametrize('maker', MAKERS)
def test_archives_of_others(tmp_path, host, maker):
    top = host + '/tree'
    os.mkdir(top)
    fill(top)
    if not maker.endswith('pax'):
        # Without the ACL: bsdtar's mode is not the kernel's where there is one.
        mounts.run('setfacl', '-b', top + '/d/big')
    if maker == 'bsdtar-pax':
        # It writes 1.5 s before 1970 as -2.5.
        os.utime(top + '/d/empty', ns=(1, -2000000000))
    if 'pax' not in maker:
        os.unlink(top + '/d/chr')  # their numbers of devices are too short
    archive = tmp_path / 'a.tar'
    mounts.run(*MAKERS[maker], '-cf', str(archive), '-C', top, '.')
    image = make(tmp_path / 'i.img')
    werunos('unpack', '--quiet', image, archive)
    # What the form of the archive has no room for is not compared.
    but = () if maker.endswith('pax') else ('xattrs',) if 'pax' in maker else ('xattrs', 'mtime')
    want, got = view(top, 'bsd' not in maker), shown(image, tmp_path, 'bsd' not in maker)
    same(want, got, but)


@pytest.mark.parametrize('how', ['.tar', '.tar.gz', '.tar.zst', '.tar.xz', '-'])
def test_there_and_back(tmp_path, host, how):
    os.mkdir(host + '/tree')
    fill(host + '/tree')
    first, second = make(tmp_path / 'a.img'), make(tmp_path / 'b.img')
    with mounts.kernel(first, tmp_path / 'shown' if (tmp_path / 'shown').mkdir() else tmp_path / 'shown') as d:
        mounts.run('cp', '-a', '--sparse=always', host + '/tree/.', d)
    if how == '-':
        archive = tmp_path / 'o.tar'
        with open(archive, 'wb') as f:
            subprocess.run([mounts.WERUNOS, 'export', '--quiet', first], stdout=f, check=True)
        with open(archive, 'rb') as f:
            werunos('unpack', '--quiet', second, '-', stdin=f)
    else:
        archive = tmp_path / ('o' + how)
        werunos('export', '--quiet', first, '-o', archive)
        werunos('unpack', '--quiet', second, archive)
    same(shown(first, tmp_path, True), shown(second, tmp_path, True))
    # Twice the same bytes.
    again = tmp_path / ('again' + archive.name)
    werunos('export', '--quiet', first, '-o', again)
    assert archive.read_bytes() == again.read_bytes()


@pytest.mark.parametrize('reader', ['tar', 'bsdtar', 'python'])
def test_others_read_what_we_write(tmp_path, host, reader):
    image = make(tmp_path / 'i.img')
    (tmp_path / 'shown').mkdir()
    with mounts.kernel(image, tmp_path / 'shown') as d:
        fill(d)
    archive = tmp_path / 'o.tar'
    werunos('export', '--quiet', image, '-o', archive, '--exclude', 'lost+found')
    out = host + '/out'
    os.mkdir(out)
    if reader == 'tar':
        r = subprocess.run(['tar', '--xattrs', '--xattrs-include=*', '--acls', '--numeric-owner', '--warning=no-timestamp', '-xpSf', archive,
                            '-C', out], capture_output=True, text=True)
        assert r.returncode == 0 and not r.stderr, r.stderr
        same(shown(image, tmp_path, True), view(out, True))
    elif reader == 'bsdtar':
        # It changes names that are no UTF-8 in its locale, and with a locale makes é of e and its accent: not compared.
        r = subprocess.run(['bsdtar', '--xattrs', '--acls', '--numeric-owner', '-xpSf', archive, '-C', out],
                           capture_output=True, text=True, env={**os.environ, 'LC_ALL': 'C'})
        assert r.returncode == 0, r.stderr
        same(shown(image, tmp_path), view(out), ('mtime',))
    else:
        with tarfile.open(archive, errors='surrogateescape') as t:
            t.extractall(out, numeric_owner=True)
        same(shown(image, tmp_path), view(out), ('xattrs', 'mtime', 'mode'))


def test_part_of_a_volume_to_a_directory(tmp_path, host):
    image = make(tmp_path / 'i.img')
    (tmp_path / 'shown').mkdir()
    with mounts.kernel(image, tmp_path / 'shown') as d:
        fill(d)
        want = view(d + '/d')
    os.mkdir(host + '/out')
    werunos('export', '--quiet', image + ':/d', '-o', host + '/out')
    got = view(host + '/out')
    same(want, got)


def test_owners_exclusions_and_reports(tmp_path):
    archive = tmp_path / 'a.tar'
    archive.write_bytes(oci.tar([oci.folder('d', uid=1000, gid=1000),
                                 oci.entry('d/a', body=b'x', uid=1005, gid=7,
                                           pax={'SCHILY.acl.access': 'user::rw-,user:u:r--:1009,group::r--,mask::r--,other::r--'}),
                                 oci.entry('d/b.o', body=b'x'), oci.folder('d/skip'), oci.entry('d/skip/x', body=b'x'),
                                 oci.entry('../evil', body=b'x')]))
    image = make(tmp_path / 'i.img')
    out, err = werunos('unpack', '--json', '--map', 'uid:1000=100000+10', '--map', 'gid:7=8', '--exclude', '*.o',
                       '--exclude', 'd/skip', image, archive, code=1)
    report = json.loads(out)
    assert (report['files'], report['directories'], report['failed']) == (1, 1, 1)
    assert report['failures'] == [{'path': '../evil', 'error': 'EINVAL', 'why': 'its path leads out of the tree'}]
    assert err == 'werunos: ../evil: its path leads out of the tree\n'
    got = shown(image, tmp_path)
    assert sorted(got) == [b'', b'd', b'd/a']
    assert (got[b'd/a']['uid'], got[b'd/a']['gid'], got[b'd']['uid'], got[b'd']['gid']) == (100005, 8, 100000, 1000)
    assert struct.pack('<HHI', 2, 4, 100009) in got[b'd/a']['xattrs']['system.posix_acl_access']
    out, err = werunos('unpack', '--owner', '5:6', image, archive, code=1)
    assert b'3 files, 2 directories, 0 links' in out and b'1 not copied' in out
    got = shown(image, tmp_path)
    assert {(v['uid'], v['gid']) for p, v in got.items() if p.startswith(b'd')} == {(5, 6)}


def test_no_name_steers_a_terminal(tmp_path):
    archive, evil = tmp_path / 'a.tar', '\x1b]0;x\x07\n'
    archive.write_bytes(oci.tar([oci.entry('../' + evil), oci.entry('h', tarfile.LNKTYPE, link='../' + evil), oci.entry('s', tarfile.SYMTYPE, link='d'),
                                 oci.entry('a', body=b'x', pax={'SCHILY.acl.access': 'user:' + evil + ':rwx'}),
                                 oci.entry('b', body=b'x', pax={'LIBARCHIVE.xattr.user.' + evil: '!'})]))
    _, err = werunos('unpack', '--quiet', make(tmp_path / 'i.img', 16), archive, code=1)
    assert len(err.splitlines()) == 4 and '\x1b' not in err and '\x07' not in err, err


def test_wrong_usage(tmp_path):
    image, archive = make(tmp_path / 'i.img', 16), tmp_path / 'a.tar'
    archive.write_bytes(oci.tar([]))
    for args in (['unpack'], ['unpack', image], ['unpack', '--oci', 'x', image, archive], ['unpack', '--platform', 'a/b', image, archive],
                 ['unpack', '--owner', 'root', image, archive], ['unpack', '--owner', '1:4294967295', image, archive],
                 ['unpack', '--map', 'uid:1', image, archive], ['unpack', '--map', 'uid:4294967290=1+9', image, archive],
                 ['unpack', '--map', 'gid:1=2+0', image, archive], ['unpack', '--threads', '0', image, archive],
                 ['export', image, '-o', tmp_path / 'what'], ['export', image, image], ['export']):
        out, err = werunos(*args, code=64)
        assert 'usage: werunos' in err and not out
    for args in (['unpack', image, '/none.tar'], ['unpack', image + ':/none', archive], ['unpack', '--oci', '/none', image],
                 ['unpack', tmp_path / 'none.img', archive], ['export', image + ':/none', '-o', tmp_path / 'x.tar'],
                 ['export', image, '-o', '/none/x.tar']):
        out, err = werunos(*args, code=1)
        assert err.count('\n') == 1, err
    assert not (tmp_path / 'x.tar').exists()


def test_a_broken_archive_leaves_what_came_before(tmp_path):
    whole = oci.tar([oci.entry('a', body=b'1' * 1000), oci.entry('b', body=b'2' * 100000)])
    archive = tmp_path / 'a.tar'
    archive.write_bytes(whole[:50000])
    image = make(tmp_path / 'i.img')
    out, err = werunos('unpack', image, archive, code=1)
    assert err.count('\n') == 1 and 'broken archive' in err and 'cut off' in err
    assert sorted(shown(image, tmp_path)) == [b'', b'a']


def test_stopped_by_a_signal(tmp_path):
    image, fifo = make(tmp_path / 'i.img'), tmp_path / 'fifo'
    os.mkfifo(fifo)
    p = subprocess.Popen([mounts.WERUNOS, 'unpack', image, str(fifo)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with open(fifo, 'wb') as f:
        data = oci.tar([oci.entry('a', body=b'1' * 1000), oci.entry('b', body=b'2' * (30 << 20))])
        f.write(data[:20 << 20])
        f.flush()
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        time.sleep(0.2)
        try:
            f.write(data[20 << 20:])
        except BrokenPipeError:
            pass
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and b'stopped' in err, err
    assert sorted(shown(image, tmp_path)) == [b'', b'a']


def test_hostile_archives_touch_nothing_else(tmp_path):
    outside = tmp_path / 'outside'
    outside.mkdir()
    (outside / 'file').write_text('mine')
    link = tarfile.SYMTYPE, tarfile.LNKTYPE
    entries = [oci.entry('up', link[0], link=str(outside)), oci.entry('up/file', body=b'evil'),
               oci.entry('../' * 20 + str(outside)[1:] + '/file', body=b'evil'), oci.entry(str(outside) + '/file', body=b'inside'),
               oci.entry('hard', link[1], link='../' * 20 + str(outside)[1:] + '/file'),
               oci.entry('hard2', link[1], link='up/file'), oci.entry('self', link[0], link='self'), oci.entry('self/x', body=b'x'),
               oci.entry('d', link[1], link='d'), oci.entry('x' * 300, body=b'x'), oci.entry('after', body=b'after')]
    archive = tmp_path / 'a.tar'
    archive.write_bytes(oci.tar(entries))
    image = make(tmp_path / 'i.img')
    out, err = werunos('unpack', image, archive, code=1)
    assert len(err.splitlines()) == 7, err
    got = shown(image, tmp_path)
    assert b'after' in got and os.fsencode(str(outside)[1:] + '/file') in got and b'hard' not in got and b'hard2' not in got
    assert (outside / 'file').read_text() == 'mine' and os.listdir(outside) == ['file']
    # On the host, too.
    dest = tmp_path / 'dest'
    dest.mkdir()
    werunos('export', '--quiet', image, '-o', dest)
    assert os.readlink(dest / 'up') == str(outside) and (outside / 'file').read_text() == 'mine'


def test_memory_is_bounded(tmp_path):
    """Attributes as large as they may be, many of them on each of many files, in a few KiB."""
    pax = {'SCHILY.xattr.user.%d' % i: 'v' * 65000 for i in range(60)}
    head = oci.entry('f', pax=pax)[0].tobuf(tarfile.PAX_FORMAT)
    archive = tmp_path / 'a.tar.zst'
    with open(archive, 'wb') as out:
        z = subprocess.Popen(['zstd', '-q', '-1', '-c'], stdin=subprocess.PIPE, stdout=out)
        for _ in range(150):
            z.stdin.write(head)
        z.stdin.close()
        assert z.wait() == 0
    r = subprocess.run([*mounts.PEAK, str(tmp_path / 'peak'), mounts.WERUNOS, 'unpack', make(tmp_path / 'i.img'), str(archive)],
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert r.returncode == 1 and b'150 not copied' in r.stdout and archive.stat().st_size < 1 << 20
    if 'release' in mounts.BUILD:
        assert int((tmp_path / 'peak').read_text()) < 160 << 10
    fsck(tmp_path / 'i.img')


def test_no_random_archive_hurts(tmp_path):
    seed = int(os.environ.get('SEED', time.time_ns() % 1000000))
    print('seed', seed)
    r = random.Random(seed)
    base = bytearray(oci.tar([oci.folder('d'), oci.entry('d/a', body=b'x' * 700, pax={'SCHILY.xattr.user.x': 'y', 'mtime': '1.5'}),
                              oci.entry('d/' + 'n' * 120, tarfile.SYMTYPE, link='t' * 150), oci.entry('d/h', tarfile.LNKTYPE, link='d/a')]))
    image = make(tmp_path / 'i.img', 16)
    for i in range(40):
        bad = bytearray(base)
        for _ in range(r.choice([1, 1, 3, 20])):
            at = r.randrange(len(bad))
            bad[at] = r.randrange(256)
            head = at - at % 512
            if bad[head + 257:head + 262] == b'ustar':
                bad[head + 148:head + 156] = b' ' * 8
                bad[head + 148:head + 155] = b'%06o\0' % sum(bad[head:head + 512])
        (tmp_path / 'bad.tar').write_bytes(bad)
        p = subprocess.run([mounts.WERUNOS, 'unpack', '--quiet', image, str(tmp_path / 'bad.tar')], capture_output=True, timeout=60)
        assert p.returncode in (0, 1) and b'Sanitizer' not in p.stderr, (seed, i, p.stderr)
    fsck(image)


# ---- images ----

def three_layers(layout, how=('gzip', 'zstd', '')):
    cap = {'SCHILY.xattr.security.capability': CAPABILITY.decode('utf-8', 'surrogateescape')}
    one = [oci.folder('etc'), oci.entry('etc/passwd', body=b'root', mode=0o640), oci.entry('etc/gone', body=b'x'), oci.folder('opq'),
           oci.entry('opq/old', body=b'old'), oci.folder('opq/dir'), oci.entry('opq/dir/old', body=b'old'), oci.folder('usr'), oci.folder('usr/bin'),
           oci.entry('usr/bin/ping', body=b'ping' * 1000, mode=0o755, pax=cap), oci.entry('usr/bin/hard', tarfile.LNKTYPE, link='usr/bin/ping'),
           oci.folder('tmp', mode=0o1777), oci.entry('usr/sh', tarfile.SYMTYPE, link='bin/ping', mode=0o777), oci.folder('becomes-file'),
           oci.entry('becomes-file/x', body=b'x'), oci.entry('becomes-dir', body=b'x'), oci.entry('linked', body=b'one'),
           oci.entry('nano', body=b'n', pax={'mtime': '1234567890.123456789'}), oci.folder('var'), oci.folder('var/lib'),
           oci.entry('var/lib/f', body=b'v', uid=33, gid=33), oci.folder('whole'), oci.folder('whole/a'), oci.entry('whole/a/b', body=b'b')]
    two = [oci.folder('etc'), oci.entry('etc/.wh.gone'), oci.entry('etc/passwd', body=b'root2', mode=0o600), oci.folder('opq'),
           oci.entry('opq/.wh..wh..opq'), oci.entry('opq/new', body=b'new'), oci.entry('.wh.whole'), oci.entry('becomes-file', body=b'file now'),
           oci.folder('becomes-dir'), oci.entry('becomes-dir/x', body=b'x'), oci.entry('hard-over-layers', tarfile.LNKTYPE, link='linked'),
           oci.folder('usr'), oci.folder('usr/bin'), oci.entry('usr/bin/.wh.hard')]
    three = [oci.entry('linked', body=b'replaced'), oci.folder('whole', mode=0o700), oci.entry('whole/new', body=b'new'),
             oci.folder('var'), oci.folder('var/lib'), oci.entry('var/lib/.wh.f'), oci.entry('var/lib/.wh.never-was')]
    return [layout.layer(x, h) for x, h in zip((one, two, three), how)]


def test_an_image_is_as_umoci_has_it(tmp_path, host):
    layout = oci.Layout(tmp_path / 'layout')
    layout.add(layout.manifest(three_layers(layout, ('gzip', 'gzip', ''))), 'latest')
    image = make(tmp_path / 'i.img')
    out, _ = werunos('unpack', '--json', '--oci', layout.path + ':latest', image)
    assert json.loads(out)['layers'] == 3 and json.loads(out)['platform'] == 'linux/amd64'
    got = shown(image, tmp_path)
    assert got[b'opq/new'] and b'opq/old' not in got and got[b'usr/bin/ping']['xattrs'] == {'security.capability': CAPABILITY}
    mounts.run('umoci', 'unpack', '--image', layout.path + ':latest', host + '/bundle')
    # The top is nobody's: no layer lists it.
    want = view(host + '/bundle/rootfs')
    want.pop(b''), got.pop(b'')
    same(want, got, ('mtime',))
    # Directories that a later layer works in without saying so are not compared in their times.
    for path in want:
        if want[path]['type'] != stat.S_IFDIR:
            assert want[path]['mtime'] == got[path]['mtime'], path


def test_zstd_and_sha512_and_docker_types(tmp_path):
    a, b = oci.Layout(tmp_path / 'a'), oci.Layout(tmp_path / 'b')
    a.add(a.manifest(three_layers(a)))
    layers = three_layers(b, ('gzip', 'gzip', 'gzip'))
    docker = [({**l, 'mediaType': 'application/vnd.docker.image.rootfs.diff.tar.gzip'}, d) for l, d in layers]
    b.add(b.manifest(docker))
    strong = oci.Layout(tmp_path / 'c')
    strong.add(strong.manifest([strong.layer([oci.entry('only', body=b'x')], 'zstd', 'sha512')]))
    views = []
    for n, l in enumerate((a, b, strong)):
        image = make(tmp_path / ('%d.img' % n))
        werunos('unpack', '--quiet', '--oci', l.path, image)
        views.append(shown(image, tmp_path))
    same(views[0], views[1], ('mtime',))
    assert b'only' in views[2]


def test_which_image(tmp_path):
    l = oci.Layout(tmp_path / 'l')
    one = lambda n: [l.layer([oci.entry(n, body=b'x')])]
    platform = lambda a, **kw: {'platform': {'os': 'linux', 'architecture': a, **kw}}
    index = l.blob({'schemaVersion': 2, 'manifests': [
        l.manifest(one('amd'), **platform('amd64')), l.manifest(one('arm'), arch='arm64', **platform('arm64', variant='v8')),
        {**l.manifest(one('statement')), 'platform': {'os': 'unknown', 'architecture': 'unknown'}}]}, oci.INDEX)
    l.add(index, 'multi')
    l.add(l.manifest(one('single'), arch='riscv64'), 'single')
    here = {'x86_64': 'amd', 'aarch64': 'arm'}[os.uname().machine]
    image = make(tmp_path / 'i.img')
    for args, want in ((['--oci', l.path + ':multi'], here), (['--oci', l.path], here), (['--oci', l.path + ':multi', '--platform', 'linux/arm64'], 'arm'),
                       (['--oci', l.path + ':multi', '--platform', 'linux/arm64/v8'], 'arm'), (['--oci', l.path + ':single'], 'single'),
                       (['--oci', l.path, '--platform', 'linux/riscv64'], 'single')):
        out, _ = werunos('unpack', '--quiet', *args, image)
        assert os.fsencode(want) in shown(image, tmp_path), args
        image = make(tmp_path / 'i.img')
    for args in (['--oci', l.path + ':multi', '--platform', 'linux/s390x'], ['--oci', l.path + ':none'], ['--oci', l.path, '--platform', 'linux/arm64/v7'],
                 ['--oci', l.path + ':single', '--platform', 'linux/amd64']):
        _, err = werunos('unpack', *args, image, code=1)
        assert err.count('\n') == 1 and ('holds no image' in err), err
    l.add(l.manifest(one('other')), 'other')
    _, err = werunos('unpack', '--oci', l.path, image, code=1)
    assert 'several images' in err and 'other' in err
    assert sorted(shown(image, tmp_path)) == [b'']


def refused(l, image, what):
    _, err = werunos('unpack', '--oci', l.path, image, code=1)
    assert err.count('\n') == 1 and what in err, err


def test_hostile_layouts(tmp_path):
    image = make(tmp_path / 'i.img', 16)
    (tmp_path / 'secret.tar').write_bytes(oci.tar([oci.entry('secret', body=b'x')]))
    n = iter(range(100))
    new = lambda: oci.Layout(tmp_path / ('l%d' % next(n)))
    for digest in ('sha256:../../../secret.tar', 'sha256:' + '../' * 21 + 'x', 'sha256:' + 'A' * 64, 'sha256:' + 'a' * 63, 'sha256:' + 'a' * 65, 'md5:' + 'a' * 32,
                   '../../secret.tar', '', 'sha512:' + 'a' * 64):
        l = new()
        layer, d = l.layer([oci.entry('x')])
        l.add(l.manifest([({**layer, 'digest': digest}, d)]))
        refused(l, image, 'no digest')
        l = new()
        l.add({**l.manifest([]), 'digest': digest})
        refused(l, image, 'no digest')
    # Bytes that are others, of the same length and not.
    for change in (lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b[:-1], lambda b: b + b'x'):
        for which in ('layer', 'manifest', 'config'):
            l = new()
            layer = l.layer([oci.entry('x', body=b'x')])
            m = l.manifest([layer])
            body = json.load(open('%s/blobs/sha256/%s' % (l.path, m['digest'][7:])))
            l.add(m)
            target = {'layer': layer[0], 'manifest': m, 'config': body['config']}[which]
            path = '%s/blobs/sha256/%s' % (l.path, target['digest'][7:])
            data = change(open(path, 'rb').read())
            open(path, 'wb').write(data)
            refused(l, image, 'damaged or was changed')
    l = new()
    layer, d = l.layer([oci.entry('x')])
    l.add(l.manifest([({**layer, 'mediaType': oci.LAYER + '+encrypted'}, d)]))
    refused(l, image, 'media type')
    # A layer that is missing, and one before it that is good: nothing of it is unpacked.
    l = new()
    good, bad = l.layer([oci.entry('good', body=b'x')]), l.layer([oci.entry('bad', body=b'y')])
    os.unlink('%s/blobs/sha256/%s' % (l.path, bad[0]['digest'][7:]))
    l.add(l.manifest([good, bad]))
    refused(l, image, 'No such file')
    for index in (b'', b'[]', b'{', b'{"manifests": 3}', b'{"manifests": [3]}', b'{"manifests": [{}]}', b'{"a":1,"a":2}', b'[' * 100000,
                  b'{"manifests": []}', b' ' * (5 << 20), b'{"manifests":[{"digest":"x","mediaType":"y","size":-1}]}',
                  b'{"manifests":[{"digest":7,"mediaType":[],"size":"1"}]}', b'{"manifests":[{"digest":"x","mediaType":"y","size":1e3}]}'):
        l = new()
        l.file('index.json', index)
        refused(l, image, '')
    l = new()
    index = l.blob({'manifests': []}, oci.INDEX)
    for _ in range(12):
        index = l.blob({'manifests': [index, {**index, 'size': index['size']}]}, oci.INDEX)
    l.add(index)
    refused(l, image, 'deeper than')
    l = new()
    l.file('oci-layout', {'imageLayoutVersion': '2.0.0'})
    refused(l, image, 'version')
    os.unlink(l.path + '/oci-layout')
    refused(l, image, 'no OCI image layout')
    os.mkfifo(l.path + '/oci-layout')
    refused(l, image, 'is no file')
    assert sorted(shown(image, tmp_path)) == [b'']
