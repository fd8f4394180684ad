# What a run consists of; read by run.sh. job NAME SECONDS COMMAND…
# fast: in process and without root, under a minute. all: the fast set of make check. long: what takes longer.
# PLAN: another plan, for the test of run.sh itself.
py=/usr/bin/python3

plan() {
	local t
	if [ -n "${PLAN:-}" ]; then
		# shellcheck disable=SC1090
		. "$PLAN"
		return
	fi
	job tidy 60 tests/tidy.py "$B"
	for t in $(cd tests/unit && find . -name 'test_*.c' | sort); do
		t=${t#./} t=${t%.c}
		job "unit/$t" 60 "$B/tests/unit/$t"
	done
	[ "$1" = fast ] || job fuse 300 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/fuse
	job house 60 "$py" -m pytest -q -p no:cacheprovider --tb=short tests/house
}
