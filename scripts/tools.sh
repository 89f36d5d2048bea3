# Where the tools are that scripts/setup.sh installs. Sourced, not run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/.tools
export PATH="$tools/bin:$HOME/.cargo/bin:$PATH"
