/*
 * Which inodes the kernel knows, and how often it asked: the lookup counts of FUSE. See ino.c.
 * A nodeid is the inode's number; the root's is 1. All functions are safe from any thread.
 */
#ifndef HOST_FUSE_INO_H
#define HOST_FUSE_INO_H

#include "vfs/vfs.h"

struct nodes;

/* Remembers nothing but the root, which is never forgotten. */
int nodes_new(struct super_block *sb, struct nodes **out) __must_check;
/* Everything is forgotten: held inodes are given back. NULL is ignored. */
void nodes_free(struct nodes *t);

/* The nodeid of an inode number. */
u64 node_id(const struct nodes *t, u64 ino);
/* The kernel is about to hold the inode once more. -ENOMEM. */
int node_remember(struct nodes *t, struct inode *inode) __must_check;
/* The kernel holds it `count` times less. Locks: none. */
void node_forget(struct nodes *t, u64 nodeid, u64 count);
/* The inode's last name went: while the kernel knows it, it is kept from eviction. Borrows. */
void node_unlinked(struct nodes *t, struct inode *inode);
/* Returns the inode referenced. -ESTALE: not one the kernel may know, or another has its number by now. */
int node_inode(struct nodes *t, u64 nodeid, struct inode **out) __must_check;

u64 nodes_count(struct nodes *t);
/* Memory the table takes. */
u64 nodes_bytes(struct nodes *t);

#endif
