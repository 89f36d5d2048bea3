#!/bin/bash
# Runs the checks and tests and sums them up: scripts/test.sh [part…]; all parts but boards when none is named.
set -uo pipefail
. "$(dirname "$0")/tools.sh"
cd "$root"

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(programs lint unit web yocto fuzz e2e kms compat cross deb image)
logs=$root/target/test-logs
# Seconds after which the power cuts, which come last, end.
cuts_until=$((70 * 60))
mkdir -p "$logs"
# Long runs read better without a progress bar in a log.
export CARGO_TERM_PROGRESS_WHEN=${CARGO_TERM_PROGRESS_WHEN:-auto}

names=() results=() times=() counts=()
passed=0 failed=0

log_name() { echo "$(echo "$1" | tr ' /' '--').log"; }

# check <name> <command…>: runs it, shows its output, and counts it.
check() {
    local name=$1 log=$logs/$(log_name "$1")
    shift
    echo
    echo "== $name"
    local start=$SECONDS
    "$@" 2>&1 | tee "$log"
    note "$name" "${PIPESTATUS[0]}" $((SECONDS - start))
}

# note <name> <status> <seconds>: for the summary.
note() {
    names+=("$1")
    times+=("$3 s")
    counts+=("$(count "$logs/$(log_name "$1")")")
    if [ "$2" -eq 0 ]; then
        results+=(ok)
        passed=$((passed + 1))
    else
        results+=("FAILED ($2)")
        failed=$((failed + 1))
    fi
}

# beside <name> <command…>: like check, but $at_once of these run at the same time. For what keeps one processor busy at most,
# as an emulator does; the output is shown when it has ended. `gather` waits for all of them.
at_once=2
declare -A beside_name=() beside_start=()
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
beside() {
    local name=$1
    shift
    while [ ${#beside_name[@]} -ge $at_once ]; do gather_one; done
    echo
    echo "== $name (begun)"
    "$@" >"$logs/$(log_name "$name")" 2>&1 &
    beside_name[$!]=$name
    beside_start[$!]=$EPOCHSECONDS
}

gather_one() {
    local pid= status=0 name
    wait -n -p pid "${!beside_name[@]}" || status=$?
    name=${beside_name[$pid]}
    echo
    echo "== $name"
    cat "$logs/$(log_name "$name")"
    # It may have ended long ago: with the last line that it wrote.
    note "$name" "$status" $(($(stat -c %Y "$logs/$(log_name "$name")") - ${beside_start[$pid]}))
    unset "beside_name[$pid]" "beside_start[$pid]"
}

gather() {
    while [ ${#beside_name[@]} -gt 0 ]; do gather_one; done
}

# Tests that a runner says it has run, summed over a log.
count() {
    awk '
        /^test result:/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^passed/) n += $i }
        /Tests +[0-9]+ passed/ { for (i = 1; i < NF; i++) if ($(i + 1) == "passed") n += $i }
        /^[0-9]+ passed, [0-9]+ failed/ { n += $1 }
        / runs +.* ok$/ || /: ok( |$)/ { n += 1 }
        END { if (n) print n " tests" }' <(sed 's/\x1b\[[0-9;]*m//g' "$1")
}

build_web() { make --no-print-directory web; }

part_lint() {
    check "formatting" cargo fmt --all --check
    build_web || return
    check "lints" cargo clippy --workspace --all-targets --quiet -- -D warnings
    if systemd-analyze --help 2>/dev/null | grep -q -- --threshold; then
        check "sandbox of the server's unit, 1.5 at most" systemd-analyze security --offline=yes --threshold=15 --no-pager systemd/outpost.service
    fi
    check "licences, sources, bans" cargo deny --log-level error check bans licenses sources
}

part_unit() {
    build_web || return
    check "unit and integration tests" cargo test --workspace --quiet
}

part_web() {
    [ -d web/node_modules ] || scripts/npm.sh web ci
    check "browser app: types" scripts/npm.sh web run check
    check "browser app: tests" scripts/npm.sh web test
}

part_fuzz() {
    check "fuzzing, ${FUZZ_SECONDS:-3} s a target" fuzz/run.sh "${FUZZ_SECONDS:-3}"
}

# What is shipped is what is tested: static programs. In a run without them, those of `make build`, which are there sooner.
programs_are_there() {
    if [ -n "$programs_asked" ]; then
        [ -z "$others_asked" ] || return 0
        gather
        export OUTPOST_BIN=$root/dist/$own/outpost OUTPOST_AGENT_BIN=$root/dist/$own/outpost-agent
        other_programs
    elif [ ! -x target/release/outpost ] || [ ! -x target/release/outpost-agent ]; then
        check "release build" make --no-print-directory build
    fi
}

part_e2e() {
    programs_are_there
    [ -d tests/e2e/node_modules ] || scripts/npm.sh tests/e2e ci
    # MeshCentral's own agent has its part in the story; there is one for this kind of machine only.
    if [ "$(uname -m)" = x86_64 ] && [ -z "${OUTPOST_PEER:-}" ]; then
        check "MeshCentral, to compare with" node tests/compat/install.mjs
        export OUTPOST_PEER=$root/target/compat/peer
    fi
    if [ "$(id -u)" -eq 0 ]; then
        check "end to end" node tests/e2e/run.mjs
    else
        check "end to end" sudo --preserve-env=PATH,OUTPOST_SCREENSHOTS,OUTPOST_PEER,OUTPOST_BIN,OUTPOST_AGENT_BIN "$(command -v node)" tests/e2e/run.mjs
    fi
}

part_kms() {
    # The virtual machine's kernel is for this kind of processor.
    [ "$(uname -m)" = x86_64 ] || return 0
    programs_are_there
    [ -d tests/e2e/node_modules ] || scripts/npm.sh tests/e2e ci
    check "a screen without X, in a virtual machine" node tests/kms/run.mjs
}

part_compat() {
    programs_are_there
    # It waits most of the time.
    beside "MeshCentral's agent" node tests/compat/agent.mjs
    check "compatibility with MeshCentral's clients" node tests/compat/run.mjs
}

# Static programs, as they are shipped: first those for this machine and for the box; then the others, beside tests that leave
# a processor. What was built from the same sources before is taken from a cache. Making a program small keeps one processor
# busy for minutes.
case $(uname -m) in
x86_64 | aarch64) own=$(uname -m)-unknown-linux-musl ;;
armv7*) own=armv7-unknown-linux-musleabihf ;;
*) own=arm-unknown-linux-musleabihf ;;
esac
first_programs=(aarch64-unknown-linux-musl)
[ "$own" = "${first_programs[0]}" ] || first_programs=("$own" "${first_programs[@]}")

programs_asked=
part_programs() {
    programs_asked=yes
    scripts/setup.sh cross
    build_web || return
    at_once=2
    beside "static programs" nice scripts/cross.sh "${first_programs[@]}"
}

others_asked=
other_programs() {
    others_asked=yes
    local target others=()
    for target in "${targets[@]}"; do
        [[ " ${first_programs[*]} " == *" $target "* ]] || others+=("$target")
    done
    beside "static programs for others" nice scripts/cross.sh "${others[@]}"
}

part_cross() {
    [ -n "$programs_asked" ] || part_programs
    programs_are_there
    gather
    check "programs for all machines, emulated" node tests/cross/run.mjs
}

part_deb() {
    [ "$(id -u)" -eq 0 ] || { echo "the package is tested as root"; return 1; }
    [ -n "$programs_asked" ] || part_programs
    programs_are_there
    # It brings the agents of all.
    gather
    check "the Debian package" node tests/deb/run.mjs
    check "settings on the card" node tests/settings/run.mjs
}

part_yocto() {
    scripts/setup.sh yocto
    check "the Yocto layer" scripts/yocto-lint
}

# These start the very image that is shipped.
image_is_there() {
    local image=dist/image/outpost-qemu-arm64.img pi=dist/image/outpost-rpi-arm64.img
    scripts/setup.sh image
    build_web || return
    [ -n "$programs_asked" ] || part_programs
    programs_are_there
    # It brings the agents of all.
    gather
    # Made again when something in it is newer; compressed, so that its size is held against the budget.
    if [ ! -f "$image.xz" ] || [ ! -f "$pi" ] || [ -n "$(find dist/*-musl* board scripts/image scripts/image.sh systemd -type f -newer "$image.xz" -print -quit)" ]; then
        check "image" scripts/image.sh qemu-arm64
        check "image for a Raspberry Pi" scripts/image.sh --raw rpi-arm64
    fi
}

load_is_there() {
    [ -x target/debug/examples/load ] || check "agents that do nothing" cargo build --quiet --example load
}

part_image() {
    image_is_there && load_is_there || return
    check "the same image, made again" tests/image/same.sh rpi-arm64
    check "the box's reset button" busybox sh tests/image/button.sh
    # The first waits nearly all the time.
    at_once=3
    beside "the box: what it writes to its card" node tests/image/care.mjs
    beside "the box: updates" node tests/image/updates.mjs
    beside "the box: damage and resets" node tests/image/mishaps.mjs
    beside "the box: cards that fail" node tests/image/failing.mjs
    beside "the box: its owner's settings, update and reset" node tests/image/app.mjs
    beside "the box: started, used, restarted" node tests/image/run.mjs
    beside "the image for Raspberry Pi 3, 4 and Zero 2 W" node tests/image/pi.mjs rpi-arm64
    gather
    # Alone: two boxes at a time, which shall do something before they are cut. Fifty, or what there is time for: where all programs
    # had to be built first on a slow machine, that is less.
    check "the box: power cuts" env CUTS="${CUTS:-50}" CUTS_SECONDS=$((cuts_until - SECONDS)) node tests/image/cuts.mjs
}

# Not in every run: their programs take half an hour to build.
part_boards() {
    scripts/setup.sh image
    scripts/setup.sh uboot
    for board in rpi-armhf rpi-armel; do
        check "image for $board" scripts/image.sh "$board"
        check "$board, emulated" node tests/image/pi.mjs "$board"
    done
}

for part in "${parts[@]}"; do
    "part_$part" || failed=$((failed + 1))
done
gather

echo
echo "Summary"
for i in "${!names[@]}"; do
    printf '  %-40s %-12s %8s  %s\n' "${names[$i]}" "${results[$i]}" "${times[$i]}" "${counts[$i]}"
done
# The end of a long log is what people are shown: what failed stands there again.
for i in "${!names[@]}"; do
    [ "${results[$i]}" = ok ] && continue
    echo
    echo "What failed in: ${names[$i]}"
    log=$logs/$(log_name "${names[$i]}")
    said=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -A 6 -E '^ *✗|FAILED|^ *FAIL |^error|panicked|^ *× ' | head -60)
    echo "${said:-$(tail -20 "$log")}" | sed 's/^/  /'
done
echo
echo "  total $((SECONDS / 60)) min $((SECONDS % 60)) s; logs in ${logs#"$root"/}"
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
