#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# Builds libalignmap and runs its tests: the units, the system tests on this machine's kernel, both
# again under sanitizers, and the lab's kernels with real VFIO. Ends with counts.
#
#	tests/run.sh [--ci | --full] [--no-lab] [-b FOLDER]
#
# --ci      also what a change must pass: clang, bindings for other languages, fuzzing, real
#           programs, what starts a VMM, packages of Debian and by RPM out of meson dist's tarball,
#           load, clang-tidy, cppcheck, valgrind, coverage, formatting, licences, shell scripts,
#           what the pages say, builds for other machines with their units under qemu-user, the
#           lab's variants of x86-64 and an arm64 with pages of 16 KiB, kinds of memory that the
#           library makes a difference to, and that the benchmarks run and count right
# --full    --ci, and what takes long or installs much: PostgreSQL, node, Chromium and Java among
#           the programs, how random addresses are, the system tests under qemu-user, the lab's
#           other arm64 and riscv64 kernels, and all kinds of memory there on three kernels. Leaves
#           tests/TRUST.md and MATRIX.md anew in that folder.
# --no-lab  not the lab, which takes most of the time
# -b        where to build (default: build-tests in the project's folder)
set -euo pipefail
cd "$(dirname "$0")/.."

ci=no full=no lab=yes builds=$PWD/build-tests
while [ $# -gt 0 ]; do
	case $1 in
	--ci) ci=yes ;;
	--full) ci=yes full=yes ;;
	--no-lab) lab=no ;;
	-b)
		[ $# -gt 1 ] || { echo 'run.sh: -b wants a folder' >&2 && exit 2; }
		builds=$(realpath -m "$2") && shift
		;;
	*) sed -n '/^# Builds/,/^[^#]/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
	esac
	shift
done

mkdir -p "$builds"
results=$builds/results.tap
rows=$builds/trust.rows
: >"$results"
: >"$rows"
started=$SECONDS

say() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }

# Takes the TAP lines out of a log, with the name of what ran in front; and figures for
# tests/TRUST.md, but for those of builds that repeat another one's.
record() { # NAME LOG
	sed -n -E "s/^((not )?ok)( [0-9]+)?( -)? (.*)/\1 - $1: \5/p" "$2" >>"$results"
	case $1 in
	asan | tsan | clang | cross | lab-*) ;;
	*) grep '^# trust ' "$2" >>"$rows" || true ;;
	esac
}

# One check that is no test program: its output is shown only where it fails.
check() { # NAME COMMAND...
	local name=$1 verdict=ok
	shift
	if ! "$@" >"$builds/check.log" 2>&1; then
		verdict='not ok'
		tail -n 40 "$builds/check.log"
	fi
	echo "$verdict - $name" | tee -a "$results"
}

page() { tests/trust/page "$rows" "$results" >"$builds/TRUST.md"; }

build() { # NAME MESON_OPTIONS...
	local name=$1
	shift
	if ! { meson setup --reconfigure "$builds/$name" -Dwerror=true "$@" ||
		meson setup "$builds/$name" -Dwerror=true "$@"; } >"$builds/$name.log" 2>&1; then
		tail -n 30 "$builds/$name.log"
		return 1
	fi
	meson compile -C "$builds/$name" >>"$builds/$name.log" 2>&1 ||
		{ tail -n 60 "$builds/$name.log" && return 1; }
}

run() { # NAME MESON_TEST_ARGUMENTS...
	local name=$1 status=0
	shift
	meson test -C "$builds/$name" --no-rebuild --print-errorlogs --timeout-multiplier 3 "$@" ||
		status=$?
	record "$name" "$builds/$name/meson-logs/testlog.txt"
	# A test that crashed has no line of its own.
	[ "$status" = 0 ] || echo "not ok - $name: meson test ended with $status" >>"$results"
}

# What prints TAP by itself, and must print some.
log_of() { # NAME COMMAND...
	local name=$1 status=0
	shift
	"$@" 2>&1 | tee "$builds/$name.log" || status=$?
	record "$name" "$builds/$name.log"
	if ! grep -q '^\(not \)\?ok' "$builds/$name.log"; then
		echo "not ok - $name: did not run" >>"$results"
	elif [ "$status" != 0 ] && ! grep -q '^not ok' "$builds/$name.log"; then
		echo "not ok - $name: ended with $status" >>"$results"
	fi
}

purposes=(build test)
[ $lab = no ] || purposes+=(lab)
[ $ci = no ] || purposes+=(bench ci cross deploy matrix packages programs)
[ $full = no ] || purposes+=(programs_full)
tests/lab/need "${purposes[@]}"

# The example's way by a cdev is for headers that not every machine has.
if [ $ci = yes ]; then tests/lab/fetch headers >/dev/null || true; fi

say 'gcc: unit and system tests'
build gcc
run gcc --suite unit --suite system

say 'AddressSanitizer and UndefinedBehaviorSanitizer'
build asan -Db_sanitize=address,undefined
export UBSAN_OPTIONS=halt_on_error=1
run asan --suite unit --suite system

say 'ThreadSanitizer: the threads'
build tsan -Db_sanitize=thread
run tsan --suite threads

if [ $ci = yes ]; then
	say 'clang'
	CC=clang build clang
	run clang --suite unit --suite system
	say 'other languages'
	run gcc --suite bindings
	say 'what others write, and the plan, fuzzed for a minute each'
	# An input that fails is left beside the log.
	here=$PWD
	log_of fuzz env -C "$builds" "$here/tests/fuzz/run" 60
	say 'real programs, and what they do without'
	options=(-b "$builds/gcc")
	[ $full = no ] || options+=(--full)
	log_of programs tests/trust/programs "${options[@]}"
	say 'what starts a VMM: libvirt, systemd, dpkg-divert and others'
	options=(-b "$builds/gcc")
	[ $lab = no ] || options+=(-l)
	log_of deploy tests/deploy/run "${options[@]}"
	say 'packages of Debian and by RPM'
	log_of packages tests/packages/run -b "$builds/packages"
	say 'two minutes of 32 threads, and ten million mappings'
	run gcc --suite load
	[ $full = no ] || run gcc --benchmark randomization --logbase testlog
	say 'clang-tidy, cppcheck, memcheck, coverage'
	log_of analysis tests/trust/analysis "$builds/gcc"
	log_of valgrind tests/trust/valgrind "$builds/valgrind"
	log_of coverage tests/trust/coverage "$builds/coverage"
	say 'the tree'
	check 'gcc, without optimization, warns of nothing' build gcc-O0 -Dbuildtype=debug
	mapfile -t sources < <(git ls-files '*.[ch]' '*.cc')
	check 'clang-format changes nothing' clang-format --dry-run -Werror "${sources[@]}"
	check 'reuse lint passes' reuse lint
	mapfile -t scripts < <(git ls-files | xargs grep -lE '^#!/bin/(ba)?sh')
	check 'shellcheck finds nothing' shellcheck -x "${scripts[@]}"
	check 'codespell finds nothing' codespell -L enviroment,nd,fo,crate,te --skip=LICENSES,COPYING,.git,build-tests .
	log_of readme tests/readme "$builds/gcc"
fi

if [ $ci = yes ]; then
	say 'other machines, by qemu-user'
	suites=unit
	[ $full = no ] || suites='unit system'
	log_of cross tests/cross/run -b "$builds/cross" -t "$suites"
fi

if [ $lab = yes ]; then
	say "the lab: Debian's kernels with VFIO"
	log_of lab tests/lab/run -b "$builds/gcc"
fi

if [ $lab = yes ] && [ $ci = yes ]; then
	say 'the lab: other processors and machines'
	log_of lab-variants tests/lab/run -b "$builds/gcc" \
		newest/no-1g newest/four-level newest/no-thp 6.18/no-thp 6.12/no-thp
	others=(arm64-16k-newest)
	[ $full = no ] || others+=(arm64-newest arm64-16k-6.12 arm64-6.12 riscv64-6.12)
	log_of lab-machines tests/lab/run -b "$builds/gcc" -c "$builds/cross" "${others[@]}"
	say 'the lab: every kind of memory'
	options=(-b "$builds/gcc")
	[ $full = no ] || options+=(--full -o "$builds/MATRIX.md")
	log_of lab-matrix tests/lab/matrix "${options[@]}"
	[ $full = yes ] || log_of lab-ram tests/lab/run -b "$builds/gcc" -p ram newest/vmms
fi

if [ $ci = yes ] && [ $lab = yes ]; then
	say 'the benchmarks, for what they count'
	check 'they run, and faults, places and address space are as promised' \
		bench/run.sh --quick -b "$builds/bench" -o "$builds/bench-results"
fi

if [ $ci = yes ]; then
	say "the figures of tests/TRUST.md: $builds/TRUST.md"
	check 'they make a page' page
	check 'tests/TRUST.md has a row for each' tests/trust/page -c tests/TRUST.md "$rows"
fi

failed=$(grep -c '^not ok' "$results" || true)
skipped=$(grep -c '^ok.*# SKIP' "$results" || true)
passed=$(($(grep -c '^ok' "$results" || true) - skipped))
if [ "$skipped" -gt 0 ]; then
	say 'skipped'
	sed -n 's/^ok - \(.*# SKIP.*\)/\1/p' "$results" | sort | uniq -c
fi
if [ "$failed" -gt 0 ]; then
	say 'failed'
	grep '^not ok' "$results"
fi
say 'all'
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
