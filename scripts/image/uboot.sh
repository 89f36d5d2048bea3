#!/bin/bash
# Builds U-Boot for boards that Debian has none for, from Debian's own sources: uboot.sh <configuration> <file>
# It is kept in .tools, by its version.
set -euo pipefail
. "$(dirname "$0")/../tools.sh"
configuration=$1 file=$2
: "${SUITE:=bookworm}" "${SOURCE_DATE_EPOCH:=1700000000}"

work=$(mktemp -d "${TMPDIR:-/tmp}/outpost-uboot-XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
# Sources of the suite that the image is made from, beside the machine's own lists and without changing them.
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Codename: $SUITE" | head -n 1)
mirror=${mirror:-$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Label: Debian" | head -n 1)}
[ -n "$mirror" ] || { echo "apt knows no mirror of Debian." >&2; exit 1; }
mkdir -p "$work"/{lists/partial,source}
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $SUITE main" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root)
"${apt[@]}" update
version=$("${apt[@]}" --print-uris --only-source source u-boot 2>/dev/null | sed -n 's/.* u-boot_\([^ ]*\)\.dsc .*/\1/p')
kept=$tools/u-boot/$configuration-$version.bin
if [ ! -f "$kept" ]; then
    "$root/scripts/setup.sh" uboot
    echo "== U-Boot $version for $configuration"
    (cd "$work/source" && "${apt[@]}" --only-source source u-boot >/dev/null 2>&1)
    cd "$work"/source/u-boot-*/
    export SOURCE_DATE_EPOCH CROSS_COMPILE=arm-linux-gnueabi-
    make -s "$configuration"
    # Needs a library of its own, and is for other machines.
    scripts/config --disable TOOLS_MKEFICAPSULE
    make -s olddefconfig
    nice make -s -j"$(nproc)" u-boot.bin >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
    install -D -m 644 u-boot.bin "$kept"
fi
install -m 644 "$kept" "$file"
