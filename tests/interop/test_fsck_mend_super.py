"""
werunos fsck -y: superblock, descriptors, bitmaps, journal, orphans, and what else a volume has of its own. What is broken in one place is mended by
the first run, the second finds nothing, and e2fsck has nothing to say.
"""
import shutil, struct, subprocess
import pytest
import mounts
from test_fsck import BREAK, debugfs, e2fsck, fsck, orphan_file_ino, sound, word

CODES = {
    'super-checksum', 'super-primary', 'super-field', 'super-free-blocks', 'super-free-inodes', 'super-state', 'super-copy', 'super-copy-features',
    'orphans-left', 'orphan-present', 'orphan-bad', 'orphan-file', 'journal', 'journal-error', 'group-descriptor', 'group-copy', 'group-metadata-overlap',
    'group-free-blocks', 'group-free-inodes', 'group-directories', 'block-bitmap-checksum', 'inode-bitmap-checksum', 'block-bitmap-lacks',
    'block-bitmap-more', 'inode-bitmap-lacks', 'inode-bitmap-more', 'bitmap-end', 'resize-inode',
}


def no_descriptor(v, group):
    """Neither it nor its copy can be read."""
    for start in (2048, 8194 * 1024):
        with open(v, 'r+b') as f:
            f.seek(start + 64 * group)
            f.write(b'\xff' * 12)


def no_copy_of_journal(v):
    debugfs(v, *['ssv jnl_blocks[%d] 0' % i for i in range(17)])


def no_journal_at_all(v):
    no_copy_of_journal(v)
    debugfs(v, 'sif <8> block[0] 0')


def reserved_block(v):
    out = subprocess.run(['dumpe2fs', str(v)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    return int(out.split('Reserved GDT blocks at ')[1].split('-')[0])


MORE = [
    ('csum', 'group-descriptor', lambda v: no_descriptor(v, 0)),
    ('csum', 'group-descriptor', lambda v: no_descriptor(v, 1)),
    ('csum', 'journal-inode', ['sif <8> block[0] 0']),
    ('csum', 'journal-copy', no_copy_of_journal),
    ('csum', 'journal', no_journal_at_all),
    ('csum', 'orphan-file', lambda v: debugfs(v, 'clri <%d>' % orphan_file_ino(v))),
    ('csum', 'resize-inode', lambda v: word(v, reserved_block(v) * 1024, '<I', 77)),
    ('plain', 'resize-inode', ['sif <7> block[IND] 0', 'sif <7> block[DIND] 0']),
    ('plain', 'resize-inode', ['sif <7> blocks 2']),
]
CASES = [b for b in BREAK if b[1] in CODES] + MORE


def mend(image, *options):
    return subprocess.run([mounts.WERUNOS, 'fsck', '-f', '-y', *options, str(image)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)


def assert_mended(image):
    r = mend(image)
    assert r.returncode == 1, (r.returncode, r.stdout[-2000:], r.stderr[-500:])
    assert fsck(image)[:2] == (0, []), r.stdout
    e = e2fsck(image)
    assert e.returncode == 0, (r.stdout, e.stdout)
    return r.stdout.decode()


def files(image):
    return debugfs(image, 'ls -l dir', 'ls -l /', 'cat file', 'cat dir/sub/deep')


@pytest.mark.parametrize('kind,code,how', CASES, ids=['%s-%s-%d' % (k, c, i) for i, (k, c, _) in enumerate(CASES)])
def test_mended(sound, tmp_path, kind, code, how):
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    before = files(image)
    if callable(how):
        how(image)
    else:
        debugfs(image, *how)
    assert code in [c for c, _, _ in fsck(image)[1]], fsck(image)
    assert '[%s]' % code in assert_mended(image)
    assert files(image) == before


def test_not_cleanly_unmounted(sound, tmp_path):
    """Nothing is wrong: it is called sound again."""
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / 'plain.img', image)
    debugfs(image, 'ssv state 0')
    assert [c for c, _, _ in fsck(image)[1]] == ['super-state']
    assert mend(image).returncode == 0
    assert fsck(image)[:2] == (0, []) and e2fsck(image).returncode == 0
    assert struct.unpack('<H', image.read_bytes()[1024 + 0x3a:1024 + 0x3c])[0] == 1
