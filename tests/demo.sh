#!/bin/bash
# make demo: an ext4 image with real content, mounted by us, read, compared with the original, unmounted. Run by anybody
# who may use /dev/fuse. Leaves nothing behind, however it ends.
#
#   tests/demo.sh WERUNOS
set -eu
werunos=$(realpath "$1")
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/werunos-demo.XXXXXX")
tree=$work/original image=$work/volume.img at=$work/mounted

cleanup() {
	if mountpoint -q "$at"; then
		fusermount3 -u "$at" || fusermount3 -uz "$at"
	fi
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

die() {
	echo "demo: $*" >&2
	exit 1
}
step() {
	printf '\n== %s\n' "$*"
}

[ -w /dev/fuse ] || die "/dev/fuse cannot be opened: load the fuse module, or give this user access to it"

step "1. A tree with real content: this project's sources, and what file systems find hard"
mkdir -p "$tree/special/deep/er/still" "$tree/many" "$at"
cp -r "$(dirname "$0")"/../{kernel,host,README.md,Makefile} "$tree"
head -c 3000000 /dev/urandom >"$tree/special/random-3M"
truncate -s 5G "$tree/special/sparse-5G"
echo "at the end" | dd of="$tree/special/sparse-5G" bs=1M seek=5119 conv=notrunc status=none
ln "$tree/special/random-3M" "$tree/special/deep/hard-link"
ln -s ../random-3M "$tree/special/deep/symlink"
ln -s "$(printf 'long/%.0s' {1..15})" "$tree/special/long-symlink"
mkfifo "$tree/special/fifo"
echo "a name that is not English" >"$tree/special/näme with späces"
printf '#!/bin/sh\necho hello\n' >"$tree/special/script"
chmod 750 "$tree/special/script"
chmod 1777 "$tree/special/deep"
setfattr -n user.note -v "kept with the file" "$tree/special/script" 2>/dev/null || true
for i in $(seq 1500); do echo "file $i" >"$tree/many/entry-$i"; done
# mke2fs keeps whole seconds.
find "$tree" -exec touch -h -d '2024-02-29 12:34:56' {} +
echo "   $(find "$tree" | wc -l) files, $(du -sh "$tree" | cut -f1)"

step "2. mke2fs makes an ext4 image of it"
truncate -s 128M "$image"
mke2fs -q -F -t ext4 -O metadata_csum,64bit,extent,dir_index -I 256 -E "root_owner=$(id -u):$(id -g)" -d "$tree" "$image"
sum=$(sha256sum <"$image")
"$werunos" info "$image" | head -12 | sed 's/^/   /'

step "3. werunos mount, as $(id -un), without the kernel's ext4"
"$werunos" mount --ro --daemon "$image" "$at"
grep -F " $at " /proc/mounts | sed 's/^/   /'
ls -l "$at/special" | sed 's/^/   /'

step "4. Compared with the original: names, types, modes, owners, times, sizes, links, content, attributes"
# A directory's size is its file system's affair, and the root of the volume has lost+found in it.
view() {
	(cd "$1" && find . -mindepth 1 -name lost+found -prune -o \
		\( -type d -printf '%p %y %m %U %G %Ts %n\n' -o -printf '%p %y %m %U %G %Ts %n %s %l\n' \) | sort)
}
view "$tree" >"$work/a"
view "$at" >"$work/b"
diff "$work/a" "$work/b" | head -20
cmp "$work/a" "$work/b" || die "the views differ"
find "$tree" -type f -printf '%P\0' | (
	n=0 bytes=0
	while IFS= read -r -d '' f; do
		size=$(stat -c %s "$tree/$f")
		if [ "$size" -gt 1000000000 ]; then
			cmp <(tail -c 2000000 "$tree/$f") <(tail -c 2000000 "$at/$f")
			size=2000000
		else
			cmp "$tree/$f" "$at/$f"
		fi
		n=$((n + 1)) bytes=$((bytes + size))
	done
	echo "   $n files hold the same bytes ($((bytes >> 20)) MiB read)"
) || die "a file's content differs"
(cd "$tree" && getfattr -Rhd . 2>/dev/null) >"$work/a"
(cd "$at" && getfattr -Rhd . 2>/dev/null) >"$work/b"
cmp "$work/a" "$work/b" || die "attributes differ"
echo "   $(wc -l < <(view "$at")) names, all the same"

step "5. Unmounted; the image is as it was"
fusermount3 -u "$at"
[ "$(sha256sum <"$image")" = "$sum" ] || die "reading changed the image"
! mountpoint -q "$at" || die "still mounted"
printf '\nDone: an ext4 volume was made, mounted through FUSE, read whole, found equal, and unmounted.\n'
