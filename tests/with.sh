#!/bin/bash
# Runs a command with a file system mounted for it, and takes it down again whatever happens.
#
#   tests/with.sh KIND[:ARG] COMMAND…    each @KIND in COMMAND stands for the mounted directory
#
#   ext4[:MKE2FS OPTIONS]   the kernel's ext4 on a loop device (root)
#   tmpfs[:MOUNT OPTIONS]   the kernel's tmpfs (root)
#   dir                     a plain directory of /dev/shm, for those who are not root
#   image[:MKE2FS OPTIONS]  an ext4 image, 512 MiB unless -S SIZE comes first; @image stands for its path. Afterwards e2fsck -fn
#                           must find nothing, and (root) the kernel must mount it, unless its blocks are longer than a page, or it
#                           folds case and the kernel does not. FSCK: our program, whose fsck must find nothing either
#   werunos:SOURCE          `werunos mount SOURCE` in the foreground; its exit code counts too. MOUNT: its -o
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

take_down() {
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
	rm -rf --one-file-system "$work"
	return $rc
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

# Of a volume's options: what comes behind each --then is a command that changes it, without spaces in a word; IMAGE is the image there.
then=
[[ $arg == *" --then "* ]] && { then=${arg#* --then }; arg=${arg%% --then *}; }
made() {
	local rest=$then now
	while [ -n "$rest" ]; do
		now=${rest%% --then *}
		[[ $rest == *" --then "* ]] && rest=${rest#* --then } || rest=
		${now//IMAGE/$work/img} >/dev/null 2>&1 || fail "$now failed"
	done
}

case $kind in
dir) ;;
ext4)
	[ "$(id -u)" = 0 ] || skip "a loop mount needs root"
	truncate -s 512M "$work/img"
	# shellcheck disable=SC2086
	mke2fs -q -F -t ext4 -b 4096 $arg "$work/img" || fail "mke2fs failed"
	made
	mount -o loop "$work/img" "$at" 2>"$work/err" || skip "no loop mount here: $(head -1 "$work/err")"
	;;
image)
	size=512M
	[[ $arg == "-S "* ]] && { arg=${arg#-S }; size=${arg%% *}; arg=${arg#"$size"}; }
	truncate -s "$size" "$work/img"
	# shellcheck disable=SC2086
	mke2fs -q -F -t ext4 $arg "$work/img" 2>"$work/err" || fail "mke2fs failed: $(tail -1 "$work/err")"
	made
	at=$work/img
	;;
tmpfs)
	[ "$(id -u)" = 0 ] || skip "mounting tmpfs needs root"
	mount -t tmpfs -o "${arg:-size=128M,nr_inodes=30000}" tmpfs "$at" 2>"$work/err" || skip "$(head -1 "$work/err")"
	;;
werunos)
	[ -w /dev/fuse ] || skip "no /dev/fuse here"
	"${WERUNOS:-$top/build/release/werunos}" mount -o "${MOUNT:-defaults}" "$arg" "$at" 2>"$work/err" &
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
	take_down
	src=$?
	if [ $src != 0 ] || [ $rc != 0 ]; then
		sed 's/^/# werunos: /' "$work.err" | tail -40
		[ $src = 0 ] || { echo "not ok - werunos mount ends well (code $src)"; rc=1; }
	fi
	rm -f "$work.err"
fi
if [ "$kind" = image ]; then
	e2fsck -fn "$at" >"$work/fsck" 2>&1 || { rc=1; sed 's/^/# e2fsck: /' "$work/fsck" | head -40; echo "not ok - e2fsck finds nothing"; }
	if [ -n "${FSCK:-}" ]; then
		"$FSCK" fsck -fn "$at" >"$work/fsck" 2>&1 || { rc=1; sed 's/^/# fsck: /' "$work/fsck" | head -40; echo "not ok - our fsck finds nothing"; }
	fi
	seen=$(dumpe2fs -h "$at" 2>/dev/null)
	bytes=$(sed -n 's/^Block size: *//p' <<<"$seen")
	[[ $seen == *casefold* && ! -e /sys/fs/ext4/features/casefold ]] && bytes=none
	if [ "$(id -u)" = 0 ] && mkdir -p "$work/mnt" && mount -o loop,ro "$at" "$work/mnt" 2>"$work/err"; then
		umount "$work/mnt"
	elif [ "$(id -u)" = 0 ] && [ "$bytes" != none ] && [ "$bytes" -le "$(getconf PAGESIZE)" ] && ! grep -q 'failed to setup loop' "$work/err"; then
		rc=1; echo "not ok - the kernel mounts it: $(head -1 "$work/err")"
	fi
	[ $rc = 0 ] || [ -z "${KEEP:-}" ] || cp --sparse=always "$at" "$KEEP"
fi
exit $rc
