"""
Each kind of finding of ext4 is provoked, and mended by werunos fsck -y: nothing is found any more, by us and by e2fsck, no name is lost that
e2fsck -fy keeps, and undo gives back every byte. And many damages at once, by seed: a sample of what fsck_corpus.py does.
"""
import os, re, shutil, subprocess, sys
import pytest
sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'interop'))
import fsck_corpus
from ext4_edit import Volume
from fsck_bases import BASES, base
from test_fsck import BASE, BREAK, debugfs, fsck, sound, super_words, word  # noqa: E402,F401
from test_fsck_mend_super import MORE  # noqa: E402
import mounts



def mended(image, before):
    broken = str(image) + '.broken'
    shutil.copyfile(image, broken)
    assert fsck_corpus.mended(mounts.WERUNOS, str(image), broken)
    fsck_corpus.judge_names(before, str(image), broken)
    again = subprocess.run([mounts.WERUNOS, 'fsck', '-f', '-y', str(image)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert again.returncode == 0, again.stdout.decode(errors='replace')[-500:]
    fsck_corpus.undone(mounts.WERUNOS, str(image), broken)


@pytest.mark.parametrize('kind,code,how', BREAK, ids=['%s-%s-%d' % (k, c, i) for i, (k, c, _) in enumerate(BREAK)])
def test_mended(sound, tmp_path, kind, code, how):  # noqa: F811
    image = tmp_path / 'v.img'
    shutil.copyfile(sound / (kind + '.img'), image)
    before = Volume(image).tree()
    if callable(how):
        how(image)
    else:
        debugfs(image, *how)
    assert code in [c for c, _, _ in fsck(image)[1]]
    mended(image, before)
    image.unlink()


def test_mmp(tmp_path):
    image = tmp_path / 'v.img'
    with open(image, 'wb') as f:
        f.truncate(20 << 20)
    mounts.run('mke2fs', '-q', '-F', '-b', '1024', '-O', BASE + ',mmp,metadata_csum', str(image))
    word(image, super_words(image, 0x168, '<Q') * 1024, '<I', 7)
    mended(image, {})


@pytest.mark.skipif(os.geteuid() != 0, reason='not root: the kernel has to fill the volumes')
@pytest.mark.parametrize('name', BASES)
def test_sound(tmp_path, name):
    """Nothing is found on a sound volume, and nothing changed."""
    image = base(name, str(tmp_path))
    with open(image, 'rb') as f:
        before = f.read()
    assert fsck(image)[:2] == (0, [])
    r = subprocess.run([mounts.WERUNOS, 'fsck', '-f', '-y', image], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert r.returncode == 0, r.stdout.decode(errors='replace')[-500:]
    with open(image, 'rb') as f:
        assert f.read() == before
    os.unlink(image)


# Codes that no row of BREAK or MORE provokes: where they are, or why no volume can have them in a state that is mended.
ELSEWHERE = {
    'journal-spare': 'test_fsck_mend_super.py: test_spare_journal',
    'journal-needed': 'test_fsck_host.py: test_journal_elsewhere',
    'mmp': 'test_fsck_mend_super.py: test_mmp',
    'group-inodes-beyond': 'test_fsck_mend_inodes.py: test_inodes_that_are_said_to_be_unused',
    'inode-is-directory': 'test_fsck_mend_inodes.py: test_directory_that_lost_its_type',
    'block-askew': 'test_fsck_mend_inodes.py: test_clusters_askew',
    'directory-room': 'test_fsck_mend_inodes.py: test_no_room_for_copies',
    'lost-found': 'test_fsck_mend_dirs.py: test_lost_found_is_made',
    'lost-found-missing': 'test_fsck_mend_dirs.py: test_lost_found_is_made',
    'quota-usage': 'test_fsck_mend_quota.py: test_usage',
    'quota-file': 'test_fsck_mend_quota.py: test_file',
    'journal-elsewhere': None,  # never mended
    'read-error': None,
}


def test_every_code_is_provoked():
    """Each kind of finding has an image that shows it, which is mended and then clean."""
    with open('kernel/fs/ext4/check/check.h') as f:
        table = f.read().split('#define CK_CODES(X)')[1].split('enum ck_code')[0]
    codes = set(re.findall(r'X\(\w+, "([^"]+)"', table))
    never = {c for c in codes if re.search(r'"%s"(?:(?! X\(|\tX\().)*NEVER' % c, table, re.S)}
    provoked = {c for _, c, _ in BREAK} | {c for _, c, _ in MORE}
    assert len(codes) > 80 and codes - provoked == set(ELSEWHERE), codes - provoked ^ set(ELSEWHERE)
    assert never == {c for c, where in ELSEWHERE.items() if not where}
    for where in filter(None, ELSEWHERE.values()):
        name, test = where.split(': ')
        with open('tests/interop/' + name) as f:
            assert 'def %s(' % test in f.read(), where
