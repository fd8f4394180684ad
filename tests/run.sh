#!/bin/bash
# Runs the test programs, one more at a time than there are CPUs (many wait), and adds up what they report. Called by make check, check-fast, check-long.
#
#   tests/run.sh all|fast|long [PATTERN]     PATTERN: only the programs whose name it matches (shell wildcards)
#
# Every program prints one line per test: "ok … - NAME", "not ok … - NAME", "ok … - NAME # SKIP reason" (cmocka tests
# print the reason on the line before skip()). A program that prints none, ends with an error without naming a failed
# test, or exceeds its time counts as one failed test.
# Last come each skip with its reason and the line "N passed, N failed, N skipped". CHECK_STRICT=1: a skip that
# tests/skips.allowed does not name is a failure. MODE, FS (one file system type), SEED reach the programs.
#
# Root's mounts are made in a mount namespace of the run's own, whose mounts are shared, and a test's namespace inside it is its slave (unshare -m
# --propagation slave): else it would keep a copy of each mount that other tests have just then, and volumes they have unmounted would be written to still.
set -u
if [ -z "${MOUNTS_APART:-}" ] && [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
	export MOUNTS_APART=1
	# shellcheck disable=SC2016
	exec unshare -m --propagation slave bash -c 'mount --make-rshared / && exec "$0" "$@"' "$0" "$@"
fi
cd "$(dirname "$0")/.."
set=${1:-all} pattern=${2:-*}
export B=build/${MODE:-release}
export WERUNOS=$PWD/$B/werunos CMOCKA_MESSAGE_OUTPUT=TAP PYTHONDONTWRITEBYTECODE=1
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1} TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1}
logs=$(mktemp -d /tmp/werunos-check.XXXXXX)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$logs"' EXIT
trap 'exit 130' INT TERM

# job NAME SECONDS COMMAND…: the list of what is run, in this order.
names=() limits=() commands=()
job() {
	[[ $1 == $pattern ]] || return 0
	names+=("$1") limits+=("$2")
	commands+=("$(shift 2; printf '%q ' "$@")")
}

# shellcheck source=tests/plan.sh
. tests/plan.sh
plan "$set"

# Shortly before a program's time is over: what of it still runs, and what each of that waits for.
overrun() { # PID SECONDS
	local p
	# Its own, so that it ends at once when it is not wanted.
	trap 'kill $! 2>/dev/null; exit' TERM
	sleep "$(($2 > 5 ? $2 - 5 : $2))" &
	wait $!
	for p in $(pgrep -g "$1"); do
		ps -o pid=,ppid=,stat=,etimes=,wchan:24=,args= -p "$p" | sed 's/^/# still there: /'
		cat "/proc/$p/task/"*/stack 2>/dev/null | sed 's/^/#   /'
	done
}

start() { # INDEX
	local log=$logs/$1 begin=$EPOCHREALTIME program watch
	timeout -k 10 "${limits[$1]}" bash -c "${commands[$1]}" >"$log.out" 2>&1 </dev/null &
	program=$!
	overrun "$program" "${limits[$1]}" >>"$log.out" 2>&1 &
	watch=$!
	wait "$program"
	echo $? >"$log.rc"
	kill "$watch" 2>/dev/null
	echo $(((${EPOCHREALTIME/./} - ${begin/./}) / 1000)) >"$log.ms"
	[ -t 2 ] && printf '\r\033[K%s' "${names[$1]}" >&2
}

for i in "${!names[@]}"; do
	while [ "$(jobs -rp | wc -l)" -gt "$(nproc)" ]; do wait -n; done
	start "$i" &
done
wait
[ -t 2 ] && printf '\r\033[K' >&2

# The results of one program: "passed failed skipped"; skips and failures go to their lists.
passed=0 failed=0 skipped=0
: >"$logs/skips" >"$logs/slow"
for i in "${!names[@]}"; do
	rc=$(cat "$logs/$i.rc" 2>/dev/null || echo 130)
	echo "$(cat "$logs/$i.ms" 2>/dev/null || echo 0) ${names[$i]}" >>"$logs/slow"
	read -r p f s < <(awk -v name="${names[$i]}" -v skips="$logs/skips" '
		# cmocka has the name where the reason belongs; its reason is what the test printed last.
		/^not ok [0-9]+ # SKIP / { s++; sub(/.*# SKIP /, ""); skip($0, said); next }
		/^ok .*# SKIP/ { s++; sub(/^ok [0-9]* *- */, ""); n = $0; sub(/ *# SKIP.*/, "", n)
			sub(/.*# SKIP */, ""); skip(n, $0); next }
		/^not ok/ { f++; next }
		/^ok / { p++; next }
		{ said = $0 }
		function skip(n, why) { print name ": " n "\t" (why == "" ? "no reason given" : why) >>skips }
		END { print p + 0, f + 0, s + 0 }' "$logs/$i.out")
	why=
	if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
		why="ran longer than ${limits[$i]} s"
	elif [ "$rc" -ne 0 ] && [ "$f" = 0 ]; then
		why="ended with code $rc"
	elif [ $((p + f + s)) = 0 ]; then
		why="reported no test"
	fi
	[ -n "$why" ] && f=$((f + 1))
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
	if [ "$f" -gt 0 ]; then
		echo "=== FAILED: ${names[$i]}${why:+: $why}    (${commands[$i]})"
		grep -v '^ok ' "$logs/$i.out" | tail -n 200
		echo "==="
	fi
done

[ -n "${TIMES:-}" ] && sort -rn "$logs/slow" | head -12 | sed 's/^/# ms: /'
while IFS=$'\t' read -r name reason; do
	allowed=
	while IFS=$'\t' read -r glob _; do
		# shellcheck disable=SC2053
		[[ -n $glob && $glob != \#* && $name == $glob ]] && allowed=1
	done <"${SKIPS:-tests/skips.allowed}"
	echo "skipped: $name: $reason"
	if [ "${CHECK_STRICT:-0}" = 1 ] && [ -z "$allowed" ]; then
		echo "  not allowed by tests/skips.allowed: counted as failed"
		skipped=$((skipped - 1)) failed=$((failed + 1))
	fi
done <"$logs/skips"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
