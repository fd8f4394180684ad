"""
A small editor for btrfs volumes on one device, for tests that want a volume to be wrong in one exact place: finds nodes and items, changes bytes of
them, and makes the checksums right again (crc32c only).
"""
import struct
from crc32c import crc32c

HEADER, ITEM, PTR = 101, 25, 33
ROOT_ITEM, CHUNK_ITEM, DIR_ITEM, DIR_INDEX, INODE_ITEM, EXTENT_DATA = 132, 228, 84, 96, 1, 108


def checksum(data):
    return crc32c(0xffffffff, data) ^ 0xffffffff


class Volume:
    def __init__(self, path):
        self.f = open(path, 'r+b')
        self.super = self.read_at(65536, 4096)
        self.generation, self.root, self.chunk_root = struct.unpack_from('<QQQ', self.super, 0x48)
        self.node_bytes = struct.unpack_from('<I', self.super, 0x94)[0]
        self.chunks = []  # logical, length, [offset of each stripe]
        at, end = 0x32b, 0x32b + struct.unpack_from('<I', self.super, 0xa0)[0]
        while at < end:
            logical = struct.unpack_from('<Q', self.super, at + 9)[0]
            at += 17
            at += self.add_chunk(logical, self.super[at:])
        for leaf in self.leaves(self.chunk_root):
            for key, off, size in self.items(leaf):
                if key[1] == CHUNK_ITEM and not any(c[0] == key[2] for c in self.chunks):
                    self.add_chunk(key[2], self.item_data(leaf, off, size))

    def close(self):
        self.f.close()

    def read_at(self, off, n):
        self.f.seek(off)
        return bytearray(self.f.read(n))

    def add_chunk(self, logical, d):
        length, stripes = struct.unpack_from('<Q', d)[0], struct.unpack_from('<H', d, 0x2c)[0]
        self.chunks.append((logical, length, [struct.unpack_from('<Q', d, 48 + 32 * i + 8)[0] for i in range(stripes)]))
        return 48 + 32 * stripes

    def places(self, logical):
        for start, length, stripes in self.chunks:
            if start <= logical < start + length:
                return [s + logical - start for s in stripes]
        raise KeyError(logical)

    def node(self, logical, copy=0):
        return self.read_at(self.places(logical)[copy], self.node_bytes)

    def write(self, logical, node, copies=None):
        """All copies, or those named; the checksum is made right."""
        struct.pack_into('<I', node, 0, checksum(node[32:]))
        for i, at in enumerate(self.places(logical)):
            if copies is None or i in copies:
                self.f.seek(at)
                self.f.write(node)

    def write_super(self):
        struct.pack_into('<I', self.super, 0, checksum(self.super[32:]))
        self.f.seek(65536)
        self.f.write(self.super)
        # Its copies would be as good.
        self.f.seek(0, 2)
        if self.f.tell() > (64 << 20) + 4096:
            self.f.seek(64 << 20)
            self.f.write(bytes(4096))

    def find(self, tree, pick):
        """(logical address, leaf, slot) of the first item whose key `pick` likes."""
        roots = {1: self.root, 3: self.chunk_root}
        for logical, node in self.walk(roots.get(tree) or self.tree(tree)):
            for slot, (key, _, _) in enumerate([] if self.level(node) else self.items(node)):
                if pick(key):
                    return logical, node, slot
        raise KeyError(tree)

    def edit(self, tree, pick, change):
        """change(bytearray of the item) in place; what it returns, if anything, is the new key."""
        logical, node, slot = self.find(tree, pick)
        _, off, size = self.items(node)[slot]
        data = bytearray(node[off:off + size])
        key = change(data)
        node[off:off + size] = data
        if key:
            struct.pack_into('<QBQ', node, HEADER + ITEM * slot, *key)
        self.write(logical, node)

    def remove(self, tree, pick):
        """Takes an item out of its leaf; not the first, whose key the parent has."""
        logical, node, slot = self.find(tree, pick)
        assert slot, 'the first item of a leaf'
        items = self.items(node)
        _, off, size = items[slot]
        last = items[-1][1]
        node[last + size:off + size] = node[last:off]
        for i in range(slot + 1, len(items)):
            key, at, n = items[i]
            struct.pack_into('<QBQII', node, HEADER + ITEM * (i - 1), *key, at - HEADER + (size if i > slot else 0), n)
        struct.pack_into('<I', node, 0x60, len(items) - 1)
        self.write(logical, node)

    def level(self, node):
        return node[0x64]

    def count(self, node):
        return struct.unpack_from('<I', node, 0x60)[0]

    def children(self, node):
        return [struct.unpack_from('<Q', node, HEADER + PTR * i + 17)[0] for i in range(self.count(node))]

    def items(self, node):
        """(key, offset in the node, length) of each."""
        out = []
        for i in range(self.count(node)):
            o, t, k, off, size = struct.unpack_from('<QBQII', node, HEADER + ITEM * i)
            out.append(((o, t, k), HEADER + off, size))
        return out

    def item_data(self, node, off, size):
        return node[off:off + size]

    def walk(self, logical):
        """(logical address, node) of a tree, parents first."""
        node = self.node(logical)
        yield logical, node
        if self.level(node):
            for child in self.children(node):
                yield from self.walk(child)

    def leaves(self, logical):
        return [n for _, n in self.walk(logical) if not self.level(n)]

    def tree(self, objectid):
        """The root node's address of a tree."""
        for leaf in self.leaves(self.root):
            for key, off, size in self.items(leaf):
                if key[0] == objectid and key[1] == ROOT_ITEM:
                    return struct.unpack_from('<Q', leaf, off + 0xb0)[0]
        raise KeyError(objectid)

    def nodes(self):
        """Every node of every tree: {logical: (tree, level)}."""
        out = {}
        roots = {1: self.root, 3: self.chunk_root}
        for leaf in self.leaves(self.root):
            for key, off, size in self.items(leaf):
                if key[1] == ROOT_ITEM:
                    roots[key[0]] = struct.unpack_from('<Q', leaf, off + 0xb0)[0]
        for tree, root in roots.items():
            for logical, node in self.walk(root):
                out[logical] = (tree, self.level(node))
        return out

    def point(self, parent, index, to, generation=None):
        """Makes a node's pointer lead elsewhere."""
        node = self.node(parent)
        struct.pack_into('<Q', node, HEADER + PTR * index + 17, to)
        if generation is not None:
            struct.pack_into('<Q', node, HEADER + PTR * index + 25, generation)
        self.write(parent, node)
