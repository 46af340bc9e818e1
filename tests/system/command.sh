#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# alignmap itself: how it finds its subcommands and their help, and what it says where it cannot.
# shellcheck disable=SC2016,SC2317 # for eval; functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${ALIGNMAP?}"
need_command
cd "$scratch" || exit 99

run() {
	"$ALIGNMAP" "$@" >out 2>err
	status=$?
}
details() { printf '%s\n' "status $status" "$(cat out)" "$(cat err)"; }
helps() {
	[ "$status" = 0 ] && [ ! -s err ] && [[ $(head -n 1 out) == "usage: $1 "* ]] &&
		[ "$(wc -L <out)" -le 80 ]
}
mapfile -t subcommands < <("$ALIGNMAP" --help | sed -nE 's/^  ([a-z]+) .*/\1/p')
check 'there are subcommands' test ${#subcommands[@]} -ge 5
for words in --help -h help; do
	run "$words"
	verdict "$words" helps alignmap
done
for subcommand in "${subcommands[@]}"; do
	run "$subcommand" --help
	verdict "$subcommand --help" helps "alignmap $subcommand"
	mv out first
	run help "$subcommand"
	verdict "help $subcommand: the same" cmp -s first out
done
run --version
verdict --version eval '[ "$status" = 0 ] && [[ $(cat out) == "alignmap "[0-9]* ]]'

# wrong TEXT ARGUMENT...
wrong() {
	run "${@:2}"
	verdict "'${*:2}': wrong usage" refuses "$1"
}
refuses() {
	[ "$status" = 2 ] && [ ! -s out ] &&
		[ "$(cat err)" = "alignmap: $1"$'\n'"Try 'alignmap --help'." ]
}
wrong 'x: one word too many' --version x
wrong 'x: one word too many' --help x
wrong 'x: one word too many' help run x
wrong '-V: no such option' -V
wrong '--nonsense: no such option' --nonsense run true
wrong 'nonsense: no such subcommand' nonsense
wrong 'nonsense: no such subcommand' help nonsense
wrong ': no such subcommand' ''
run
verdict 'without arguments: the help, as wrong usage' \
	eval '[ "$status" = 2 ] && [ ! -s out ] && cmp -s err <("$ALIGNMAP" --help)'

# 1 is what inspect says of a process; its own failures are 2.
for subcommand in "${subcommands[@]}"; do
	[ "$subcommand" = inspect ] && expected=2 || expected=1
	"$ALIGNMAP" "$subcommand" --help >/dev/full 2>err
	same "$subcommand: what cannot be printed" \
		"$expected alignmap $subcommand: cannot write to standard output: No space left on device" \
		"$? $(cat err)"
done
finish
