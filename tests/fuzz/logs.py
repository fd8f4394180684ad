#!/usr/bin/python3
"""
logs.py IMAGE DIR: copies of a sound volume whose journal is empty, each with another log to be recovered: every form of tags and sums,
revoked blocks, escaped ones, a log that wraps, one that is cut off and ones that end in a damaged transaction.
"""
import os, shutil, struct, subprocess, sys, zlib

BLOCK, MAGIC = 1024, 0xc03b3998
DESCRIPTOR, COMMIT, REVOKE = 1, 2, 5
ESCAPE, SAME, LAST = 1, 2, 8
KINDS = {  # compat, incompat
    'plain': (0, 1), '64': (0, 3), 'v1': (1, 1), 'v1-async': (1, 7), 'v2': (0, 9), 'v2-64': (0, 11), 'v3': (0, 17), 'v3-64': (0, 19),
}
FREE = 1800  # blocks of nobody


def crc32_be(data):
    """Most significant bit first, from ~0, not inverted in the end."""
    mirrored = bytes(int('{:08b}'.format(b)[::-1], 2) for b in data)
    return int('{:032b}'.format(~zlib.crc32(mirrored) & 0xffffffff)[::-1], 2)


class Log:
    def __init__(self, f, where, kind, start, sequence):
        self.f, self.where, self.at, self.sequence = f, where, start, sequence
        self.compat, self.incompat = KINDS[kind]
        self.v3, self.v2, self.big = self.incompat & 16, self.incompat & 8, self.incompat & 2
        self.summed = b''
        f.seek(where[0] * BLOCK)
        sb = bytearray(f.read(BLOCK))
        self.blocks, self.first = struct.unpack_from('>II', sb, 16)
        struct.pack_into('>II', sb, 24, sequence, start)
        struct.pack_into('>II', sb, 36, self.compat, self.incompat)
        sb[80] = 4 if self.v2 or self.v3 else 0
        f.seek(where[0] * BLOCK)
        f.write(sb)

    def put(self, block):
        self.f.seek(self.where[self.at] * BLOCK)
        self.f.write(block.ljust(BLOCK, b'\0'))
        self.at += 1
        if self.at == self.blocks:
            self.at = self.first

    def head(self, kind):
        return struct.pack('>III', MAGIC, kind, self.sequence)

    def tag(self, blk, flags):
        if self.v3:
            t = struct.pack('>IIII', blk, flags, 0, 0)
        else:
            t = struct.pack('>IHH', blk, 0, flags) + (b'\0\0\0\0' if self.big else b'') + (b'\0\0' if self.v2 else b'')
        return t + (b'' if flags & SAME else bytes(16))

    def images(self, blks, escaped=()):
        """As many descriptors as they take."""
        each = 40
        for i in range(0, len(blks), each):
            part = blks[i:i + each]
            d, body = self.head(DESCRIPTOR), b''
            for n, blk in enumerate(part):
                flags = (SAME if n else 0) | (LAST if n == len(part) - 1 else 0) | (ESCAPE if blk in escaped else 0)
                d += self.tag(blk, flags)
                body += ((b'\0\0\0\0' if blk in escaped else b'data') + b'%d of %d' % (blk, self.sequence)).ljust(BLOCK, b'\0')
            self.summed += d.ljust(BLOCK, b'\0') + body
            self.put(d)
            for n in range(len(part)):
                self.put(body[n * BLOCK:(n + 1) * BLOCK])

    def revoke(self, blks):
        body = b''.join(struct.pack('>Q' if self.big else '>I', b) for b in blks)
        self.put(self.head(REVOKE) + struct.pack('>I', 16 + len(body)) + body)

    def commit(self, good=True):
        c = self.head(COMMIT) + bytes(36)
        if self.compat & 1:
            c = self.head(COMMIT) + struct.pack('>BBHI', 1, 4, 0, crc32_be(self.summed) ^ (not good)) + bytes(28)
        self.put(c + struct.pack('>QI', 1000 + self.sequence, 0))
        self.sequence, self.summed = (self.sequence + 1) % (1 << 32), b''


def fill(log, end):
    log.images([FREE, FREE + 1, FREE + 2], escaped=[FREE + 2])
    log.commit()
    log.revoke([FREE + 1, FREE + 200] + [FREE + 300 + i for i in range(40)])
    log.images([FREE + 3])
    log.commit()
    log.images([FREE + 1] + [FREE + 10 + i for i in range(90)], escaped=[FREE + 50])
    log.revoke([FREE, FREE + 60])
    log.commit()
    if end == 'cut':
        log.images([FREE + 4, FREE + 5])
    elif end:
        log.images([FREE + 6])
        log.commit(good=False)
        if end == 'bad':
            log.images([FREE + 7])
            log.commit()
    else:
        log.put(b'')


def fill_many(log):
    """More blocks than the table of the revoked ones begins with; those beyond the end of the volume are void."""
    log.images([FREE + i for i in range(720)])
    log.commit()
    beyond = [FREE + i for i in range(300, 720)]
    for i in range(0, len(beyond), 120):
        log.revoke(beyond[i:i + 120])
    log.commit()
    log.put(b'')


def main(image, out):
    where = [int(n) for n in subprocess.run(['debugfs', '-R', 'blocks <8>', image], check=True, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL).stdout.split()]
    for kind in KINDS:
        ends = ('whole', 'cut', 'last', 'bad') if kind.startswith('v1') else ('whole', 'many')
        for end in ends:
            path = os.path.join(out, 'log-%s-%s.img' % (kind, end))
            shutil.copy(image, path)
            with open(path, 'r+b') as f:
                log = Log(f, where, kind, len(where) - 12, 0xfffffffe)
                if end == 'many':
                    fill_many(log)
                else:
                    fill(log, end if end != 'whole' else None)
                # The volume says that it needs recovery. (Its checksum counts as valid for who reads these.)
                f.seek(1024 + 96)
                incompat = struct.unpack('<I', f.read(4))[0]
                f.seek(1024 + 96)
                f.write(struct.pack('<I', incompat | 4))


main(*sys.argv[1:])
