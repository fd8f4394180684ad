/*
 * Verity files: content that is checked, piece by piece, by a tree of hashes whose top a descriptor holds. Tree and descriptor lie
 * behind the end of file, in blocks of the file:
 *
 *   data ─ to a multiple of 64 KiB ─ tree: top level first, each in order ─ to a block ─ descriptor, signature ─ to a block less 4
 *   bytes ─ the descriptor's size
 *
 * Level 0 has the hashes of the data's pieces, a level above those of the pieces of the one below, up to a level of one piece. A
 * file of one piece has no tree, an empty one not even a hash. Salt goes before what is hashed, filled up with zeros to the block of
 * the hash function; the last piece is filled up with zeros behind it.
 * (Documentation/filesystems/fsverity.rst and ext4/verity.rst of the kernel)
 *
 * Invariants
 *  1. A hash is believed only out of a piece that was checked itself, up to the descriptor's root hash.
 *  2. What is remembered of the tree are such pieces, by a number that no two stays of an inode in memory share.
 *  3. Holes are content like any other: zeros, which the tree must confirm.
 * The signature is not looked at: who wants to know whether the file is the one that somebody signed asks for its digest.
 */
#include "ext4.h"

#include <errno.h>
#include <gcrypt.h>
#include <stdlib.h>

#define HASH_BLOCK_MAX 128u
/* At most this much is remembered of the pieces of any one size, and so many pieces in all. */
#define CACHE_BYTES (4u << 20)
#define CACHE_SLOTS 1024u

struct algorithm {
	u8 number;
	const char *name;
	int gcrypt;
	u32 digest_bytes, block_bytes;
};

static const struct algorithm algorithms[] = {
	{ EXT4_VERITY_SHA256, "sha256", GCRY_MD_SHA256, 32, 64 },
	{ EXT4_VERITY_SHA512, "sha512", GCRY_MD_SHA512, 64, 128 },
};

/* [const] once an inode has it. */
struct ext4_verity {
	u64 id; /* no other has had it */
	const struct algorithm *alg;
	u32 unit_bits, hash_bits; /* log2 of the bytes of a piece, and of the hashes in one */
	u32 levels;
	u64 tree_off;                           /* in the file */
	u64 level_start[EXT4_VERITY_LEVEL_MAX]; /* in pieces of the tree */
	u8 salt[HASH_BLOCK_MAX];
	u32 salt_bytes; /* with the zeros */
	u8 root[DIGEST_MAX_BYTES], digest[DIGEST_MAX_BYTES];
};

/* ---- pieces of trees that were checked ---- */

struct slot {
	struct mutex lock; /* rank LEAF */
	u64 id, piece;     /* [lock] */
	u8 *bytes;         /* [lock] NULL: nothing */
};

struct ext4_verity_cache {
	_Atomic u64 next_id;
	struct slot slot[CACHE_SLOTS];
};

static struct ext4_verity_cache *cache_get(struct ext4_super *es)
{
	struct ext4_verity_cache *c = atomic_load(&es->verity_cache), *none = NULL;

	if (c)
		return c;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	for (u32 i = 0; i < CACHE_SLOTS; i++)
		mutex_init(&c->slot[i].lock, RANK_LEAF);
	if (atomic_compare_exchange_strong(&es->verity_cache, &none, c))
		return c;
	ext4_verity_cache_free(c);
	return none;
}

void ext4_verity_cache_free(struct ext4_verity_cache *c)
{
	for (u32 i = 0; c && i < CACHE_SLOTS; i++) {
		free(c->slot[i].bytes);
		mutex_fini(&c->slot[i].lock);
	}
	free(c);
}

/* Pieces that follow each other do not meet, as long as there are slots. */
static struct slot *slot_of(struct ext4_super *es, const struct ext4_verity *v, u64 piece)
{
	u64 slots = MIN(CACHE_SLOTS, CACHE_BYTES >> v->unit_bits);

	return &atomic_load(&es->verity_cache)->slot[(v->id * 0x9e3779b1u + piece) % slots];
}

/* The hash at `off` of the tree's piece, if that is remembered. */
static bool recall(struct ext4_super *es, const struct ext4_verity *v, u64 piece, u32 off, u8 *hash)
{
	struct slot *s = slot_of(es, v, piece);
	bool found;

	mutex_lock(&s->lock);
	found = s->bytes && s->id == v->id && s->piece == piece;
	if (found)
		memcpy(hash, s->bytes + off, v->alg->digest_bytes);
	mutex_unlock(&s->lock);
	return found;
}

/* Consumes bytes. */
static void remember(struct ext4_super *es, const struct ext4_verity *v, u64 piece, u8 *bytes)
{
	struct slot *s = slot_of(es, v, piece);
	u8 *old;

	mutex_lock(&s->lock);
	old = s->bytes;
	s->id = v->id;
	s->piece = piece;
	s->bytes = bytes;
	mutex_unlock(&s->lock);
	free(old);
}

/* ---- the descriptor ---- */

/* What the file's blocks hold, also behind its end. */
static int read_blocks(struct ext4_inode *ei, u64 off_bytes, void *buf, u64 len_bytes)
{
	u32 bits = ext4_inode_super(ei)->block_bits;
	u8 *dst = buf;

	while (len_bytes) {
		u64 lblk = off_bytes >> bits, at, n;
		struct ext4_run run;
		int err;

		rw_read_lock(&ei->tree);
		err = ext4_map_blocks(ei, lblk, (len_bytes >> bits) + 1, &run);
		rw_read_unlock(&ei->tree);
		if (err)
			return err;
		at = off_bytes - (run.lblk << bits);
		n = MIN(len_bytes, (run.len << bits) - at);
		if (run.pblk && !run.unwritten)
			err = blkdev_read(ei->vfs.sb->dev, (run.pblk << bits) + at, dst, n);
		else
			memset(dst, 0, n);
		if (err)
			return err;
		dst += n;
		off_bytes += n;
		len_bytes -= n;
	}
	return 0;
}

static int bad_desc(const struct ext4_inode *ei, const char *why)
{
	return corrupt(&ei->vfs.sb->health, "inode", ei->vfs.ino, "its verity descriptor: %s", why);
}

/* The end of the last block that the file has, in bytes. */
static int blocks_end(struct ext4_inode *ei, u64 *end)
{
	struct ext4_run run;
	int err;

	rw_read_lock(&ei->tree);
	err = ext4_map_blocks(ei, EXT4_LBLK_END - 1, 1, &run);
	rw_read_unlock(&ei->tree);
	if (!err)
		*end = (run.pblk ? run.lblk + run.len : run.lblk) << ext4_inode_super(ei)->block_bits;
	return err;
}

int ext4_verity_read(struct ext4_inode *ei, struct ext4_disk_verity *out, u64 *off_bytes)
{
	u64 block = ei->vfs.sb->block_bytes, end;
	le32 raw;
	u32 size;
	int err;

	if (ei->flags & EXT4_FL_ENCRYPT)
		return fail(-ENOKEY, "inode %llu is encrypted", (unsigned long long)ei->vfs.ino);
	if (!ext4_has_extents(ei))
		return bad_desc(ei, "the file has no extents");
	err = blocks_end(ei, &end);
	if (!err && !end)
		err = bad_desc(ei, "the file has no blocks");
	if (!err)
		err = read_blocks(ei, end - sizeof(raw), &raw, sizeof(raw));
	if (err)
		return err;
	size = le32_get(raw);
	if (size < sizeof(*out) || size > EXT4_VERITY_DESC_MAX || size > end - sizeof(raw))
		return bad_desc(ei, "there is none where it should be");
	*off_bytes = ALIGN_DOWN(end - sizeof(raw) - size, block);
	if (*off_bytes < ALIGN_UP(ext4_size(ei), (u64)EXT4_VERITY_ALIGN))
		return bad_desc(ei, "it lies within the file");
	err = read_blocks(ei, *off_bytes, out, sizeof(*out));
	if (!err && le32_get(out->sig_size) > size - sizeof(*out))
		err = bad_desc(ei, "its signature is longer than there is room");
	return err;
}

static int desc_check(const struct ext4_inode *ei, const struct ext4_disk_verity *d,
		      const struct algorithm **alg)
{
	u8 any = 0;

	*alg = NULL;
	if (d->version != EXT4_VERITY_VERSION)
		return fail(-EOPNOTSUPP, "inode %llu: verity version %u is not known",
			    (unsigned long long)ei->vfs.ino, d->version);
	for (u32 i = 0; i < ARRAY_SIZE(algorithms); i++)
		if (algorithms[i].number == d->hash_algorithm)
			*alg = &algorithms[i];
	if (!*alg)
		return fail(-EOPNOTSUPP, "inode %llu: verity hash algorithm %u is not known",
			    (unsigned long long)ei->vfs.ino, d->hash_algorithm);
	if (d->log_blocksize < EXT4_VERITY_BITS_MIN || d->log_blocksize > EXT4_VERITY_BITS_MAX)
		return bad_desc(ei, "impossible size of the pieces");
	if (d->salt_size > EXT4_VERITY_SALT_MAX)
		return bad_desc(ei, "its salt is too long");
	if (le64_get(d->data_size) != ext4_size(ei))
		return bad_desc(ei, "the file has another length");
	for (u32 i = 0; i < sizeof(d->reserved); i++)
		any |= d->reserved[i];
	return any ? bad_desc(ei, "what is reserved in it is not zero") : 0;
}

/* Where each level of the tree lies; the tree ends before desc_off. */
static int lay_out(const struct ext4_inode *ei, struct ext4_verity *v, u64 desc_off)
{
	u64 count[EXT4_VERITY_LEVEL_MAX], pieces = 0;
	u64 n = DIV_ROUND_UP(ext4_size(ei), 1ull << v->unit_bits);

	v->tree_off = ALIGN_UP(ext4_size(ei), (u64)EXT4_VERITY_ALIGN);
	while (n > 1) {
		if (v->levels == EXT4_VERITY_LEVEL_MAX)
			return fail(-EFBIG, "inode %llu: its hash tree would have too many levels",
				    (unsigned long long)ei->vfs.ino);
		n = DIV_ROUND_UP(n, 1ull << v->hash_bits);
		count[v->levels++] = n;
	}
	for (u32 level = v->levels; level--;) {
		v->level_start[level] = pieces;
		pieces += count[level];
	}
	if (pieces > (desc_off - v->tree_off) >> v->unit_bits)
		return bad_desc(ei, "there is no room for the tree before it");
	return 0;
}

static int fill(struct ext4_inode *ei, struct ext4_verity *v)
{
	struct ext4_disk_verity d;
	u64 off;
	int err = ext4_verity_read(ei, &d, &off);

	if (!err)
		err = desc_check(ei, &d, &v->alg);
	if (err)
		return err;
	v->unit_bits = d.log_blocksize;
	v->hash_bits = v->unit_bits - (u32)__builtin_ctz(v->alg->digest_bytes);
	memcpy(v->salt, d.salt, d.salt_size);
	v->salt_bytes = d.salt_size ? v->alg->block_bytes : 0;
	memcpy(v->root, d.root_hash, sizeof(v->root));
	err = lay_out(ei, v, off);
	if (err)
		return err;
	d.sig_size = le32_put(0);
	gcry_check_version(NULL);
	gcry_md_hash_buffer(v->alg->gcrypt, v->digest, &d, sizeof(d));
	return 0;
}

void ext4_verity_free(struct ext4_verity *v)
{
	free(v);
}

/* What the descriptor says; borrowed, stays with the inode. */
static int verity_get(struct ext4_inode *ei, const struct ext4_verity **out)
{
	struct ext4_verity_cache *cache = cache_get(ext4_inode_super(ei));
	struct ext4_verity *v = atomic_load(&ei->verity), *none = NULL;
	int err;

	*out = v;
	if (v)
		return 0;
	v = calloc(1, sizeof(*v));
	if (!cache || !v) {
		free(v);
		return fail(-ENOMEM, "no memory for a hash tree");
	}
	v->id = atomic_fetch_add(&cache->next_id, 1);
	err = fill(ei, v);
	if (!err && atomic_compare_exchange_strong(&ei->verity, &none, v)) {
		*out = v;
		return 0;
	}
	*out = none;
	ext4_verity_free(v);
	return err;
}

/* ---- the tree ---- */

static void hash_piece(const struct ext4_verity *v, const u8 *bytes, u64 len_bytes, u8 *hash)
{
	static const u8 zeros[1u << EXT4_VERITY_BITS_MAX];
	gcry_buffer_t part[] = {
		{ .data = (void *)v->salt, .len = v->salt_bytes },
		{ .data = (void *)bytes, .len = len_bytes },
		{ .data = (void *)zeros, .len = (1u << v->unit_bits) - len_bytes },
	};

	gcry_md_hash_buffers(v->alg->gcrypt, 0, hash, part, ARRAY_SIZE(part));
}

static int mismatch(const struct ext4_inode *ei, const char *what, u64 off_bytes)
{
	return fail(-EIO, "inode %llu: the %s at byte %llu does not match its hash (fs-verity)",
		    (unsigned long long)ei->vfs.ino, what, (unsigned long long)off_bytes);
}

/* Reads the tree's piece, whose hash is `hash`; *hash is then the one at `off` in it. */
static int climb_down(struct ext4_inode *ei, const struct ext4_verity *v, u64 piece, u32 off, u8 *hash)
{
	u64 bytes = 1ull << v->unit_bits, at = v->tree_off + (piece << v->unit_bits);
	u8 *buf = malloc(bytes), found[DIGEST_MAX_BYTES];
	int err = buf ? read_blocks(ei, at, buf, bytes) : fail(-ENOMEM, "no memory for a hash tree");

	if (!err) {
		hash_piece(v, buf, bytes, found);
		if (memcmp(found, hash, v->alg->digest_bytes) != 0)
			err = mismatch(ei, "hash tree", at);
	}
	if (err) {
		free(buf);
		return err;
	}
	memcpy(hash, buf + off, v->alg->digest_bytes);
	remember(ext4_inode_super(ei), v, piece, buf);
	return 0;
}

/* The hash that the data's piece n must have. */
static int hash_wanted(struct ext4_inode *ei, const struct ext4_verity *v, u64 n, u8 *hash)
{
	struct ext4_super *es = ext4_inode_super(ei);
	u64 piece[EXT4_VERITY_LEVEL_MAX], mask = (1ull << v->hash_bits) - 1;
	u32 off[EXT4_VERITY_LEVEL_MAX], level;
	int err = 0;

	for (level = 0; level < v->levels; level++) {
		off[level] = (u32)(n & mask) * v->alg->digest_bytes;
		n >>= v->hash_bits;
		piece[level] = v->level_start[level] + n;
		if (recall(es, v, piece[level], off[level], hash))
			break;
	}
	if (level == v->levels)
		memcpy(hash, v->root, v->alg->digest_bytes);
	while (!err && level--)
		err = climb_down(ei, v, piece[level], off[level], hash);
	return err;
}

int ext4_verity_check(struct inode *inode, u64 off_bytes, const void *buf, u64 len_bytes)
{
	u8 want[DIGEST_MAX_BYTES], found[DIGEST_MAX_BYTES];
	struct ext4_inode *ei = ext4_inode(inode);
	const struct ext4_verity *v;
	int err = verity_get(ei, &v);

	for (u64 at = 0, n; !err && at < len_bytes; at += n) {
		n = MIN(len_bytes - at, 1ull << v->unit_bits);
		err = hash_wanted(ei, v, (off_bytes + at) >> v->unit_bits, want);
		if (err)
			break;
		hash_piece(v, (const u8 *)buf + at, n, found);
		if (memcmp(found, want, v->alg->digest_bytes) != 0)
			err = mismatch(ei, "content", off_bytes + at);
	}
	return err;
}

int ext4_verity_unit(struct inode *inode, u32 *unit_bytes)
{
	const struct ext4_verity *v;
	int err = verity_get(ext4_inode(inode), &v);

	if (!err)
		*unit_bytes = 1u << v->unit_bits;
	return err;
}

int ext4_verity_digest(struct inode *inode, struct file_digest *out)
{
	const struct ext4_verity *v;
	int err = verity_get(ext4_inode(inode), &v);

	if (err)
		return err;
	*out = (struct file_digest){ .name = v->alg->name,
				     .algorithm = v->alg->number,
				     .len_bytes = (u16)v->alg->digest_bytes };
	memcpy(out->bytes, v->digest, sizeof(out->bytes));
	return 0;
}
