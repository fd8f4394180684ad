/* Entries in one item: names with one hash share it. */
#include "btrfs.h"

const struct btrfs_disk_dir_item *btrfs_dir_item_find(const void *item, u32 len_bytes, const void *name,
						      u32 name_len)
{
	for (u32 at = 0; at < len_bytes;) {
		const struct btrfs_disk_dir_item *d = (const void *)((const u8 *)item + at);

		if (le16_get(d->name_len) == name_len && !memcmp(d->name, name, name_len))
			return d;
		at += (u32)sizeof(*d) + le16_get(d->name_len) + le16_get(d->data_len);
	}
	return NULL;
}
