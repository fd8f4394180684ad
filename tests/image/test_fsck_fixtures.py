"""
The broken ext4 volumes of the fixtures, mended by werunos fsck -y: then e2fsck finds nothing, every name that e2fsck -fy keeps is kept, and undo
gives back every byte.
"""
import glob, gzip, os, shutil
import pytest
import fsck_corpus
from fsck_corpus import ANSWERED, MENDED, Bad, e2fsck, lost, run, tree_of

BUILD = os.environ.get('BUILD', 'build/release')
WERUNOS = os.path.abspath(BUILD + '/werunos')
FIXTURES = '../shared/fixtures/e2fsck'
NAMES = [os.path.basename(p)[:-7] for p in sorted(glob.glob(FIXTURES + '/*.img.gz'))]
# Which stay as they are, or become what e2fsck would not make of them, and why.
OTHERWISE = {
    'f_ext_journal': 'its journal lies on another volume: e2fsck refuses it, too',
}

pytestmark = pytest.mark.skipif(not NAMES, reason='no ../shared: the broken volumes lie there')


def test_all_are_there():
    assert len(NAMES) > 60
    assert set(OTHERWISE) <= set(NAMES) and len(OTHERWISE) <= 1


@pytest.fixture
def image(tmp_path, request):
    path = tmp_path / 'v.img'
    path.write_bytes(gzip.open('%s/%s.img.gz' % (FIXTURES, request.param)).read())
    yield request.param, str(path)
    for p in tmp_path.iterdir():
        p.unlink()


def theirs(image):
    """What e2fsck makes of a copy: its names."""
    copy = image + '.theirs'
    shutil.copyfile(image, copy)
    for _ in range(3):
        if e2fsck(copy, '-fy')[0] == 0:
            break
    return tree_of(copy)


@pytest.mark.parametrize('image', NAMES, indirect=True)
def test_mended(image):
    name, image = image
    broken = image + '.broken'
    shutil.copyfile(image, broken)
    try:
        fsck_corpus.mended(WERUNOS, image, broken)
        gone = lost({}, tree_of(image), theirs(broken))
        if gone:
            raise Bad('%d names: %s' % (len(gone), '; '.join(gone[:5])))
        fsck_corpus.undone(WERUNOS, image, broken)
    except Bad as e:
        assert name in OTHERWISE, str(e)
        return
    assert name not in OTHERWISE, 'it is mended now'


@pytest.mark.parametrize('image', NAMES, indirect=True)
def test_rehearsed(image):
    """--dry-run and -n change nothing."""
    _, image = image
    before = open(image, 'rb').read()
    for how in (['-n'], ['-y', '--dry-run']):
        code, out = run(WERUNOS, 'fsck', '-f', *how, image)
        assert code in (ANSWERED, MENDED, 4, 8), out
        assert open(image, 'rb').read() == before
