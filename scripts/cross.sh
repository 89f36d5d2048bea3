#!/bin/bash
# Builds the server and the agent for another kind of machine, static, into dist/<target>: scripts/cross.sh <target>…
# A server offers agents for all kinds of machines: `--agents` builds those besides, or only those where no target is named.
# With Rust from rustup that has the target installed, its standard library is linked; otherwise the standard library
# is built from Debian's sources (rust-web-src). zig, from PyPI, is the C compiler and the linker of both.
set -euo pipefail
. "$(dirname "$0")/tools.sh"
cd "$root"
# Where zig is, if setup.sh installed it.
[ ! -x "$tools/python/bin/python3" ] || export CARGO_ZIGBUILD_PYTHON_PATH=$tools/python/bin/python3

# Bytes of a release build: the design's budgets, 8 and 2.5 MiB, which are exceeded (docs/architecture.md) and said so; and
# what a build for aarch64 fails beyond, 9 and 2.75 MiB, so that they are not exceeded by more.
declare -A budget=([outpost]=$((8 << 20)) [outpost-agent]=$((5 << 19)))
declare -A ceiling=([outpost]=$((9 << 20)) [outpost-agent]=$((11 << 18)))

agents=
if [ "${1:-}" = --agents ]; then
    agents=yes
    shift
fi
whole=("$@")
[ ${#whole[@]} -gt 0 ] || [ -n "$agents" ] || whole=("${targets[@]}")
for target in "${whole[@]}"; do
    [[ " ${targets[*]} " == *" $target "* ]] || {
        echo "There is no target $target. There are: ${targets[*]}" >&2
        exit 2
    }
done

fail() { echo "$1" >&2; exit 1; }

# A program that runs on that kind of machine and needs nothing else there.
inspect() { # inspect <target> <program>
    local target=$1 program=$2 name size
    name=$(basename "$program")
    # Loaded at an address of its own at each start.
    readelf -hW "$program" | grep -q 'Type: *DYN' || fail "$program is not position independent"
    ! readelf -lW "$program" | grep -q INTERP || fail "$program wants a dynamic loader"
    ! readelf -dW "$program" | grep -q NEEDED || fail "$program wants libraries"
    case $target in
    arm-*)
        # The processor of the first Raspberry Pi and of the Zero.
        readelf -AW "$program" | grep -Eq 'Tag_CPU_arch: v6' || fail "$program has more than ARMv6"
        readelf -AW "$program" | grep -Eq 'Tag_FP_arch: VFPv2' || fail "$program has more than VFPv2"
        ;;
    armv7-*) readelf -AW "$program" | grep -Eq 'Tag_CPU_arch: v7' || fail "$program is not for ARMv7" ;;
    esac
    size=$(stat -c %s "$program")
    printf '  %-32s %-14s %8d bytes, %s MiB' "$target" "$name" "$size" "$(mib "$size")"
    if [ "$size" -gt "${budget[$name]}" ]; then
        printf ', %s KiB over the budget of %s MiB' $(((size - budget[$name]) >> 10)) "$(mib "${budget[$name]}")"
    fi
    echo
    case $target in
    aarch64-*) [ "$size" -le "${ceiling[$name]}" ] || fail "$program is larger than $(mib "${ceiling[$name]}") MiB" ;;
    esac
}

mib() { awk -v bytes="$1" 'BEGIN { printf "%.2f", bytes / 1048576 }'; }

# Whether this Rust brings the standard library of a target.
brings() { # brings <rustc> <target>
    [ -x "$1" ] && [ -d "$("$1" --print sysroot)/lib/rustlib/$2/lib" ]
}

# Chooses the compiler for a target: sets rustc, cargo, flags and more.
choose() { # choose <target>
    local target=$1
    flags=(-C relocation-model=pic -C force-unwind-tables=no) more=()
    rustc=$(command -v rustc || true)
    cargo=$(command -v cargo || true)
    if ! brings "$rustc" "$target"; then
        # By path: rustup's shims would be found first, and have no sources.
        rustc=/usr/bin/rustc cargo=/usr/bin/cargo
        if ! brings "$rustc" "$target"; then
            [ -f "$("$rustc" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/std/Cargo.toml" ] ||
                fail "There is no standard library for $target: rustup target add $target, or scripts/setup.sh cross"
            more=(-Z 'build-std=std,panic_abort')
            export RUSTC_BOOTSTRAP=1
            # zig brings musl and its start files.
            flags+=(-C link-self-contained=no -C link-arg=-pie)
        fi
    fi
}

# What a program is made of, as one hash: our sources, its libraries, the compiler and how it is called.
inputs() { # inputs <target> <package>
    local -a from=(crates/wire crates/agent)
    [ "$2" = outpost-agent ] || from=(build.rs crates/wire src web/src web/public web/index.html web/package-lock.json web/vite.config.ts web/scripts)
    {
        "$rustc" --version
        cargo-zigbuild --version
        [ ! -x "$tools/python/bin/pip" ] || "$tools/python/bin/pip" list --format=freeze 2>/dev/null | grep -i '^ziglang'
        echo "${flags[*]} ${more[*]-}"
        # Versions of the libraries, and how they are optimised.
        RUSTC=$rustc "$cargo" tree --quiet --locked --package "$2" --edges normal,build --target "$1" --prefix none --no-dedupe --format '{p} {f}' |
            sed 's# (/.*)##' | LC_ALL=C sort -u
        awk '/^\[/ { ours = /^\[profile\.release/ } ours' Cargo.toml
        find "${from[@]}" -type f -not -path '*/tests/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c1-24
}

# A build takes minutes; what was built from exactly these inputs before, in this folder or another, is taken from here.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/outpost/cross

program() { # program <target> <package>
    local target=$1 package=$2 rustc cargo kept folder
    local -a flags more
    choose "$target"
    kept=$cache/$package-$target-$(inputs "$target" "$package")
    if [ -f "$kept" ]; then
        touch "$kept"
        echo "== $package for $target: built before from the same sources"
    else
        echo "== $package for $target"
        # A folder for each target, so that two can be built at the same time.
        folder=${CARGO_TARGET_DIR:-target}/cross/$target
        RUSTC=$rustc RUSTFLAGS="${flags[*]}" nice "$cargo" zigbuild --target-dir "$folder" --quiet \
            --release --locked --target "$target" --package "$package" ${more[@]+"${more[@]}"} || return 1
        mkdir -p "$cache"
        cp "$folder/$target/release/$package" "$kept.$$" && mv "$kept.$$" "$kept"
    fi
    install -D -m 755 "$kept" "dist/$target/$package"
}

# What is wanted: for each target the agent, for some of them the server too. The long ones first.
declare -A packages=()
wanted=("${whole[@]}")
for target in "${whole[@]}"; do packages[$target]="outpost-agent outpost"; done
for target in ${agents:+"${targets[@]}"}; do
    [ -n "${packages[$target]:-}" ] && continue
    wanted+=("$target")
    packages[$target]=outpost-agent
done

# One at a time: together, the agent would carry what only the server asks of their libraries.
build() { # build <target>
    local package
    for package in ${packages[$1]}; do program "$1" "$package" || return 1; done
}

# Two targets at a time, where there are processors for it: optimising across all of a program keeps only one busy.
at_once=$(($(nproc) > 1 ? 2 : 1))
running=0
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for target in "${wanted[@]}"; do
    if [ "$running" -ge "$at_once" ]; then
        wait -n || fail "A build failed."
        running=$((running - 1))
    fi
    build "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || fail "A build failed."
    running=$((running - 1))
done
# What nobody asked for in a month makes room.
find "$cache" -type f -mtime +30 -delete 2>/dev/null || true
echo
echo "Static programs in dist"
for target in "${wanted[@]}"; do
    for package in ${packages[$target]}; do
        inspect "$target" "dist/$target/$package"
    done
done
