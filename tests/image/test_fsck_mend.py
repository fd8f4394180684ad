"""
Each kind of finding of ext4 is provoked, and mended by werunos fsck -y: nothing is found any more, by us and by e2fsck, no name is lost that
e2fsck -fy keeps, and undo gives back every byte. And many damages at once, by seed: a sample of what fsck_corpus.py does.
"""
import os, shutil, subprocess, sys
import pytest
sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'interop'))
import fsck_corpus
from ext4_edit import Volume
from test_fsck import BASE, BREAK, debugfs, fsck, sound, super_words, word  # noqa: E402,F401
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
