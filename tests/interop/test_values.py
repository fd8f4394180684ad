"""Volumes whose attributes lead to inodes that hold no values: these stay what they are."""
import os, re, struct, subprocess
import pytest
import mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason='not root: a volume is mounted')
FEATURES = 'none,has_journal,ext_attr,extent,filetype,sparse_super,large_file,extra_isize,ea_inode'


def debugfs(image, command, write=False):
    args = ['debugfs', *(['-w'] if write else []), '-R', command, str(image)]
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout.decode()


def slot(image, ino):
    block, off = re.search(r'located at block (\d+), offset (0x[0-9a-f]+)', debugfs(image, 'imap <%d>' % ino)).groups()
    return int(block) * 1024 + int(off, 0)


def lead_to(image, ino, other):
    """The first attribute in the inode's own list leads to the other inode."""
    at = slot(image, ino)
    with open(image, 'r+b') as f:
        f.seek(at + 128)
        extra, = struct.unpack('<H', f.read(2))
        f.seek(at + 128 + extra)
        magic, _, _, _, inum = struct.unpack('<IBBHI', f.read(12))
        assert magic == 0xea020000 and inum
        f.seek(at + 128 + extra + 8)
        f.write(struct.pack('<I', other))


@pytest.mark.parametrize('other', [8, 2, 7, 'directory'])
@pytest.mark.parametrize('how', ['remove', 'delete'])
def test_no_value(tmp_path, other, how):
    image, d = tmp_path / 'img', tmp_path / 'm'
    d.mkdir()
    with open(image, 'wb') as f:
        f.truncate(32 << 20)
    mounts.run('mke2fs', '-q', '-F', '-t', 'ext4', '-b', '1024', '-I', '256', '-O', FEATURES + (',resize_inode' if other == 7 else ''), str(image))
    with mounts.werunos(image, d):
        (d / 'dir').mkdir()
        (d / 'dir' / 'inside').write_bytes(b'there')
        (d / 'file').touch()
        os.setxattr(d / 'file', 'user.large', bytes(5000))
        ino, in_dir = os.stat(d / 'file').st_ino, os.stat(d / 'dir').st_ino
    other = in_dir if other == 'directory' else other
    lead_to(image, ino, other)
    flags = int(re.search(r'Flags: (0x[0-9a-f]+)', debugfs(image, 'stat <%d>' % other)).group(1), 0)
    debugfs(image, 'set_inode_field <%d> flags 0x%x' % (other, flags | 0x200000), True)
    for field, value in ('ctime', 0), ('version', 1):
        debugfs(image, 'set_inode_field <%d> %s %d' % (other, field, value), True)
    blocks = debugfs(image, 'blocks <%d>' % other)
    mode = re.search(r'Mode: +\d+', debugfs(image, 'stat <%d>' % other)).group()
    # The root cannot be shown like that, and then nothing is written.
    r = subprocess.run([mounts.WERUNOS, *(['rm', '%s:/file' % image] if how == 'delete' else ['setfattr', '-x', 'user.large', '%s:/file' % image])],
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    assert r.returncode >= 0, 'it was ended by a signal'
    assert debugfs(image, 'blocks <%d>' % other) == blocks and mode in debugfs(image, 'stat <%d>' % other)
