"""Mounts for tests: the kernel's and ours, undone on every exit."""
import contextlib, os, subprocess, sys, time

BUILD = os.environ.get('BUILD', 'build/release')
WERUNOS = os.path.abspath(BUILD + '/werunos')
# Before a file's name and a command: its peak memory.
PEAK = [sys.executable, '-S', os.path.abspath('tests/support/peak.py')]


def run(*cmd, **kw):
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    assert r.returncode == 0, '%s: exit %d: %s' % (' '.join(map(str, cmd)), r.returncode, r.stdout.decode(errors='replace')[-2000:])
    return r.stdout


def unmount(d):
    for how in ([], ['-l']):
        if os.path.ismount(d):
            subprocess.run(['umount', *how, str(d)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def kernel(image, d, options='loop'):
    run('mount', '-o', options, str(image), str(d))
    try:
        yield str(d)
    finally:
        unmount(d)


@contextlib.contextmanager
def loop(image, *options):
    dev = run('losetup', '--show', '-f', *options, str(image)).decode().strip()
    try:
        yield dev
    finally:
        subprocess.run(['losetup', '-d', dev])
        # While somebody looks at it (udev, other tests) it stays.
        for _ in range(500):
            if not os.path.exists('/sys/block/%s/loop' % os.path.basename(dev)):
                break
            time.sleep(0.01)


@contextlib.contextmanager
def werunos(source, d, *options, env=None, wrap=()):
    """Ours, in the foreground, ready when it returns; its output is shown when it ends badly."""
    p = subprocess.Popen([*wrap, WERUNOS, 'mount', *options, str(source), str(d)], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
    try:
        end = time.monotonic() + 20
        while not os.path.ismount(d):
            assert p.poll() is None, p.stdout.read().decode(errors='replace')
            assert time.monotonic() < end, 'not mounted after 20 s'
            time.sleep(0.01)
        yield str(d)
    finally:
        unmount(d)
        try:
            p.wait(20)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            raise AssertionError('the server did not end after the unmount')
    assert p.returncode == 0, p.stdout.read().decode(errors='replace')
