"""
Changes by single commands, without a mount, against the same commands of GNU on the kernel's mount of a copy: the same exit codes, and afterwards
the same names, modes, owners, targets, attributes and link counts. e2fsck finds nothing in between. Also on a volume whose journal the kernel
left to be applied.
"""
import os, shutil, subprocess
import pytest
import manifest, mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to mount the images')
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KINDS = ['default', 'old', '1k', 'ext3', 'nojournal', 'uninit', 'orphan_list', 'nodirindex']
# What is not compared: times, and where things lie.
LEFT_OUT = ('mtime', 'ctime', 'atime', 'ino', 'blocks', 'size', 'holes')

# @PATH is that path, on the volume or below the mount point.
COMMANDS = '''
mkdir @/new @/new/deeper
mkdir -p @/p/q/r/s @/p/q
mkdir -m 2750 @/setgid
mkdir @/setgid/below
mkdir -p -m 700 @/setgid/x/y
mkdir @/new
mkdir @/no/where
rmdir @/new/deeper @/dir
rmdir @/new/none
touch @/new/file @/top
touch -c @/none
truncate -s 70000 @/new/file
truncate -s +1000 @/new/file @/made-by-truncate
truncate -s -500 @/new/file
chmod u=rwx,g=rx,o= @/new/file
chmod 4755 @/file @/dir
chmod +t,g-w @/dir
chmod 755 @/setgid
chmod a+X @/file @/dir/inner
chmod -R g=u,o-rwx @/dir
chmod 600 @/link @/none
chmod 0 @/dangling
chown 7:8 @/file
chown :99 @/dir @/link
chown -h 11:12 @/link
chown -R 70000:70001 @/dir
chown 5 @/none @/top
mv @/file @/dir
mv @/dir/file @/renamed
mv @/renamed @/top
mv -n @/top @/hard
mv @/top @/link @/new
mv -T @/new/top @/new/link
mv @/p @/p/q/r
mv @/hard @/hard
mv @/hard @/hard2
mv -T @/p @/dir
mv -T @/p @/empty
mv @/none @/dir
mv @/inner-link @/new/
mv @/new/file @/new/trailing/
ln @/made-by-truncate @/ln1
ln @/ln1 @/ln2 @/dir
ln @/dir @/dir2
ln @/ln1 @/dir/ln2
ln -f @/new/file @/dir/ln2
ln -f @/ln1 @/ln2
ln -s target @/sym
ln -s one two @/dir
ln -s target @/sym
ln -sf other @/sym
ln -sfn target2 @/dirlink
ln -s into @/dirlink2
ln -s LONG @/long-target
setfattr -n user.a -v text @/ln1
setfattr -n user.b -v 0x00ff00 @/dir @/dir/inner
setfattr -n user.c -v 0sAAECAwQ= @/ln1
setfattr -n user.big -v BIG @/ln1
setfattr -n trusted.t -v "q\\"u\\101" @/ln1
setfattr -h -n trusted.l -v 1 @/sym
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 @/ln1
setfattr -x user.a @/ln1
setfattr -x user.none @/ln1
setfattr -n user.x -v 1 @/fifo
chown 1:1 @/ln1
chmod g+w @/acl
chmod -R o= @/acl-dir
mkdir @/acl-dir/inherits
touch @/acl-dir/inherits-too
rm @/none @/wide/n1 @/dir
rm -f @/none @/wide/n2
rm -d @/empty @/new
rm -r @/wide
rm -rf @/new/. @/dir/inner/..
rm -r @/dangling @/p @/fifo @/immutable
rm -rf @/acl-dir @/none
rm @/ln1/
'''


def run(*args, **kw):
    return subprocess.run([*map(str, args)], capture_output=True, text=True, **kw)


def make(path, kind, mib=64):
    words = subprocess.run(['bash', '-c', '. tests/features.sh; ext4_volume ' + kind], cwd=TOP, capture_output=True, text=True).stdout.split()
    with open(path, 'wb') as f:
        f.truncate(mib << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', *words, str(path))
    return path


def fill(root):
    os.chmod(root, 0o755)
    for name in ('dir/inner', 'empty', 'wide/below', 'acl-dir/sub', 'to'):
        os.makedirs('%s/%s' % (root, name))
    for name in ('file', 'hard', 'dir/a', 'dir/inner/b', 'acl', 'acl-dir/f', 'immutable'):
        with open('%s/%s' % (root, name), 'wb') as f:
            f.write(name.encode() * 3000)
    for i in range(400):
        open('%s/wide/n%d' % (root, i), 'w').close()
        if i % 40 == 0:
            os.makedirs('%s/wide/below/d%d/e' % (root, i))
    os.link(root + '/hard', root + '/hard2')
    os.mkfifo(root + '/fifo')
    for target, name in (('file', 'link'), ('nowhere', 'dangling'), ('to', 'dirlink'), ('to', 'dirlink2'), ('dir/inner', 'inner-link')):
        os.symlink(target, '%s/%s' % (root, name))
    mounts.run('setfacl', '-m', 'u:1:rw,g:2:r', root + '/acl', root + '/acl-dir/f')
    mounts.run('setfacl', '-d', '-m', 'u:1:rwx,g:2:rx,o::-', root + '/acl-dir')
    mounts.run('chattr', '+i', root + '/immutable')


def fsck(image):
    r = run('e2fsck', '-fn', image)
    assert r.returncode == 0, r.stdout + r.stderr


def view(image, mnt):
    with mounts.kernel(image, mnt, 'loop,ro'):
        got = manifest.take(mnt, holes=False)
    for d in got.values():
        for key in LEFT_OUT:
            if key != 'size' or d['type'] == 0o040000:
                d.pop(key, None)
    return got


def words(line, at):
    long_words = {'LONG': 'x' * 500, 'BIG': '0x' + '5a' * 700}
    return [at + w[1:] if w[0] == '@' else long_words.get(w, w) for w in line.split()]


def both(ours, theirs, mnt):
    """Each command on both; what differs in how it ended."""
    lines = COMMANDS.strip().splitlines()
    mine = [run(mounts.WERUNOS, *words(line, '%s:' % ours)) for line in lines]
    with mounts.kernel(theirs, mnt):
        gnu = [run(*words(line, str(mnt))) for line in lines]
    wrong = []
    for line, a, b in zip(lines, mine, gnu):
        # With an -f both say nothing; else a line for each operand that failed.
        said = [l for l in a.stderr.splitlines() if ' cannot ' in l]
        if (a.returncode == 0) != (b.returncode == 0) or len(said) != len(b.stderr.splitlines()):
            wrong.append('%s\n    %d %s\n    %d %s' % (line, a.returncode, a.stderr, b.returncode, b.stderr))
    assert not wrong, '\n'.join(wrong)


@pytest.mark.skipif(not shutil.which('setfacl') or not shutil.which('setfattr'), reason='no setfacl or setfattr')
@pytest.mark.parametrize('kind', KINDS)
def test_as_gnu(tmp_path, kind):
    ours, theirs, mnt = make(tmp_path / 'a.img', kind), tmp_path / 'b.img', tmp_path / 'm'
    mnt.mkdir()
    with mounts.kernel(ours, mnt):
        fill(str(mnt))
    shutil.copy(ours, theirs)
    both(ours, theirs, mnt)
    fsck(ours)
    difference = manifest.differences(view(theirs, mnt), view(ours, mnt))
    assert not difference, '\n'.join(difference)
    with mounts.kernel(ours, mnt):
        mounts.run('chattr', '-i', '%s/immutable' % mnt)
    assert run(mounts.WERUNOS, 'rm', '-r', *('%s:/%s' % (ours, n) for n in ('dir', 'immutable', 'setgid'))).returncode == 0
    fsck(ours)


def left_dirty(tmp_path, kind):
    """A copy of a volume that the kernel has in use, with a journal to be applied."""
    image, copy, mnt = make(tmp_path / 'live.img', kind), tmp_path / 'dirty.img', tmp_path / 'm'
    mnt.mkdir()
    with mounts.kernel(image, mnt):
        fill(str(mnt))
        mounts.run('sync', '-f', str(mnt))
        os.rename('%s/file' % mnt, '%s/moved' % mnt)
        for i in range(200):
            os.mkdir('%s/to/%d' % (mnt, i))
        mounts.run('sync', '-f', str(mnt))
        shutil.copy(image, copy)
        mounts.run('chattr', '-i', '%s/immutable' % mnt)
    assert 'needs_recovery' in run('dumpe2fs', '-h', copy).stdout
    return copy, mnt


@pytest.mark.skipif(not shutil.which('setfacl'), reason='no setfacl')
@pytest.mark.parametrize('kind', ['default', 'old', 'ext3'])
def test_after_a_crash(tmp_path, kind):
    dirty, mnt = left_dirty(tmp_path, kind)
    for args in (('rm', '-r', '%s:/to' % dirty), ('mv', '%s:/moved' % dirty, '%s:/dir' % dirty)):
        r = run(mounts.WERUNOS, *args)
        assert r.returncode == 0, r
        fsck(dirty)
    with mounts.kernel(dirty, mnt):
        assert os.path.exists('%s/dir/moved' % mnt) and not os.path.exists('%s/to' % mnt) and not os.path.exists('%s/file' % mnt)
        mounts.run('chattr', '-i', '%s/immutable' % mnt)


@pytest.mark.skipif(not shutil.which('setfacl'), reason='no setfacl')
@pytest.mark.parametrize('kind', ['default', 'old', '1k', 'ext3', 'uninit'])
def test_names_after_a_crash(tmp_path, kind):
    dirty, mnt = left_dirty(tmp_path, kind)
    old = run('blkid', '-p', '-o', 'value', '-s', 'UUID', dirty).stdout
    assert run(mounts.WERUNOS, 'label', dirty, 'another').returncode == 0
    fsck(dirty)
    assert run(mounts.WERUNOS, 'uuid', dirty, 'random').returncode == 0
    fsck(dirty)
    assert run('blkid', '-p', '-o', 'value', '-s', 'UUID', dirty).stdout != old and run('e2label', dirty).stdout == 'another\n'
    r = run(mounts.WERUNOS, 'uuid', dirty, '01234567-89ab-4cde-8f01-23456789abcd')
    assert r.returncode == (1 if kind == 'uninit' else 0), r
    assert ('metadata_csum_seed' in r.stderr) == (kind in ('old', '1k')), r
    fsck(dirty)
    with mounts.kernel(dirty, mnt):
        assert os.path.exists('%s/moved' % mnt) and len(os.listdir('%s/to' % mnt)) == 200
        mounts.run('chattr', '-i', '%s/immutable' % mnt)
    fsck(dirty)


def test_closed_streams(tmp_path):
    """What is said goes nowhere then, and not into the volume that has been opened meanwhile."""
    image = tmp_path / 'a.img'
    mounts.run(mounts.WERUNOS, 'mkfs', 'ext4', str(image), '32M')
    missing = [f'{image}:/{"missing" * 10}{i}' for i in range(60)]
    for closed in ('0<&-', '1>&-', '2>&-', '0<&- 1>&- 2>&-'):
        r = subprocess.run(['sh', '-c', f'exec "$@" {closed}', 'sh', mounts.WERUNOS, 'rm', *missing], capture_output=True, timeout=60)
        assert r.returncode == 1
        assert b'missing' not in image.read_bytes()
        mounts.run('e2fsck', '-fn', str(image))
    r = subprocess.run(['sh', '-c', 'exec "$@" >&-', 'sh', mounts.WERUNOS, 'ls', f'{image}:/'], capture_output=True, text=True)
    assert r.returncode == 1 and 'output' in r.stderr
