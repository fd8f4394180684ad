#!/bin/bash
# run.sh BUILD [TARGET] [SECONDS]: each fuzz target for so long, JOBS (2) at a time; then the parsers' line coverage.
# Ends non-zero when a target found something; the input that shows it is named.
set -u
build=$1 only=$2 seconds=$3
targets=${only:-super inode extent dir xattr journal fastcommit verity image btrfs-super btrfs-node btrfs-item btrfs-log btrfs-zlib btrfs-lzo btrfs-zstd btrfs-volume tar}

one() {
	local t=$1 corpus=$build/corpus/$1 seeds=$build/seeds/$1 program=$build/fuzz_ext4
	export FUZZ_IMAGES=$build/images FUZZ_TARGET=$t
	[[ $t == btrfs-* ]] && program=$build/fuzz_btrfs FUZZ_IMAGES=$build/images-btrfs FUZZ_TARGET=${t#btrfs-}
	[[ $t == tar ]] && program=$build/fuzz_tar
	mkdir -p "$corpus" "$seeds" "$build/found"
	FUZZ_WRITE_SEEDS=$seeds "$program" 2>/dev/null || return 1
	LLVM_PROFILE_FILE=$build/$t.profraw "$program" -max_total_time="$seconds" -max_len=17000 -timeout=10 \
		-rss_limit_mb=2048 -artifact_prefix="$build/found/$t-" -print_final_stats=1 "$corpus" "$seeds" \
		>"$build/$t.log" 2>&1
}

failed=0 running=0
declare -a pid=() name=()
for t in $targets; do
	one "$t" &
	pid+=($!) name+=("$t") running=$((running + 1))
	[ $running -ge "${JOBS:-2}" ] && { wait -n; running=$((running - 1)); }
done
for i in "${!pid[@]}"; do
	t=${name[i]}
	if wait "${pid[i]}"; then
		echo "$t: $(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$t.log") inputs, nothing found"
	else
		failed=$((failed + 1))
		echo "$t: FOUND SOMETHING: $(grep -m1 -E 'SUMMARY|ERROR' "$build/$t.log"); inputs in $build/found, log $build/$t.log"
	fi
done
if command -v llvm-profdata-14 >/dev/null && ls "$build"/*.profraw >/dev/null 2>&1; then
	llvm-profdata-14 merge -o "$build/all.profdata" "$build"/*.profraw &&
		llvm-cov-14 report "$build/fuzz_ext4" -object "$build/fuzz_btrfs" -object "$build/fuzz_tar" -instr-profile="$build/all.profdata" kernel/fs/ext4 kernel/fs/btrfs kernel/jbd2 host/import 2>/dev/null |
		awk 'BEGIN { print "file", "lines" } /\.c |^TOTAL/ { print $1, $(NF-3) }' | column -t
fi
exit $((failed > 0))
