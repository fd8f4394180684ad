#!/usr/bin/python3
"""fast_commit.py IMAGE: writes a fast commit, with records of every kind, behind the one transaction in the image's journal."""
import struct, subprocess, sys

BLOCK = 1024
HEAD, TAIL, ADD, DEL, CREAT, LINK, UNLINK, INODE = 9, 8, 1, 2, 3, 4, 5, 6


def crc32c(crc, data):
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc


def ask(image, question):
    return subprocess.run(['debugfs', '-R', question, image], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()


def inode(mode, size, links, flags=0x80000):
    raw = bytearray(160)
    struct.pack_into('<HHI', raw, 0, mode, 0, size)
    struct.pack_into('<HII', raw, 26, links, 0, flags)
    struct.pack_into('<I', raw, 100, 4711)
    struct.pack_into('<H', raw, 128, 32)
    return bytes(raw)


def record(tag, value):
    return struct.pack('<HH', tag, len(value)) + value


def name(tag, parent, ino, s):
    return record(tag, struct.pack('<II', parent, ino) + s)


def main(image):
    log = [int(n) for n in ask(image, 'blocks <8>').split()]
    small = int(ask(image, 'stat /small').split()[1])
    with open(image, 'r+b') as f:
        f.seek(log[0] * BLOCK)
        sb = bytearray(f.read(1024))
        # debugfs forgets the feature when it opens the journal.
        struct.pack_into('>I', sb, 0x28, struct.unpack_from('>I', sb, 0x28)[0] | 0x20)
        struct.pack_into('>I', sb, 0xfc, 0)
        struct.pack_into('>I', sb, 0xfc, crc32c(0xffffffff, sb))
        f.seek(log[0] * BLOCK)
        f.write(sb)
        blocks, sequence, area = (struct.unpack_from('>I', sb, at)[0] for at in (0x10, 0x18, 0x54))
        tid, first = sequence + 1, blocks - (area or 256) + 1
        new, free = 100, 4150
        body = record(HEAD, struct.pack('<II', 0, tid))
        body += record(INODE, struct.pack('<I', new) + inode(0o100644, 3000, 1))
        body += record(ADD, struct.pack('<IIHHI', new, 0, 3, 0, free)) + name(CREAT, 2, new, b'of-a-fast-commit')
        body += name(LINK, 2, small, b'another-name') + name(UNLINK, 2, small, b'small')
        body += record(DEL, struct.pack('<III', new, 2, 1))
        body += record(INODE, struct.pack('<I', new + 1) + inode(0o40755, 0, 2)) + name(CREAT, 2, new + 1, b'dir-of-a-fast-commit')
        tail = struct.pack('<HHI', TAIL, BLOCK - len(body) - 4, tid)
        body += tail + struct.pack('<I', crc32c(0, body + tail))
        f.seek(log[first] * BLOCK)
        f.write(body.ljust(BLOCK, b'\0'))


if __name__ == '__main__':
    main(sys.argv[1])
