"""The journal as the kernel leaves it: an image is copied while it is mounted and written to, its journal is
replayed by us onto an overlay and by e2fsck in a copy, and every block must be the same but the superblock and
the journal's own."""
import os, random, re, shutil, subprocess, sys, tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import mounts

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, os.environ.get('B', 'build/release'))
REPLAY = os.path.join(BUILD, 'tests/tools/journal_replay')

# name, mke2fs arguments, mount options, bits of the log's (compat, incompat) that must be set
KINDS = [
    ('v3_64', '-b 4096 -O metadata_csum,64bit', '', (0, 0x12)),
    ('plain_32', '-b 4096 -O ^metadata_csum,^64bit', '', (0, 0)),
    ('plain_64', '-b 4096 -O ^metadata_csum,64bit', '', (0, 2)),
    ('v3_1k', '-b 1024 -O metadata_csum,^64bit', '', (0, 0x10)),
    ('data_journal', '-b 4096 -O metadata_csum', 'data=journal', (0, 0x10)),
    ('data_journal_1k', '-b 1024 -O ^metadata_csum', 'data=journal', (0, 0)),
    ('checksum', '-b 4096 -O ^metadata_csum', 'journal_checksum', (0, 0)),
    ('async', '-b 4096 -O metadata_csum', 'journal_async_commit,data=writeback', (0, 0x14)),
    ('fast_commit', '-b 4096 -O metadata_csum,fast_commit', '', (0, 0x20)),
    ('indirect', '-b 4096 -O ^extents,^64bit,^metadata_csum,^huge_file', '', (0, 0)),
]
LOG_SIZE = {'fast_commit': 'size=8'}
FC_BLOCKS = 16  # what mke2fs makes for a log of 8 MiB
ESCAPED = b'\xc0\x3b\x39\x98'


def sh(*cmd, **kw):
    return subprocess.run(cmd, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw).stdout


def work(rng, top, step):
    """Creates, overwrites, deletes: so that blocks change their use and are revoked."""
    d = os.path.join(top, f'd{step % 7}')
    if os.path.isdir(d) and rng.random() < .5:
        shutil.rmtree(d)
    os.makedirs(d, exist_ok=True)
    for i in range(rng.randrange(5, 60)):
        with open(os.path.join(d, f'file{i}'), 'wb') as f:
            f.write((ESCAPED if rng.random() < .3 else b'') + rng.randbytes(rng.randrange(0, 9000)))
            if rng.random() < .1:
                f.flush()
                os.fsync(f.fileno())
    names = os.listdir(d)
    for n in names[::3]:
        os.unlink(os.path.join(d, n))
    if rng.random() < .7:
        mounts.run('sync', '-f', str(d))


def journal_blocks(image):
    """The journal's blocks in order: "(0-11):100-111, (IND):112, (12-40):113-141"."""
    blocks = []
    for first, at, end in re.findall(r'\((\d+)(?:-\d+)?\):(\d+)(?:-(\d+))?', sh('debugfs', '-R', 'stat <8>', image)):
        assert int(first) == len(blocks)
        blocks += range(int(at), int(end or at) + 1)
    return blocks


def drop_fast_commits(image, block, area):
    """They are ext4's to replay: without them e2fsck does what the journal alone says."""
    with open(image, 'r+b') as f:
        for blk in area:
            f.seek(blk * block)
            f.write(bytes(block))


def compare(ours, theirs, block, skip):
    with open(ours, 'rb') as a, open(theirs, 'rb') as b:
        blk = 0
        while True:
            x, y = a.read(block), b.read(block)
            if not x and not y:
                return
            if blk * block < 2048 and (blk + 1) * block > 1024:
                lo, hi = max(0, 1024 - blk * block), min(block, 2048 - blk * block)
                x, y = x[:lo] + x[hi:], y[:lo] + y[hi:]
            assert x == y or blk in skip, f'block {blk} differs'
            blk += 1


@pytest.mark.skipif(os.geteuid() != 0, reason='mounting needs root')
@pytest.mark.parametrize('name,mkfs,options,bits', KINDS, ids=[k[0] for k in KINDS])
def test_replay_equals_e2fsck(name, mkfs, options, bits):
    if not shutil.which('e2fsck'):
        pytest.skip('no e2fsck')
    seed = int(os.environ.get('SEED', random.randrange(1 << 32)))
    print('seed', seed)
    rng = random.Random(seed)
    block = int(re.search(r'-b (\d+)', mkfs).group(1))
    replayed = revoked = 0
    with tempfile.TemporaryDirectory(prefix='werunos-journal.') as tmp:
        image, mnt = os.path.join(tmp, 'image'), os.path.join(tmp, 'mnt')
        os.mkdir(mnt)
        with open(image, 'wb') as f:
            f.truncate(64 << 20)
        sh('mke2fs', '-q', '-F', '-t', 'ext4', *mkfs.split(), '-J',
           LOG_SIZE.get(name, 'size=4' if block == 4096 else 'size=1'), image)
        sh('mount', '-t', 'ext4', '-o', 'loop' + (',' + options if options else ''), image, mnt)
        try:
            for step in range(12):
                work(rng, mnt, step)
                if step % 3 == 2:
                    sh('cp', '--sparse=always', image, os.path.join(tmp, f'crash{step}'))
        finally:
            sh('umount', mnt)
        for step in range(2, 12, 3):
            crash, ours, theirs = (os.path.join(tmp, f'{x}{step}') for x in ('crash', 'ours', 'theirs'))
            blocks = journal_blocks(crash)
            if name == 'fast_commit':
                drop_fast_commits(crash, block, blocks[-FC_BLOCKS:])
            out = sh(REPLAY, crash, str(block), ours, input=' '.join(map(str, blocks)))
            print(out.strip())
            got = {k: int(v) for k, v in re.findall(r'(\w+)=(\d+)', out)}
            assert got['compat'] & bits[0] == bits[0] and got['incompat'] & bits[1] == bits[1]
            if name == 'fast_commit':
                assert got['fc'] == FC_BLOCKS - 1
            replayed += got['replayed']
            revoked += got['revoked']
            shutil.copy(crash, theirs)
            r = subprocess.run(['e2fsck', '-y', '-E', 'journal_only', theirs], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
            assert r.returncode in (0, 1), r.stdout
            compare(ours, theirs, block, set(blocks))
            for path in (crash, ours, theirs):
                os.unlink(path)
    assert replayed > 20
    print(name, 'replayed', replayed, 'revoked', revoked)
