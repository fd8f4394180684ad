/*
 * Attributes: lists in inodes and in blocks, blocks that are shared, values in inodes of their own.
 *
 * What is checked of a value: its place, its hash, the form of ACLs and of encryption contexts.
 *
 * Inodes that hold values are mended after all inodes: until then their bytes may be in the hands of who goes through them.
 */
#include "check.h"

#include "lib/crc.h"
#include "lib/hash.h"
#include "lib/scope.h"
#include <errno.h>
#include <stdlib.h>

#define CONTEXT_V1_BYTES 28u /* include/uapi/linux/fscrypt.h */
#define CONTEXT_V2_BYTES 40u

#define NONCE_BYTES    16u
#define UNKNOWN_POLICY 1u

#define OWNER_NOTED (1ull << 63) /* in ck->ea */

static bool is_context(const struct ext4_disk_xattr_entry *e)
{
	return e->name_index == EXT4_XATTR_ENCRYPTION && e->name_len == 1 && *ext4_xattr_entry_name(e) == 'c';
}

/* All of a context but what is the file's own, as a number. */
static void note_policy(struct ck *ck, u64 ino, const u8 *value, u32 len)
{
	u64 policy = value[0] > 2 ? UNKNOWN_POLICY : hash_bytes(value, len - NONCE_BYTES, 0) | 2, *at;

	if (!ck->usual)
		ck->usual = policy;
	if (policy == ck->usual)
		return;
	at = ck_map_at(ck, &ck->policy, ino);
	if (at)
		*at = policy;
}

u64 ck_policy(const struct ck *ck, u64 ino)
{
	u64 policy = ck_map_get(&ck->policy, ino);

	policy = policy ? policy : ck->usual;
	return policy == UNKNOWN_POLICY ? 0 : policy;
}

/* True: the attribute is to go. */
static bool check_value(struct ck *ck, struct ck_inode *ci, const struct ext4_disk_xattr_entry *e,
			const u8 *value)
{
	bool mend = false;
	u32 len = le32_get(e->value_size);
	struct acl *acl = NULL;

	if (is_context(e)) {
		ci->crypt_attr = true;
		/* Of later versions nothing is known. */
		ci->crypt_context = (len == CONTEXT_V1_BYTES && value[0] == 1) ||
				    (len == CONTEXT_V2_BYTES && value[0] == 2) || (len && value[0] > 2);
		if (ci->crypt_context)
			note_policy(ck, ci->ino, value, len);
	}
	if (e->name_index != EXT4_XATTR_ACL_ACCESS && e->name_index != EXT4_XATTR_ACL_DEFAULT)
		return false;
	if (ext4_acl_decode(value, len, &acl) == -EINVAL)
		mend = ck_fix(ck, CK_ACL, ci->ino, "%s",
			      e->name_index == EXT4_XATTR_ACL_DEFAULT ? "the default one" : "");
	acl_free(acl);
	return mend;
}

/* An inode that holds a value, as it lies; NULL: it cannot be read. */
static const struct ext4_disk_inode *value_raw(struct ck *ck, u64 ino, struct buffer_head **bh)
{
	u64 blk;
	u32 off;

	if (ext4_inode_where(ck->es, ino, &blk, &off) || !ck_read(ck, blk, bh))
		return NULL;
	return (const void *)((const u8 *)(*bh)->data + off);
}

/* The value's own hash, which is what the entry's is made from. 0: unknown. */
static u32 value_inode_hash(struct ck *ck, u64 ino)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw = value_raw(ck, ino, &bh);

	return raw ? le32_get(raw->atime) : 0;
}

/* It notes its owner, as those of old do, and has no counter. */
static bool is_owner_noted(struct ck *ck, const struct ck_inode *ci, u64 ino)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw = value_raw(ck, ino, &bh);

	return raw && le32_get(raw->mtime) == ci->ino &&
	       le32_get(raw->generation) == le32_get(ci->raw->generation);
}

/* It holds a value of this length, as far as it says; that it is meant to is a flag. */
static bool holds_value(struct ck *ck, u64 ino, u64 len)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw = value_raw(ck, ino, &bh);

	return raw && S_ISREG(le16_get(raw->mode)) && le16_get(raw->links_count) &&
	       (le32_get(raw->size_lo) | (u64)le32_get(raw->size_hi) << 32) == len;
}

/* What the entry says of name and value is so. A value in an inode counts as its own hash. */
static bool hash_right(const struct ext4_disk_xattr_entry *e, const void *value, u32 len)
{
	const char *name = ext4_xattr_entry_name(e);

	return ext4_xattr_hash(name, e->name_len, value, len, false) == le32_get(e->hash) ||
	       ext4_xattr_hash(name, e->name_len, value, len, true) == le32_get(e->hash);
}

/* True: the attribute is to go. A list that inodes share counts once for the value: `first`. */
static bool value_inode(struct ck *ck, struct ck_inode *ci, const struct ext4_disk_xattr_entry *e, bool first)
{
	u64 cluster = (u64)ext4_block_bytes(ck->es) << ck->es->cluster_bits, *refs;
	u32 ino = le32_get(e->value_inum);
	bool right, noted;
	le32 word;

	if (ck->again)
		return false;
	if (ino < ck->es->first_ino || ino > ck->es->inodes)
		return ck_fix(ck, CK_XATTR_INODE, ci->ino, "inode %u is none for values", ino);
	word = le32_put(value_inode_hash(ck, ino));
	right = hash_right(e, word.b, sizeof(word));
	noted = is_owner_noted(ck, ci, ino);
	ci->values++;
	/* Those of old are not counted for their owner. */
	if (right)
		ci->clusters += DIV_ROUND_UP((u64)le32_get(e->value_size), cluster);
	if ((!(right || noted) || !holds_value(ck, ino, le32_get(e->value_size))) &&
	    ck_fix(ck, CK_XATTR_INODE, ci->ino, "inode %u does not hold it", ino))
		return true;
	refs = ck_map_at(ck, &ck->ea, ino);
	if (refs)
		*refs = (*refs + first) | (noted ? OWNER_NOTED : 0);
	return false;
}

/* Of a value that is here. in_inode: entries there may go without a hash. True: it was set. */
static bool check_hash(struct ck *ck, struct ck_inode *ci, struct ext4_disk_xattr_entry *e, const u8 *value,
		       bool in_inode)
{
	u32 len = le32_get(e->value_size);

	if ((in_inode && !le32_get(e->hash)) || hash_right(e, value, len) ||
	    !ck_fix(ck, CK_XATTR_HASH, ci->ino, "%s", ""))
		return false;
	e->hash = le32_put(ext4_xattr_hash(ext4_xattr_entry_name(e), e->name_len, value, len, false));
	return true;
}

/* Values lie in inodes that are meant for it: what is missing is the volume's feature. */
static bool needs_feature(struct ck *ck, const struct ext4_xattr_list *l)
{
	u32 at = l->first, step;

	if (ext4_has_incompat(ck->es, EXT4_INCOMPAT_EA_INODE))
		return false;
	for (; at + sizeof(struct ext4_disk_xattr_entry) <= l->bytes; at += step) {
		const struct ext4_disk_xattr_entry *e = (const void *)(l->base + at);
		scoped(bh_putp) struct buffer_head *bh = NULL;
		const struct ext4_disk_inode *raw;

		step = ALIGN_UP((u32)sizeof(*e) + e->name_len, 4u);
		if (!memcmp(e, &(le32){ { 0 } }, sizeof(le32)))
			return false;
		if (le32_get(e->value_inum) < ck->es->first_ino || le32_get(e->value_inum) > ck->es->inodes)
			continue;
		raw = value_raw(ck, le32_get(e->value_inum), &bh);
		if (raw && le32_get(raw->flags) & EXT4_FL_EA_INODE)
			return true;
	}
	return false;
}

/*
 * The list was found to be right. `first`: nobody has seen it before. True: it was changed. Entries whose bits are set in `drop` afterwards
 * are to go.
 */
static bool check_list(struct ck *ck, struct ck_inode *ci, const struct ext4_xattr_list *l, bool in_inode,
		       bool first, u64 drop[CK_XATTR_WORDS])
{
	const struct ext4_disk_xattr_entry *e = NULL;
	bool changed = false;
	u32 i = 0;

	memset(drop, 0, CK_XATTR_WORDS * sizeof(*drop));
	for (; (e = ext4_xattr_next(l, e)) && ck_goes_on(ck); i++) {
		bool here = !le32_get(e->value_inum), gone = false;
		const u8 *value = here ? ext4_xattr_value(l, e) : NULL;

		if (!here)
			gone = value_inode(ck, ci, e, first);
		if (ck->again)
			continue;
		if (here && (first || is_context(e)))
			gone = check_value(ck, ci, e, le32_get(e->value_size) ? value : NULL);
		if (gone)
			drop[i / 64] |= 1ull << i % 64;
		else if (first && here)
			gone = check_hash(ck, ci,
					  (void *)((u8 *)(uintptr_t)l->base + ((const u8 *)e - l->base)),
					  value, in_inode);
		changed |= gone;
	}
	return changed;
}

bool ck_ibody(const struct ck *ck, const struct ck_inode *ci, struct ext4_xattr_list *l)
{
	u32 off = EXT4_INODE_BYTES_OLD;
	const struct ext4_disk_xattr_ibody *x;

	if (ck->es->inode_bytes <= EXT4_INODE_BYTES_OLD)
		return false;
	off += le16_get(ci->raw->extra_isize);
	if (off % 4 || off + sizeof(*x) > ck->es->inode_bytes)
		return false;
	x = (const void *)((const u8 *)ci->raw + off);
	*l = (struct ext4_xattr_list){ .base = (const u8 *)(x + 1),
				       .bytes = ck->es->inode_bytes - off - (u32)sizeof(*x) };
	return le32_get(x->magic) == EXT4_XATTR_MAGIC;
}

static void forget_block(const struct ck *ck, struct ck_inode *ci)
{
	ck_xattr_set_block(ck, ci, 0);
}

/* What can be read of a block of attributes that is damaged stays. */
static void save_block(struct ck *ck, struct ck_inode *ci, struct buffer_head *bh)
{
	struct ext4_disk_xattr_header *h = bh->data;
	struct ext4_xattr_list l = { .base = bh->data, .first = sizeof(*h), .bytes = bh->size_bytes };

	if (le32_get(h->magic) == EXT4_XATTR_MAGIC && needs_feature(ck, &l)) {
		ck_feature_set(ck, EXT4_INCOMPAT_EA_INODE, 0);
		return;
	}

	if (le32_get(h->magic) != EXT4_XATTR_MAGIC ||
	    !ck_xattr_pack(ck, bh->data, sizeof(*h), bh->size_bytes, NULL)) {
		forget_block(ck, ci);
		return;
	}
	h->blocks = le32_put(1);
	ck_xattr_put(ck, bh);
}

/*
 * The block is claimed twice, by attributes and something else. Where it stays, it stays for all who share it; else they get the same copy.
 */
static void again_block(struct ck *ck, struct ck_inode *ci, u64 blk)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 cluster = ck_cluster(ck, blk), *at = ck_map_at(ck, &ck->moved, blk);

	if (!ck_mends(ck) || !ck_twice(ck, cluster, 1) || !at)
		return;
	if (*at == blk) {
		(void)ck_keep(ck, cluster, 1);
		return;
	}
	if (!*at && !ck_keep(ck, cluster, 1)) {
		*at = blk;
		return;
	}
	ci->foreign++;
	if (!ci->clone)
		return;
	ci->copy_of = ~0ull;
	if (!*at)
		*at = ck_copy(ck, ci, 0, blk);
	if (!*at)
		return;
	if (ck_read(ck, *at, &bh))
		ck_xattr_put(ck, bh);
	ck_xattr_set_block(ck, ci, *at);
}

/* What is wrong with a list that can be read all the same. */
static const char *list_odd(const struct ext4_xattr_list *l)
{
	const struct ext4_disk_xattr_entry *e = NULL;

	while ((e = ext4_xattr_next(l, e))) {
		if (l->first && !e->name_index)
			return "an attribute whose name has no beginning";
		if (!le32_get(e->value_inum) && le32_get(e->value_size) && le16_get(e->value_offs) % 4)
			return "a value is not aligned";
		if (!le32_get(e->value_inum) && le16_get(e->value_offs) > l->bytes)
			return "a value that is empty lies outside its room";
	}
	return NULL;
}

/* In ck->xattr above the inodes: what the block says of their number, plus one; 0: it was not to be read. */
static u64 noted(u32 says)
{
	return (u64)(MIN(says, UINT32_MAX - 1) + 1) << 32;
}

static void in_block(struct ck *ck, struct ck_inode *ci, u64 blk)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 drop[CK_XATTR_WORDS], *refs;
	struct ext4_xattr_list l;
	const char *bad;
	bool first;

	refs = ck_map_at(ck, &ck->xattr, blk);
	if (!refs)
		return;
	first = !*refs;
	if (first)
		ck_take(ck, ci, blk);
	else
		ci->clusters++;
	++*refs;
	if (!ck_read(ck, blk, &bh))
		return;
	bad = ext4_xattr_block_wrong(ck->es, blk, bh->data);
	l = (struct ext4_xattr_list){ .base = bh->data,
				      .first = sizeof(struct ext4_disk_xattr_header),
				      .bytes = bh->size_bytes };
	bad = bad ? bad : list_odd(&l);
	if (bad) {
		if (ck_fix(ck, CK_XATTR_BLOCK, ci->ino, "block %llu: %s", (unsigned long long)blk, bad))
			save_block(ck, ci, bh);
		return;
	}
	if (first)
		*refs |= noted(le32_get(((const struct ext4_disk_xattr_header *)bh->data)->refcount));
	if (!check_list(ck, ci, &l, false, first, drop))
		return;
	if (ck_xattr_pack(ck, bh->data, l.first, l.bytes, drop))
		ck_xattr_put(ck, bh);
	else
		forget_block(ck, ci);
}

/* The list in the inode. */
static void in_inode(struct ck *ck, struct ck_inode *ci, const struct ext4_xattr_list *l)
{
	const char *bad = ext4_xattr_list_wrong(ck->es, l->base, 0, l->bytes);
	u8 *base = (u8 *)ci->raw + (l->base - (const u8 *)ci->raw);
	u64 drop[CK_XATTR_WORDS];

	bad = bad ? bad : list_odd(l);
	if (bad && (ck->again || !ck_fix(ck, CK_XATTR_LIST, ci->ino, "%s", bad)))
		return;
	if (bad && needs_feature(ck, l)) {
		ck_feature_set(ck, EXT4_INCOMPAT_EA_INODE, 0);
		return;
	}
	if (!bad && !check_list(ck, ci, l, true, true, drop))
		return;
	if (!ck_xattr_pack(ck, base, 0, l->bytes, bad ? NULL : drop))
		memset(base - sizeof(struct ext4_disk_xattr_ibody), 0, sizeof(struct ext4_disk_xattr_ibody));
	ci->changed = true;
}

void ck_xattrs(struct ck *ck, struct ck_inode *ci, u64 xattr_blk)
{
	struct ext4_xattr_list l;

	if (ck_ibody(ck, ci, &l))
		in_inode(ck, ci, &l);
	if (!xattr_blk)
		return;
	if (xattr_blk <= ck->es->first_data_blk || xattr_blk >= ck->es->blocks) {
		if (!ck->again && ck_fix(ck, CK_XATTR_BLOCK, ci->ino, "block %llu is not on the volume",
					 (unsigned long long)xattr_blk))
			forget_block(ck, ci);
	} else if (ck->again) {
		ck_take(ck, ci, xattr_blk);
		again_block(ck, ci, xattr_blk);
	} else {
		in_block(ck, ci, xattr_blk);
	}
}

s64 ck_inline_more(struct ck *ck, const struct ck_inode *ci, const u8 **value)
{
	const struct ext4_disk_xattr_entry *e;
	struct ext4_xattr_list l;

	if (!ck_ibody(ck, ci, &l) || ext4_xattr_list_wrong(ck->es, l.base, 0, l.bytes))
		return -1;
	e = ext4_xattr_find(&l, EXT4_XATTR_SYSTEM, "data", 4);
	if (!e || le32_get(e->value_inum))
		return -1;
	*value = ext4_xattr_value(&l, e);
	return le32_get(e->value_size);
}

/* Such an inode, which nobody has in hand, as it is to be. */
static void put_value_inode(struct ck *ck, u64 ino, struct buffer_head *bh, const struct ext4_disk_inode *raw)
{
	struct ck_inode ci = { .ino = ino,
			       .raw = (void *)((u8 *)bh->data + ((const u8 *)raw - (const u8 *)bh->data)) };

	ck_inode_put(ck, &ci);
}

/* The hash of the value that the inode holds. False: it cannot be read, of which enough was said. */
static bool content_hash(struct ck *ck, u64 ino, u32 *hash)
{
	scoped(ext4_inode_freep) struct ext4_inode *ei = ext4_inode_alloc();
	scoped(freep) u8 *value = NULL;
	u64 len;

	if (!ei) {
		ck_no_memory(ck);
		return false;
	}
	ei->vfs.sb = &ck->es->vfs;
	ei->vfs.ino = ino;
	if (ext4_inode_load(ei))
		return false;
	len = ext4_size(ei);
	value = len <= EXT4_XATTR_VALUE_MAX ? malloc(len + 1) : NULL;
	if (!value || ext4_read_content(ei, 0, value, len))
		return false;
	*hash = crc32c(ck->es->csum_seed, value, len);
	return true;
}

static void end_of_value(struct ck *ck, u64 ino, u64 val)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	struct ext4_disk_inode *raw;
	struct ck_ino *in = ck_ino(ck, ino);
	u64 refs = val & ~OWNER_NOTED, says;
	u32 hash;

	raw = (void *)(uintptr_t)value_raw(ck, ino, &bh);
	if (!raw)
		return;
	if (!in || !(in->flags & CK_USED) || !(in->flags & CK_EA)) {
		if (ck_fix(ck, CK_XATTR_INODE, ino,
			   "%llu attributes have their value there, but it is no inode for values",
			   (unsigned long long)refs) &&
		    in && in->flags & CK_USED) {
			raw->flags = le32_put(le32_get(raw->flags) | EXT4_FL_EA_INODE);
			in->flags |= CK_EA;
			put_value_inode(ck, ino, bh, raw);
		}
		return;
	}
	/* With its right hash it is the value of none of its attributes, which the next round sees. */
	if (!ck->stale && !(val & OWNER_NOTED) && content_hash(ck, ino, &hash) &&
	    hash != le32_get(raw->atime) &&
	    ck_fix(ck, CK_XATTR_INODE, ino, "wrong hash of its content, for %llu attributes",
		   (unsigned long long)refs)) {
		raw->atime = le32_put(hash);
		put_value_inode(ck, ino, bh, raw);
	}
	says = le32_get(raw->version) | (u64)le32_get(raw->ctime) << 32;
	if (val & OWNER_NOTED || says == refs ||
	    !ck_fix(ck, CK_XATTR_INODE_REFS, ino, "%llu, there are %llu", (unsigned long long)says,
		    (unsigned long long)refs))
		return;
	raw->version = le32_put((u32)refs);
	raw->ctime = le32_put((u32)(refs >> 32));
	put_value_inode(ck, ino, bh, raw);
}

static void end_of_block(struct ck *ck, u64 blk, u64 val)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	u64 refs = (u32)val, says = val >> 32;

	if (!refs || !says || refs == says - 1 ||
	    !ck_fix(ck, CK_XATTR_REFS, blk, "%llu, there are %llu", (unsigned long long)says - 1,
		    (unsigned long long)refs) ||
	    !ck_read(ck, blk, &bh))
		return;
	((struct ext4_disk_xattr_header *)bh->data)->refcount = le32_put((u32)refs);
	ck_xattr_put(ck, bh);
}

void ck_xattrs_end(struct ck *ck)
{
	for (u32 i = 0; i < ck->xattr.cap; i++)
		if (ck->xattr.key[i])
			end_of_block(ck, ck->xattr.key[i], ck->xattr.val[i]);
	for (u32 i = 0; i < ck->ea.cap; i++)
		if (ck->ea.key[i])
			end_of_value(ck, ck->ea.key[i], ck->ea.val[i]);
}
