#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# alignmap info against what the shell reads of this host, against the system calls that it makes,
# and under hosts that are made up of mounts.
# shellcheck disable=SC2317 # functions are called by name
# shellcheck source=tap.sh
. "$(dirname "$0")/tap.sh"
: "${SOURCE:?}"
need_command jq

mm=/sys/kernel/mm
thp=$mm/transparent_hugepage
page=$(getconf PAGESIZE)
report=$scratch/report
"$ALIGNMAP" info --json >"$report" 2>"$scratch/err"
same 'it succeeds, silent on standard error' '0 0' "$? $(wc -c <"$scratch/err")"
asked() { jq -r "$1" "$report"; }
details() { cat "$scratch/out" "$scratch/err" "$report" 2>/dev/null; }

same 'release and architecture are those of uname' "$(uname -rm)" \
	"$(asked '"\(.release) \(.architecture)"')"
if [ -d $mm/hugepages ]; then
	kib=$(find $mm/hugepages -name 'hugepages-*kB' | sed -E 's/.*-([0-9]+)kB/\1/')
	same 'hugepages told the sizes that it lists' \
		"$(for size in $kib; do echo $((size * 1024)); done | sort -n)" \
		"$(asked '.leaves[] | select(.learnt_from | index("hugepages")) | .size' |
			sort -n)"
else
	skip 'hugepages told the sizes that it lists' "$mm/hugepages is missing"
fi
same 'hpage_pmd_size told the PMD' "$(cat $thp/hpage_pmd_size 2>/dev/null)" \
	"$(asked '.leaves[] | select(.learnt_from | index("hpage_pmd_size")) | .size')"
same 'the smallest is the base page, which the C library told' "$page page_size" \
	"$(asked '.leaves[-1] | "\(.size) \(.learnt_from | join(","))"')"
check 'each size was learnt somewhere' test "$(asked '[.leaves[].learnt_from | length] | min')" -ge 1

# word FILE: the one in brackets.
word() { sed -nE 's/.*\[([a-z_]+)\].*/\1/p' "$1" 2>/dev/null || true; }
same 'the policies are those of sysfs' "$(word $thp/enabled) $(word $thp/shmem_enabled)" \
	"$(asked '.transparent_hugepage | "\(.enabled // "") \(.shmem_enabled // "")"')"
same 'so are those of single sizes' \
	"$(for folder in "$thp"/hugepages-*kB; do
		[ -d "$folder" ] || continue
		size=${folder##*-}
		echo "$((${size%kB} * 1024)) $(word "$folder/enabled") $(word \
			"$folder/shmem_enabled")"
	done | sort -n)" \
	"$(asked '.transparent_hugepage.sizes[]
		| "\(.size) \(.enabled // "") \(.shmem_enabled // "")"')"

if [ "$(uname -m)" = x86_64 ]; then
	levels=4
	grep -qw la57 /proc/cpuinfo && levels=5
	same 'levels and bits are those of the processor' "$levels $((levels * 9 + 11))" \
		"$(asked '"\(.page_table_levels) \(.address_bits)"')"
else
	skip 'levels and bits are those of the processor' 'it is no x86-64'
fi
case $(uname -m)-$(uname -r) in
x86_64-[7-9].* | x86_64-6.1[2-9].* | x86_64-6.[2-9][0-9].*)
	same 'BARs take PMDs from 6.12 on' true "$(asked '.leaves[] | select(.size == 2097152) | .bar')" ;;
x86_64-*)
	same 'BARs take base pages before 6.12' "$page" "$(asked '.leaves[] | select(.bar) | .size')" ;;
esac
same 'nothing but BARs takes more than the PMD' '' \
	"$(asked "($(cat $thp/hpage_pmd_size 2>/dev/null || echo 2097152)) as \$pmd | .leaves[]
		| select((.file or .anonymous) and .size > \$pmd) | .size")"
obstacle=null
! thp_policy_rules_bars || obstacle=string
if grep -qF '[madvise]' $thp/enabled 2>/dev/null; then
	same 'it says whether [madvise] stands in the way of BARs' $obstacle \
		"$(asked '.bar_obstacle | type')"
else
	skip 'it says whether [madvise] stands in the way of BARs' 'it is not the policy'
fi

# Entries, leaf by leaf: from OFFSET to the end, at an address; and the most modulus that it has.
walk() {
	awk 'BEGIN {
		for (at = ARGV[2]; at < ARGV[2] + ARGV[1]; at += leaf) {
			place = ARGV[3] + at - ARGV[2]
			for (i = 4; i < ARGC; i++) {
				leaf = ARGV[i]
				if (at % leaf == 0 && place % leaf == 0 &&
				    at + leaf <= ARGV[2] + ARGV[1])
					break
			}
			entries++
		}
		for (i = 4; (ARGV[3] - ARGV[2]) % ARGV[i]; i++)
			;
		printf "%.0f %.0f\n", entries, ARGV[i]
	}' "$@"
}
same 'three kinds of five lengths are measured' '5 anonymous 5 file 5 shared' \
	"$(asked '.placements[].what' | sort | uniq -c | xargs)"
same 'each is tried eight times' 8 "$(asked '.placements[].tries' | sort -u)"
# Of anonymous memory the address alone decides, as if it were the offset too.
wrong_rows() {
	local what offset length address entries best modulus misplaced by_policy leaves expected at

	while read -r what offset length address entries best modulus misplaced by_policy; do
		mapfile -t leaves < <(asked ".leaves[] | select(.${what/shared/file}) | .size")
		expected="$(walk "$length" "$offset" $((address)) "${leaves[@]}")"
		at=$offset
		[ "$what" != anonymous ] || at=$((address))
		expected="$(walk "$length" "$at" $((address)) "${leaves[@]}" | cut -d' ' -f1) ${expected#* }"
		expected+=" $(walk "$length" "$offset" "$offset" "${leaves[@]}" | cut -d' ' -f1)"
		[ "$by_policy" = false ] ||
			expected="$((length / page)) $(cut -d' ' -f2 <<<"$expected") $((length / page))"
		[ "$expected" = "$entries $modulus $best" ] || echo "$what $length: $expected"
		[ "$misplaced" = "$([ "$entries" -gt "$best" ] && [ "$what" != anonymous ] &&
			echo true || echo false)" ] || echo "$what $length: misplaced $misplaced"
	done < <(asked '.placements[] | "\(.what) \(.offset) \(.length) \(.address) \(.entries)
		\(.best_entries) \(.modulus) \(.misplaced) \(.by_policy)" | gsub("\\s+"; " ")')
}
same 'entries and moduli are those of a count leaf by leaf' '' "$(wrong_rows)"

# The kernel's own placement, from the system calls: addresses are in the report, and all that was
# mapped for it is unmapped.
if [ -n "$SANITIZE" ]; then
	skip 'what is measured are system calls' "the sanitizer's own are among them"
elif ! command -v strace >/dev/null || ! strace -o /dev/null true 2>/dev/null; then
	skip 'what is measured are system calls' 'strace is missing or may not trace'
else
	strace -o "$scratch/trace" -e trace=mmap,munmap,memfd_create,unlink \
		"$ALIGNMAP" info --json >"$report"
	for length in $(asked '.placements[].length' | sort -nu); do
		same "three kinds of $length bytes are mapped 8 times each" 24 \
			"$(grep -c "^mmap(NULL, $length, .*MAP_NORESERVE" "$scratch/trace")"
	done
	same 'each mapping that is made is unmapped, and no other' \
		"$(sed -nE "s/^mmap\([^,]*, ([0-9]+), .*NORESERVE.* = (0x[0-9a-f]+)$/\2 \1/p" \
			"$scratch/trace" | sort)" \
		"$(sed -n '/NORESERVE/,$p' "$scratch/trace" |
			sed -nE "s/^munmap\((0x[0-9a-f]+), ([0-9]+)\) += 0$/\1 \2/p" | sort)"
	same 'the addresses that it reports are what mmap returned' '' \
		"$(comm -23 <(asked '.placements[].address' | sort -u) \
			<(sed -nE 's/^mmap\(NULL, .*= (0x[0-9a-f]+)$/\1/p' "$scratch/trace" |
				sort -u))"
	same 'nothing that is mapped is accessible' 0 \
		"$(grep NORESERVE "$scratch/trace" | grep -cE 'PROT_(WRITE|EXEC)')"
	# forge KIND LENGTH NTH ADDRESS: what is reported if the kernel returns that for one of them.
	forge() {
		local nth

		nth=$(grep '^mmap(' "$scratch/trace" | grep -nE "^mmap\(NULL, $2, .*$1" |
			sed -n "$3s/:.*//p")
		forged="strace -o /dev/null -e trace=mmap -e inject=mmap:retval=$4:when=$nth"
		forged+=" '$ALIGNMAP' info"
		sh -c "$forged --json" >"$report" 2>"$scratch/err"
	}
	pmd=$(cat $thp/hpage_pmd_size 2>/dev/null || echo 2097152)
	forge MAP_ANONYMOUS "$pmd" 5 0x200000001000
	same 'one bad address of eight is the one that is reported' '0x200000001000 4096 false' \
		"$(asked ".placements[] | select(.what == \"anonymous\" and .length == $pmd)
			| \"\(.address) \(.modulus) \(.misplaced)\"")"
	same 'and counted by its ends' '' "$(wrong_rows)"
	if asked '.placements[0].by_policy' | grep -q true; then
		skip 'which the table says' 'the policy gives it base pages'
	else
		same 'which the table says' 1 \
			"$(sh -c "$forged" | grep -c "^anonymous .* $((pmd / page - 1)) more at its ends")"
	fi
	# Whether it is advised that guests are to be started by the preload, and whether it should be.
	guests() {
		asked '[([.changes[].command == "alignmap run --anon=all COMMAND"] | any),
			([.placements[] | select(.what == "anonymous" and .length >= 33554432 and
				.modulus < .alignment and (.by_policy | not))] | any)] | join(" ")'
	}
	same "what the preload leaves alone is not advised of" 'false false' "$(guests)"
	forge MAP_ANONYMOUS $((32 * pmd)) 3 0x200000001000
	bad=$(asked '.placements[0].by_policy | not')
	same "guest RAM is" "$bad $bad" "$(guests)"
	forge MAP_ANONYMOUS $((5 * pmd / 2)) 1 0x200000000000
	bad=$(asked ".placements[] | select(.what == \"anonymous\" and .length == $((5 * pmd / 2)))
		| .address")
	check 'one good address of eight is not' test "$bad" != 0x200000000000
	forge MAP_SHARED $((32 * pmd)) 9 0x200000001000
	barred=$(asked '[.placements[] | select(.what == "file").by_policy] | any')
	same 'a misplaced file is reported, with the command' "$barred" \
		"$(asked '.changes | all(.why + " " + (.command // "") |
			test("misplaces files.*alignmap run COMMAND$") | not)')"
	LD_PRELOAD="$preload" ALIGNMAP_ANON=all strace -o "$scratch/trace" -e trace=mmap \
		"$ALIGNMAP" info >"$scratch/out" 2>"$scratch/err"
	same 'a preloaded libalignmap is not measured in its place' 0 \
		"$(grep 'NORESERVE' "$scratch/trace" | grep -cv '^mmap(NULL\|, 4096, PROT_NONE')"
fi
same 'the file is left nowhere' '' "$(mkdir "$scratch/tmp" &&
	TMPDIR=$scratch/tmp "$ALIGNMAP" info >/dev/null && ls "$scratch/tmp")"
# In a chroot its mount may not be listed.
type=$(findmnt -no FSTYPE -T "$scratch/tmp")
same 'it was made in TMPDIR, of the file system that its mount names' \
	"$scratch/tmp ${type:-null}" \
	"$(TMPDIR=$scratch/tmp "$ALIGNMAP" info --json | jq -r '"\(.file_folder) \(.file_system)"')"

# Refusals are cells.
TMPDIR=/nonexistent/folder "$ALIGNMAP" info --json >"$report" 2>"$scratch/err"
same 'no file can be made: status 0' 0 $?
same 'its rows say why, the others are measured' \
	"$(printf '%s\n' 'file cannot open: No such file or directory' 'anonymous null' 'shared null' |
		sort)" \
	"$(asked '.placements[] | "\(.what) \(.reason)"' | sort -u)"
same 'and have no figures' 'null null null 0' \
	"$(asked '.placements[] | select(.what == "file")
		| "\(.address) \(.entries) \(.misplaced) \(.tries)"' | sort -u)"
if [[ $SANITIZE == *address* || $SANITIZE == *thread* ]]; then
	skip 'under RLIMIT_AS the lengths that do not fit are refused' \
		"the sanitizer needs the address space"
else
	(ulimit -v 1500000 && "$ALIGNMAP" info --json >"$report")
	same 'under RLIMIT_AS: status 0' 0 $?
	same 'the lengths that do not fit are refused, the others measured' \
		'refused: Cannot allocate memory' \
		"$(asked '.placements[] | select(.length > 1500000 * 1024) | .reason' | sort -u)"
	same 'the others are measured, if less often' '0 8' \
		"$(asked '[.placements[] | select(.length < 1500000 * 1024)]
			| "\([.[] | select(.reason or .tries == 0)] | length) \(map(.tries) | max)"')"
	(ulimit -v 1500000 && "$ALIGNMAP" info >"$scratch/out")
	same 'the table says so too' 3 "$(grep -c 'refused: Cannot allocate memory' "$scratch/out")"
fi

# Other policies than this host's, mounted over it.
# under ENABLED SHMEM [PMD_ENABLED]: the report of a host with these, in the $form.
form=--json
under() {
	local folder=$scratch/thp-$1-$2-${3-inherit}

	mkdir -p "$folder/hugepages-2048kB" "$folder/hugepages-64kB" "$folder/hugepages-kB"
	echo "always madvise never" | sed "s/\<$1\>/[$1]/" >"$folder/enabled"
	echo "always within_size advise never deny force" | sed "s/\<$2\>/[$2]/" \
		>"$folder/shmem_enabled"
	echo "always inherit madvise never" | sed "s/\<${3-inherit}\>/[${3-inherit}]/" \
		>"$folder/hugepages-2048kB/enabled"
	echo nonsense >"$folder/hugepages-64kB/enabled"
	echo 2097152 >"$folder/hpage_pmd_size"
	# shellcheck disable=SC2016 # it is the inner shell's
	unshare -m sh -c 'mount --bind "$1" "$2" && shift 2 && "$@"' sh "$folder" $thp \
		"$ALIGNMAP" info $form >"$report" 2>"$scratch/err"
}
commands() { asked '.changes[].command | select(. and startswith("echo"))' | sort; }
if [ "$(uname -m)" != x86_64 ] || [ "$(id -u)" != 0 ] || ! under always always; then
	skip 'what to change goes by the policies' 'only root on x86-64 can mount others'
else
	same 'under always nothing of the policies is to be changed' '' "$(commands)"
	same 'and it bars neither' 'false' \
		"$(asked '.placements[] | select(.what != "file").by_policy' | sort -u)"
	same 'a kernel that places nothing badly is not blamed' \
		"$(asked '[.placements[].misplaced] | any')" \
		"$(asked '[.changes[].why | startswith("This kernel misplaces")] | any')"
	under never never
	same 'under never the commands put that right' \
		"echo advise >$thp/shmem_enabled echo madvise >$thp/enabled" \
		"$(commands | xargs -I{} printf '%s ' '{}' | sed 's/ $//')"
	same 'and what gets base pages anyway is not called misplaced' 0 \
		"$(asked '.changes[].why' | grep -cE 'misplaces.*(anonymous|shared)|KVM')"
	same 'but barred' 'anonymous true false
shared true false' "$(asked '.placements[] | select(.what != "file")
		| "\(.what) \(.by_policy) \(.misplaced)"' | sort -u)"
	same 'in base pages' '' "$(wrong_rows)"
	check 'which come first' grep -q 'base pages, whatever' <(asked '.changes[0].why')
	form=
	under never never
	same 'as the table says' 10 "$(grep -c 'base pages, by policy' "$report")"
	under never always always
	same 'the meaning is that of what rules PMDs' '  enabled        never
  hugepages-2048kB/enabled         always
                 anonymous memory gets PMDs' \
		"$(grep -E '^  enabled|kB/enabled|anonymous memory gets' "$report" | sed 's/ *$//')"
	same 'what is to be done by root is said once' 1 \
		"$(under never never && grep -c 'echo as root, until the next boot' "$report")"
	form=--json
	under madvise deny
	check 'deny is put right too' grep -q "echo advise >$thp/shmem_enabled" <(commands)
	under always always never
	same "a size's own never is put right where it is" \
		"echo madvise >$thp/hugepages-2048kB/enabled" "$(commands)"
	under never always always
	check "a size's own always overrides never" \
		test -z "$(asked '.changes[].why' | grep Anonymous)"
	same 'nonsense in sysfs is null, or left out' '65536 null null' \
		"$(asked '.transparent_hugepage.sizes[] | select(.size != 2097152)
			| "\(.size) \(.enabled) \(.shmem_enabled)"')"
fi

name='without sysfs and proc: the table told the PMD, mmap the levels'
if [ "$(uname -m)" != x86_64 ] || [ "$(id -u)" != 0 ]; then
	skip "$name" 'only root on x86-64 can mount others'
elif [ -n "$SANITIZE" ]; then
	skip "$name" 'the sanitizer needs /proc'
elif ! unshare -m true 2>/dev/null; then
	skip "$name" 'no mount name space of its own, as in a chroot'
else
	mkdir "$scratch/empty"
	# shellcheck disable=SC2016 # it is the inner shell's
	unshare -m sh -c 'mount --bind "$1" /sys/kernel/mm && mount --bind "$1" /proc &&
		"$2" info --json' sh "$scratch/empty" "$ALIGNMAP" >"$report" 2>"$scratch/err"
	same "$name" "0 table null null $levels" \
		"$? $(asked '"\(.leaves[] | select(.size == 2097152) | .learnt_from[0]) \(
			.transparent_hugepage.enabled) \(.file_system) \(.page_table_levels)"')"
	same 'a kernel without transparent huge pages maps by base pages' "$page $page" \
		"$(asked '"\(.leaves[] | select(.bar or .file or .anonymous).size) \(
			[.placements[].alignment] | unique[])"')"
	check 'which is said' grep -q CONFIG_TRANSPARENT_HUGEPAGE <(asked '.changes[0].why')
fi

# What people see.
"$ALIGNMAP" info >"$scratch/out"
if command -v script >/dev/null; then
	COLUMNS=80 script -qec "stty cols 80; '$ALIGNMAP' info" /dev/null </dev/null |
		sed 's/\r//; s/\x1b\[[0-9;]*m//g' >"$scratch/terminal"
	same 'a terminal of 80 columns shows all of it' \
		"$(sed 's/ *$//' "$scratch/out" | wc -lw)" \
		"$(sed 's/ *$//' "$scratch/terminal" | wc -lw)"
	colours() {
		env TERM=xterm "$@" script -qec "${forged-"'$ALIGNMAP' info"}" /dev/null </dev/null |
			grep -c $'\e\[3'
	}
	same 'a terminal gets the misplaced in colour' \
		"$(sh -c "${forged-"'$ALIGNMAP' info"}" | grep -c misplaced:)" \
		"$(colours)"
	same 'not with NO_COLOR' 0 "$(colours NO_COLOR=1)"
else
	skip 'a terminal of 80 columns shows all of it' 'script is missing'
fi
same '80 columns at most, but for commands' '' \
	"$(grep -v '^    echo' "$scratch/out" | awk 'length > 80')"
check 'it fits a screen or so' test "$(wc -l <"$scratch/out")" -le 50
check 'it ends with what to change' grep -qE '^(To change.*:|Nothing to change\.)$' "$scratch/out"
"$ALIGNMAP" info --help >"$scratch/out" 2>"$scratch/err"
same '--help: status 0, on standard output' '0 0' "$? $(wc -c <"$scratch/err")"
same '--help: 80 columns at most' '' "$(awk 'length > 80' "$scratch/out")"

# Devices.
for name in 0000:ff:1f.7 ff:1f.7; do
	"$ALIGNMAP" info --device "$name" >"$scratch/out" 2>"$scratch/err"
	same "--device '$name', which is not there: status 1, named, nothing printed" \
		"1 0 alignmap info: --device $name: there is no such PCI device here; 'lspci -D' lists them" \
		"$? $(wc -c <"$scratch/out") $(cat "$scratch/err")"
done
unbound=
for device in /sys/bus/pci/devices/*; do
	[[ $(readlink "$device/driver") == *vfio* ]] || unbound=${device##*/}
done
if [ -z "$unbound" ] || [ ! -e "/sys/bus/pci/devices/$unbound" ]; then
	skip 'a device that is not bound to vfio-pci is not measured' 'there is no PCI device'
else
	"$ALIGNMAP" info --device "$unbound" --json >"$report" 2>"$scratch/err"
	same 'a device that is not bound to vfio-pci: status 0' 0 $?
	same 'its reason is there, no row of it, and all else' "$unbound string 0 15" \
		"$(asked '"\(.device) \(.device_reason | type) \(
			[.placements[] | select(.what == "bar")] | length) \(.placements | length)"')"
	check 'the report has the reason too' \
		grep -q "^$unbound: not measured: " <("$ALIGNMAP" info --device "$unbound")
fi

# wrong PATTERN ARGUMENT...
wrong() {
	local pattern=$1

	shift
	"$ALIGNMAP" info "$@" >"$scratch/out" 2>"$scratch/err"
	status=$?
	verdict "wrong: info $*" is_wrong "$pattern"
}
is_wrong() {
	[ "$status" = 2 ] && [ ! -s "$scratch/out" ] && [ "$(wc -l <"$scratch/err")" = 2 ] &&
		head -n 1 "$scratch/err" | grep -q "^alignmap info: .*$1" &&
		tail -n 1 "$scratch/err" | grep -qF "Try 'alignmap info --help'."
}
wrong 'it takes no arguments' 2M
wrong 'unrecognized option' --bogus
wrong 'requires an argument' --device
for name in nonsense '' . .. ../devices /etc; do
	wrong "--device $name: not a PCI address such as 0000:65:00.0; 'lspci -D' lists them" \
		--device "$name"
done
wrong '\\033: not a PCI address' --device $'\e'

"$ALIGNMAP" info --json >"$report"
same 'the manual page documents the keys of the JSON' \
	"$(asked '[paths | map(if type == "number" then "[]" else "." + . end) | join("")]
		| unique[] | select(endswith("[]") | not) | .[1:]')" \
	"$(awk '/^\.Sh / { on = $2 == "JSON" } on && /^\.It Va / { print $3 }' \
		"$SOURCE/man/alignmap-info.1" | LC_ALL=C sort)"
finish
