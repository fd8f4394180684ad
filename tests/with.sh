#!/bin/bash
# Runs a command with a file system mounted for it, and takes it down again whatever happens.
#
#   tests/with.sh KIND[:ARG] COMMAND…    each @KIND in COMMAND stands for the mounted directory
#
#   ext4[:MKE2FS OPTIONS]   the kernel's ext4 on a loop device (root)
#   tmpfs[:MOUNT OPTIONS]   the kernel's tmpfs (root)
#   dir                     a plain directory of /dev/shm, for those who are not root
#   werunos:SOURCE          `werunos mount SOURCE` in the foreground; its exit code counts too
#   image[:MKE2FS OPTIONS]  the same with an ext4 image made for it; e2fsck looks at it afterwards. SIZE, MOUNT: its size, -o
#
# What cannot be had here is reported as one skipped test. The command's exit code is returned.
set -u
what=$1 kind=${1%%:*} arg=
[[ $what == *:* ]] && arg=${what#*:}
shift
top=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d /dev/shm/werunos-test.XXXXXX)
at=$work/mnt server=
mkdir "$at"

stop_server() {
	local rc=0
	if mountpoint -q "$at"; then
		if [ -n "$server" ]; then
			fusermount3 -u "$at" || fusermount3 -uz "$at"
		else
			umount "$at" || umount -l "$at"
		fi
	fi
	if [ -n "$server" ]; then
		timeout 30 tail --pid="$server" -f /dev/null || kill -KILL "$server"
		wait "$server"
		rc=$?
		server=
	fi
	return $rc
}
take_down() {
	stop_server
	rm -rf --one-file-system "$work"
}
trap take_down EXIT
trap 'exit 130' INT TERM

skip() {
	echo "ok - $what # SKIP $*"
	exit 0
}
fail() {
	echo "# $*"
	echo "not ok - $what is mounted"
	exit 1
}

case $kind in
dir) ;;
ext4)
	[ "$(id -u)" = 0 ] || skip "a loop mount needs root"
	truncate -s 512M "$work/img"
	# shellcheck disable=SC2086
	mke2fs -q -F -t ext4 -b 4096 $arg "$work/img" || fail "mke2fs failed"
	mount -o loop "$work/img" "$at" 2>"$work/err" || skip "no loop mount here: $(head -1 "$work/err")"
	;;
tmpfs)
	[ "$(id -u)" = 0 ] || skip "mounting tmpfs needs root"
	mount -t tmpfs -o "${arg:-size=128M,nr_inodes=30000}" tmpfs "$at" 2>"$work/err" || skip "$(head -1 "$work/err")"
	;;
werunos | image)
	[ -w /dev/fuse ] || skip "no /dev/fuse here"
	source=$arg
	if [ $kind = image ]; then
		source=$work/img
		truncate -s "${SIZE:-512M}" "$source"
		# shellcheck disable=SC2086
		mke2fs -q -F -t ext4 -b 4096 $arg "$source" || fail "mke2fs failed"
	fi
	"${WERUNOS:-$top/build/release/werunos}" mount -o "${MOUNT:-defaults}" "$source" "$at" 2>"$work/err" &
	server=$!
	for _ in $(seq 200); do
		mountpoint -q "$at" && break
		kill -0 "$server" 2>/dev/null || break
		sleep 0.05
	done
	mountpoint -q "$at" || fail "werunos mount $arg: $(cat "$work/err")"
	;;
*)
	fail "unknown kind $kind"
	;;
esac

command=()
for word; do command+=("${word//@$kind/$at}"); done
"${command[@]}"
rc=$?
if [ -n "$server" ]; then
	kill -0 "$server" 2>/dev/null || { echo "# werunos died:"; rc=1; }
	cp "$work/err" "$work.err"
	stop_server
	src=$?
	if [ $kind = image ] && ! e2fsck -fn "$work/img" >"$work/fsck" 2>&1; then
		sed 's/^/# e2fsck: /' "$work/fsck" | head -40
		echo "not ok - the image is clean for e2fsck"
		rc=1
	fi
	if [ $src != 0 ] || [ $rc != 0 ]; then
		sed 's/^/# werunos: /' "$work.err" | tail -40
		[ $src = 0 ] || { echo "not ok - werunos mount ends well (code $src)"; rc=1; }
	fi
	rm -f "$work.err"
fi
exit $rc
