#!/usr/bin/env bash
# A Valgrind for `make counts`. Prints the path of the program on stdout.
#
# ORDERWRIGHT_VALGRIND names one that is there already; else the machine's own is taken; else Debian's
# package is unpacked into the cache, without root and without installing anything.

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$(cd -- "$HERE/../.." && pwd)/.cache}

note() { echo "valgrind: $*" >&2; }

# Gives the functions that fetch Debian's packages.
# shellcheck source=deploy/local/broker/unpacked.sh
source "$HERE/broker/unpacked.sh"

if [[ -n ${ORDERWRIGHT_VALGRIND:-} ]]; then
    printf '%s\n' "$ORDERWRIGHT_VALGRIND"
    exit 0
fi
if command -v valgrind; then exit 0; fi

because() { note "$*, and ORDERWRIGHT_VALGRIND names no other Valgrind"; }
unpacked_possible || exit 1

# The machine's own suite: its programs run with the machine's own C library.
# shellcheck disable=SC2034 # download_alone reads it
SUITE=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-none}")
tree=$CACHE/valgrind-$SUITE
if [[ ! -x $tree/valgrind ]]; then
    mkdir -p -- "$CACHE"
    work=$(mktemp -d "$CACHE/valgrind.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 1' TERM INT
    note "fetching Valgrind from Debian's $SUITE (once; about 15 MB)"
    # Of the files that it looks for some are missing on every machine. It wants the symbols of the C
    # library's loader, which are a package of their own.
    (set +o errexit +o pipefail && download_alone "$work/apt" valgrind libc6-dbg)
    mkdir -p "$work/tree/root"
    for package in "$work"/apt/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$work/tree/root" --no-same-owner
    done
    cat >"$work/tree/valgrind" <<'WRAPPER'
#!/bin/sh
# All paths are relative to this file, so the tree can be moved with its checkout.
tree=$(cd "${0%/*}" && pwd)
for VALGRIND_LIB in "$tree/root/usr/libexec/valgrind" "$tree/root/usr/lib/"*-linux-gnu/valgrind; do
    [ -d "$VALGRIND_LIB" ] && break
done
export VALGRIND_LIB
exec "$tree/root/usr/bin/valgrind" --extra-debuginfo-path="$tree/root/usr/lib/debug" "$@"
WRAPPER
    chmod +x "$work/tree/valgrind"
    # It must run on this machine before anybody relies on it.
    "$work/tree/valgrind" --version >&2
    # By a rename: that it is there means that it is whole. Whoever was first has won.
    mv -T -- "$work/tree" "$tree" 2>/dev/null || [[ -x $tree/valgrind ]]
fi
printf '%s\n' "$tree/valgrind"
