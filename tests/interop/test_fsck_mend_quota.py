"""
werunos fsck and quota files: what e2fsck -fn says of usage and of the files is said here too; mended by the first run, nothing is found by the second
nor by e2fsck, and limits are kept.
"""
import re, shutil, struct, subprocess
import pytest
import mounts
from test_fsck import debugfs, e2fsck, fsck, word
from test_fsck_mend_super import assert_mended, mend

BASE = ('none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,'
        'metadata_csum,orphan_file,quota')
KINDS = {
    '1k': ['-b', '1024', '-O', BASE],
    'project': ['-b', '4096', '-I', '256', '-O', BASE + ',project', '-E', 'quotatype=usrquota:grpquota:prjquota'],
    'clusters': ['-b', '4096', '-C', '16384', '-O', BASE + ',bigalloc'],
    'values': ['-b', '1024', '-I', '256', '-O', BASE + ',ea_inode'],
}
LIMITS = (7, 5, 100, 50)  # inodes hard and soft, KiB hard and soft
USER = 1003


class File:
    """A quota file, found by its inode, in the image's bytes."""

    def __init__(self, image, ino):
        self.image, self.data = image, bytearray(image.read_bytes())
        self.block = 1024 << struct.unpack_from('<I', self.data, 1024 + 0x18)[0]
        size = int(debugfs(image, 'stat <%d>' % ino).split('Size: ')[1].split()[0])
        out = debugfs(image, *['bmap <%d> %d' % (ino, i) for i in range(-(-size // self.block))])
        self.at = [int(line) * self.block for line in out.split('\n') if line.strip().isdigit()]
        assert len(self.at) == -(-size // self.block)
        self.blocks = self.get(0, 0x14, '<I')

    def place(self, blk, off):
        byte = blk * 1024 + off
        return self.at[byte // self.block] + byte % self.block

    def get(self, blk, off, form):
        return struct.unpack_from(form, self.data, self.place(blk, off))[0]

    def put(self, blk, off, form, *v):
        struct.pack_into(form, self.data, self.place(blk, off), *v)
        self.image.write_bytes(self.data)

    def way(self, id):
        """The nodes and the leaf of an id."""
        out = [1]
        for depth in (3, 2, 1, 0):
            out.append(self.get(out[-1], 4 * (id >> 8 * depth & 0xff), '<I'))
        return out

    def record(self, id):
        """Leaf, and the record's offset in it."""
        leaf = self.way(id)[4]
        for i in range(14):
            if leaf and self.get(leaf, 16 + 72 * i, '<I') == id:
                return leaf, 16 + 72 * i
        return None

    def limits(self, id):
        leaf, off = self.record(id)
        return tuple(self.get(leaf, off + o, '<Q') for o in (8, 16, 32, 40))

    def limit(self, id, limits):
        leaf, off = self.record(id)
        for o, v in zip((8, 16, 32, 40), limits):
            self.put(leaf, off + o, '<Q', v)


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    """One volume of each kind, its usage counted by e2fsck."""
    d = tmp_path_factory.mktemp('quota')
    for name, options in KINDS.items():
        image = d / (name + '.img')
        with open(image, 'wb') as f:
            f.truncate(32 << 20)
        mounts.run('mke2fs', '-q', '-F', *options, str(image))
        commands = ['symlink l /short', 'mknod p p', 'sif l uid 77', 'sif p gid 78', 'mkdir d', 'cd d']
        (d / 'value').write_bytes(b'v' * 3000)
        for i in range(40):
            (d / ('f%d' % i)).write_bytes(b'%d' % i * 1000 * i)
            commands += ['write %s/f%d f%d' % (d, i, i), 'sif f%d uid %d' % (i, 1000 + i), 'sif f%d gid %d' % (i, 2000 + 70000 * (i % 5))]
            if name == 'project':
                commands.append('sif f%d projid %d' % (i, i % 3))
            if name == 'values' and i % 4 == 0:
                commands.append('ea_set -f %s/value f%d user.big' % (d, i))
        debugfs(image, *commands)
        assert e2fsck(image).returncode == 4
        assert {'quota-usage'} <= {c for c, _, _ in fsck(image)[1]}
        mounts.run('bash', '-c', 'e2fsck -fy %s; e2fsck -fy %s' % (image, image))
        assert e2fsck(image).returncode == 0
        File(image, 3).limit(USER, LIMITS)
    return d


def copy_of(sound, kind, tmp_path):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    return image


@pytest.mark.parametrize('kind', KINDS)
def test_counted_as_e2fsck_counts(sound, kind, tmp_path):
    image = copy_of(sound, kind, tmp_path)
    assert e2fsck(image).returncode == 0
    assert fsck(image)[:2] == (0, [])


def another_owner(v):
    debugfs(v, 'sif d/f5 uid 70000', 'sif d/f6 gid 3')


def another_project(v):
    debugfs(v, 'sif d/f5 projid 99')


def record_lies(ino, off, id):
    def how(v):
        f = File(v, ino)
        leaf, at = f.record(id)
        f.put(leaf, at + off, '<Q', f.get(leaf, at + off, '<Q') + 1)
    return how


def gone(v):
    """An id that the file does not have, nor the tree lead to; and one that has nothing."""
    f = File(v, 3)
    leaf, at = f.record(1007)
    f.put(leaf, at, '72s', bytes(72))
    f.put(f.way(1007)[3], 4 * (1007 & 0xff), '<I', 0)
    f.put(leaf, 8, '<H', f.get(leaf, 8, '<H') - 1)


USAGE = [('1k', another_owner), ('project', another_owner), ('clusters', another_owner), ('project', another_project),
         ('1k', record_lies(3, 0x18, 1003)), ('1k', record_lies(3, 0x30, 1039)), ('1k', record_lies(4, 0x30, 0)), ('1k', gone)]


@pytest.mark.parametrize('kind,how', USAGE)
def test_usage(sound, tmp_path, kind, how):
    image = copy_of(sound, kind, tmp_path)
    how(image)
    assert e2fsck(image).returncode == 4
    assert {'quota-usage'} == {c for c, _, _ in fsck(image)[1]}
    assert '[quota-usage]' in assert_mended(image)
    assert File(image, 3).limits(USER) == LIMITS


FILE = {
    'magic': lambda f: f.put(0, 0, '<I', 7),
    'version': lambda f: f.put(0, 4, '<I', 9),
    'blocks': lambda f: f.put(0, 0x14, '<I', 1 << 30),
    'out': lambda f: f.put(f.way(1030)[3], 4 * (1030 & 0xff), '<I', f.blocks + 7),
    'leaf': lambda f: f.put(*f.record(1030), '<I', 5555),
    'root': lambda f: f.put(1, 0, '1024s', b'\xff' * 1024),
}


@pytest.mark.parametrize('name', FILE)
@pytest.mark.parametrize('kind,ino', [('1k', 3), ('project', 3)])
def test_file(sound, tmp_path, kind, ino, name):
    image = copy_of(sound, kind, tmp_path)
    FILE[name](File(image, ino))
    # The kernel refuses another magic; e2fsck does not look at it.
    assert e2fsck(image).returncode == (0 if name == 'magic' else 4)
    assert 'quota-file' in [c for c, _, _ in fsck(image)[1]]
    assert '[quota-file]' in assert_mended(image)
    kept = (0, 0, 0, 0) if name in ('magic', 'version', 'root') else LIMITS
    assert File(image, 3).limits(USER) == kept


def project_ino(v):
    return struct.unpack_from('<I', v.read_bytes(), 1024 + 0x26c)[0]


def ino_of(v, path):
    return int(debugfs(v, 'stat %s' % path).split('Inode: ')[1].split()[0])


INODE = [
    ('1k', 'quota-file', lambda v: debugfs(v, 'clri <3>')),
    ('1k', 'quota-file', lambda v: debugfs(v, 'clri <4>')),
    ('project', 'quota-file', lambda v: debugfs(v, 'clri <%d>' % project_ino(v))),
    ('1k', 'quota-file', lambda v: debugfs(v, 'sif <3> size 1024')),
    ('1k', 'super-field', lambda v: debugfs(v, 'ssv usr_quota_inum 5')),
    ('project', 'super-field', lambda v: debugfs(v, 'ssv grp_quota_inum 40')),
    ('project', 'super-field', lambda v: debugfs(v, 'ssv prj_quota_inum 9')),
]


@pytest.mark.parametrize('kind,code,how', INODE)
def test_inode(sound, tmp_path, kind, code, how):
    image = copy_of(sound, kind, tmp_path)
    how(image)
    assert code in [c for c, _, _ in fsck(image)[1]], fsck(image)
    assert_mended(image)


def test_many_ids(sound, tmp_path):
    """The file is longer than it was."""
    image = copy_of(sound, '1k', tmp_path)
    for start in range(0, 700, 100):
        debugfs(image, *['mknod n%d p' % i for i in range(start, start + 100)], *['sif n%d uid %d' % (i, i * 12345) for i in range(start, start + 100)])
    before = File(image, 3).blocks
    assert '[quota-usage]' in assert_mended(image)
    assert File(image, 3).blocks > before + 700 and File(image, 3).limits(USER) == LIMITS


def test_somebody_s_file_is_no_quota_file(sound, tmp_path):
    """What the superblock calls the projects' file is a file with a name: its content is kept."""
    image = copy_of(sound, 'project', tmp_path)
    ino = ino_of(image, 'd/f39')
    content = debugfs(image, 'cat <%d>' % ino)
    debugfs(image, 'ssv prj_quota_inum %d' % ino)
    assert_mended(image)
    assert debugfs(image, 'cat <%d>' % ino) == content
    assert project_ino(image) != ino
    assert ' %d (' % ino in debugfs(image, 'ls lost+found', 'ls d').replace('  ', ' ')


def test_no_room(sound, tmp_path):
    """Of a full volume the file cannot become longer: that is said, and all else stays."""
    image = copy_of(sound, '1k', tmp_path)
    debugfs(image, 'cd d', *['mknod n%d p' % i for i in range(300)], *['sif n%d uid %d' % (i, i * 123456) for i in range(300)])
    free = int(subprocess.run(['dumpe2fs', '-h', str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
               .split('Free blocks:')[1].split()[0])
    with open(tmp_path / 'fill', 'wb') as f:
        f.write(b'x' * ((free - 200) * 1024))
    debugfs(image, 'write %s fill' % (tmp_path / 'fill'))
    r = mend(image)
    assert r.returncode == 4 and b'[quota-' in r.stdout, (r.returncode, r.stdout[-500:])
    assert {c for c, _, _ in fsck(image)[1]} == {'quota-usage', 'super-state'}
    state = subprocess.run(['dumpe2fs', '-h', str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    assert re.search('Filesystem state: *not clean', state), state
    debugfs(image, 'rm fill')
    assert '[quota-usage]' in assert_mended(image)
