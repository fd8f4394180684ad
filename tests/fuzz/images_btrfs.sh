#!/bin/sh
# Small sound btrfs volumes for the fuzz targets: images_btrfs.sh DIR. Needs mkfs.btrfs; as root the kernel's mount adds what mkfs does not make:
# compressed extents, subvolumes, snapshots, a log. Without root those are fewer.
set -eu
dir=$1
mkdir -p "$dir"
work=$(mktemp -d)
mounted=
trap '[ -z "$mounted" ] || umount "$work/m"; rm -rf "$work"' EXIT
src=$work/src
mkdir -p "$src/d/e" "$src/many" "$work/m"
printf 'some text\n' >"$src/small"
head -c 30000 /dev/zero | tr '\0' x >"$src/d/three"
: >"$src/empty"
ln -s small "$src/short"
mkfifo "$src/pipe"
i=0
while [ $i -lt 90 ]; do
	: >"$src/many/a-file-with-a-rather-long-name-$i"
	i=$((i + 1))
done
ln "$src/small" "$src/d/hard"

make_image() { # name, further arguments
	name=$1
	shift
	rm -f "$dir/$name.img"
	truncate -s "${size:-20M}" "$dir/$name.img"
	mkfs.btrfs -q -f -s 4096 -d single "$@" --rootdir "$src" "$dir/$name.img" >"$work/said" 2>&1 || cat "$work/said"
}
make_image mixed --mixed -m single -n 4096
make_image old --mixed -m single -n 4096 -O ^no-holes,^skinny-metadata,^extref
make_image xxhash --mixed -m single -n 4096 --csum xxhash
size=130M
make_image dup -m dup -n 4096
make_image large -m single -n 16384 --csum blake2
[ "$(id -u)" = 0 ] || exit 0

with_kernel() { # image, options
	mount -t btrfs -o "loop,$2" "$dir/$1.img" "$work/m" 2>/dev/null || return 1
	mounted=1
}
for how in zlib lzo zstd; do
	cp "$dir/mixed.img" "$dir/$how.img"
	with_kernel $how "compress-force=$how" || break
	for n in 100 2000 5000 200000; do
		i=0
		while [ $i -lt $((n / 20 + 1)) ]; do
			printf 'line %d of text\n' $i
			i=$((i + 1))
		done | head -c $n >"$work/m/text-$n"
	done
	umount "$work/m"
	mounted=
done
cp "$dir/dup.img" "$dir/life.img"
if with_kernel life max_inline=100; then
	btrfs -q subvolume create "$work/m/sub"
	printf 'in sub' >"$work/m/sub/file"
	btrfs -q subvolume create "$work/m/sub/inner"
	btrfs -q subvolume snapshot -r "$work/m/sub" "$work/m/snap"
	printf 'changed' >"$work/m/sub/file"
	fallocate -l 40000 "$work/m/prealloc"
	cp --reflink=always "$work/m/d/three" "$work/m/reflink"
	setfattr -n user.note -v value "$work/m/small"
	chattr +C "$work/m/many"
	btrfs quota enable "$work/m"
	umount "$work/m"
	mounted=
fi
cp "$dir/dup.img" "$dir/log.img"
if with_kernel log commit=300; then
	btrfs -q filesystem sync "$work/m"
	for i in 1 2 3; do
		printf 'logged %d' $i >"$work/m/late-$i"
		/usr/bin/python3 -c 'import os,sys; os.fsync(os.open(sys.argv[1], os.O_RDWR))' "$work/m/late-$i"
	done
	cp "$dir/log.img" "$work/log.img"
	umount "$work/m"
	mounted=
	mv "$work/log.img" "$dir/log.img"
fi
