/*
 * The memory file system: names and inodes in memory, file data in the blocks of a memory device. It is the
 * smallest whole module, so it is the place to see what each operation has to do; and it shows what the layers
 * above cost by themselves. Nothing survives the unmount.
 *
 * Locks: as vfs.h grants them. Added: memfs->alloc for the block bitmap and the inode table, and memfs_inode->tree
 * for a file's block map, which readers (map) and the writer (commit) meet at.
 */
#ifndef MEMFS_H
#define MEMFS_H

#include "vfs/vfs.h"

#define MEMFS_BLOCK    4096u
#define MEMFS_ROOT     1u
#define MEMFS_LINK_MAX 65000u
/* Longest file: as ext4's with 4 KiB blocks. */
#define MEMFS_SIZE_MAX (0xffffffffull * MEMFS_BLOCK)
#define MEMFS_CHUNK    512u /* blocks a chunk of the block map covers */

/* A file's block: where it is on the device, plus one; 0 is a hole. */
#define MEMFS_UNWRITTEN  0x80000000u
#define MEMFS_BLOCK_MASK 0x7fffffffu

struct memfs {
	struct super_block sb;
	struct mutex alloc;      /* rank ALLOC */
	u64 *bitmap;             /* [alloc] one bit a block, 1 is used */
	u64 blocks, blocks_free; /* blocks [const], blocks_free [alloc] */
	u64 next_block;          /* [alloc] where the search goes on */
	u64 next_ino;            /* [alloc] numbers are never used twice */
	u64 inodes, inodes_max;  /* inodes [alloc], inodes_max [const] */
};

struct memfs_entry {
	u64 pos; /* the readdir position after it */
	u64 ino;
	u64 hash;
	struct memfs_entry *hash_next;
	u32 len;
	u8 type;
	char name[];
};

/* A directory's entries: by position for readdir, by hash for lookup. */
struct memfs_dir {
	u64 parent;
	u64 next_pos;
	struct memfs_entry **slot; /* by rising pos; NULL where an entry was removed */
	u64 *slot_pos;
	u32 slots, slots_room, live;
	struct memfs_entry **bucket;
	u32 buckets;
};

struct memfs_chunk {
	u64 index; /* first block / MEMFS_CHUNK */
	u32 used;  /* entries that are not 0 */
	u32 block[MEMFS_CHUNK];
};

struct memfs_xattr {
	struct memfs_xattr *next;
	char *name;
	u32 len;
	u8 value[];
};

struct memfs_inode {
	struct inode vfs;
	struct memfs_dir dir;       /* [vfs.lock] */
	struct mutex tree;          /* rank EXTENT */
	struct memfs_chunk **chunk; /* [tree] by rising index */
	u32 chunks, chunks_room;    /* [tree] */
	char *target;               /* [const] symlinks */
	u32 target_len;
	struct memfs_xattr *xattr; /* [vfs.lock] */
	struct acl *acl[2];        /* [vfs.lock] access, default */
};

static inline struct memfs *memfs_of(struct super_block *sb)
{
	return container_of(sb, struct memfs, sb);
}

static inline struct memfs_inode *memfs_i(struct inode *inode)
{
	return container_of(inode, struct memfs_inode, vfs);
}

/* blocks.c: data. unmap_all is for inodes nobody sees any more. */
int memfs_map(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out);
int memfs_alloc(struct inode *inode, u64 off_bytes, u64 len_bytes, struct mapping *out);
int memfs_commit(struct inode *inode, const struct mapping *m, u64 size_bytes);
void memfs_abort(struct inode *inode, const struct mapping *m);
int memfs_unmap(struct inode *inode, u64 off_bytes, u64 len_bytes);
int memfs_prealloc(struct inode *inode, u64 off_bytes, u64 len_bytes);
int memfs_set_size(struct inode *inode, u64 size_bytes);

/* dir.c: a directory's entries. Locks: vfs.lock, W for changes. */
struct memfs_entry *memfs_dir_find(struct memfs_inode *dir, const struct name *name);
int memfs_dir_add(struct memfs_inode *dir, const struct name *name, u64 ino, u8 type) __must_check;
void memfs_dir_remove(struct memfs_inode *dir, struct memfs_entry *e);
/* Room for one more add, so that it cannot fail. */
int memfs_dir_reserve(struct memfs_inode *dir) __must_check;
void memfs_dir_free(struct memfs_inode *dir);
int memfs_readdir(struct inode *dir, u64 pos, dirent_fn emit, void *ctx);

/* xattr.c */
int memfs_getxattr(struct inode *inode, const char *name, void *buf, u32 size, u32 *len);
int memfs_setxattr(struct inode *inode, const char *name, const void *value, u32 len, u32 flags);
int memfs_listxattr(struct inode *inode, xattr_name_fn emit, void *ctx);
int memfs_get_acl(struct inode *inode, bool is_default, struct acl **out);
int memfs_set_acl(struct inode *inode, bool is_default, const struct acl *acl, u32 mode);
void memfs_xattr_free(struct memfs_inode *inode);

/* namei.c */
extern const struct inode_ops memfs_inode_ops;
/* The root directory, at mount. */
int memfs_make_root(struct memfs *fs) __must_check;

/* super.c */
extern const struct fs_type memfs_fs_type;

#endif
