#!/bin/bash
# The release's source as one file that builds without a network: the repository, the crates it is built from (vendor/), and
# the browser app as built (web/dist). Into dist/outpost-<version>.tar.xz, with a .sha256 beside it. From the same commit and
# the same web/dist it is the same, byte for byte.
set -euo pipefail
. "$(dirname "$0")/tools.sh"
cd "$root"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
name=outpost-$version
[ -f web/dist/index.html ] || { echo "There is no web/dist: make web" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/$name
mkdir -p "$tree"

# --- What git knows, as it lies here: pictures of the guide and tests are not for building.
git ls-files -z -- . ':!docs/screenshots' ':!tests' ':!fuzz' ':!.ci' | tar -c --no-recursion --null --files-from=- | tar -x -C "$tree"
cp -a web/dist "$tree/web/dist"
# Tests are not built from it, and nobody should believe that they could be.
sed -i '/^exclude = \["fuzz"\]$/d' "$tree/Cargo.toml"
git rev-parse HEAD >"$tree/COMMIT"

# --- Crates, for every target. Import libraries for other systems are programs without source, and nothing here links them.
mkdir -p "$tree/.cargo"
cargo vendor --quiet --locked --versioned-dirs --manifest-path Cargo.toml "$tree/vendor" >/dev/null
find "$tree/vendor" \( -name '*.a' -o -name '*.lib' -o -name '*.dll' \) -path '*windows*' -print0 | while IFS= read -r -d '' library; do
    crate=${library#"$tree/vendor/"} crate=$tree/vendor/${crate%%/*}
    python3 - "$crate" "${library#"$crate/"}" <<'P'
import json, sys
path = sys.argv[1] + "/.cargo-checksum.json"
listed = json.load(open(path))
listed["files"].pop(sys.argv[2], None)
json.dump(listed, open(path, "w"), separators=(",", ":"), sort_keys=True)
P
    rm "$library"
done
cat >"$tree/.cargo/config.toml" <<'C'
[source.crates-io]
replace-with = "vendored-sources"

[source.vendored-sources]
directory = "vendor"
C

# --- Agents for other machines, where `make cross` has built them all: what a box offers, made by whoever makes the release.
pack() { # pack <name>: the folder of that name as one file
    tar -c --sort=name --format=posix --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \
        --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$work" "$1" \
        | xz -6 -T2 --block-size=33554432 >"dist/$1.tar.xz"
    (cd dist && sha256sum "$1.tar.xz" >"$1.tar.xz.sha256")
    local size
    size=$(stat -c %s "dist/$1.tar.xz")
    printf '  dist/%s.tar.xz, %d.%d MiB, %s…\n' "$1" $((size >> 20)) $(((size & 1048575) * 10 >> 20)) "$(cut -c1-16 "dist/$1.tar.xz.sha256")"
}
mkdir -p dist
if [ "$(ls dist/*-linux-musl*/outpost-agent 2>/dev/null | wc -l)" -eq 4 ]; then
    scripts/place-agents.sh "$work/outpost-agents-$version"
    install -m 644 LICENSE NOTICE "$work/outpost-agents-$version/"
    pack "outpost-agents-$version"
else
    echo "  no outpost-agents-$version: make cross builds the agents of all four kinds"
fi

# --- One file. Times, owners and order are said, not found; threads do not change what xz writes when blocks have a size.
find "$tree" -type d -exec chmod 755 {} + -o -type f -exec chmod u=rwX,go=rX {} +
pack "$name"
