"""werunos quota: what it shows is what the files hold, of each kind that the volume counts."""
import json, subprocess
import mounts
from test_fsck_mend_quota import LIMITS, USER, File, copy_of, project_ino, sound


def quota(image, *options):
    r = subprocess.run([mounts.WERUNOS, 'quota', *options, str(image)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def test_json(sound, tmp_path):
    image = copy_of(sound, 'project', tmp_path)
    code, out, _ = quota(image, '--json')
    said = json.loads(out)
    assert code == 0 and set(said) == {'user', 'group', 'project'}
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
    ids = [line.split()[0] for line in out.split('\n') if line]
    assert code == 1 and '1029' in ids and '1030' not in ids and 'quota file is damaged' in err
