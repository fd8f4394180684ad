/* The devices of a volume: those that were given, and those that only its trees speak of. */
#include "volume.h"

#include <errno.h>
#include <stdlib.h>

u32 btrfs_device_count(const struct btrfs_volume *v)
{
	return v->device_count;
}

struct btrfs_device *btrfs_device_at(struct btrfs_volume *v, u32 index)
{
	return v->device[index];
}

int btrfs_device_add(struct btrfs_volume *v, u64 devid, const u8 *uuid, struct blkdev *dev,
		     struct btrfs_device **out)
{
	struct btrfs_device **more, *d;

	if (v->device_count == BTRFS_DEVICES_MAX)
		return corrupt(v->health, "device", devid, "more than %u devices", BTRFS_DEVICES_MAX);
	more = realloc(v->device, (v->device_count + 1ul) * sizeof(*more));
	if (more)
		v->device = more;
	d = more ? calloc(1, sizeof(*d)) : NULL;
	if (!d)
		return fail(-ENOMEM, "no memory for a device");
	d->devid = devid;
	memcpy(d->uuid, uuid, sizeof(d->uuid));
	d->dev = dev ? blkdev_get(dev) : NULL;
	v->device[v->device_count++] = d;
	*out = d;
	return 0;
}

/* A seed that was given along, once it is named. Borrowed. */
static struct blkdev *stray_find(const struct btrfs_volume *v, u64 devid, const u8 *uuid)
{
	for (u32 i = 0; i < v->stray_count; i++)
		if (v->stray[i].devid == devid && !memcmp(v->stray[i].uuid, uuid, sizeof(v->stray[i].uuid)))
			return v->stray[i].dev;
	return NULL;
}

int btrfs_volume_device(struct btrfs_volume *v, const struct btrfs_disk_dev_item *item)
{
	u64 devid = le64_get(item->devid);
	struct btrfs_device *d = NULL;
	int err;

	for (u32 i = 0; i < v->device_count && !d; i++)
		if (v->device[i]->devid == devid &&
		    !memcmp(v->device[i]->uuid, item->uuid, sizeof(item->uuid)))
			d = v->device[i];
	if (!d) {
		err = btrfs_device_add(v, devid, item->uuid, stray_find(v, devid, item->uuid), &d);
		if (err)
			return err;
	}
	if (!d->dev)
		d->dev = stray_find(v, devid, item->uuid) ? blkdev_get(stray_find(v, devid, item->uuid))
							  : NULL;
	d->listed = true;
	d->size_bytes = le64_get(item->total_bytes);
	d->seed = memcmp(item->fsid, v->dev_fsid, sizeof(v->dev_fsid)) != 0;
	return 0;
}
