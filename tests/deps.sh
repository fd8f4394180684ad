#!/bin/sh
# Installs the Debian packages that building and testing need, those that are missing. Sudo when not root.
set -eu
PACKAGES="gcc make pkg-config libfuse3-dev fuse3 liburing-dev libisal-dev libxxhash-dev libjansson-dev libarchive-dev
 zlib1g-dev libdeflate-dev libzstd-dev libblkid-dev uuid-dev libutf8proc-dev libgcrypt20-dev libcmocka-dev liblzo2-dev python3-pytest clang-format clang binutils
 libarchive-tools umoci e2fsprogs fsverity btrfs-progs util-linux fdisk fuse2fs fio attr acl xz-utils strace"
missing=
for p in $PACKAGES; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
echo "installing:$missing" >&2
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
