"""The journal as we leave it: blocks of an image are changed through its journal, the log is left as a loss of power would leave it,
and e2fsck, the kernel and our own recovery must each make of it what was promised, block for block. The blocks are those of a file, so
that the volume stays clean whatever they hold."""
import os, random, re, shutil, struct, subprocess, sys, tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from test_journal import BUILD, REPLAY, journal_blocks, sh

WRITE = os.path.join(BUILD, 'tests/tools/journal_write')
FILE_BLOCKS = 300
V2, V3, BITS64 = 0x08, 0x10, 0x02
CHECKSUM = 1  # compat: v1
FAST = 0x20
FAST_BLOCKS = 256  # for fast commits, when the superblock does not say

# name, block size, mke2fs features, features to switch on, compat bits of the log
KINDS = [
    ('plain_32', 1024, '^metadata_csum,^64bit', 0, 0),
    ('plain_64', 4096, '^metadata_csum,64bit', BITS64, 0),
    ('v1_32', 1024, '^metadata_csum,^64bit', 0, CHECKSUM),
    ('v1_64', 2048, '^metadata_csum,64bit', BITS64, CHECKSUM),
    ('v2_32', 1024, '^metadata_csum,^64bit', V2, 0),
    ('v2_64', 1024, 'metadata_csum,64bit', V2 | BITS64, 0),
    ('v3_32', 1024, 'metadata_csum,^64bit', V3, 0),
    ('v3_64', 4096, 'metadata_csum,64bit', V3 | BITS64, 0),
    ('fast_commit', 1024, '^metadata_csum,64bit,fast_commit', V3 | BITS64, 0),
]


def numbers(text):
    """Block numbers of debugfs: "(0-11):100-111, (IND):112"."""
    blocks = []
    for at, end in re.findall(r'\(\d+(?:-\d+)?\):(\d+)(?:-(\d+))?', text):
        blocks += range(int(at), int(end or at) + 1)
    return blocks


def make(image, block, features):
    with open(image, 'wb') as f:
        f.truncate(32 << 20)
    sh('mke2fs', '-q', '-F', '-t', 'ext4', '-b', str(block), '-O', features, '-J', 'size=%d' % (4 if block == 4096 else block // 512),
       image)
    body = image + '.body'
    with open(body, 'wb') as f:
        f.write(b'old' * (FILE_BLOCKS * block // 3) + b'x' * (FILE_BLOCKS * block % 3))
    sh('debugfs', '-w', '-R', f'write {body} file', image)
    os.unlink(body)
    return journal_blocks(image), numbers(sh('debugfs', '-R', 'stat file', image))


def log_super(image, block, log, compat):
    """Sets compat bits, which a superblock without a checksum of its own allows; returns (start, sequence)."""
    with open(image, 'r+b') as f:
        f.seek(log[0] * block)
        head = f.read(0x30)
        sequence, start = struct.unpack('>II', head[0x18:0x20])
        if compat:
            f.seek(log[0] * block + 0x24)
            f.write(struct.pack('>I', compat))
    return start, sequence


def reserve_fast(image, block, log):
    """As a kernel with fast commits leaves it when it crashes: the area is set apart, and has something in it."""
    with open(image, 'r+b') as f:
        f.seek(log[0] * block + 0x28)
        f.write(struct.pack('>I', FAST))
        f.seek(log[0] * block + 0x54)
        f.write(struct.pack('>I', FAST_BLOCKS))
        for blk in log[-FAST_BLOCKS:]:
            f.seek(blk * block)
            f.write(b'fast commit of old times' * (block // 24))


def check(image, block, home, expected):
    with open(image, 'rb') as f, open(expected, 'rb') as e:
        for blk in home:
            f.seek(blk * block)
            assert f.read(block) == e.read(block), f'block {blk} differs'


@pytest.mark.parametrize('name,block,features,want,compat', KINDS, ids=[k[0] for k in KINDS])
@pytest.mark.parametrize('changes', [12, 400])
def test_log_is_understood(name, block, features, want, compat, changes):
    if not shutil.which('e2fsck') or not shutil.which('debugfs'):
        pytest.skip('no e2fsprogs')
    seed = int(os.environ.get('SEED', random.randrange(1, 1 << 32)))
    print('seed', seed)
    with tempfile.TemporaryDirectory(prefix='werunos-journal.') as tmp:
        image, expected = os.path.join(tmp, 'image'), os.path.join(tmp, 'expected')
        log, home = make(image, block, features)
        assert len(home) == FILE_BLOCKS
        log_super(image, block, log, compat)
        if name == 'fast_commit':
            reserve_fast(image, block, log)
        sh('debugfs', '-w', '-R', 'feature needs_recovery', image)
        out = sh(WRITE, image, str(block), str(seed), str(want), str(changes), expected,
                 input=f"{len(log)} {' '.join(map(str, log))} {len(home)} {' '.join(map(str, home))}")
        print(out.strip())
        got = {k: int(v) for k, v in re.findall(r'(\w+)=(\d+)', out)}
        assert got['start'] and got['incompat'] & want == want and got['compat'] == compat
        assert got['commits'] >= max(2, changes / 6) and got['revoked'] > changes
        if changes > 100:
            assert got['logged'] > 2 * len(log), 'the log did not wrap'
        if name == 'fast_commit':
            assert not got['incompat'] & FAST
        # Ourselves.
        ours = os.path.join(tmp, 'ours')
        sh(REPLAY, image, str(block), ours, input=' '.join(map(str, log)))
        check(ours, block, home, expected)
        # e2fsck.
        theirs = os.path.join(tmp, 'theirs')
        shutil.copy(image, theirs)
        r = subprocess.run(['e2fsck', '-y', '-E', 'journal_only', theirs], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True)
        assert r.returncode in (0, 1), r.stdout
        check(theirs, block, home, expected)
        sh('e2fsck', '-fn', theirs)
        assert log_super(theirs, block, log, 0)[0] == 0
        # The kernel.
        if os.geteuid() == 0:
            mnt = os.path.join(tmp, 'mnt')
            os.mkdir(mnt)
            sh('mount', '-t', 'ext4', '-o', 'loop', image, mnt)
            try:
                with open(os.path.join(mnt, 'file'), 'rb') as f, open(expected, 'rb') as e:
                    assert f.read(FILE_BLOCKS * block) == e.read(FILE_BLOCKS * block)
            finally:
                sh('umount', mnt)
            check(image, block, home, expected)
            sh('e2fsck', '-fn', image)


if __name__ == '__main__':
    sys.exit(pytest.main([__file__, '-q']))


def test_numbers_go_on_where_a_log_is_empty(tmp_path):
    """The volume says that it needs recovery, its log that there is nothing: numbers restart as little as after a transaction, or what former
    rounds left in the log would be taken for what comes next."""
    image, block = str(tmp_path / 'image'), 1024
    log, _ = make(image, block, '^metadata_csum,^64bit')
    with open(image, 'r+b') as f:
        f.seek(log[0] * block + 0x18)
        f.write(struct.pack('>I', 500))
    sh('debugfs', '-w', '-R', 'feature needs_recovery', image)
    sh(os.path.join(BUILD, 'werunos'), 'mkdir', image + ':/made')
    start, sequence = log_super(image, block, log, 0)
    assert start == 0 and sequence > 501
    sh('e2fsck', '-fn', image)
