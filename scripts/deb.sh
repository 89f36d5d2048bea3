#!/bin/bash
# Makes a Debian package of the server, with its units and the agents that it offers, from what `make cross` built:
# scripts/deb.sh [amd64|arm64|armhf]…, this machine's kind when none is named. Into dist/outpost_<version>_<kind>.deb.
# VERSION is another version, OUT another folder, LEVEL how hard to compress (0 to 9).
set -euo pipefail
. "$(dirname "$0")/tools.sh"
cd "$root"

# armhf is built for ARMv6, so that one package serves every Raspberry Pi with a 32-bit system.
declare -A target=([amd64]=x86_64-unknown-linux-musl [arm64]=aarch64-unknown-linux-musl [armhf]=arm-unknown-linux-musleabihf)
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
out=${OUT:-dist}
mkdir -p "$out"

package() { # package <kind>
    local kind=$1 tree file
    local server=dist/${target[$kind]}/outpost
    [ -x "$server" ] || { echo "There is no $server: make cross TARGET=${target[$kind]}" >&2; return 1; }
    tree=$(mktemp -d)
    install -D -m 755 "$server" "$tree/usr/lib/outpost/outpost"
    scripts/place-agents.sh "$tree/usr/lib/outpost/agents"
    mkdir -p "$tree/usr/bin" "$tree/DEBIAN"
    ln -s ../lib/outpost/outpost "$tree/usr/bin/outpost"
    install -D -m 644 systemd/outpost.service "$tree/usr/lib/systemd/system/outpost.service"
    install -D -m 644 systemd/sysusers.d/outpost.conf "$tree/usr/lib/sysusers.d/outpost.conf"
    install -D -m 644 LICENSE "$tree/usr/share/doc/outpost/copyright"
    install -D -m 644 NOTICE "$tree/usr/share/doc/outpost/NOTICE"
    install -m 755 systemd/deb/postinst systemd/deb/prerm systemd/deb/postrm "$tree/DEBIAN"
    cat >"$tree/DEBIAN/control" <<C
Package: outpost
Version: $version
Architecture: $kind
Maintainer: The Outpost authors <outpost@localhost>
Depends: systemd
Section: admin
Priority: optional
Installed-Size: $(du -sk --apparent-size "$tree" | cut -f1)
Description: remote-management server that lives in a small box
 Terminals, desktops and files of many machines in a browser. Agents and tools of MeshCentral
 work with it as they are. Its own agents for Linux come with it.
C
    (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    find "$tree" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}" {} +
    chmod 755 "$tree"
    file=$out/outpost_${version}_$kind.deb
    dpkg-deb --root-owner-group -Zxz -z"${LEVEL:-6}" --build "$tree" "$file" >/dev/null
    rm -rf "$tree"
    echo "  $file, $(du -k --apparent-size "$file" | cut -f1) KiB"
}

kinds=("$@")
[ ${#kinds[@]} -gt 0 ] || kinds=("$(dpkg --print-architecture)")
for kind in "${kinds[@]}"; do
    [ -n "${target[$kind]:-}" ] || { echo "There is no package for $kind. There are: ${!target[*]}" >&2; exit 2; }
    package "$kind"
done
