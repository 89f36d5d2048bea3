#!/bin/bash
# Runs the checks and tests and sums them up: scripts/test.sh [part…], parts lint unit web fuzz e2e.
set -uo pipefail
. "$(dirname "$0")/tools.sh"
cd "$root"

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(lint unit web e2e fuzz)
logs=$root/target/test-logs
mkdir -p "$logs"
# Long runs read better without a progress bar in a log.
export CARGO_TERM_PROGRESS_WHEN=${CARGO_TERM_PROGRESS_WHEN:-auto}

names=() results=() times=() counts=()
passed=0 failed=0

# check <name> <command…>: runs it, shows its output, and counts it.
check() {
    local name=$1 log
    shift
    log=$logs/$(echo "$name" | tr ' /' '--').log
    echo
    echo "== $name"
    local start=$SECONDS
    "$@" 2>&1 | tee "$log"
    local status=${PIPESTATUS[0]}
    names+=("$name")
    times+=("$((SECONDS - start)) s")
    counts+=("$(count "$log")")
    if [ "$status" -eq 0 ]; then
        results+=(ok)
        passed=$((passed + 1))
    else
        results+=("FAILED ($status)")
        failed=$((failed + 1))
    fi
}

# Tests that a runner says it has run, summed over a log.
count() {
    awk '
        /^test result:/ { for (i = 1; i < NF; i++) if ($(i + 1) ~ /^passed/) n += $i }
        /Tests +[0-9]+ passed/ { for (i = 1; i < NF; i++) if ($(i + 1) == "passed") n += $i }
        /^[0-9]+ passed, [0-9]+ failed/ { n += $1 }
        / runs +.* ok$/ || /: ok / { n += 1 }
        END { if (n) print n " tests" }' <(sed 's/\x1b\[[0-9;]*m//g' "$1")
}

build_web() { make --no-print-directory web; }

part_lint() {
    check "formatting" cargo fmt --all --check
    build_web || return
    check "lints" cargo clippy --workspace --all-targets --quiet -- -D warnings
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

part_e2e() {
    check "release build" make --no-print-directory build
    [ -d tests/e2e/node_modules ] || scripts/npm.sh tests/e2e ci
    if [ "$(id -u)" -eq 0 ]; then
        check "end to end" node tests/e2e/run.mjs
    else
        check "end to end" sudo --preserve-env=PATH,OUTPOST_SCREENSHOTS "$(command -v node)" tests/e2e/run.mjs
    fi
}

for part in "${parts[@]}"; do
    "part_$part" || failed=$((failed + 1))
done

echo
echo "Summary"
for i in "${!names[@]}"; do
    printf '  %-40s %-12s %8s  %s\n' "${names[$i]}" "${results[$i]}" "${times[$i]}" "${counts[$i]}"
done
echo "  total $((SECONDS / 60)) min $((SECONDS % 60)) s; logs in ${logs#"$root"/}"
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
