#!/usr/bin/python3
"""
corrupt_ext4.py IMAGE OUT SEED: a copy of a sound ext4 volume in which 1 to 50 values of its metadata are wrong, in most cases one bit of one, and
checksums are right, so that it is the parsers that have to find it. The same image and seed make the same copy. Says what was changed.
"""
import random, struct, sys
from ext4_edit import DIR, FL_EXTENTS, FL_INDEX, FL_INLINE, HAS_JOURNAL, MMP, ORPHAN_FILE, Broken, Volume

# Fields as (offset, bytes). Not the UUID and the seeds of checksums: everything would be another's at once.
SUPER = [(o, 4) for o in (*range(0, 0x34, 4), 0x40, 0x44, 0x48, 0x4c, 0x54, 0x5c, 0x60, 0x64, 0xc8, 0xe0, 0xe4, 0xe8, 0xec, 0x100, 0x104, 0x108,
                          *range(0x10c, 0x15c, 4), 0x160, 0x168, 0x16c, 0x170, 0x240, 0x244, 0x248, 0x24c, 0x250, 0x268, 0x26c, 0x280)] + \
    [(o, 2) for o in (*range(0x34, 0x40, 2), 0x50, 0x52, 0x58, 0x5a, 0xce, 0xfe, 0x15c, 0x15e, 0x164, 0x27c, 0x27e)] + \
    [(o, 1) for o in (0xcc, 0xcd, 0xfc, 0xfd, 0x174, 0x175, 0x176)]
DESC = [(0, 4), (4, 4), (8, 4)] + [(o, 2) for o in range(0xc, 0x1e, 2)]
DESC_WIDE = DESC + [(o, 2) for o in range(0x20, 0x3c, 2)]
INODE = [(o, 4) for o in (4, 8, 0xc, 0x10, 0x14, 0x1c, 0x20, 0x20, 0x68, 0x6c, 0x70)] + [(0x64, 4)] + \
    [(o, 2) for o in (0, 0, 2, 0x18, 0x1a, 0x1a, 0x74, 0x76, 0x78, 0x7a)]
IBLOCK = [(0x28 + 4 * i, 4) for i in range(15)] + [(0x28 + 2 * i, 2) for i in range(12)]
INODE_EXTRA = [(0x80, 2)] + [(o, 4) for o in range(0x84, 0xa0, 4)]
JOURNAL = [(o, 4) for o in (*range(0, 0x30, 4), 0x40, 0x44, 0x48, 0x50, 0x54)]
# Not the intervals, here and in the superblock: who wants to know whether the volume is in use waits as long as that says.
MMP_FIELDS = [(0, 4), (4, 4), (8, 8)]
WEIGHTS = {'super': 3, 'descriptor': 5, 'bitmap': 8, 'inode': 24, 'extent': 12, 'indirect': 12, 'directory': 20, 'index': 12, 'xattr': 8,
           'journal': 3, 'orphan': 3, 'mmp': 3}


class Piece:
    """One thing that can be broken: fields(rnd) gives one (offset in the image, bytes), seal() makes its checksum right."""

    def __init__(self, name, pick, seal, touches):
        self.name, self.pick, self.seal, self.touches = name, pick, seal, touches


def one_of(at, fields):
    return lambda rnd: (at + f[0], f[1]) if (f := rnd.choice(fields)) else None


def some_word(at, size):
    return lambda rnd: (at + rnd.randrange(size // 4) * 4, 4)


def node_field(v, at):
    """The header of an extent node, or one of its entries: of those in use, in most cases."""
    def pick(rnd):
        if rnd.random() < .25:
            return at + 2 * rnd.randrange(4), 2
        e = at + 12 + 12 * rnd.randrange(max(1, v.u16(at + 2)))
        return rnd.choice([(e, 4), (e + 4, 2), (e + 6, 2), (e + 8, 4), (e + 4, 4)])
    return pick


def map_word(v, at):
    used = [at + 4 * i for i in range(v.block // 4) if v.u32(at + 4 * i)]
    return lambda rnd: (rnd.choice(used) if used and rnd.random() < .8 else at + 4 * rnd.randrange(v.block // 4), 4)


def dirent_field(v, start, end):
    def pick(rnd):
        try:
            at = rnd.choice(list(v.entries_at(start, end)))
        except (Broken, IndexError):
            return start + rnd.randrange((end - start) // 4) * 4, 4
        return rnd.choice([(at, 4), (at, 4), (at + 4, 2), (at + 6, 1), (at + 7, 1), (at + 8 + rnd.randrange(max(1, v.data[at + 6])), 1)])
    return pick


def index_field(v, at, count_at):
    head = [(count_at, 2), (count_at + 2, 2), (0, 4), (4, 2)] + ([(12, 4), (16, 2), (24, 4), (28, 1), (29, 1), (30, 1), (31, 1)] if count_at > 8 else [])

    def pick(rnd):
        if rnd.random() < .4:
            off, size = rnd.choice(head)
            return at + off, size
        return at + count_at + 4 + 4 * rnd.randrange(max(1, 2 * v.u16(at + count_at + 2) - 1)), 4
    return pick


def xattr_field(v, at, end, head):
    def pick(rnd):
        if head and rnd.random() < .3:
            return at + rnd.choice((0, 4, 8, 12)), 4
        e, entries = at + head, []
        while e + 16 <= end and v.u32(e):
            entries.append(e)
            e += (16 + v.data[e] + 3) & ~3
        if not entries:
            return at, 4
        e = rnd.choice(entries)
        return rnd.choice([(e, 1), (e + 1, 1), (e + 2, 2), (e + 4, 4), (e + 8, 4), (e + 12, 4), (e + 16, 1)])
    return pick


def pieces_of_groups(v):
    yield 'super', Piece('superblock', one_of(1024, SUPER), v.seal_super, {'all'})
    for g in range(v.groups):
        wide = DESC_WIDE if v.desc_bytes >= 64 else DESC
        yield 'descriptor', Piece('descriptor %d' % g, one_of(v.desc(g), wide), lambda g=g: v.seal_desc(g), {'all'})
        uninit = v.u16(v.desc(g) + 0x12) if v.csum or v.ro & 0x10 else 0
        for what, blk, flag, lo, hi, bits in (('block', v.block_bitmap[g], 2, 0x18, 0x38, v.clusters_per_group),
                                              ('inode', v.inode_bitmap[g], 1, 0x1a, 0x3a, v.inodes_per_group)):
            if not uninit & flag:
                yield 'bitmap', Piece('%s bitmap %d' % (what, g), some_word(v.at(blk), bits // 8),
                                      lambda a=(g, blk, lo, hi, bits): v.seal_bitmap(*a), set())


def pieces_of_map(v, ino):
    if v.flags(ino) & FL_EXTENTS:
        for at, blk, _ in v.extent_nodes(v.inode(ino) + 0x28, 60):
            seal = (lambda blk=blk: v.seal_extent(ino, blk)) if blk else lambda: v.seal_inode(ino)
            yield 'extent', Piece('extent node %d of inode %d' % (blk, ino), node_field(v, at), seal, {ino})
    else:
        for blk, level in v.indirect(ino)[1]:
            yield 'indirect', Piece('map block %d of inode %d' % (blk, ino), map_word(v, v.at(blk)), lambda: None, {ino})


def pieces_of_directory(v, ino):
    if v.flags(ino) & FL_INLINE:
        for start, end in v.dir_places(ino):
            yield 'directory', Piece('inline directory %d' % ino, dirent_field(v, start, end), lambda: v.seal_inode(ino), {ino})
        return
    for lblk, blk, _ in v.mapped(ino):
        at, count_at = v.at(blk), v.dx_count_at(ino, blk, lblk)
        seal = lambda a=(ino, blk, lblk, count_at): v.seal_dir(*a)  # noqa: E731
        name = 'block %d of directory %d' % (lblk, ino)
        if count_at:
            yield 'index', Piece('index ' + name, index_field(v, at, count_at), seal, {ino})
        else:
            yield 'directory', Piece(name, dirent_field(v, at, at + v.block), seal, {ino})


def pieces_of_inode(v, ino, xattrs):
    at = v.inode(ino)
    seal = lambda: v.seal_inode(ino)  # noqa: E731
    yield 'inode', Piece('inode %d' % ino, one_of(at, INODE), seal, {ino})
    yield 'inode', Piece('map in inode %d' % ino, one_of(at, IBLOCK), seal, {ino})
    if v.inode_bytes > 128:
        yield 'inode', Piece('more of inode %d' % ino, one_of(at, INODE_EXTRA), seal, {ino})
        first = at + 128 + v.u16(at + 0x80)
        if v.u32(first) == 0xea020000:
            yield 'xattr', Piece('attributes in inode %d' % ino, xattr_field(v, first + 4, at + v.inode_bytes, 0), seal, {ino})
    if v.has_map(ino):
        yield from pieces_of_map(v, ino)
    if v.kind(ino) == DIR:
        yield from pieces_of_directory(v, ino)
    acl = v.u32(at + 0x68)
    if acl and v.kind(ino):
        xattrs.setdefault(acl, set()).add(ino)


def pieces_of_protocols(v):
    """The journal's superblock, the orphan file, the block of multiple mount protection."""
    if v.compat & HAS_JOURNAL:
        blk = v.mapped(8)[0][1]
        yield 'journal', Piece('journal superblock', one_of(v.at(blk), JOURNAL), lambda: v.seal_journal(blk), {8})
    if v.compat & ORPHAN_FILE:
        ino = v.u32(1024 + 0x280)
        for lblk, blk, _ in v.mapped(ino):
            words = some_word(v.at(blk), v.block)
            yield 'orphan', Piece('orphan block %d' % lblk, lambda rnd, words=words, end=v.at(blk) + v.block: (end - 8, 4) if rnd.random() < .2 else words(rnd),
                                  lambda blk=blk: v.seal_orphans(ino, blk), {ino})
    if v.incompat & MMP:
        blk = v.u32(1024 + 0x168)
        yield 'mmp', Piece('mmp block', one_of(v.at(blk), MMP_FIELDS), lambda: v.seal_mmp(blk), set())


def pieces(v):
    """Kind → all of the kind, in an order that depends on the image alone."""
    out, xattrs = {}, {}
    found = list(pieces_of_groups(v))
    for ino in v.used_inodes():
        if v.kind(ino) or ino <= 10:
            found += pieces_of_inode(v, ino, xattrs)
    found += pieces_of_protocols(v)
    for blk, owners in sorted(xattrs.items()):
        found.append(('xattr', Piece('attribute block %d' % blk, xattr_field(v, v.at(blk), v.at(blk) + v.block, 32), lambda blk=blk: v.seal_xattr(blk), owners)))
    for kind, piece in found:
        out.setdefault(kind, []).append(piece)
    return out


def change(v, rnd, piece, others):
    """One value becomes wrong. Returns what was done."""
    at, size = piece.pick(rnd)
    if at + size > len(v.data):
        return None
    old = int.from_bytes(v.data[at:at + size], 'little')
    bits = 8 * size
    how = rnd.random()
    if how < .6:
        new = old ^ 1 << rnd.randrange(bits)
    elif how < .68:
        new = 0
    elif how < .74:
        new = (1 << bits) - 1
    elif how < .82:
        new = old + rnd.choice((-1, 1))
    elif how < .9:
        new = rnd.randrange(1 << rnd.randint(1, bits))
    else:
        # What stands there in another one of the kind: blocks and inodes that somebody else has.
        there, size2 = rnd.choice(others).pick(rnd)
        new = int.from_bytes(v.data[there:there + min(size, size2)], 'little')
    v.data[at:at + size] = (new & (1 << bits) - 1).to_bytes(size, 'little')
    sealed = rnd.random() < .95
    if sealed:
        try:
            piece.seal()
        except (Broken, struct.error, IndexError):
            sealed = False
    return '%s: %d bytes at %#x, %#x became %#x%s' % (piece.name, size, at, old, new & (1 << bits) - 1, '' if sealed else ', not sealed')


def corrupt(v, seed, have, kinds=None):
    """Changes the volume in memory, of which have = pieces(v): what was done, and the inodes that it was done to ('all': any)."""
    rnd = random.Random(seed)
    kinds = [k for k in sorted(have) if not kinds or k in kinds]
    said, touched = [], set()
    for _ in range(rnd.choice((1, 1, 2, 3, 5, 8, 13, 25, 50))):
        kind = rnd.choices(kinds, [WEIGHTS[k] for k in kinds])[0]
        piece = rnd.choice(have[kind])
        done = change(v, rnd, piece, have[kind])
        if done:
            said.append(done)
            touched |= piece.touches
    return said, touched


if __name__ == '__main__':
    volume = Volume(sys.argv[1])
    print('\n'.join(corrupt(volume, int(sys.argv[3]), pieces(volume))[0]))
    volume.save(sys.argv[2])
