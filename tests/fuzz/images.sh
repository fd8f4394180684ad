#!/bin/sh
# Small sound volumes for the fuzz targets: images.sh DIR. Needs mke2fs and debugfs, no root.
set -eu
dir=$1
mkdir -p "$dir"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
src=$work/src
mkdir -p "$src/d/e" "$src/many"
printf 'some text\n' >"$src/small"
head -c 3000 /dev/zero | tr '\0' x >"$src/d/three"
: >"$src/empty"
ln -s small "$src/short"
ln -s "$(printf 'long/%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)" "$src/long"
mkfifo "$src/pipe"
i=0
while [ $i -lt 60 ]; do
	: >"$src/many/a-file-with-a-rather-long-name-$i"
	i=$((i + 1))
done
# Every other block is a hole: the file has many extents, hence a tree.
i=0
while [ $i -lt 24 ]; do
	printf 'block %d' $i | dd of="$src/holes" bs=1024 seek=$((i * 2)) conv=notrunc status=none
	i=$((i + 1))
done

# The form of system.posix_acl_access: version 2, then tag, permissions, id of each entry.
printf '\002\000\000\000\001\000\007\000\377\377\377\377\002\000\006\000\350\003\000\000\004\000\005\000\377\377\377\377\010\000\004\000\062\000\000\000\020\000\007\000\377\377\377\377\040\000\004\000\377\377\377\377' >"$work/acl"
folding=
head -c 3000 /dev/zero | tr '\0' e >"$work/big-value"
long=$(head -c 200 /dev/zero | tr '\0' n)

make_image() { # name, features, further arguments
	name=$1 features=$2
	shift 2
	mke2fs -qq -F -t ext4 -O "none,$features" -E lazy_itable_init=0,hash_seed=11111111-2222-3333-4444-555555555555 \
		-U 11111111-2222-3333-4444-555555555555 -N 128 -d "$src" "$@" "$work/img" "$blocks"
	debugfs -w -f - "$work/img" >/dev/null 2>&1 <<EOF
ea_set small user.note a-value-that-is-kept-in-the-inode-or-beside-it
ea_set d user.big $(head -c 300 /dev/zero | tr '\0' v)
ea_set d security.selinux system_u:object_r:unlabeled_t:s0
ea_set -f $work/acl d system.posix_acl_access
ea_set -f $work/acl many system.posix_acl_default
mknod dev b 8 1
$folding
EOF
	# e2fsck -D makes the long directory a hashed one.
	e2fsck -fyD "$work/img" >/dev/null 2>&1 || true
	mv "$work/img" "$dir/$name.img"
}
blocks=600
common=ext_attr,dir_index,filetype,sparse_super,large_file
make_image csum "$common,extent,64bit,flex_bg,metadata_csum,dir_nlink,extra_isize,huge_file" -b 1024 -I 256
blocks=2200
make_image seed "$common,extent,64bit,flex_bg,metadata_csum,metadata_csum_seed,orphan_file,has_journal,extra_isize" -b 1024 -I 256 -J size=1
blocks=600
make_image ext2 "$common" -b 1024 -I 128
make_image gdt "$common,extent,uninit_bg,flex_bg,extra_isize" -b 1024 -I 256
make_image inline "$common,extent,inline_data,metadata_csum,extra_isize" -b 1024 -I 256
make_image bigalloc "$common,extent,bigalloc,metadata_csum,extra_isize" -b 1024 -C 4096 -I 256
folding="ea_set -f $work/big-value small user.in-an-inode"
make_image large "$common,extent,large_dir,ea_inode,metadata_csum,extra_isize,project,quota" -b 1024 -I 256
folding=
make_image legacy "$common,extent,extra_isize" -b 1024 -I 256
for hash in legacy tea; do
	tune2fs -E hash_alg=$hash "$dir/legacy.img" >/dev/null
	cp "$dir/legacy.img" "$dir/$hash.new"
	e2fsck -fyD "$dir/$hash.new" >/dev/null 2>&1 || true
	mv "$dir/$hash.new" "$dir/hash-$hash.img"
done
rm "$dir/legacy.img"
# More groups than one, so that there are copies of superblock and descriptors; descriptors in their groups.
make_image groups "$common,extent,metadata_csum,extra_isize" -b 1024 -I 256 -g 256
make_image metabg "$common,extent,64bit,meta_bg,metadata_csum,extra_isize" -b 1024 -I 256 -g 256
# A directory without regard to case; its entries are added afterwards, so that they are not in a wrong place.
folding="mkdir fold
sif fold flags 0x40080000
write $src/small fold/Plain
write $src/small fold/$(printf 'Gr\303\274\303\237e')
write $src/small fold/$(printf '\377\376')"
make_image fold "$common,extent,casefold,metadata_csum,extra_isize" -b 1024 -I 256 -E encoding=utf8
# Encrypted: any bytes will do as names and content, since nothing here has the key.
folding="mkdir crypt
write $src/small crypt/short
write $src/small crypt/$long"
make_image crypt "$common,extent,encrypt,metadata_csum,extra_isize" -b 1024 -I 256
debugfs -w -f - "$dir/crypt.img" >/dev/null 2>&1 <<EOF
sif crypt/short flags 0x80800
sif long flags 0x80800
sif crypt flags 0x80800
EOF
# Content that a tree of three levels checks.
folding=
make_image verity "$common,extent,verity,metadata_csum,extra_isize" -b 1024 -I 256
head -c 70000 /dev/zero | tr '\0' v >"$work/content"
"$(dirname "$0")/../interop/verity.py" "$dir/verity.img" checked "$work/content" 10 sha512 salt >/dev/null
# Volumes that need recovery: blocks 1900 to 1902 are in the log, some of them revoked later.
folding=
blocks=2200
head -c 2048 /dev/zero | tr '\0' j >"$work/two"
# Begins with the journal's magic, so that it is escaped.
printf '\300\073\071\230' >"$work/magic" && head -c 1020 /dev/zero >>"$work/magic"
make_image dirty "$common,extent,has_journal,extra_isize" -b 1024 -I 256 -J size=1
cp "$dir/seed.img" "$dir/dirty-csum.img"
"$(dirname "$0")/logs.py" "$dir/dirty.img" "$dir"
for image in dirty dirty-csum; do
	debugfs -w -f - "$dir/$image.img" >/dev/null 2>&1 <<EOF
jo $([ $image = dirty ] || echo -c)
jw -b 1900,1901 $work/two
jw -r 1901
jw -b 1902 $work/magic
jc
EOF
done
# And one with a fast commit behind its log, beside quota files.
blocks=4200
make_image fast "$common,extent,has_journal,fast_commit,metadata_csum,extra_isize,quota" -b 1024 -I 256 -J size=2
debugfs -w -f - "$dir/fast.img" >/dev/null 2>&1 <<EOF
jo -c
jw -b 4100,4101 $work/two
jc
EOF
/usr/bin/python3 "$(dirname "$0")/fast_commit.py" "$dir/fast.img"
