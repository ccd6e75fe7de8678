#!/usr/bin/env bash
# A tmux for the test of `orderwright top`. Prints the path of the program on stdout. ORDERWRIGHT_TMUX names one
# that is there already. Exit code 69: there is none, and none can be had.

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$(cd -- "$HERE/../.." && pwd)/.cache}

# shellcheck source=deploy/local/broker/program.sh
source "$HERE/broker/program.sh"

# Newer suites call the library so, older ones otherwise.
fetch() {
    download_alone "$1" tmux libevent-core-2.1-7t64 libutempter0 2>/dev/null ||
        download_alone "$1" tmux libevent-core-2.1-7 libutempter0
}

wrapper() {
    cat <<'WRAPPER'
#!/bin/sh
# All paths are relative to this file, so the tree can be moved with its checkout.
tree=$(cd "${0%/*}" && pwd)
for libraries in "$tree/root/usr/lib/"*-linux-gnu; do :; done
LD_LIBRARY_PATH=$libraries exec "$tree/root/usr/bin/tmux" "$@"
WRAPPER
}

provide tmux '1 MB' -V
