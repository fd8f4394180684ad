"""Mounts for tests: the kernel's and ours, undone on every exit."""
import contextlib, glob, os, subprocess, sys, time

BUILD = os.environ.get('BUILD', 'build/release')
WERUNOS = os.path.abspath(BUILD + '/werunos')
# Before a file's name and a command: its peak memory.
PEAK = [sys.executable, '-S', os.path.abspath('tests/support/peak.py')]


# Before a command that has mounts of its own: what others unmount meanwhile is unmounted there too (tests/run.sh).
APART = ['unshare', '-m', '--propagation', 'slave']


def run(*cmd, **kw):
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    assert r.returncode == 0, '%s: exit %d: %s' % (' '.join(map(str, cmd)), r.returncode, r.stdout.decode(errors='replace')[-2000:])
    return r.stdout


def within(seconds, true):
    """Whether true() comes to hold in that time; looked at every 10 ms."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def is_mounted(d):
    """Also when the server is gone, of which os.path.ismount knows nothing."""
    where = os.path.realpath(d).replace(' ', '\\040')
    with open('/proc/self/mounts') as f:
        return any(line.split()[1] == where for line in f)


def unmounted(d, *how):
    if is_mounted(d):
        subprocess.run(['umount', *how, str(d)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return not is_mounted(d)


def unmount(d):
    # Busy for a moment while others (udev, a process that ends) look at it; lazily only at last.
    within(5, lambda: unmounted(d)) or unmounted(d, '-l')


def on_loops(image):
    """Whether a loop device has the image still: its end comes after the unmount that let go of it."""
    for f in glob.glob('/sys/block/loop*/loop/backing_file'):
        with contextlib.suppress(OSError), open(f) as backing:
            if backing.read().strip() == os.path.realpath(image):
                return True
    return False


@contextlib.contextmanager
def kernel(image, d, options='loop'):
    before = on_loops(image)
    run('mount', '-o', options, str(image), str(d))
    try:
        yield str(d)
    finally:
        unmount(d)
        # One that was there before stays: the test's own.
        if 'loop' in options.split(',') and not before:
            within(5, lambda: not on_loops(image))


def forget(devs):
    """Has the kernel forget a btrfs volume on them, which has the ids of others; not what other tests are about to mount."""
    for dev in devs:
        subprocess.run(['btrfs', 'device', 'scan', '--forget', dev], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def loop(image, *options):
    dev = run('losetup', '--show', '-f', *options, str(image)).decode().strip()
    try:
        yield dev
    finally:
        subprocess.run(['losetup', '-d', dev])
        # While somebody looks at it (udev, other tests) it stays.
        within(5, lambda: not os.path.exists('/sys/block/%s/loop' % os.path.basename(dev)))


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
