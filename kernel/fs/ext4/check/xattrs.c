/*
 * Attributes: lists in inodes and in blocks, blocks that are shared, values in inodes of their own.
 *
 * What is checked of a value: its place, its hash, the form of ACLs and of encryption contexts.
 */
#include "check.h"

#include "lib/scope.h"
#include <errno.h>

#define CONTEXT_V1_BYTES 28u /* include/uapi/linux/fscrypt.h */
#define CONTEXT_V2_BYTES 40u

#define OWNER_NOTED (1ull << 63) /* in ck->ea */

static bool is_context(const struct ext4_disk_xattr_entry *e)
{
	return e->name_index == EXT4_XATTR_ENCRYPTION && e->name_len == 1 && *ext4_xattr_entry_name(e) == 'c';
}

static void check_value(struct ck *ck, struct ck_inode *ci, const struct ext4_disk_xattr_entry *e,
			const u8 *value)
{
	u32 len = le32_get(e->value_size);
	struct acl *acl = NULL;

	if (is_context(e))
		ci->crypt_context = (len == CONTEXT_V1_BYTES && value[0] == 1) ||
				    (len == CONTEXT_V2_BYTES && value[0] == 2);
	if (e->name_index != EXT4_XATTR_ACL_ACCESS && e->name_index != EXT4_XATTR_ACL_DEFAULT)
		return;
	if (ext4_acl_decode(value, len, &acl) == -EINVAL)
		ck_say(ck, CK_ACL, ci->ino, "%s",
		       e->name_index == EXT4_XATTR_ACL_DEFAULT ? "the default one" : "");
	acl_free(acl);
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

static void value_inode(struct ck *ck, struct ck_inode *ci, const struct ext4_disk_xattr_entry *e)
{
	u64 cluster = (u64)ext4_block_bytes(ck->es) << ck->es->cluster_bits, *refs;
	u32 ino = le32_get(e->value_inum);

	ci->clusters += DIV_ROUND_UP((u64)le32_get(e->value_size), cluster);
	if (ck->again)
		return;
	if (ino < ck->es->first_ino || ino > ck->es->inodes) {
		ck_say(ck, CK_XATTR_INODE, ci->ino, "inode %u is none for values", ino);
		return;
	}
	refs = ck_map_at(ck, &ck->ea, ino);
	if (refs)
		*refs = (*refs + 1) | (is_owner_noted(ck, ci, ino) ? OWNER_NOTED : 0);
}

/* in_inode: entries there may go without a hash. */
static void check_hash(struct ck *ck, struct ck_inode *ci, const struct ext4_disk_xattr_entry *e,
		       const u8 *value, bool in_inode)
{
	const char *name = ext4_xattr_entry_name(e);
	u32 len = le32_get(e->value_size), want = le32_get(e->hash);
	le32 word;

	if (in_inode && !want)
		return;
	if (le32_get(e->value_inum)) {
		word = le32_put(value_inode_hash(ck, le32_get(e->value_inum)));
		value = word.b;
		len = want ? sizeof(word) : 0;
		if (!want)
			return;
	}
	if (ext4_xattr_hash(name, e->name_len, value, len, false) != want &&
	    ext4_xattr_hash(name, e->name_len, value, len, true) != want)
		ck_say(ck, CK_XATTR_HASH, ci->ino, "%s", "");
}

/* The list was found to be right. `first`: nobody has seen it before. */
static void check_list(struct ck *ck, struct ck_inode *ci, const struct ext4_xattr_list *l, bool in_inode,
		       bool first)
{
	const struct ext4_disk_xattr_entry *e = NULL;

	while ((e = ext4_xattr_next(l, e)) && ck_goes_on(ck)) {
		bool here = !le32_get(e->value_inum);
		const u8 *value = here ? ext4_xattr_value(l, e) : NULL;

		if (!here)
			value_inode(ck, ci, e);
		if (ck->again)
			continue;
		if (here && (first || is_context(e)))
			check_value(ck, ci, e, le32_get(e->value_size) ? value : NULL);
		if (first)
			check_hash(ck, ci, e, value, in_inode);
	}
}

static bool ibody(const struct ck *ck, const struct ck_inode *ci, struct ext4_xattr_list *l)
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

static void in_block(struct ck *ck, struct ck_inode *ci, u64 blk)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_xattr_header *h;
	struct ext4_xattr_list l;
	const char *bad;
	u64 *refs = NULL;
	bool first;

	if (blk <= ck->es->first_data_blk || blk >= ck->es->blocks) {
		if (!ck->again)
			ck_say(ck, CK_XATTR_BLOCK, ci->ino, "block %llu is not on the volume",
			       (unsigned long long)blk);
		return;
	}
	if (!ck->again) {
		refs = ck_map_at(ck, &ck->xattr, blk);
		if (!refs)
			return;
	}
	first = refs && !*refs;
	if (first || ck->again)
		ck_take(ck, ci, blk);
	else
		ci->clusters++;
	if (refs)
		++*refs;
	if (!ck_read(ck, blk, &bh))
		return;
	h = bh->data;
	bad = ext4_xattr_block_wrong(ck->es, blk, h);
	if (bad) {
		if (!ck->again)
			ck_say(ck, CK_XATTR_BLOCK, ci->ino, "block %llu: %s", (unsigned long long)blk, bad);
		return;
	}
	if (first)
		*refs |= (u64)le32_get(h->refcount) << 32;
	l = (struct ext4_xattr_list){ .base = bh->data, .first = sizeof(*h), .bytes = bh->size_bytes };
	check_list(ck, ci, &l, false, first);
}

void ck_xattrs(struct ck *ck, struct ck_inode *ci, u64 xattr_blk)
{
	struct ext4_xattr_list l;
	const char *bad;

	if (ibody(ck, ci, &l)) {
		bad = ext4_xattr_list_wrong(ck->es, l.base, 0, l.bytes);
		if (!bad)
			check_list(ck, ci, &l, true, true);
		else if (!ck->again)
			ck_say(ck, CK_XATTR_LIST, ci->ino, "%s", bad);
	}
	if (xattr_blk)
		in_block(ck, ci, xattr_blk);
}

s64 ck_inline_more(struct ck *ck, const struct ck_inode *ci, const u8 **value)
{
	const struct ext4_disk_xattr_entry *e;
	struct ext4_xattr_list l;

	if (!ibody(ck, ci, &l) || ext4_xattr_list_wrong(ck->es, l.base, 0, l.bytes))
		return -1;
	e = ext4_xattr_find(&l, EXT4_XATTR_SYSTEM, "data", 4);
	if (!e || le32_get(e->value_inum))
		return -1;
	*value = ext4_xattr_value(&l, e);
	return le32_get(e->value_size);
}

static void end_of_value(struct ck *ck, u64 ino, u64 val)
{
	scoped(bh_putp) struct buffer_head *bh = NULL;
	const struct ext4_disk_inode *raw;
	const struct ck_ino *in = ck_ino(ck, ino);
	u64 refs = val & ~OWNER_NOTED, says;

	if (!in || !(in->flags & CK_USED) || !(in->flags & CK_EA)) {
		ck_say(ck, CK_XATTR_INODE, ino,
		       "%llu attributes have their value there, but it is no inode for values",
		       (unsigned long long)refs);
		return;
	}
	raw = val & OWNER_NOTED ? NULL : value_raw(ck, ino, &bh);
	if (!raw)
		return;
	says = le32_get(raw->version) | (u64)le32_get(raw->ctime) << 32;
	if (says != refs)
		ck_say(ck, CK_XATTR_INODE_REFS, ino, "%llu, there are %llu", (unsigned long long)says,
		       (unsigned long long)refs);
}

void ck_xattrs_end(struct ck *ck)
{
	for (u32 i = 0; i < ck->xattr.cap; i++) {
		u64 refs = ck->xattr.key[i] ? (u32)ck->xattr.val[i] : 0, says = ck->xattr.val[i] >> 32;

		if (refs && says && refs != says)
			ck_say(ck, CK_XATTR_REFS, ck->xattr.key[i], "%llu, there are %llu",
			       (unsigned long long)says, (unsigned long long)refs);
	}
	for (u32 i = 0; i < ck->ea.cap; i++)
		if (ck->ea.key[i])
			end_of_value(ck, ck->ea.key[i], ck->ea.val[i]);
}
