# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash
# For the scripts that run the probe under the preload and judge what the library says.
# shellcheck disable=SC2154 # the preload and the scratch folder are tap.sh's

# A line of ours begins so.
ours='^libalignmap'

# run [VARIABLE=VALUE...] MODE...: the probe under the preload, by the command "as"; its output in
# out and err, its exit status in status.
as=()
run() {
	local -a set=()

	while [[ ${1-} == *=* ]]; do
		set+=("$1")
		shift
	done
	"${as[@]}" env "${set[@]}" LD_PRELOAD="$preload" "$PROBE" "$@" >"$scratch/out" 2>"$scratch/err"
	status=$?
}

# one_line_names VARIABLE=VALUE: that is all there is on standard error, and the program ran well.
ran_on() {
	[ "$status" = 0 ] && [[ $(cat "$scratch/out") == 'mmap '?' mmap64 '?' secure 0' ]]
}
one_line_names() {
	ran_on && [ "$(wc -l <"$scratch/err")" = 1 ] && grep -qF -- "$1" "$scratch/err" &&
		grep -q "$ours" "$scratch/err"
}
is_silent() {
	ran_on && [ ! -s "$scratch/err" ]
}
details() {
	printf '%s\n' "status $status" "$(cat "$scratch/out")" "$(cat "$scratch/err")"
}
