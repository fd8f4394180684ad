# What a run consists of; read by run.sh. job NAME SECONDS COMMAND…
# fast: in process and without root, a minute or two. all: the fast set of make check. long: what takes longer.
# PLAN: another plan, for the test of run.sh itself.
py=/usr/bin/python3

plan() {
	# What random runs begin with: the same for each run of make check, so that it says something of what was changed; the long run draws.
	local t draw=${SEED:-4711}
	[ "$1" != long ] || draw=${SEED:-$((EPOCHSECONDS % 1000000))}
	if [ -n "${PLAN:-}" ]; then
		# shellcheck disable=SC1090
		. "$PLAN"
		return
	fi
	job tidy 120 tests/tidy.py "$B"
	for t in $(cd tests/unit && find . -name 'test_*.c' | sort); do
		t=${t#./} t=${t%.c}
		job "unit/$t" 240 "$B/tests/unit/$t"
	done
	[ "$1" = fast ] || job demo 240 bash -c 'tests/demo.sh "$WERUNOS" && echo "ok - make demo"'
	[ "$1" = fast ] || job fuse 500 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/fuse --ignore=tests/fuse/test_mmp.py
	[ "$1" = fast ] || job fuse/mmp 400 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/fuse/test_mmp.py
	[ "$1" = fast ] || job house 400 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/house
	plan_conform "$1"
	[ "$1" = fast ] || job interop 600 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop --ignore-glob='*/test_btrfs*' \
		--ignore-glob='*/test_fsck*.py' --ignore-glob='*/test_cp.py' --ignore-glob='*/test_unpack.py' --ignore-glob='*/test_from*.py' --ignore-glob='*/test_mkfs.py' --ignore-glob='*/test_edit.py' --ignore-glob='*/test_resize*.py' --ignore-glob='*/test_turns.py' --ignore-glob='*/test_shorten.py'
	[ "$1" = fast ] || job interop/copies 400 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_{cp,unpack,mkfs,edit}.py
	[ "$1" = fast ] || job interop/turns 300 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_turns.py
	[ "$1" = fast ] || job interop/resize 300 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_resize.py tests/interop/test_resize_outside.py
	[ "$1" = fast ] || job interop/shorten 600 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_shorten.py
	[ "$1" = fast ] || job interop/from 300 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_from.py tests/interop/test_from_places.py
	[ "$1" = fast ] || job interop/fsck 400 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_fsck.py
	[ "$1" = fast ] || job interop/fsck_mend 300 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_fsck_mend_{super,inodes,dirs,quota}.py \
		tests/interop/test_fsck_host.py
	[ "$1" = fast ] || plan_fsck "$1"
	[ "$1" = fast ] || job interop/btrfs 500 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_btrfs{,_devices,_files,_life,_trees}.py
	[ "$1" = fast ] || job interop/btrfs_fsck 300 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_btrfs_fsck.py
	[ "$1" = fast ] || job interop/btrfs_fsck_mend 600 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_btrfs_fsck_mend.py
	# Under ASan and UBSan: `make check` builds these tools so as well.
	[ "$1" = fast ] || job image 400 env BUILD=build/asan "$py" -m pytest -q -p no:cacheprovider --tb=short tests/image/test_hostile.py
	[ "$1" = fast ] || job image/fsck 400 env BUILD=build/asan "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_fsck.py -k "fixtures or broken"
	[ "$1" = fast ] || job image/btrfs 400 env BUILD=build/asan "$py" -m pytest -q -p no:cacheprovider --tb=short tests/image/test_btrfs_hostile.py
	[ "$1" = fast ] || job image/btrfs_fsck 400 env BUILD=build/asan "$py" -m pytest -q -p no:cacheprovider --tb=short tests/image/test_btrfs_fsck.py
	[ "$1" = fast ] || job image/tar 200 env BUILD=build/asan "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_unpack.py -k "hostile or random or broken"
	plan_model "$1"
	plan_bytes "$1"
	[ "$1" = fast ] || plan_quota "$1"
	[ "$1" = fast ] || plan_promises "$1"
	plan_crash "$1"
	[ "$1" = long ] && plan_long
	return 0
}

# All of the feature matrix; the threaded parts under the thread sanitizer.
plan_long() {
	job interop/btrfs_devices 900 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_btrfs_devices.py
	job interop/btrfs_all 1800 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_btrfs.py
	job image/btrfs_all 900 env LONG=1 BUILD=build/asan "$py" -m pytest -q -p no:cacheprovider --tb=short tests/image/test_btrfs_hostile.py
	job interop/btrfs_fsck_all 1800 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_btrfs_fsck.py
	job image/btrfs_fsck_all 900 env LONG=1 BUILD=build/asan "$py" -m pytest -q -p no:cacheprovider --tb=short tests/image/test_btrfs_fsck.py
	job interop/btrfs_life 900 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_btrfs_life.py
	job interop/mkfs 900 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_mkfs.py -k as_mke2fs
	job interop/from_all 900 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_from.py tests/interop/test_from_places.py
	job interop/shorten_all 1800 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_shorten.py
	job interop/turns_all 7200 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_turns.py
	job interop/all 600 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_matrix.py
	job interop/fsck_all 600 env LONG=1 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_fsck.py
	for t in kernel/block/test_bh kernel/vfs/test_namei kernel/vfs/test_inode kernel/vfs/test_stage kernel/fs/ext4/test_dir_filter host/import/test_engine; do
		job "tsan/$t" 600 "build/tsan/tests/unit/$t"
	done
	for t in asan tsan; do
		job "$t/btrfs/test_compress" 300 "build/$t/tests/unit/kernel/fs/btrfs/test_compress"
		job "$t/btrfs/readers" 600 env "BUILD=build/$t" "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_btrfs_files.py \
			-k "readers or hostile or bad"
	done
	job tsan/host/api/test_threads 300 build/tsan/tests/unit/host/api/test_threads
	job tsan/resize 900 env BUILD=build/tsan "$py" -m pytest -q -p no:cacheprovider --tb=short tests/interop/test_resize.py -k mounted
	for t in commit transaction; do
		job "tsan/jbd2/test_$t" 300 "build/tsan/tests/unit/kernel/jbd2/test_$t"
	done
	for t in default small_journal; do
		job "tsan/stress/$t" 600 tests/with.sh "image:$(ext4_volume "$t")" build/tsan/tests/tools/stress vfs:ext4:@image 1 8 2000
	done
	# An hour in all.
	for t in defaults writeback noopen; do
		job "fsx/hour:$t" 1500 env "MOUNT=$t" tests/with.sh "image:$(ext4_volume default)" tests/with.sh werunos:@image \
			"$B/tests/tools/fsx" --target dir:@werunos --threads 2 --ops 20000 --seconds 1200
	done
	job asan/conform 300 build/asan/tests/conform/conform vfs:memfs
	for t in 0 1 2 3; do
		job "pairs/$t" 7200 "$py" tests/pairs.py run --only "$(seq -s, $((12 * t)) $((12 * t + 11)))" "$B"
	done
	for t in asan tsan; do
		job "$t/crash" 900 "build/$t/tests/crash/crash" --volume 1k --states 100 --others 0
	done
}

# shellcheck source=tests/features.sh
. tests/features.sh

# The kinds of ext4 volume of this run.
ext4_kinds() {
	case $1 in
	fast) echo default ;;
	all) echo default old 1k ext3 nojournal inline clusters 64k jfiles ;;
	long) echo "$ext4_volumes" ;;
	esac
}

# In process on every writable type; on the kernel's own file systems, which judges the suite; through a mount.
plan_conform() {
	local conform=$B/tests/conform/conform t
	for t in ${FS:-memfs}; do
		job "conform/vfs:$t" 120 "$conform" "vfs:$t"
	done
	for t in $(ext4_kinds "$1") $([ "$1" = all ] && echo ea_inode_pointers); do
		job "conform/vfs:ext4/$t" 120 tests/with.sh "image:$(ext4_volume "$t")" "$conform" vfs:ext4:@image
	done
	[ "$1" = fast ] && return
	job conform/mount:ext4 180 tests/with.sh "image:$(ext4_volume default)" tests/with.sh werunos:@image "$conform" dir:@werunos
	job conform/ext4 120 tests/with.sh ext4 "$conform" dir:@ext4
	job conform/tmpfs 60 tests/with.sh tmpfs "$conform" dir:@tmpfs
	job conform/mount:memfs 180 tests/with.sh werunos:memfs:128M "$conform" dir:@werunos
}

# Volumes with one damage of each kind, the fixtures, and volumes with many damages by seed: mended, or made shorter, and judged by e2fsck.
plan_fsck() {
	# A share of so few images is met or missed by the draw: a fresh one is for the large runs, which say something of all of them.
	local corpus=tests/image/fsck_corpus.py seed=${SEED:-1} fresh=$draw
	job image/fsck_fixtures 400 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/image/test_fsck_fixtures.py -k "mended or there"
	job image/fsck_power 400 "$py" tests/image/fsck_power.py --each 1 --states 15 --undo "$B/tests/crash/crash"
	job image/fsck_power/without-flush 100 "$py" tests/image/fsck_power.py --base 1k --seed 3 --each 1 --states 60 --without-flush "$B/tests/crash/crash"
	job image/fsck_corpus 400 "$py" "$corpus" --seed "$seed" --images 40 --least 92 "$B/werunos"
	job image/fsck_find 300 "$py" "$corpus" --seed "$seed" --images 90 --fsck find --least 95 "$B/werunos"
	job asan/fsck_corpus 300 "$py" "$corpus" --seed "$seed" --images 15 --least 80 build/asan/werunos
	job asan/shorten_hostile 300 "$py" tests/image/shorten_hostile.py --seed "$seed" --images 45 build/asan/werunos
	[ "$1" = long ] || return 0
	job image/fsck_mend 900 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/image/test_fsck_mend.py tests/image/test_fsck_fixtures.py
	job image/fsck_power_all 3600 "$py" tests/image/fsck_power.py --each 11 --states 30 "$B/tests/crash/crash"
	job image/fsck_power_undo 1800 "$py" tests/image/fsck_power.py --seed "$fresh" --each 3 --states 20 --undo "$B/tests/crash/crash"
	job asan/fsck_power 1800 "$py" tests/image/fsck_power.py --seed "$fresh" --each 1 --states 10 --undo build/asan/tests/crash/crash
	job image/fsck_corpus_all 3600 "$py" "$corpus" --seed "$fresh" --images 2000 --least 99 "$B/werunos"
	job image/fsck_find_all 1800 "$py" "$corpus" --seed "$fresh" --images 4000 --fsck find --least 98 "$B/werunos"
	job asan/fsck_corpus_all 3600 "$py" "$corpus" --seed "$fresh" --images 300 --least 98 build/asan/werunos
	job image/shorten_hostile_all 3600 "$py" tests/image/shorten_hostile.py --seed "$fresh" --images 2000 "$B/werunos"
	job asan/shorten_hostile_all 3600 "$py" tests/image/shorten_hostile.py --seed "$fresh" --images 300 build/asan/werunos
	job asan/fsck_mend 1800 env BUILD=build/asan "$py" -m pytest -q -p no:cacheprovider --tb=short tests/image/test_fsck_mend.py tests/image/test_fsck_fixtures.py
	job image/fsck_large 1800 "$py" tests/image/fsck_large.py "$B/werunos"
}

# The power goes: at many moments of recorded workloads. What is switched off must be found out.
plan_crash() {
	local crash=$B/tests/crash/crash tooth volume fresh=$draw log=150 states=20 others=10
	[ "$1" = long ] && log=5000 states=800
	job crash/log 600 "$crash" --log --seed "$fresh" --states "$log"
	for tooth in flush revoke gate; do
		job "crash/log/without-$tooth" 60 "$crash" --log --tooth "$tooth" --states 1500
	done
	[ "$1" = fast ] && return
	if [ "$1" = long ]; then
		for volume in clusters-4k 64k; do
			job "crash/$volume" 3000 "$crash" --volume "$volume" --seed "$fresh" --states $((states / 4)) --others "$others"
		done
	fi
	for volume in 4k 1k ext3 orphan-file ea-inode some-data-journal quota quota-ea-inode $([ "$1" = long ] && echo data-journal ext3-data-journal uninit \
		no-filetype fast-commit log-sums-v1 log-async-v3 log-outside-data casefold-strict); do
		job "crash/$volume" 3000 "$crash" --volume "$volume" --seed "$fresh" --states "$states" --others "$others"
	done
	for volume in clusters quota-clusters 8k casefold log-outside log-async; do
		job "crash/$volume" 3000 "$crash" --volume "$volume" --seed "$fresh" --states $((states / 2)) --others "$others"
	done
	for volume in grow grow-kept grow-meta grow-old grow-clusters grow-clusters-spread grow-log-outside; do
		job "crash/$volume" 1500 "$crash" --volume "$volume" --work grow --seed "$fresh" --states "$((3 * states))" --others "$others"
	done
	for tooth in revoke orphan gate; do
		job "crash/without-$tooth" 150 env CRASH_TOOTH="$tooth" "$B/tests/crash/crash_teeth" --volume 1k --work mixed \
			--states 1000 --others 0 --expect-failure
	done
	job crash/quota/without-usage 150 env CRASH_TOOTH=usage "$B/tests/crash/crash_teeth" --volume quota --work owners \
		--states 100 --others 0 --expect-failure
	# Other judges wait for the machine that is gone, e2fsck for its own restart.
	[ "$1" = long ] && job crash/mmp 600 "$crash" --volume mmp --seed "$fresh" --states "$states" --others 0
	job crash/defrag/without-gate 150 env CRASH_TOOTH=gate "$B/tests/crash/crash_teeth" --volume 1k --work defrag \
		--states 1000 --others 0 --expect-failure
	job crash/data/without-revoke 150 env CRASH_TOOTH=revoke "$B/tests/crash/crash_teeth" --volume some-data-journal --work mixed \
		--states 1000 --others 0 --expect-failure
	job crash/without-flush 150 "$crash" --volume 1k --work mixed --states 100 --no-flush --expect-failure
	# The log's device is flushed, the volume's is not.
	job crash/outside/without-flush 150 "$crash" --volume log-outside --work mixed --states 100 --no-flush --expect-failure
	job crash/without-journal 150 "$crash" --volume no-journal --work mixed --states 100 --expect-failure
}

# Random operations against the kernel. SEED=N runs that seed alone.
plan_model() {
	local model=$B/tests/model/model target oracle seed fresh=$draw
	for target in ${FS:-memfs}; do
		# Without root tmpfs is the oracle; it says less about times and holes.
		job "model/vfs:$target/tmpfs" 60 tests/with.sh dir "$model" --oracle dir:@dir --target "vfs:$target" \
			--seed "$fresh" --ops 2500 --runs 2
		[ "$1" = fast ] && continue
		for seed in ${SEED:-1 1001 2001 "$fresh"}; do
			job "model/vfs:$target/$seed" 200 tests/with.sh ext4 "$model" --oracle dir:@ext4 \
				--target "vfs:$target" --seed "$seed" --ops 2500 --runs 10
			job "model/mount:$target/$seed" 300 tests/with.sh ext4 tests/with.sh "werunos:$target:512M" \
				"$model" --oracle dir:@ext4 --target dir:@werunos --seed "$seed" --ops 2500 --runs 8
		done
	done
	[ "$1" = fast ] && return
	for target in $(ext4_kinds "$1"); do
		# The kernel's volume is of the same kind, since times, sizes and limits depend on it; but it does not write inline data well.
		oracle=${target/inline/default}
		# And it mounts none whose blocks are longer than a page.
		case $target in
		64k_pointers) oracle=ext3 ;;
		8k | 16k | 32k | 64k*) oracle=default ;;
		esac
		job "model/vfs:ext4/$target/$fresh" 200 tests/with.sh "image:$(ext4_volume "$target")" \
			tests/with.sh "ext4:$(ext4_volume "$oracle")" \
			"$model" --oracle dir:@ext4 --target vfs:ext4:@image --seed "$fresh" --ops 2500 --runs 4
	done
	job "model/vfs:ext4/casefold/$fresh" 200 tests/with.sh "image:$(ext4_volume casefold)" tests/with.sh ext4 \
		"$model" --oracle dir:@ext4 --target fold:vfs:ext4:@image --seed "$fresh" --ops 2500 --runs 4
	job "model/vfs:ext4/ea_inode/$fresh" 200 tests/with.sh "image:$(ext4_volume ea_inode)" tests/with.sh "ext4:$(ext4_volume ea_inode)" \
		"$model" --oracle dir:@ext4 --target vfs:ext4:@image --seed "$fresh" --ops 2500 --runs 2 --values 65536
	for seed in ${SEED:-1 "$fresh"}; do
		job "model/mount:ext4/$seed" 300 tests/with.sh "image:$(ext4_volume default)" tests/with.sh ext4 \
			tests/with.sh werunos:@image "$model" --oracle dir:@ext4 --target dir:@werunos --seed "$seed" --ops 2500 --runs 8
	done
}

# Usage and limits of users, groups and projects, on each kind of volume that counts them otherwise.
plan_quota() {
	local ops=800 seed=$draw all="-E quotatype=usrquota:grpquota:prjquota -O quota,project" tooth
	[ "$1" = long ] && ops=20000
	job quotas/1k 600 tests/with.sh "image:-S 64M -b 1024 $all" "$B/tests/tools/quotas" @image "$seed" $ops
	job quotas/values 600 tests/with.sh "image:-S 64M $all,ea_inode" "$B/tests/tools/quotas" @image "$seed" $ops
	job quotas/clusters 600 tests/with.sh "image:-S 64M -b 1024 -C 8192 $all,bigalloc,64bit" "$B/tests/tools/quotas" @image "$seed" $ops
	job quotas/both 600 tests/with.sh "image:-S 64M -b 1024 -C 16384 $all,bigalloc,ea_inode,64bit" "$B/tests/tools/quotas" @image "$seed" $ops
	job quotas/pointers 600 tests/with.sh "image:-S 64M -I 128 -O quota,^extents,^64bit,^metadata_csum" "$B/tests/tools/quotas" @image "$seed" $ops
	for tooth in usage inodes space; do
		job "quotas/without-$tooth" 300 tests/with.sh "image:-S 64M -b 1024 $all" env "CRASH_TOOTH=$tooth" bash -c \
			"! $B/tests/tools/quotas_teeth @image $seed 1500 >/dev/null && echo 'ok - found out' && mke2fs -q -F @image"
	done
	# Threads that give files to the same few.
	job stress/quota 100 tests/with.sh "image:-S 64M -b 1024 $all" "$B/tests/tools/stress" vfs:ext4:@image "$seed" 8 3000
	job full/quota 100 tests/with.sh "image:-S 12M -b 1024 $all" "$B/tests/tools/stress" vfs:ext4:@image "$seed" 8 2000 full
	[ "$1" = long ] || return 0
	job tsan/quotas 600 tests/with.sh "image:-S 64M -b 1024 $all" build/tsan/tests/tools/quotas @image "$seed" 1500
	job tsan/stress/quota 600 tests/with.sh "image:-S 64M -b 1024 $all" build/tsan/tests/tools/stress vfs:ext4:@image "$seed" 8 2500
	job tsan/stress/quota_values 600 tests/with.sh "image:-S 64M -b 1024 -C 16384 $all,bigalloc,ea_inode,64bit" \
		build/tsan/tests/tools/stress vfs:ext4:@image "$seed" 8 2500
	job tsan/full/quota 600 tests/with.sh "image:-S 12M -b 1024 $all" build/tsan/tests/tools/stress vfs:ext4:@image "$seed" 8 1500 full
	job tsan/promises/full 900 tests/with.sh "image:-S 5M -b 1024 -J size=1 -O metadata_csum,orphan_file,ea_inode,inline_data,quota" \
		build/tsan/tests/tools/promises @image "$seed" 3000 10
}

# What several threads were promised about the same files is kept after power cuts; somebody notices when it is not.
plan_promises() {
	local promises=$B/tests/tools/promises ops=1500 cuts=60 t
	[ "$1" = long ] && ops=6000 cuts=400
	for t in default clusters_1k jdata; do
		job "promises/$t" 300 tests/with.sh "image:-S 48M $(ext4_volume "$t")" "$promises" @image "$draw" $ops $cuts
	done
	job promises/full 300 tests/with.sh "image:-S 5M -b 1024 -J size=1 -O metadata_csum,orphan_file,ea_inode,inline_data,quota" \
		"$promises" @image "$draw" $ops $cuts
	job promises/without-flush 300 tests/with.sh "image:-S 48M $(ext4_volume default)" "$promises" @image "$draw" $ops $cuts no-flush
	[ "$1" = long ] || return 0
	for t in asan tsan; do
		job "$t/promises" 900 tests/with.sh "image:-S 16M $(ext4_volume 1k)" "build/$t/tests/tools/promises" @image "$draw" 3000 10
	done
}

# Bytes: random changes of files by every call, and whether anybody reads what is another's. In process, and mounted with
# every way of caching.
plan_bytes() {
	local fsx=$B/tests/tools/fsx stamps=$B/tests/tools/stamps stress=$B/tests/tools/stress t o fresh=$draw
	job "fsx/vfs:memfs" 60 "$fsx" --target vfs:memfs --threads 3
	job "stamps/vfs:memfs" 60 "$stamps" --target vfs:memfs --seconds 2
	for t in $(ext4_kinds "$1"); do
		job "fsx/vfs:ext4/$t" 100 tests/with.sh "image:$(ext4_volume "$t")" "$fsx" --target vfs:ext4:@image --threads 2
		job "stamps/vfs:ext4/$t" 60 tests/with.sh "image:-S 64M $(ext4_volume "$t")" "$stamps" --target vfs:ext4:@image --seconds 3
	done
	for t in $(ext4_kinds "$1"); do
		job "stress/vfs:ext4/$t" 100 tests/with.sh "image:$(ext4_volume "$t")" "$stress" vfs:ext4:@image "$fresh" 8 3000
		job "full/vfs:ext4/$t" 100 tests/with.sh "image:-S 12M $(ext4_volume "$t")" "$stress" vfs:ext4:@image "$fresh" 8 2000 full
	done
	[ "$1" = fast ] && return
	job stress/vfs:ext4/casefold 100 tests/with.sh "image:$(ext4_volume casefold)" "$stress" fold:vfs:ext4:@image "$fresh" 8 3000
	job full/vfs:ext4/casefold 100 tests/with.sh "image:-S 12M $(ext4_volume casefold)" "$stress" fold:vfs:ext4:@image "$fresh" 8 2000 full
	for t in $(ext4_kinds "$1"); do
		case $t in *nojournal | 16k | 32k | 64k*) continue ;; esac # no journal, or too small for one
		job "failing/ext4/$t" 200 tests/with.sh "image:-S 32M $(ext4_volume "$t")" "$B/tests/tools/failing" @image "$fresh" \
			1 2 3 5 8 13 21 34 55 $((fresh % 97)) $((fresh % 199))
	done
	for o in defaults writeback noopen; do
		job "fsx/mount:memfs:$o" 120 env "MOUNT=$o" tests/with.sh werunos:memfs:256M "$fsx" --target dir:@werunos --threads 2
		job "fsx/mount:ext4:$o" 120 env "MOUNT=$o" tests/with.sh "image:$(ext4_volume default)" \
			tests/with.sh werunos:@image "$fsx" --target dir:@werunos --threads 2
	done
	job stamps/mount:memfs 60 tests/with.sh werunos:memfs:32M "$stamps" --target dir:@werunos --seconds 3
	job stamps/mount:ext4 60 tests/with.sh "image:-S 64M $(ext4_volume default)" tests/with.sh werunos:@image \
		"$stamps" --target dir:@werunos --seconds 3
}
