#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The completion of alignmap in bash and zsh, and that it, --help and the manual know the same
# options.
# shellcheck disable=SC2016,SC2317 # for the shells that are started; functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${ALIGNMAP?}" "${BUILD:?}" "${SOURCE:?}"
need_command

completion=$SOURCE/tools/completion
package=/usr/share/bash-completion/bash_completion
cd "$scratch" || exit 99
mkdir bin files
printf '#!/bin/sh\n' >bin/zz-alignmap-test
chmod +x bin/zz-alignmap-test
touch files/one files/onetwo 'files/one three'
ln -s "$ALIGNMAP" bin/alignmap
export PATH="$scratch/bin:$PATH"

# What completion offers behind a line, a word a line, without what bash-completion has or with it.
# The words are cut as bash cuts them.
cat >offer <<'END'
[ "$2" = without ] || . "$2"
. "$1"
complete -W 'zebra zero' zz-alignmap-test
COMP_WORDBREAKS=${4-$COMP_WORDBREAKS}
broken='=:'
[[ $COMP_WORDBREAKS == *=* ]] || broken='#'
COMP_LINE=$3 COMP_POINT=${#3} COMP_TYPE=9 COMP_KEY=9 COMP_WORDS=() rest=$3
while [[ $rest =~ ^[[:space:]]*([$broken]+|[^$broken[:space:]]+)(.*)$ ]]; do
	COMP_WORDS+=("${BASH_REMATCH[1]}")
	rest=${BASH_REMATCH[2]}
done
[[ $3 != *[[:space:]] ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_alignmap alignmap "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}" 2>errors
grep -v ': compopt: not currently executing completion function$' errors >&2
[ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
END
with=without
by_bash() { bash --norc offer "$completion/alignmap.bash" "$with" "$@" | sort -u; }

# The same by zsh, in a terminal: the words that it would add.
cat >capture <<'END'
zmodload zsh/zpty || exit 99
setopt extendedglob
zpty shell env TERM=dumb zsh -f -i
{
	print -r -- "stty -echo; fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -u -D"
	print -r -- "source ./capturing; echo rea''dy"
} | while read -r line; do
	zpty -w shell "$line"
done
while zpty -r shell line; do
	[[ ${line%%[$'\r\n']##} != *ready ]] || break
done
: >offered
zpty -w -n shell "$2"$'\t'
repeat 200; do
	! grep -q '^end$' offered || break
	sleep 0.05
done
sed -n 's/^hit //p' offered
grep -q '^end$' offered || echo 'zsh did not answer'
zpty -d shell
END
cat >capturing <<'END'
PS1=
compadd() {
	local -a hits

	if [[ ${@[1,(i)(-|--)]} != *-[OAD]\ * ]]; then
		builtin compadd -A hits "$@"
		print -rl -- "hit "${^hits} >>offered
	fi
	builtin compadd "$@"
}
answer() {
	zle capture
	BUFFER=
	print end >>offered
}
zle -C capture complete-word _main_complete
zle -N answer
bindkey '^I' answer
END
by_zsh() { timeout 30 zsh -f capture "$completion" "$1" 2>&1 | sed '/^$/d' | sort -u; }

# offers LINE EXPECTED...: those, by each shell of $shells.
offers() {
	local line=$1 shell

	shift
	for shell in $shells; do
		same "$(name_of_shell "$shell"): '$line'" "$(printf '%s\n' "$@" | sed '/^$/d' | sort -u)" \
			"$("by_$shell" "$line")"
	done
}
name_of_shell() {
	echo "$1$([ "$1" = zsh ] || [ "$with" = without ] || echo ' with bash-completion')"
}
# has LINE WORD: besides others
has() {
	local shell

	for shell in $shells; do
		check "$(name_of_shell "$shell"): '$1' has '$2'" \
			grep -qxF -- "$2" <("by_$shell" "$1")
	done
}
has_not() {
	local shell

	for shell in $shells; do
		check "$(name_of_shell "$shell"): '$1' has no '$2'" \
			eval "! grep -qxF -- '$2' <(by_$shell '$1')"
	done
}

mapfile -t subcommands < <("$ALIGNMAP" --help | sed -nE 's/^  ([a-z]+) .*/\1/p')
check 'alignmap --help names subcommands' test ${#subcommands[@]} -ge 5

lines_of_all() {
	offers 'alignmap i' info inspect
	offers 'alignmap help p' plan
	offers 'alignmap nonsense --' ''
	offers 'alignmap run --min ' 64K 2M 32M 512M 1G 16G
	offers 'alignmap run --anon ' reserve all
	offers 'alignmap run --anon=r' reserve
	offers 'alignmap run --trace=a' auto always
	offers 'alignmap run --until ' kvm-run forever
	offers 'alignmap plan 1G --leaves 64' '64K,2M,512M,16G'
	offers 'alignmap bench --bar ' 0 1 2 3 4 5
	has 'alignmap plan ' 2M
	has 'alignmap bench --length ' 1G
	has 'alignmap run ' zz-alignmap-test
	offers 'alignmap run --stats --log=x --min 2M zz-al' zz-alignmap-test
	offers 'alignmap run -- zz-al' zz-alignmap-test
	# The command has options of its own.
	has_not 'alignmap run zz-alignmap-test --' --hints
	has_not 'alignmap run -- zz-alignmap-test --' --hints
	has "alignmap inspect $napper" "$napper"
	offers 'alignmap inspect zy-alignmap-n' zy-alignmap-nap
	has_not 'alignmap inspect ' kthreadd
}
cp "$(type -P sleep)" bin/zy-alignmap-nap
zy-alignmap-nap 300 &
napper=$!
trap 'kill $napper; rm -rf "$scratch"' EXIT

lines_of_bash() {
	lines_of_all
	offers 'alignmap ' "${subcommands[@]}" help --help --version
	offers 'alignmap --v' --version
	offers 'alignmap run --' --min --max --anon= --hints --stats --stats= --log --log= --trace \
		--trace= --until= --help
	offers 'alignmap run --stats=files/one' files/one files/onetwo 'files/one three'
	offers 'alignmap run --log=files/onet' files/onetwo
	offers 'alignmap bench --file files/onet' files/onetwo
	offers 'alignmap run ./bin/zz-al' ./bin/zz-alignmap-test
	offers 'alignmap run ./files/onet' ''
	same "$(name_of_shell bash): '=' and ':' that do not break words" --stats=files/onetwo \
		"$(by_bash 'alignmap run --stats=files/onet' ' ')"
}
shells=bash
lines_of_bash
offers 'alignmap run zz-alignmap-test files/onet' files/onetwo
if [ -r "$package" ]; then
	with=$package
	lines_of_bash
	offers 'alignmap run zz-alignmap-test ze' zebra zero
	offers 'alignmap run --stats=x --min 2M -- zz-alignmap-test zeb' zebra
	offers 'alignmap run --stats=x zz-alignmap-test --a=b:c zeb' zebra
	with=without
else
	skip 'bash with bash-completion' "there is no $package"
fi
if command -v zsh >/dev/null && zsh -fc 'zmodload zsh/zpty' 2>/dev/null; then
	shells=zsh
	lines_of_all
	offers 'alignmap ' "${subcommands[@]}" help
	offers 'alignmap run --' --min --max --anon --hints --stats --log --trace --until --help
	offers 'alignmap run --stats=files/one' one onetwo 'one\ three'
	offers 'alignmap run --log=files/onet' onetwo
	offers 'alignmap bench --file files/onet' onetwo
	zsh=yes
else
	skip zsh 'zsh or its zpty is missing'
	zsh=
fi

# Devices, of a made-up bus.
devices() {
	local bus=$scratch/bus/pci

	mkdir -p "$bus/devices" "$bus/drivers/vfio-pci"
	touch "$bus/devices/0000:00:0"{0,1,2}.0 "$bus/drivers/vfio-pci/bind"
	mount --bind "$scratch/bus" /sys/bus || exit
	for with in without "$package"; do
		[ "$with" = without ] || [ -r "$with" ] || continue
		shells=bash
		offers 'alignmap bench --device ' 0000:00:00.0 0000:00:01.0 0000:00:02.0
		offers 'alignmap bench --device 0000:00:0' 00.0 01.0 02.0
		offers 'alignmap info --device=0000:00:01' 01.0
	done
	touch "$bus/drivers/vfio-pci/0000:00:02.0"
	offers 'alignmap bench --device ' 0000:00:02.0
	if [ "$zsh" ]; then
		shells=zsh
		offers 'alignmap bench --device 0000:00:0' 0000:00:02.0
		offers 'alignmap info --device=0' 0000:00:02.0
		rm "$bus/drivers/vfio-pci/0000:00:02.0"
		offers 'alignmap bench --device ' 0000:00:00.0 0000:00:01.0 0000:00:02.0
	fi
	echo "$tests $failed" >counts
}
rm -f counts
if unshare -m sh -c 'mount --bind "$0" /sys/bus' "$scratch" 2>/dev/null; then
	export -f devices offers name_of_shell same pass fail by_bash by_zsh
	export scratch completion package zsh with tests failed
	unshare -m bash -c devices
	read -r tests failed <counts || fail 'completion of devices ran to its end'
else
	skip 'PCI devices' 'nothing can be mounted here'
fi

# bash itself, in a terminal: what is completed is run.
name='bash, interactively'
cat >rc <<'END'
PS1=
bind 'set enable-bracketed-paste off'
alignmap() { printf '[%s]' "$@" >>ran; echo >>ran; }
END
echo ". '$completion/alignmap.bash'" >>rc
if command -v script >/dev/null; then
	printf '%s\n' $'alignmap insp\t1' $'alignmap run --hin\t--stats=files/onet\tzz-alignmap-t\tx' \
		$'alignmap run --an\tres\t true' exit |
		timeout 30 script -qec 'bash --rcfile rc -i' /dev/null >terminal 2>&1
	same "$name" "[inspect][1]
[run][--hints][--stats=files/onetwo][zz-alignmap-test][x]
[run][--anon=reserve][true]" "$(cat ran 2>/dev/null)"
else
	skip "$name" 'script is missing'
fi

# The options of each subcommand by four witnesses.
options_by_help() { "$ALIGNMAP" "$1" --help | sed -nE 's/^ +(-[a-z], )?(--[a-z-]+).*/\2/p'; }
options_by_bash() { by_bash "alignmap $1 --" | sed 's/=$//'; }
options_by_zsh() { by_zsh "alignmap $1 --"; }
options_by_manual() {
	sed -nE '/^\.It Fl /{ s/Fl Fl /Fl -/g; s/[^-]*Fl (-[a-z-]+)[^F]*/-\1\n/gp; }' \
		"$SOURCE/man/alignmap-$1.1" | sed '/^--/!d'
}
for subcommand in "${subcommands[@]}"; do
	name="the options of $subcommand"
	if ! "$ALIGNMAP" "$subcommand" --help >help 2>/dev/null; then
		skip "$name" "alignmap $subcommand has no --help"
		continue
	fi
	expected=$(options_by_help "$subcommand" | sort -u)
	check "$name: --help has some, itself" grep -qx -- --help <<<"$expected"
	for witness in bash ${zsh:+zsh} manual; do
		same "$name: $witness" "$expected" "$("options_by_$witness" "$subcommand" | sort -u)"
	done
done

name='both are installed where shells look for them'
if command -v meson >/dev/null && command -v jq >/dev/null; then
	same "$name" 'bash-completion/completions/alignmap zsh/site-functions/_alignmap' "$(
		meson introspect "$BUILD" --installed | jq -r '.[]' |
			sed -n 's,.*/share/\(.*/alignmap\|.*/_alignmap\)$,\1,p' | sort | paste -sd ' '
	)"
else
	skip "$name" 'meson or jq is missing'
fi
finish
