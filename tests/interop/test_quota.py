"""werunos quota: what it shows is what the files hold, of each kind that the volume counts."""
import json, os, subprocess
import mounts
from test_fsck_mend_quota import LIMITS, USER, File, copy_of, project_ino, sound


def quota(image, *options):
    r = subprocess.run([mounts.WERUNOS, 'quota', *options, str(image)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def test_json(sound, tmp_path):
    image = copy_of(sound, 'project', tmp_path)
    code, out, _ = quota(image, '--json')
    said = json.loads(out)
    assert code == 0 and set(said) == {'grace', 'user', 'group', 'project'}
    assert said['grace'] == {kind: {'space_s': 604800, 'inodes_s': 604800} for kind in ('user', 'group', 'project')}
    for kind, ino in (('user', 3), ('group', 4), ('project', project_ino(image))):
        f = File(image, ino)
        assert [q['id'] for q in said[kind]] == sorted(q['id'] for q in said[kind])
        for q in said[kind]:
            leaf, at = f.record(q['id'])
            assert q['space_bytes'] == f.get(leaf, at + 0x30, '<Q') and q['inodes'] == f.get(leaf, at + 0x18, '<Q')
            limits = q['inodes_hard'], q['inodes_soft'], q['space_hard_bytes'] // 1024, q['space_soft_bytes'] // 1024
            assert limits == f.limits(q['id']) == (LIMITS if (kind, q['id']) == ('user', USER) else (0, 0, 0, 0))
    assert {q['id'] for q in said['user']} == {0, 77} | set(range(1000, 1040))
    assert {q['id'] for q in said['project']} == {0, 1, 2}


def test_text(sound, tmp_path):
    image = copy_of(sound, '1k', tmp_path)
    f = File(image, 3)
    leaf, at = f.record(USER)
    f.put(leaf, at + 0x18, '<Q', 6)
    f.put(leaf, at + 0x40, '<Q', 1700000000)
    code, out, _ = quota(image, '--user')
    row = [line.split() for line in out.split('\n') if line.split()[:1] == [str(USER)]]
    assert code == 0 and len(row) == 1 and 'group' not in out
    assert row[0] == [str(USER), '-', str(-(-f.get(leaf, at + 0x30, '<Q') // 1024)), '50', '100', '+', '6', '5', '7', '2023-11-14', '22:13']
    code, out, _ = quota(image)
    assert code == 0 and 'user' in out and 'group' in out and 'project' not in out


def test_none(sound, tmp_path):
    image = copy_of(sound, '1k', tmp_path)
    code, out, err = quota(image, '--project')
    assert code == 1 and not out and 'no count for each project' in err
    plain = tmp_path / 'plain.img'
    with open(plain, 'wb') as f:
        f.truncate(8 << 20)
    mounts.run('mke2fs', '-q', '-F', '-O', 'none,filetype', str(plain))
    code, out, err = quota(plain)
    assert code == 1 and not out and err.count('\n') == 1


def test_damaged(sound, tmp_path):
    """What can be read is shown all the same."""
    image = copy_of(sound, '1k', tmp_path)
    f = File(image, 3)
    f.put(f.way(1030)[3], 4 * (1030 & 0xff), '<I', f.blocks + 7)
    code, out, err = quota(image, '--user')
    ids = [line.split()[0] for line in out.split('\n')[1:] if line]
    assert code == 1 and '1029' in ids and '1030' not in ids and 'quota file is damaged' in err


def ok(image, *options):
    code, out, err = quota(image, *options)
    assert code == 0 and not err, err
    return out


def sees(image, kind, id):
    """What debugfs reads of it: limits and usage."""
    out = subprocess.run(['debugfs', '-R', 'gq %s %d' % (kind, id), str(image)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    return [int(n) for n in out.decode().split('\n')[-2].split()]


def test_set(sound, tmp_path):
    image = copy_of(sound, 'project', tmp_path)
    used = sees(image, 'user', 1005)
    ok(image, '--set', 'user:1005', '--space-soft', '8M', '--space-hard', '10001', '--inodes-hard', '12')
    assert sees(image, 'user', 1005) == [1005, used[1], 8 << 10, 10, used[4], 0, 12]
    ok(image, '--set', 'user:1005', '--inodes-soft', '3')
    assert sees(image, 'user', 1005) == [1005, used[1], 8 << 10, 10, used[4], 3, 12]
    # Nobody has these yet.
    for kind, id in ('user', 4000000000), ('group', 70000), ('project', 9):
        ok(image, '--set', '%s:%d' % (kind, id), '--space-hard', '1G')
        assert sees(image, kind, id) == [id, 0, 0, 1 << 20, 0, 0, 0]
    ok(image, '--set', 'group:root', '--inodes-hard', '5000')
    assert sees(image, 'group', 0)[6] == 5000
    ok(image, '--set', 'group', '--space-grace', '3h', '--inodes-grace', '90')
    said = json.loads(ok(image, '--json'))
    assert said['grace']['group'] == {'space_s': 10800, 'inodes_s': 90} and said['grace']['user']['space_s'] == 604800
    subprocess.run(['e2fsck', '-fn', str(image)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_set_mounted(sound, tmp_path):
    image, d = copy_of(sound, '1k', tmp_path), tmp_path / 'm'
    d.mkdir()
    with mounts.werunos(image, d):
        before = json.loads(ok(d, '--json'))
        ok(d, '--set', 'user:55', '--inodes-hard', '2')
        with open(d / 'file', 'wb') as f:
            f.write(bytes(100000))
            f.flush()
            os.fsync(f.fileno())
        os.chown(d / 'file', 55, 0)
        after = json.loads(ok(d, '--json'))
        mine = [q for q in after['user'] if q['id'] == 55]
        assert len(mine) == 1 and mine[0]['inodes_hard'] == 2 and mine[0]['inodes'] == 1 and mine[0]['space_bytes'] >= 98304
        assert [q for q in after['user'] if q['id'] not in (0, 55)] == [q for q in before['user'] if q['id'] != 0]
    assert [q for q in json.loads(ok(image, '--json'))['user'] if q['id'] == 55] == mine
    code, _, err = quota(tmp_path)
    assert code == 1 and 'not a mount of werunos' in err
    subprocess.run(['e2fsck', '-fn', str(image)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_set_words(sound, tmp_path):
    image = copy_of(sound, '1k', tmp_path)
    before = image.read_bytes()
    for words in (['--set', 'user:1'], ['--set', 'user', '--space-soft', '3'], ['--set', 'user:1', '--space-grace', '3'], ['--set', 'them:1', '--space-soft', '3'],
                  ['--set', 'user:no such', '--space-soft', '3'], ['--set', 'user:1', '--space-soft', '-3'], ['--set', 'user:1', '--inodes-soft', 'x'],
                  ['--set', 'user', '--space-grace', '3y'], ['--space-soft', '3'], ['--set', 'user:1', '--user', '--space-soft', '3'],
                  ['--set', 'user', '--space-grace', '9999999999w']):
        code, out, err = quota(image, *words)
        assert code == 64 and not out and 'usage' in err, words
    assert image.read_bytes() == before
    code, _, err = quota(image, '--set', 'project:1', '--space-soft', '3')
    assert code == 1 and 'no count for each project' in err
