#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# Builds libalignmap as its users get it, runs all benchmarks, and leaves their rows, tables and
# plots: results/*.json, RESULTS.md and results/*.svg.
#
#	bench/run.sh [--quick] [-b FOLDER] [-o FOLDER] [BENCHMARK...]
#
# BENCHMARK is bars, guest-start, placement, placement-madvise, spans, faults, passthrough, programs,
#          start or tracing; what others have left stays
# --quick  some two minutes instead of forty, and no guest's start: sees that the benchmarks
#          run and that what they count is right; what they time is worth nothing then
# -b       where to build (default: build-bench in the project's folder)
# -o       where to leave the results (default: bench)
#
# As root it sets the policy for transparent huge pages while it measures placement, for the whole
# machine, and puts it back. Ends with 1 where a benchmark has failed. Its rows are kept all the
# same, for the tables to show.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=() wanted=() build=$PWD/build-bench folder=$PWD/bench
usage() { sed -n '/^# Builds/,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=(--quick) ;;
	-b | -o)
		[ $# -gt 1 ] || usage
		if [ "$1" = -b ]; then build=$(realpath -m "$2"); else folder=$(realpath -m "$2"); fi
		shift
		;;
	-*) usage ;;
	*) wanted+=("$1") ;;
	esac
	shift
done
every=(bars guest-start placement placement-madvise spans faults passthrough programs start tracing)
for name in "${wanted[@]}"; do
	if [[ " ${every[*]} " != *" $name "* ]]; then
		echo "run.sh: no benchmark is called $name; there are: ${every[*]}" >&2
		exit 2
	fi
done
if [ "${quick[*]} ${wanted[*]}" = '--quick guest-start' ]; then
	echo 'run.sh: guest-start is not run with --quick' >&2
	exit 2
fi
if [ ${#wanted[@]} = 0 ]; then wanted=("${every[@]}"); fi

tests/lab/need build lab bench
mkdir -p "$build" "$folder/results"
# Before results change.
commit=$(git describe --always --dirty 2>/dev/null || true)
echo "== build, in $build"
if ! { [ -e "$build/build.ninja" ] || meson setup "$build"; } >"$build/bench.log" 2>&1 ||
	! meson compile -C "$build" >>"$build/bench.log" 2>&1; then
	tail -n 60 "$build/bench.log"
	exit 1
fi

# What a benchmark's figures depend on.
machine() { # NAME
	local virtualised=no
	if grep -qw hypervisor /proc/cpuinfo; then virtualised=yes; fi
	jq -nc --arg of "$1" --arg date "$(date -u +%F)" \
		--arg commit "$commit" \
		--arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
		--argjson processors "$(nproc)" \
		--argjson memory $(($(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo) * 1024)) \
		--arg virtualised "$virtualised" --arg kernel "$(uname -r)" --arg machine "$(uname -m)" \
		--arg thp "$before" \
		--arg compiler "$(${CC:-cc} --version | head -n 1)" \
		--arg qemu "$(qemu-system-x86_64 --version | sed -n 's/.*version \([^ ]*\).*/\1/p')" \
		--argjson load "$(cut -d ' ' -f 1 /proc/loadavg)" \
		--argjson quick "$([ ${#quick[@]} = 0 ] && echo false || echo true)" \
		'{benchmark: "machine"} + $ARGS.named'
}

failed=()
started=$SECONDS
run() { # NAME COMMAND...
	local name=$1 command=$2 status=0
	shift 2
	if [[ " ${wanted[*]} " != *" $name "* ]]; then return; fi
	printf '== %s (%d s)\n' "$name" $((SECONDS - started))
	machine "$name" >"$folder/results/$name.rows"
	"$command" --json "${quick[@]}" "$@" >>"$folder/results/$name.rows" || status=$?
	# A row a line, for git to show what has changed.
	jq -cs '.[]' "$folder/results/$name.rows" | sed '1s/^/[\n/; $!s/$/,/; $s/$/\n]/' \
		>"$folder/results/$name.json" || status=$?
	rm "$folder/results/$name.rows"
	if [ "$status" != 0 ]; then
		echo "run.sh: $name has failed" >&2
		failed+=("$name")
	fi
}

# With a policy for transparent huge pages, where that may be set.
policy=/sys/kernel/mm/transparent_hugepage/enabled
before=
if [ -e "$policy" ]; then before=$(sed 's/.*\[\(.*\)\].*/\1/' "$policy"); fi
trap 'under "$before" true' EXIT
under() { # POLICY COMMAND...
	if [ -w "$policy" ]; then echo "$1" >"$policy"; fi
	"${@:2}"
}

library=$build/libalignmap.so
run bars bench/bars -b "$build"
# Three guests' starts take minutes.
if [ ${#quick[@]} = 0 ]; then run guest-start bench/guest-start "$build"; fi
under always run placement "$build/bench/placement" "$library"
under madvise run placement-madvise "$build/bench/placement" --lengths "$library"
under "$before" run spans "$build/bench/spans" "$library"
run faults "$build/bench/faults" "$library"
run passthrough "$build/bench/passthrough" "$library" "$build/bench/stub.so"
run programs bench/programs -b "$build"
run start "$build/bench/start" "$library" "$build/bench/empty.so"
# Of x86-64 and arm64.
if [ -e "$build/bench/tracing" ]; then
	run tracing "$build/bench/tracing" "$build/tools/alignmap" "$build/bench/started"
fi

bench/plots "$folder"
bench/report "$folder" >"$folder/RESULTS.md"
printf '== %s (%d s)\n' "$folder/RESULTS.md" $((SECONDS - started))
if [ ${#failed[@]} -gt 0 ]; then
	echo "run.sh: these have failed: ${failed[*]}" >&2
	exit 1
fi
