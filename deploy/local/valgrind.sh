#!/usr/bin/env bash
# A Valgrind for `make counts`. Prints the path of the program on stdout. ORDERWRIGHT_VALGRIND names one that is
# there already. Exit code 69: there is none, and none can be had.

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$(cd -- "$HERE/../.." && pwd)/.cache}

# shellcheck source=deploy/local/broker/program.sh
source "$HERE/broker/program.sh"

# It wants the symbols of the C library's loader, which are a package of their own.
fetch() { download_alone "$1" valgrind libc6-dbg; }

wrapper() {
    cat <<'WRAPPER'
#!/bin/sh
# All paths are relative to this file, so the tree can be moved with its checkout.
tree=$(cd "${0%/*}" && pwd)
for VALGRIND_LIB in "$tree/root/usr/libexec/valgrind" "$tree/root/usr/lib/"*-linux-gnu/valgrind; do
    [ -d "$VALGRIND_LIB" ] && break
done
export VALGRIND_LIB
exec "$tree/root/usr/bin/valgrind" --extra-debuginfo-path="$tree/root/usr/lib/debug" "$@"
WRAPPER
}

provide valgrind '80 MB' --version
