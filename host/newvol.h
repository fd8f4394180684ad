/* A place for a new volume: chosen, opened, cleared, formatted. See newvol.c. */
#ifndef HOST_NEWVOL_H
#define HOST_NEWVOL_H

#include "open.h"

/* What the start of an unfinished volume says. */
#define NEWVOL_MARK "unfinished werunos image\n"

struct newvol_opts {
	u32 part;        /* 0: as the name says */
	u64 size_bytes;  /* of the volume, and of the file that it is alone in; 0: all that is there */
	bool force;      /* what is there may go */
	bool keep;       /* of a block device: what was there is not discarded */
	bool dry;        /* nothing is made or changed */
	bool unfinished; /* the volume is none, and says so, before newvol_finish */
};

struct newvol {
	struct source src;  /* holds the lock; of a dry run on what is not there: nothing */
	struct blkdev *dev; /* of the volume's size; referenced */
	const struct fs_type *type;
	char *made;     /* the file that was made for it; NULL: it was there */
	bool was_empty; /* a file without a byte was there */
	bool zeroed, dry, keep, unfinished;
	u64 size_bytes;
	u64 file_bytes; /* of the file that it is alone in */
};

/*
 * "ext4" (or "ext2", "ext3", which words for the module make of it): *words is to go before the caller's own in format_opts.fs_opts. -EOPNOTSUPP with
 * a sentence: nobody can make such a volume.
 */
int newvol_type(const char *name, const struct fs_type **type, const char **words) __must_check;
/*
 * The place that SPEC names, for a volume of the type. Refused: what is in use, by anybody; what holds something, without force; what does
 * not exist, without a size. Nothing is changed yet but that a new file exists.
 */
int newvol_open(const char *spec, const struct fs_type *type, const struct newvol_opts *opts,
		struct newvol *out) __must_check;
/*
 * Makes the volume; size_bytes and zeroed of opts are set here. What was there before is cleared once it is known that these options make
 * one. out may be NULL.
 */
int newvol_format(struct newvol *v, const struct format_opts *opts, struct doc *out) __must_check;
/* Of an unfinished one: all that was written is durable, and from now on it counts. */
int newvol_finish(struct newvol *v) __must_check;
/* What is on dev was being made when its maker ended: the mark is there, and nothing that a volume begins with. */
bool newvol_is_unfinished(struct blkdev *dev);
/* err: what went wrong with it since. Then a file that was made for it goes. Returns err. */
int newvol_close(struct newvol *v, int err);

/* SOURCE_DATE_EPOCH is set: the same words, the same bytes. */
bool newvol_is_scripted(void);
/* What there is no word for in what the user said: UUID, seed and clock. SOURCE_DATE_EPOCH: from that and the words. -EINVAL. */
int newvol_chance(struct format_opts *opts, bool has_uuid, const char *const *words, u32 count) __must_check;

#endif
