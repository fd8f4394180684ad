/*
 * Container images as they lie in a directory: OCI image layouts (image-spec 1.1: image-layout.md, image-index.md, manifest.md, descriptor.md,
 * layer.md), and the media types that docker uses in them.
 */
#ifndef IMPORT_OCI_H
#define IMPORT_OCI_H

#include "lib/types.h"

struct oci_layer {
	char *path; /* of a file that feed_tar(layers) reads */
	u64 size_bytes;
	char *digest; /* "sha256:…" */
};

struct oci_image {
	char *name;              /* what was asked for, and the digest of its manifest */
	char *platform;          /* "linux/amd64"; "" when nobody says */
	struct oci_layer *layer; /* in the order in which they are laid over each other */
	u32 layers;
	u64 bytes; /* of all layers */
};

/*
 * spec: DIR, or DIR:TAG where the layout holds several. platform: OS/ARCHITECTURE[/VARIANT]; NULL: this machine's, or the only one there is.
 * What describes the layers is compared with its digest; the layers are not yet. -ENOENT, -EINVAL, -EBADMSG: a digest or size is another.
 */
int oci_open(const char *spec, const char *platform, struct oci_image **out) __must_check;
/* The layer is what its digest says: before it is used. -EBADMSG; -ECANCELED: stopped. */
int oci_verify(const struct oci_layer *l, const volatile int *stop) __must_check;
/* NULL is ignored. */
void oci_close(struct oci_image *o);

#endif
