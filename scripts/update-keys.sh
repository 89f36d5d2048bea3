#!/bin/bash
# Makes the keys that updates are signed with: scripts/update-keys.sh [--development] [folder, keys when none is named]
#   ca.key, ca.pem            the vendor's own authority: boxes trust it. The key is needed for the next line only; keep it
#                             off this machine.
#   signing.key, signing.pem  what bundles are signed with
# With an authority that is there already it makes the second pair only, which is how a signing key is replaced.
# `--development` makes keys that say of themselves that nobody should trust them.
set -euo pipefail
. "$(dirname "$0")/tools.sh"
cd "$root"

name="Outpost updates"
[ "${1:-}" != --development ] || { name="Outpost development updates, trust nobody"; shift; }
folder=${1:-keys}
[ ! -e "$folder/signing.key" ] || { echo "There is $folder/signing.key already; move it away for a new one." >&2; exit 1; }
[ ! -e "$folder/ca.pem" ] || [ -e "$folder/ca.key" ] || { echo "To sign a new key, $folder/ca.key is needed beside $folder/ca.pem." >&2; exit 1; }

# openssl's progress is of no use, its complaints are.
quietly() { local said; said=$("$@" 2>&1) || { echo "$said" >&2; exit 1; }; }

umask 077
mkdir -p "$folder"
ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -sha256)
if [ ! -e "$folder/ca.pem" ]; then
    # Longer than any box lives: it cannot be exchanged on boxes that were never updated in between.
    quietly openssl req -x509 "${ec[@]}" -noenc -days 14600 -subj "/CN=$name" \
        -addext 'keyUsage=critical,keyCertSign,cRLSign' -keyout "$folder/ca.key" -out "$folder/ca.pem"
fi
quietly openssl req "${ec[@]}" -noenc -subj "/CN=$name, signing $(date +%F)" -keyout "$folder/signing.key" -out "$folder/signing.csr"
quietly openssl x509 -req -in "$folder/signing.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -days 7300 -sha256 \
    -set_serial "0x$(openssl rand -hex 16)" -out "$folder/signing.pem" \
    -extfile <(printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection\n')
rm "$folder/signing.csr"
chmod 644 "$folder"/*.pem
echo "Keys for updates are in $folder. Images made from now on take what is signed with them."
