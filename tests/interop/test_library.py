"""
libwerunos as others have it: installed, found by pkg-config, linked both ways; what it exports, what a C++ compiler says to its header, and what
the example does to a volume.
"""
import os, pathlib, re, subprocess
import pytest
import mounts

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = ROOT / 'host/api/werunos.h'
EXAMPLE = ROOT / 'examples/treecat.c'


def run(*cmd, code=0, **kw):
    r = subprocess.run(list(map(str, cmd)), capture_output=True, text=True, timeout=300, **kw)
    assert r.returncode == code, (cmd, r.returncode, r.stdout[-2000:], r.stderr[-2000:])
    return r.stdout


@pytest.fixture(scope='module')
def usr(tmp_path_factory):
    """PREFIX as it lies in DESTDIR."""
    mode = os.path.basename(mounts.BUILD)
    dest = tmp_path_factory.mktemp('dest')
    env = {k: v for k, v in os.environ.items() if not k.startswith('MAKE')}
    run('make', '-s', '-C', ROOT, f'MODE={mode}', 'install', f'DESTDIR={dest}', 'PREFIX=/usr', env=env)
    return dest / 'usr'


def pkg_config(usr, *what):
    env = {**os.environ, 'PKG_CONFIG_PATH': str(usr / 'lib/pkgconfig')}
    return run('pkg-config', f'--define-variable=prefix={usr}', *what, 'werunos', env=env).split()


def declared():
    names = re.findall(r'\b(werunos_\w+)\(', re.sub(r'/\*.*?\*/', '', HEADER.read_text(), flags=re.S))
    assert len(names) > 40
    return set(names)


def test_exported_is_what_the_header_declares(usr):
    so = usr / 'lib/libwerunos.so.0'
    for lines in (run('nm', '-D', '-P', '--defined-only', so), run('nm', '-g', '-P', '--defined-only', usr / 'lib/libwerunos.a')):
        symbols = {line.split()[0] for line in lines.splitlines() if len(line.split()) > 2}
        # What a sanitizer's build adds is not ours.
        assert {s for s in symbols if not re.match(r'__(odr_)?asan|__tsan', s)} == declared()
    assert '[libwerunos.so.0]' in run('readelf', '-d', so)
    assert os.readlink(usr / 'lib/libwerunos.so') == 'libwerunos.so.0'
    assert 'fuse' not in run('readelf', '-d', so)


def test_version(usr):
    assert f'#define WERUNOS_VERSION "{pkg_config(usr, "--modversion")[0]}"' in HEADER.read_text()


def test_manual_knows_them():
    named = set(re.findall(r'werunos_\w+', (ROOT / 'host/man/werunos.3').read_text())) - {'werunos_open_options', 'werunos_volume'}
    assert named and not named - declared()


@pytest.mark.parametrize('std', ['c99', 'c11', 'c++11', 'c++20'])
def test_header_alone(usr, tmp_path, std):
    cplus = std.startswith('c++')
    source = tmp_path / ('use.cc' if cplus else 'use.c')
    source.write_text('#include <werunos.h>\n#include <werunos.h>\nint main() { struct werunos_open_options o = %s; struct werunos_volume *v;\n'
                      'return werunos_open("memfs:1M", &o, &v) || werunos_close(v); }\n' % ('{}' if cplus else '{ 0 }'))
    warn = ['-Wall', '-Wextra', '-Wpedantic', '-Werror']
    warn += ['-Wno-missing-field-initializers', '-Wno-unknown-pragmas'] if cplus else ['-Wno-strict-prototypes']
    run('clang++' if cplus else 'clang', f'-std={std}', *warn, *pkg_config(usr, '--cflags'), '-c', source, '-o', tmp_path / 'use.o')
    run('cc', tmp_path / 'use.o', *pkg_config(usr, '--libs'), f'-Wl,-rpath,{usr}/lib', '-o', tmp_path / 'use')
    run(tmp_path / 'use')


def build(usr, tmp_path, static):
    """static: libwerunos alone; what it needs in its turn stays shared, as README.md says."""
    if static:
        libs = [f'-L{usr}/lib', '-l:libwerunos.a', *run('pkg-config', '--libs', *pkg_config(usr, '--print-requires-private')).split(), '-lisal', '-lpthread']
    else:
        libs = [*pkg_config(usr, '--libs'), f'-Wl,-rpath,{usr}/lib']
    run('cc', '-O1', '-Wall', '-Wextra', '-Werror', *pkg_config(usr, '--cflags'), EXAMPLE, *libs, '-o', tmp_path / 'treecat')
    needs = run('readelf', '-d', tmp_path / 'treecat')
    assert ('libwerunos' in needs) != static
    return tmp_path / 'treecat'


@pytest.mark.parametrize('static', [False, True], ids=['shared', 'static'])
def test_example(usr, tmp_path, static):
    treecat, image, tree = build(usr, tmp_path, static), tmp_path / 'v.img', tmp_path / 'tree'
    (tree / 'sub').mkdir(parents=True)
    (tree / 'one').write_text('one\n')
    (tree / 'sub/big').write_bytes(os.urandom(300000))
    run('mkfs.ext4', '-q', '-O', '64bit,metadata_csum', image, '32M')
    assert run(treecat, image, 'put', tree, '/copy') == '2 files, 2 directories, 300004 bytes\n'
    run('e2fsck', '-fn', image)
    assert run(treecat, image, 'ls', '/copy').split() in (['one', 'sub/'], ['sub/', 'one'])
    assert run(treecat, image, 'cat', '/copy/one') == 'one\n'
    got = subprocess.run([treecat, image, 'cat', '/copy/sub/big'], capture_output=True, check=True)
    assert got.stdout == (tree / 'sub/big').read_bytes()
    assert got.stderr == b''
    bad = subprocess.run([treecat, image, 'cat', '/nothing'], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stderr) == (1, 'treecat: /nothing: No such file or directory\n')
    bad = subprocess.run([treecat, tmp_path / 'tree/one', 'ls', '/'], capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and bad.stderr.count('\n') == 1 and 'holds no file system that is known' in bad.stderr
