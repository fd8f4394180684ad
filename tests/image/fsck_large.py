#!/usr/bin/python3
"""
fsck_large.py [--inodes N] [--size BYTES] [--dir DIR] WERUNOS: a volume of 16 TiB with ten million files is checked within 1 GiB of memory. The
image is sparse; its files come from an archive that is made as it is read.
"""
import argparse, os, subprocess, sys, tempfile

PEAK = [sys.executable, '-S', os.path.join(os.path.dirname(os.path.abspath(__file__)), '../support/peak.py')]
MEMORY_KIB = 1 << 20
# The largest file that ext4 holds, with which the image is made.
SIZE = (16 << 40) - 4096 - (1 << 30)
EACH = 1000  # files of a directory


def header(name, kind, mode):
    """A ustar header of 512 bytes, its checksum still to be made."""
    h = bytearray(512)
    h[:len(name)] = name
    h[100:108], h[108:116], h[116:124], h[124:136], h[136:148] = b'%07o\0' % mode, b'0000000\0', b'0000000\0', b'00000000000\0', b'14000000000\0'
    h[148:156], h[156], h[257:265] = b' ' * 8, kind, b'ustar\x0000'
    return h


def summed(h):
    h[148:156] = b'%06o\0 ' % sum(h)
    return bytes(h)


def archive(out, inodes):
    """Empty files, EACH in a directory. Only the name differs, and with it the sum."""
    name = b'd/%05d/f%08d'
    h = header(name % (0, 0), ord('0'), 0o644)
    rest = sum(h) - sum(name % (0, 0))
    for first in range(0, inodes, EACH):
        parts = [summed(header(b'd/%05d/' % (first // EACH), ord('5'), 0o755))]
        for i in range(first, min(inodes, first + EACH)):
            this = name % (first // EACH, i)
            h[:len(this)] = this
            h[148:156] = b'%06o\0 ' % (rest + sum(this))
            parts.append(bytes(h))
        out.write(b''.join(parts))
    out.write(bytes(1024))


def make(werunos, image, size, inodes):
    subprocess.run([werunos, 'mkfs', 'ext4', image, str(size)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    p = subprocess.Popen([werunos, 'unpack', '--quiet', image, '-'], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    archive(p.stdin, inodes)
    p.stdin.close()
    if p.wait():
        sys.exit('not ok - fsck/large: it cannot be filled')


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('werunos')
    ap.add_argument('--inodes', type=int, default=10_000_000)
    ap.add_argument('--size', type=int, default=SIZE)
    ap.add_argument('--dir', help='where 5 GB are free')
    o = ap.parse_args()
    with tempfile.TemporaryDirectory(dir=o.dir) as d:
        image, note = d + '/large.img', d + '/peak'
        try:
            with open(image, 'wb') as f:
                f.truncate(o.size)
        except OSError as e:
            print('ok - fsck/large # SKIP no image of that size can be here: %s' % e.strerror)
            return 0
        os.unlink(image)
        make(o.werunos, image, o.size, o.inodes)
        r = subprocess.run([*PEAK, note, o.werunos, 'fsck', '-f', image], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with open(note) as f:
            peak_kib = int(f.read())
    good = r.returncode == 0 and peak_kib <= MEMORY_KIB
    print('%s - fsck/large: %d files, exit %d, %d MiB resident at most%s' % (
        'ok' if good else 'not ok', o.inodes, r.returncode, peak_kib >> 10, '' if good else ': ' + r.stdout[-500:]))
    return not good


if __name__ == '__main__':
    sys.exit(main())
