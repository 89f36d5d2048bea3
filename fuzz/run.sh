#!/bin/sh
# Builds every fuzz target and runs each for a few seconds: fuzz/run.sh [seconds per target] [target…]
# Needs only the stable toolchain and a C++ compiler. Findings are left in fuzz/artifacts/<target>/; run one
# again with:  fuzz/run.sh --once <target> <file>
set -eu
cd "$(dirname "$0")"

host=$(rustc -vV | sed -n 's/^host: //p')
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
# The instrumentation that libFuzzer reads; all of it is available on stable.
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares"
# With --target, flags reach neither build scripts nor procedural macros.
RUSTFLAGS="$flags" cargo build --quiet --release --target "$host" --bins
bin="$target_dir/$host/release"

if [ "${1:-}" = --once ]; then
    exec "$bin/$2" "$3"
fi

seconds=${1:-10}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- $(for file in targets/*.rs; do basename "$file" .rs; done)

failed=0
for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    seeds="seeds/$target"
    [ -d "$seeds" ] || seeds=
    log="artifacts/$target/log"
    # Limits: 5 s and 512 MiB for one input, so that endless loops and greedy allocations count as crashes.
    if "$bin/$target" "corpus/$target" $seeds -max_total_time="$seconds" -max_len=16384 -timeout=5 \
        -rss_limit_mb=512 -malloc_limit_mb=128 -print_final_stats=1 -artifact_prefix="artifacts/$target/" \
        >"$log" 2>&1
    then
        result=ok
    else
        result=FAILED
        failed=1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)
    printf '%-20s %9s executions  %6s edges  %s\n' "$target" "${runs:-?}" "${cover:-?}" "$result"
    if [ "$result" != ok ]; then
        tail -40 "$log"
    fi
done
exit "$failed"
