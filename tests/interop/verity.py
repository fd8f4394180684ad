#!/usr/bin/python3
"""
Verity files for volumes whose tools cannot make them: the hash tree and the descriptor of a content, by hashlib alone, and the file
as ext4 stores it (Documentation/filesystems/fsverity.rst and ext4/verity.rst of the kernel).

    verity.py IMAGE PATH SOURCE [LOG [ALGORITHM [SALT]]]    writes SOURCE to the volume as PATH, with its tree; by debugfs
"""
import hashlib, os, struct, subprocess, sys, tempfile

ALIGN = 65536
NUMBER = {'sha256': 1, 'sha512': 2}
FLAGS = 0x180000  # extents and verity


def hash_of(alg, salt, piece):
    h = hashlib.new(alg)
    if salt:
        h.update(salt.ljust(h.block_size, b'\0'))
    h.update(piece)
    return h.digest()


def pieces(data, size):
    return [data[i:i + size].ljust(size, b'\0') for i in range(0, len(data), size)]


def levels(data, log=12, alg='sha256', salt=b''):
    """The tree's levels, the lowest first, each as bytes; and the root hash."""
    size, out = 1 << log, []
    hashes = [hash_of(alg, salt, p) for p in pieces(data, size)]
    while len(hashes) > 1:
        level = pieces(b''.join(hashes), size)
        out.append(b''.join(level))
        hashes = [hash_of(alg, salt, p) for p in level]
    return out, hashes[0] if hashes else bytes(hashlib.new(alg).digest_size)


class File:
    """A content, and where the parts of it lie in the file that ext4 stores, block being the volume's."""

    def __init__(self, data, block=4096, log=12, alg='sha256', salt=b'', signature=b''):
        self.data, self.log, self.alg = data, log, alg
        self.levels, root = levels(data, log, alg, salt)
        self.desc = struct.pack('<BBBBIQ64s32s144x', 1, NUMBER[alg], log, len(salt), 0, len(data), root, salt)
        self.digest = hashlib.new(alg, self.desc).hexdigest()
        if signature:
            self.desc = self.desc[:4] + struct.pack('<I', len(signature)) + self.desc[8:] + signature
        self.tree_at = -(-len(data) // ALIGN) * ALIGN
        tree = b''.join(reversed(self.levels))
        self.desc_at = -(-(self.tree_at + len(tree)) // block) * block
        self.size_at = -(-(self.desc_at + len(self.desc) + 4) // block) * block - 4
        self.tree = tree

    def write(self, path):
        """All of it; what is padding between content and tree is a hole."""
        with open(path, 'wb') as f:
            for at, what in ((0, self.data), (self.tree_at, self.tree), (self.desc_at, self.desc),
                             (self.size_at, struct.pack('<I', len(self.desc)))):
                f.seek(at)
                f.write(what)

    def commands(self, path):
        """What debugfs is to be told of the stored file."""
        return ['sif %s size %d' % (path, len(self.data)), 'sif %s flags 0x%x' % (path, FLAGS)]


def main(image, path, source, log='12', alg='sha256', salt=''):
    with open(image, 'rb') as f:
        block = 1024 << struct.unpack('<I', f.read(1052)[1048:])[0]
    with open(source, 'rb') as f:
        v = File(f.read(), block, int(log), alg, salt.encode())
    with tempfile.NamedTemporaryFile() as t:
        v.write(t.name)
        subprocess.run(['debugfs', '-w', '-f', '-', image], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       input='\n'.join(['write %s %s' % (t.name, path)] + v.commands(path)).encode())
    print(v.digest)


if __name__ == '__main__':
    main(*sys.argv[1:])
