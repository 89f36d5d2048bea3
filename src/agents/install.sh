#!/bin/sh
# Installs the Outpost agent on Linux. Run as root.
#   sh install.sh                      with the server and the group it was made for
#   sh install.sh <server> <group id>  with any server and group
#   sh install.sh uninstall            removes the agent
set -eu

server='@SERVER@'
settings='@SETTINGS@'
agents='@AGENTS@'

fail() {
    echo "outpost: $*" >&2
    exit 1
}

# The certificate of a box on a LAN is its own; what is fetched is checked by its hash instead.
fetch() {
    if command -v curl >/dev/null 2>&1; then
        curl -fsSk --connect-timeout 20 -o "$2" "$1"
    elif command -v wget >/dev/null 2>&1; then
        wget -q --no-check-certificate --timeout=20 -O "$2" "$1"
    else
        fail "neither curl nor wget is installed"
    fi
}

[ "$(id -u)" -eq 0 ] || fail "this has to be run as root, for example: sudo sh $0 $*"

if [ "${1:-}" = uninstall ]; then
    for agent in /usr/local/lib/outpost-agent/outpost-agent /usr/local/bin/outpost-agent; do
        [ -x "$agent" ] && exec "$agent" uninstall
    done
    fail "no agent is installed here"
fi

[ -z "${1:-}" ] || { server=$1; settings=; agents=; }
group=${2:-}
[ -n "$server" ] || fail "usage: $0 <server> <group id>"
server=${server%/}

case "$(uname -m)" in
    x86_64 | amd64) id=6 ;;
    i?86 | x86) id=5 ;;
    aarch64 | arm64) id=26 ;;
    armv6l | armv7l | armv8l) id=25 ;;
    riscv64) id=45 ;;
    *) fail "there is no agent for a machine of the kind $(uname -m)" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

echo "Fetching the agent from $server …"
fetch "$server/meshagents?id=$id&agent=outpost" "$work/outpost-agent" \
    || fail "the server has no agent for this machine ($(uname -m)), or cannot be reached"
if [ -n "$agents" ]; then
    expected=$(echo "$agents" | sed -n "s/^$id //p")
    [ -n "$expected" ] || fail "the server had no agent for this machine ($(uname -m)) when this script was made"
    echo "$expected  $work/outpost-agent" | sha256sum -c >/dev/null 2>&1 \
        || fail "the agent that was fetched is not the one this script was made for; get a new script"
fi

if [ -n "$settings" ]; then
    echo "$settings" | base64 -d >"$work/outpost-agent.msh"
else
    [ ${#group} -ge 64 ] || fail "usage: $0 <server> <group id>"
    fetch "$server/meshsettings?id=$group&agent=outpost" "$work/outpost-agent.msh" \
        || fail "the server does not know this device group"
fi

chmod 755 "$work/outpost-agent"
"$work/outpost-agent" install --msh "$work/outpost-agent.msh"
