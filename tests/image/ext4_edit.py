"""
A small reader and editor of ext4 volumes, for tests that want a volume to be wrong in some exact place: knows where each piece of metadata lies,
changes fields of it, and makes its checksum right again; and lists what names and contents a sound volume has. It shares nothing with what it
tests. The format is described in the kernel's Documentation/filesystems/ext4/.
"""
import hashlib, struct
from crc32c import crc32c

HAS_JOURNAL = 0x4
ORPHAN_FILE = 0x1000
META_BG, EXTENTS, BIT64, MMP, CSUM_SEED, INLINE = 0x10, 0x40, 0x80, 0x100, 0x2000, 0x8000
GDT_CSUM, METADATA_CSUM, BIGALLOC = 0x10, 0x400, 0x200
FL_INDEX, FL_EXTENTS, FL_EA_INODE, FL_INLINE, FL_ENCRYPT = 0x1000, 0x80000, 0x200000, 0x10000000, 0x800
EXTENT_MAGIC = 0xf30a
DIR, FILE, LINK = 4, 8, 10
BLOCK_UNINIT, INODE_UNINIT = 2, 1


def crc16(seed, data):
    c = seed
    for b in data:
        c ^= b
        for _ in range(8):
            c = (c >> 1) ^ (0xa001 if c & 1 else 0)
    return c


class Broken(Exception):
    """The volume is not one that could be read."""


class Volume:
    """The image's bytes, in memory; save() writes them."""

    def __init__(self, path):
        with open(path, 'rb') as f:
            self.data = bytearray(f.read())
        u = self.u32
        if struct.unpack_from('<H', self.data, 1024 + 0x38)[0] != 0xef53:
            raise Broken('no superblock')
        self.block = 1024 << u(1024 + 0x18)
        self.first = u(1024 + 0x14)
        self.blocks = u(1024 + 4)
        self.per_group, self.inodes_per_group = u(1024 + 0x20), u(1024 + 0x28)
        self.clusters_per_group = u(1024 + 0x24)
        self.inodes = u(1024)
        self.inode_bytes = self.u16(1024 + 0x58) if u(1024 + 0x4c) else 128
        self.compat, self.incompat, self.ro = u(1024 + 0x5c), u(1024 + 0x60), u(1024 + 0x64)
        self.desc_bytes = self.u16(1024 + 0xfe) if self.incompat & BIT64 else 32
        self.groups = -(-(self.blocks - self.first) // self.per_group)
        self.uuid = bytes(self.data[1024 + 0x68:1024 + 0x78])
        self.csum = bool(self.ro & METADATA_CSUM)
        self.seed = u(1024 + 0x270) if self.incompat & CSUM_SEED else crc32c(0xffffffff, self.uuid)
        self.first_meta_bg = u(1024 + 0x104) if self.incompat & META_BG else self.groups
        # Where these lie does not change with what is changed in descriptors later.
        self.block_bitmap, self.inode_bitmap, self.inode_table = (
            [self.wide(g, 4 * i, 0x20 + 4 * i) for g in range(self.groups)] for i in range(3))

    def save(self, path):
        with open(path, 'wb') as f:
            f.write(self.data)

    def u16(self, off):
        return struct.unpack_from('<H', self.data, off)[0]

    def u32(self, off):
        return struct.unpack_from('<I', self.data, off)[0]

    def at(self, blk):
        if not 0 < blk < self.blocks:
            raise Broken('block %d' % blk)
        return blk * self.block

    # ---- groups ----

    def has_super(self, group):
        if not self.ro & 1 or group <= 1:
            return True
        return any(group == b ** e for b in (3, 5, 7) for e in range(1, 12))

    def desc(self, group):
        each = self.block // self.desc_bytes
        if group // each >= self.first_meta_bg:
            first = group // each * each
            blk = self.first + first * self.per_group + self.has_super(first)
            return blk * self.block + group % each * self.desc_bytes
        # Behind the superblock, which lies in block 1 of blocks of 1 KiB, also where blocks are counted from 0.
        return (2 if self.block == 1024 else 1) * self.block + group * self.desc_bytes

    def wide(self, group, lo, hi):
        d = self.desc(group)
        return self.u32(d + lo) | (self.u32(d + hi) << 32 if self.desc_bytes >= 64 else 0)

    # ---- inodes ----

    def inode(self, ino):
        if not 0 < ino <= self.inodes:
            raise Broken('inode %d' % ino)
        group, i = divmod(ino - 1, self.inodes_per_group)
        return self.at(self.inode_table[group]) + i * self.inode_bytes

    def used_inodes(self):
        for group in range(self.groups):
            if self.u16(self.desc(group) + 0x12) & INODE_UNINIT and (self.csum or self.ro & GDT_CSUM):
                continue
            bitmap = self.at(self.inode_bitmap[group])
            for i in range(self.inodes_per_group):
                if self.data[bitmap + i // 8] >> i % 8 & 1:
                    yield group * self.inodes_per_group + i + 1

    def kind(self, ino):
        return self.u16(self.inode(ino)) >> 12

    def flags(self, ino):
        return self.u32(self.inode(ino) + 0x20)

    def size(self, ino):
        at = self.inode(ino)
        return self.u32(at + 4) | self.u32(at + 0x6c) << 32

    def inode_seed(self, ino):
        at = self.inode(ino)
        return crc32c(crc32c(self.seed, struct.pack('<I', ino)), self.data[at + 0x64:at + 0x68])

    # ---- maps ----

    def extent_nodes(self, off, room, depth=None):
        """(off of the node, its block or 0, depth), the root first."""
        out, todo = [], [(off, 0, room)]
        while todo:
            at, blk, room = todo.pop()
            magic, n, _, deep = struct.unpack_from('<HHHH', self.data, at)
            if magic != EXTENT_MAGIC or 12 + n * 12 > room or len(out) > 5000:
                raise Broken('extent node')
            out.append((at, blk, deep))
            if deep:
                for i in range(n):
                    lo, hi = struct.unpack_from('<IH', self.data, at + 12 + i * 12 + 4)
                    todo.append((self.at(lo | hi << 32), lo | hi << 32, self.block))
        return out

    def extents(self, ino):
        """(lblk, len, pblk, unwritten) in order."""
        out = []
        for at, _, deep in self.extent_nodes(self.inode(ino) + 0x28, 60):
            if not deep:
                for i in range(self.u16(at + 2)):
                    lblk, n, hi, lo = struct.unpack_from('<IHHI', self.data, at + 12 + i * 12)
                    out.append((lblk, n - 32768 if n > 32768 else n, lo | hi << 32, n > 32768))
        return sorted(out)

    def indirect(self, ino):
        """(lblk, pblk), and the blocks of the map as (block, level)."""
        at, per = self.inode(ino) + 0x28, self.block // 4
        data, maps, todo, lblk = [], [], [], 12
        data += [(i, self.u32(at + 4 * i)) for i in range(12)]
        for level in (1, 2, 3):
            todo.append((self.u32(at + 4 * (11 + level)), level, lblk))
            lblk += per ** level
        while todo:
            blk, level, lblk = todo.pop()
            if not blk:
                continue
            maps.append((blk, level))
            words = struct.unpack_from('<%dI' % per, self.data, self.at(blk))
            if level == 1:
                data += [(lblk + i, p) for i, p in enumerate(words)]
            else:
                todo += [(p, level - 1, lblk + i * per ** (level - 1)) for i, p in enumerate(words)]
        return sorted((b, p) for b, p in data if p), maps

    def has_map(self, ino):
        flags, kind = self.flags(ino), self.kind(ino)
        if flags & FL_INLINE or kind not in (DIR, FILE, LINK):
            return False
        return kind != LINK or bool(flags & FL_EXTENTS) or self.size(ino) >= 60

    def mapped(self, ino):
        """(lblk, pblk, written)."""
        if not self.has_map(ino):
            return []
        if self.flags(ino) & FL_EXTENTS:
            return [(b + i, p + i, not u) for b, n, p, u in self.extents(ino) for i in range(n)]
        return [(b, p, True) for b, p in self.indirect(ino)[0]]

    # ---- content ----

    def inline(self, ino):
        at = self.inode(ino)
        more, list_at = b'', at + 128 + self.u16(at + 0x80) + 4
        e = list_at
        while e + 16 <= at + self.inode_bytes and self.u32(e):
            name_len, index = self.data[e], self.data[e + 1]
            off, size = self.u16(e + 2), self.u32(e + 8)
            if index == 7 and bytes(self.data[e + 16:e + 16 + name_len]) == b'data':
                more = bytes(self.data[list_at + off:list_at + off + size])
            e += (16 + name_len + 3) & ~3
        return bytes(self.data[at + 0x28:at + 0x64]), more

    def content(self, ino):
        """What identifies the content: holes and zeros are the same."""
        size, flags = self.size(ino), self.flags(ino)
        h = hashlib.sha256(b'%d' % size)
        if flags & FL_INLINE:
            h.update(b''.join(self.inline(ino))[:size].rstrip(b'\0'))
        elif not self.has_map(ino):
            h.update(self.data[self.inode(ino) + 0x28:self.inode(ino) + 0x64])
        else:
            for lblk, pblk, written in self.mapped(ino):
                piece = bytes(self.data[self.at(pblk):self.at(pblk) + self.block])[:max(0, size - lblk * self.block)]
                if written and piece.strip(b'\0'):
                    h.update(b'%d' % lblk + piece.rstrip(b'\0'))
        return h.hexdigest()[:16]

    def entries_at(self, at, end):
        """Offsets of the records."""
        while at + 8 <= end:
            rec = self.u16(at + 4)
            rec = 65536 if rec in (0, 65535) and self.block == 65536 else rec
            if rec < 8 or at + rec > end:
                raise Broken('directory record')
            yield at
            at += rec

    def dir_places(self, ino):
        """Where its records stand: (from, to)."""
        at = self.inode(ino)
        if not self.flags(ino) & FL_INLINE:
            return [(self.at(p), self.at(p) + self.block) for _, p, _ in self.mapped(ino)]
        out, more = [(at + 0x2c, at + 0x64)], self.inline(ino)[1]
        if more:
            where = self.data.index(more, at + 128, at + self.inode_bytes)
            out.append((where, where + len(more)))
        return out

    def names(self, ino):
        """(name, inode) without "." and ".."."""
        out = []
        for start, end in self.dir_places(ino):
            for at in self.entries_at(start, end):
                target, n = self.u32(at), self.data[at + 6]
                name = bytes(self.data[at + 8:at + 8 + n])
                if target and n and name not in (b'.', b'..'):
                    out.append((name, target))
        return out

    def tree(self):
        """Each path with (type, content; of directories nothing, inode)."""
        out, todo, been = {}, [(b'', 2)], set()
        known = {}
        while todo:
            path, ino = todo.pop()
            if ino in been:
                continue
            been.add(ino)
            for name, target in self.names(ino):
                kind = self.kind(target)
                if target not in known:
                    known[target] = self.content(target) if kind in (FILE, LINK) else ''
                out[path + b'/' + name] = (kind, known[target], target)
                if kind == DIR:
                    todo.append((path + b'/' + name, target))
        return out

    # ---- checksums ----

    def put32(self, off, v):
        struct.pack_into('<I', self.data, off, v & 0xffffffff)

    def put16(self, off, v):
        struct.pack_into('<H', self.data, off, v & 0xffff)

    def seal_super(self):
        if self.csum:
            self.put32(1024 + 0x3fc, crc32c(0xffffffff, self.data[1024:1024 + 0x3fc]))

    def seal_desc(self, group):
        at, nr = self.desc(group), struct.pack('<I', group)
        if self.csum:
            self.put16(at + 0x1e, 0)
            self.put16(at + 0x1e, crc32c(crc32c(self.seed, nr), self.data[at:at + self.desc_bytes]))
        elif self.ro & GDT_CSUM:
            c = crc16(crc16(crc16(0xffff, self.uuid), nr), self.data[at:at + 0x1e])
            self.put16(at + 0x1e, crc16(c, self.data[at + 0x20:at + self.desc_bytes]))

    def seal_bitmap(self, group, blk, lo, hi, bits):
        if self.csum:
            at = self.at(blk)
            c = crc32c(self.seed, self.data[at:at + bits // 8])
            self.put16(self.desc(group) + lo, c)
            if self.desc_bytes >= 64:
                self.put16(self.desc(group) + hi, c >> 16)
            self.seal_desc(group)

    def seal_inode(self, ino):
        if not self.csum:
            return
        at = self.inode(ino)
        wide = self.inode_bytes > 128 and self.u16(at + 0x80) >= 4
        self.put16(at + 0x7c, 0)
        if wide:
            self.put16(at + 0x82, 0)
        c = crc32c(self.inode_seed(ino), self.data[at:at + self.inode_bytes])
        self.put16(at + 0x7c, c)
        if wide:
            self.put16(at + 0x82, c >> 16)

    def seal_extent(self, ino, blk):
        at = self.at(blk)
        tail = 12 + 12 * self.u16(at + 4)
        if self.csum and tail + 4 <= self.block:
            self.put32(at + tail, crc32c(self.inode_seed(ino), self.data[at:at + tail]))

    def dx_count_at(self, ino, blk, lblk):
        """Where the block's count of index entries stands in it; 0: it holds names."""
        at = self.at(blk)
        if not self.flags(ino) & FL_INDEX:
            return 0
        if lblk == 0:
            return 0x20
        return 8 if self.u32(at) == 0 and self.u16(at + 4) == self.block and self.data[at + 6] == 0 else 0

    def seal_dir(self, ino, blk, lblk, count_at):
        if not self.csum:
            return
        at = self.at(blk)
        if not count_at:
            self.put32(at + self.block - 4, crc32c(self.inode_seed(ino), self.data[at:at + self.block - 12]))
            return
        limit, count = self.u16(at + count_at), self.u16(at + count_at + 2)
        tail = count_at + 8 * limit
        if tail + 8 <= self.block and count <= limit:
            c = crc32c(self.inode_seed(ino), self.data[at:at + count_at + 8 * count])
            self.put32(at + tail + 4, crc32c(c, self.data[at + tail:at + tail + 4] + bytes(4)))

    def seal_xattr(self, blk):
        if self.csum:
            at = self.at(blk)
            self.put32(at + 0x10, 0)
            self.put32(at + 0x10, crc32c(crc32c(self.seed, struct.pack('<Q', blk)), self.data[at:at + self.block]))

    def seal_mmp(self, blk):
        if self.csum:
            at = self.at(blk)
            self.put32(at + 1020, crc32c(self.seed, self.data[at:at + 1020]))

    def seal_orphans(self, ino, blk):
        at = self.at(blk)
        if self.csum:
            c = crc32c(self.inode_seed(ino), struct.pack('<Q', blk))
            self.put32(at + self.block - 4, crc32c(c, self.data[at:at + self.block - 8]))

    def seal_journal(self, blk):
        at = self.at(blk)
        if struct.unpack_from('>I', self.data, at + 0x28)[0] & 0x18:
            self.put32(at + 0xfc, 0)
            c = crc32c(0xffffffff, self.data[at:at + 1024])
            struct.pack_into('>I', self.data, at + 0xfc, c)
