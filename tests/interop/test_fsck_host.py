"""
werunos fsck as a command that mends: exit codes, questions, rehearsals, undo files, and what is left when it is killed meanwhile. What it mends
is tested elsewhere; here it is always the same volume with a handful of damages.
"""
import contextlib, hashlib, json, os, pty, re, resource, shutil, signal, subprocess, time
import pytest
import mounts

FEATURES = 'none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,extra_isize,metadata_csum'
SAFE = ['set_inode_field /one links_count 7', 'set_inode_field /sub links_count 9']
# A file loses its name, and another one its checksum.
NOT_SAFE = ['unlink /sub/lost', 'set_inode_field /two checksum 0x1234']


def make(path, commands, mib=16):
    src = path.parent / 'src'
    (src / 'sub').mkdir(parents=True, exist_ok=True)
    for name in ('one', 'two', 'sub/lost', 'sub/kept'):
        (src / name).write_bytes(name.encode() * 3000)
    path.unlink(missing_ok=True)
    with open(path, 'wb') as f:
        f.truncate(mib << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES, '-d', str(src), str(path))
    mounts.run('debugfs', '-w', '-f', '-', str(path), input=('\n'.join(commands) + '\n').encode())
    return path


def werunos(*args, **kw):
    r = subprocess.run([mounts.WERUNOS, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, **kw)
    assert 'Sanitizer' not in r.stderr and 'runtime error' not in r.stderr, r.stderr
    return r


def fsck(*args, **kw):
    return werunos('fsck', *args, **kw)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def clean(path):
    r = subprocess.run(['e2fsck', '-fn', str(path)], stdout=subprocess.PIPE, text=True)
    assert r.returncode == 0, r.stdout
    assert fsck('-f', path).returncode == 0


@pytest.fixture
def image(tmp_path):
    return make(tmp_path / 'a.img', SAFE + NOT_SAFE)


def test_mending(image):
    before = digest(image)
    r = fsck('-f', image)
    assert r.returncode == 4 and 'mended' not in r.stdout and digest(image) == before
    r = fsck('-y', image)
    assert r.returncode == 1 and re.search(r'number of links is wrong: 7, .* \[links\] mended', r.stdout), r.stdout
    assert re.search(r'^Mended: [4-9]', r.stdout, re.M) and 'No problems left: filesystem is healthy' in r.stdout
    clean(image)
    ls = werunos('ls', f'{image}:/lost+found').stdout.split()
    assert len(ls) == 1 and werunos('cat', f'{image}:/lost+found/{ls[0]}').stdout == 'sub/lost' * 3000
    assert werunos('cat', f'{image}:/two').stdout == 'two' * 3000
    r = fsck('-y', image)
    assert (r.returncode, r.stderr) == (0, '') and 'mended' not in r.stdout


def test_only_what_is_safe(image, tmp_path):
    r = fsck('-p', '-f', image)
    assert r.returncode == 4 and '[links] mended' in r.stdout and '[inode-no-name]' in r.stdout, r.stdout
    assert '[inode-no-name] mended' not in r.stdout
    assert fsck('-y', image).returncode == 1
    clean(image)
    safe = make(tmp_path / 'b.img', SAFE)
    # It says that it is sound, and -p believes that.
    r = fsck('-p', safe)
    assert r.returncode == 0 and 'Not looked at' in r.stdout
    r = fsck('-p', '-f', safe)
    assert r.returncode == 1, r.stdout
    clean(safe)


def test_rehearsal(image):
    before, times = digest(image), os.stat(image)
    r = fsck('--dry-run', image)
    assert r.returncode == 1 and '[links] would be mended' in r.stdout and 'Would be mended: ' in r.stdout, r.stdout
    assert digest(image) == before and os.stat(image).st_mtime_ns == times.st_mtime_ns
    # Also of what cannot be written.
    os.chmod(image, 0o444)
    try:
        r = fsck('--dry-run', '-p', '-f', image)
        assert r.returncode == 4 and digest(image) == before
    finally:
        os.chmod(image, 0o644)


def test_json(image):
    r = fsck('-f', '--json', image)
    assert {f['why'] for f in json.loads(r.stdout)['found']} == {'only looked at'}
    r = fsck('--dry-run', '-p', '-f', '--json', image)
    assert {(f['code'], f.get('why')) for f in json.loads(r.stdout)['found']} >= {
        ('links', None), ('inode-no-name', 'mending it is a decision')}
    r = fsck('-y', '--json', image)
    said = json.loads(r.stdout)
    assert r.returncode == 1 and all(f['repaired'] for f in said['found']) and said['summary']['sound']
    assert said['summary']['repaired'] == len(said['found']) >= 4
    assert {'links', 'inode-no-name', 'inode-checksum'} <= {f['code'] for f in said['found']}


def asked(image, answers):
    """fsck --fix with a terminal; what it said, and its exit code."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(mounts.WERUNOS, ['werunos', 'fsck', '--fix', str(image)])
    said, end = b'', time.monotonic() + 60
    try:
        while time.monotonic() < end:
            try:
                more = os.read(fd, 65536)
            except OSError:
                break
            if not more:
                break
            said += more
            if answers and said.rstrip().endswith(b'without mending)'):
                os.write(fd, answers.pop(0).encode() + b'\n')
    finally:
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    return said.decode(errors='replace'), os.waitstatus_to_exitcode(status)


def test_questions(image, tmp_path):
    said, code = asked(image, ['q'])
    assert code == 32 and 'mended' not in said
    said, code = asked(make(tmp_path / 'b.img', SAFE + NOT_SAFE), ['a'])
    assert code == 1 and said.count('?') == 1 and 'No problems left' in said, said
    clean(tmp_path / 'b.img')
    said, code = asked(make(tmp_path / 'c.img', SAFE + NOT_SAFE), ['n'] * 40)
    assert code == 4 and said.count('without mending)') >= 4, said
    # What was answered with no is not asked again when others were mended.
    said, code = asked(make(tmp_path / 'e.img', SAFE + NOT_SAFE), ['n'] + ['y'] * 40)
    questions = re.findall(r'^(.*)\r\n.*without mending', said, re.M)
    assert code == 4 and len(questions) >= 4 and len(set(questions)) == len(questions), said
    said, code = asked(make(tmp_path / 'd.img', SAFE + NOT_SAFE), ['y'] * 40)
    assert code == 1, said
    clean(tmp_path / 'd.img')


def test_undo(image, tmp_path):
    before, undo = digest(image), tmp_path / 'undo'
    assert fsck('-y', '--undo', undo, image).returncode == 1
    clean(image)
    # A file that is there is not overwritten.
    saved = digest(undo)
    r = fsck('-y', '-f', '--undo', undo, make(tmp_path / 'b.img', SAFE))
    assert r.returncode == 8 and str(undo) in r.stderr and digest(undo) == saved
    r = werunos('undo', undo)
    assert (r.returncode, r.stderr) == (0, '') and 'put back' in r.stdout and digest(image) == before
    # Once more is no harm.
    assert werunos('undo', undo, image).returncode == 0 and digest(image) == before
    assert fsck('-y', image).returncode == 1 and digest(image) != before
    clean(image)


def orphaned(path, d, count):
    """A volume as a power cut leaves it, with files that were open and had no name."""
    with open(path, 'wb') as f:
        f.truncate(64 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-b', '1024', '-J', 'size=4', '-N', '8000', str(path))
    d.mkdir()
    was = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, max(count + 100, was[1])))
    try:
        with mounts.kernel(path, d) as root, contextlib.ExitStack() as files:
            names = ['%s/f%d' % (root, i) for i in range(count)]
            for name in names:
                files.enter_context(open(name, 'wb', buffering=0)).write(b'x' * 3000)
            os.sync()
            for name in names:
                os.unlink(name)
            os.sync()
            return path.read_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, was)


def test_undo_after_a_stop(tmp_path):
    """Who is stopped while he finishes orphans ends a transaction sooner than when he tried it, and takes more of the log: undone, too."""
    if os.geteuid():
        pytest.skip('not root')
    crashed, going = orphaned(tmp_path / 'a.img', tmp_path / 'k', 4000), []
    for ms in range(10, 250, 20):
        image = tmp_path / ('%d.img' % ms)
        image.write_bytes(crashed)
        p = subprocess.Popen([mounts.WERUNOS, 'fsck', '-f', '-y', '--undo', '%s.undo' % image, str(image)], stdout=subprocess.DEVNULL)
        time.sleep(ms / 1000)
        p.send_signal(signal.SIGSTOP)
        going.append((p, image))
    time.sleep(6)
    for p, image in going:
        p.send_signal(signal.SIGCONT)
    for p, image in going:
        assert p.wait(timeout=60) in (0, 1)
        assert werunos('undo', '%s.undo' % image, image).returncode == 0
        assert image.read_bytes() == crashed, image


def test_undo_refuses(image, tmp_path):
    before, undo = digest(image), tmp_path / 'undo'
    other = make(tmp_path / 'b.img', SAFE + NOT_SAFE)
    assert fsck('-y', '--undo', undo, image).returncode == 1
    mended = digest(image)
    # Another volume, another size, no undo file, a damaged one.
    r = werunos('undo', undo, other)
    assert r.returncode == 1 and '--force' in r.stderr, r.stderr
    small = make(tmp_path / 'c.img', SAFE, mib=8)
    r = werunos('undo', undo, small)
    assert r.returncode == 1 and 'size' in r.stderr
    r = werunos('undo', image)
    assert r.returncode == 1 and 'no undo file' in r.stderr
    data = bytearray(undo.read_bytes())
    for at in (20, 5000, len(data) // 2, len(data) - 30):
        bad = bytearray(data)
        bad[at] ^= 1
        (tmp_path / 'bad').write_bytes(bad)
        r = werunos('undo', tmp_path / 'bad', image)
        assert r.returncode == 1 and digest(image) == mended, (at, r.stdout, r.stderr)
    # Written to since.
    m = tmp_path / 'm'
    m.mkdir()
    if os.geteuid() == 0:
        with mounts.kernel(image, m):
            (m / 'new').write_text('new')
        r = werunos('undo', undo)
        assert r.returncode == 1 and 'written to since' in r.stderr
        r = werunos('undo', '--force', undo)
        assert r.returncode == 0
    else:
        assert werunos('undo', undo).returncode == 0 and digest(image) == before
    assert werunos('undo').returncode == 64


def test_no_room_for_the_undo_file(image, tmp_path):
    if os.geteuid():
        pytest.skip('not root')
    before = digest(image)
    small = tmp_path / 'small'
    small.mkdir()
    mounts.run('mount', '-t', 'tmpfs', '-o', 'size=4k', 'none', str(small))
    try:
        r = fsck('-y', '--undo', small / 'u', image)
        assert r.returncode == 8 and 'undo file' in r.stderr and digest(image) == before, (r.stdout, r.stderr)
        assert not os.listdir(small)
    finally:
        mounts.unmount(small)


def test_killed(image, tmp_path):
    """At each write in turn: the next fsck goes on from there, or undo gives back what was."""
    good = image.read_bytes()
    killed = 0
    for n in range(1, 40):
        image.write_bytes(good)
        (tmp_path / 'u').unlink(missing_ok=True)
        r = subprocess.run(['strace', '-f', '-o', '/dev/null', '-e', 'trace=pwritev2,pwrite64,pwritev', '-e',
                            'inject=pwritev2,pwrite64,pwritev:signal=KILL:when=%d' % n, mounts.WERUNOS, 'fsck', '-y', '--undo',
                            str(tmp_path / 'u'), str(image)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if r.returncode in (0, 1):
            break
        killed += 1
        if n % 2 and (tmp_path / 'u').stat().st_size > 64:
            r = werunos('undo', tmp_path / 'u', image)
            assert r.returncode == 0 and image.read_bytes() == good, (n, r.stderr)
        r = fsck('-y', image)
        assert r.returncode in (0, 1), (n, r.stdout, r.stderr)
        clean(image)
        assert werunos('cat', f'{image}:/two').stdout == 'two' * 3000
    assert killed >= 4


def test_small_overlays(tmp_path):
    """More damage than the overlays may hold: it is written out in between, and undone as a whole."""
    path, undo = make(tmp_path / 'a.img', SAFE, mib=64), tmp_path / 'undo'
    commands = [f'write {path.parent}/src/one f{i}' for i in range(2600)]
    mounts.run('debugfs', '-w', '-f', '-', str(path), input='\n'.join(commands).encode())
    commands = [f'set_inode_field /f{i} checksum 0x1234' for i in range(2600)]
    mounts.run('debugfs', '-w', '-f', '-', str(path), input='\n'.join(commands).encode())
    before = digest(path)
    r = fsck('-y', '--cache', '256K', '--undo', undo, path)
    assert r.returncode == 1 and len(re.findall(r'inode-checksum\] mended', r.stdout)) == 2600, r.stdout[-500:]
    clean(path)
    assert werunos('cat', f'{path}:/f2599').stdout == 'one' * 3000
    r = werunos('undo', undo)
    assert (r.returncode, r.stderr) == (0, '') and digest(path) == before


def test_bad_usage(image):
    before = digest(image)
    for args, words in ((['--fix'], 'terminal'), (['--undo', 'x'], 'nothing is written'), (['-D'], 'nothing is written'), (['--clear-log'], 'nothing is written'),
                        (['--dry-run', '-y', '--undo', 'x'], '--dry-run')):
        r = fsck(*args, image, stdin=subprocess.DEVNULL)
        assert r.returncode == 16 and words in r.stderr, (args, r.returncode, r.stderr)
    assert digest(image) == before and not os.path.exists('x')


@pytest.mark.parametrize('at,bit,name', [(0x464, 31, 'ro_compat-0x80000000'), (0x464, 14, 'shared_blocks'), (0x464, 7, 'has_snapshot'),
                                         (0x45c, 30, 'compat-0x40000000'), (0x460, 30, 'incompat-0x40000000')])
def test_unknown_features(tmp_path, at, bit, name):
    """What is right on such a volume is not known: it is looked at, at most, and nothing is mended."""
    path = tmp_path / 'a.img'
    with open(path, 'wb') as f:
        f.truncate(8 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', FEATURES.replace('metadata_csum', 'uninit_bg'), str(path))
    with open(path, 'r+b') as f:
        f.seek(at)
        word = int.from_bytes(f.read(4), 'little') | 1 << bit
        f.seek(at)
        f.write(word.to_bytes(4, 'little'))
        f.seek(0x40c)
        f.write((3).to_bytes(4, 'little'))
    before = digest(path)
    for how in (['-y'], ['-p', '-f'], ['-y', '--undo', tmp_path / 'u'], ['--dry-run']):
        r = fsck(*how, path)
        assert r.returncode == 8 and name in r.stderr and digest(path) == before, (how, r.stdout, r.stderr)
    assert not (tmp_path / 'u').exists()


# ---- what comes before mending, and what is left when it ends early ----

def state(image):
    """The superblock's state, bit 0: it says that it is sound; and whether its journal has to be applied."""
    d = image.read_bytes()[1024:2048]
    return int.from_bytes(d[0x3a:0x3c], 'little'), bool(int.from_bytes(d[0x60:0x64], 'little') & 4)


def findings(image, *options):
    return sorted((f['code'], f['object'], f['nr']) for f in json.loads(fsck('-f', '--json', *options, image).stdout)['found'] if f['grade'] != 'hint')


def test_ended_by_request(image):
    """After q nothing of what was answered with yes is on the volume: it says that it has to be checked, no more."""
    before, found = image.read_bytes(), findings(image)
    assert state(image)[0] & 1
    said, code = asked(image, ['y', 'y', 'q'])
    assert code == 32 and said.count('without mending)') == 3, said
    assert findings(image) == found and not state(image)[0] & 1
    after = image.read_bytes()
    assert {at // 1024 for at in range(0, len(before), 512) if before[at:at + 512] != after[at:at + 512]} == {1}
    # It is looked at now without being asked to.
    assert 'Not looked at' not in fsck('-p', image).stdout
    assert fsck('-y', image).returncode == 1
    clean(image)


def crashed(tmp_path, journal=None):
    """A volume as a power cut leaves it, with files that only its log has."""
    if os.geteuid():
        pytest.skip('not root')
    path, k = make(tmp_path / 'a.img', []), tmp_path / 'k'
    k.mkdir()
    options = 'loop,commit=300'
    if journal:
        mounts.run('tune2fs', '-O', '^has_journal', str(path))
        mounts.run('tune2fs', '-J', 'device=' + journal, str(path))
        options += ',journal_path=' + journal
    with mounts.kernel(path, k, options) as root:
        for i in range(40):
            with open('%s/new%d' % (root, i), 'w') as f:
                f.write('new%d' % i * 1000)
                f.flush()
                os.fsync(f.fileno())
        shutil.copyfile(path, tmp_path / 'crashed.img')
        if journal:
            shutil.copyfile(tmp_path / 'j.img', tmp_path / 'crashed-j.img')
    path = tmp_path / 'crashed.img'
    assert state(path)[1]
    return path


def names(image, n=40):
    listed = werunos('ls', '%s:/' % image).stdout.split()
    return {'new%d' % i for i in range(n)} <= set(listed)


def test_log_before_mending(tmp_path):
    """What was synced is there after mending; broken off right after the log was applied, the volume says that it is to be checked."""
    path = crashed(tmp_path)
    good = path.read_bytes()
    writes = 'pwritev2,pwrite64,pwritev'
    count = subprocess.run(['strace', '-f', '-e', 'trace=' + writes, mounts.WERUNOS, 'fsck', '-y', '--quiet', str(path)], stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE).stderr.count(b'pwrite')
    seen = set()
    for n in sorted({*range(max(1, count - 6), count + 1), *range(1, count, count // 6 + 1)}):
        path.write_bytes(good)
        subprocess.run(['strace', '-f', '-o', '/dev/null', '-e', 'trace=' + writes, '-e', 'inject=%s:signal=KILL:when=%d' % (writes, n),
                        mounts.WERUNOS, 'fsck', '-y', str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        valid, log = state(path)
        # Either the log is still needed, or it was applied, and then nothing is lost.
        assert log or names(path)
        seen.add((log, valid & 1))
        assert fsck('-y', path).returncode in (0, 1) and names(path)
        clean(path)
    assert (True, 1) in seen and any(not valid for _, valid in seen), seen
    assert werunos('cat', f'{path}:/new7').stdout == 'new7' * 1000


def log_blocks(image):
    """Where the blocks of the journal lie."""
    out = subprocess.run(['debugfs', '-R', 'blocks <8>', str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    return [int(b) for b in out.split()]


def test_log_with_a_torn_middle(tmp_path):
    """A transaction in the middle of the log is noise: what comes before it is applied, the rest is lost, and the volume is mended all the same."""
    path = crashed(tmp_path)
    at = log_blocks(path)
    block = 1024 << int.from_bytes(path.read_bytes()[1024 + 0x18:1024 + 0x1c], 'little')
    data = path.read_bytes()
    used = [b for b in at[1:] if data[b * block:b * block + 4] == b'\xc0\x3b\x39\x98']
    assert len(used) > 20
    for which in (len(used) // 2, len(used) // 2 + 1, len(used) // 3):
        path.write_bytes(data)
        with open(path, 'r+b') as f:
            f.seek(used[which] * block + 12)
            f.write(os.urandom(block - 12))
        before = path.read_bytes()
        r = fsck('-y', '--undo', tmp_path / 'u', path)
        assert r.returncode in (0, 1), (r.stdout, r.stderr)
        clean(path)
        assert names(path, 5)
        r = werunos('undo', tmp_path / 'u', path)
        assert r.returncode == 0 and path.read_bytes() == before, r.stderr
        (tmp_path / 'u').unlink()


def test_journal_elsewhere(tmp_path):
    """Changes that are in it are never dropped unless that is agreed to."""
    with open(tmp_path / 'j.img', 'wb') as f:
        f.truncate(8 << 20)
    with mounts.loop(tmp_path / 'j.img') as jdev:
        mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-O', 'journal_dev', jdev)
        path = crashed(tmp_path, jdev)
    for how, code, words in ((['-p', '-f'], 4, 'journal-needed'), (['-n', '-f'], 4, 'journal-needed')):
        before = digest(path)
        r = fsck(*how, path)
        assert r.returncode == code and words in r.stdout, (how, r.stdout, r.stderr)
        if '-n' in how:
            assert digest(path) == before
    r = fsck('-y', path)
    assert r.returncode == 1 and 'the latest changes are in a journal that lies elsewhere' in r.stdout and 'journal-needed] mended' in r.stdout, r.stdout
    assert not state(path)[1]
    r = fsck('-f', path)
    assert r.returncode == 0 and 'journal-elsewhere' in r.stdout, r.stdout
    # It does not judge a volume whose journal it cannot find.
    mounts.run('tune2fs', '-f', '-O', '^has_journal', str(path))
    clean(path)


def test_journal_that_is_named(tmp_path):
    """It is applied, and the volume is mended with it. Another one is refused, and nothing is taken for damage because of it."""
    with open(tmp_path / 'j.img', 'wb') as f:
        f.truncate(8 << 20)
    with mounts.loop(tmp_path / 'j.img') as jdev:
        mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-O', 'journal_dev', jdev)
        path = crashed(tmp_path, jdev)
    j, other = tmp_path / 'crashed-j.img', tmp_path / 'other.img'
    shutil.copyfile(j, other)
    other_bytes = bytearray(other.read_bytes())
    other_bytes[1024 + 0x68] ^= 1
    other.write_bytes(other_bytes)
    before = digest(path), digest(j)
    for how in (['-n', '-f'], ['-y', '--dry-run'], ['-y']):
        r = fsck(*how, '--journal', str(other), path)
        assert r.returncode == 8 and 'other.img is' in r.stderr, (how, r.stdout, r.stderr)
    r = fsck('-y', '--journal', str(j), '--undo', str(tmp_path / 'u'), path)
    assert r.returncode == 16 and '--undo' in r.stderr, r.stderr
    for how, words in ((['-n', '-f'], 'applied in memory'), (['-y', '--dry-run'], 'healthy')):
        r = fsck(*how, '--journal', str(j), path)
        assert r.returncode == 0 and words in r.stdout, (how, r.stdout, r.stderr)
    assert (digest(path), digest(j)) == before
    r = fsck('-y', '--journal', str(j), path)
    assert r.returncode in (0, 1) and 'journal-needed' not in r.stdout, (r.stdout, r.stderr)
    assert not state(path)[1] and names(path)
    with mounts.loop(j) as jdev:
        r = subprocess.run(['e2fsck', '-fn', '-j', jdev, str(path)], stdout=subprocess.PIPE, text=True)
        assert r.returncode == 0, r.stdout
    # What was mended goes through it, too.
    mounts.run('debugfs', '-w', '-R', 'sif new3 links_count 7', str(path))
    log = digest(j)
    r = fsck('-y', '--journal', str(j), path)
    assert r.returncode == 1 and '[links] mended' in r.stdout and digest(j) != log, (r.stdout, r.stderr)
    r = fsck('-f', '--journal', str(j), path)
    assert r.returncode == 0 and 'journal-elsewhere' not in r.stdout, r.stdout
    # The log is inside, or there is none.
    inside = make(tmp_path / 'inside.img', [])
    r = fsck('-y', '--journal', str(j), inside)
    assert r.returncode == 8 and 'inside' in r.stderr, (r.stdout, r.stderr)


def test_journal_of_btrfs(tmp_path):
    with open(tmp_path / 'j.img', 'wb') as f:
        f.truncate(8 << 20)
    with open(tmp_path / 'v.img', 'wb') as f:
        f.truncate(128 << 20)
    mounts.run('mkfs.btrfs', '-q', str(tmp_path / 'v.img'))
    r = fsck('--journal', str(tmp_path / 'j.img'), tmp_path / 'v.img')
    assert r.returncode == 8 and 'no journal' in r.stderr, (r.stdout, r.stderr)
