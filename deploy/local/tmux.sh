#!/usr/bin/env bash
# A tmux for the test of `orderwright top`. Prints the path of the program on stdout.
#
# ORDERWRIGHT_TMUX names one that is there already; else the machine's own is taken; else Debian's package
# with what it needs is unpacked into the cache, without root and without installing anything. Exit code 69: it can
# be had in none of these ways.

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$(cd -- "$HERE/../.." && pwd)/.cache}

note() { echo "tmux: $*" >&2; }

# Gives the functions that fetch Debian's packages.
# shellcheck source=deploy/local/broker/unpacked.sh
source "$HERE/broker/unpacked.sh"

if [[ -n ${ORDERWRIGHT_TMUX:-} ]]; then
    printf '%s\n' "$ORDERWRIGHT_TMUX"
    exit 0
fi
if command -v tmux; then exit 0; fi

because() { note "$*, and ORDERWRIGHT_TMUX names no other tmux"; }
unpacked_possible || exit 69

# The machine's own suite: its programs run with the machine's own C library.
# shellcheck disable=SC2034 # download_alone reads it
SUITE=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-none}")
tree=$CACHE/tmux-$SUITE
if [[ ! -x $tree/tmux ]]; then
    mkdir -p -- "$CACHE"
    work=$(mktemp -d "$CACHE/tmux.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 1' TERM INT
    note "fetching tmux from Debian's $SUITE (once; about 1 MB)"
    # Of the files that it looks for some are missing on every machine.
    fetch() (set +o pipefail && download_alone "$work/apt" tmux "$1" libutempter0)
    # Newer suites call the library so, older ones otherwise.
    if ! fetch libevent-core-2.1-7t64 2>/dev/null && ! fetch libevent-core-2.1-7; then
        because "the packages could not be fetched (see above)"
        exit 69
    fi
    mkdir -p "$work/tree/root"
    for package in "$work"/apt/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$work/tree/root" --no-same-owner
    done
    cat >"$work/tree/tmux" <<'WRAPPER'
#!/bin/sh
# All paths are relative to this file, so the tree can be moved with its checkout.
tree=$(cd "${0%/*}" && pwd)
for libraries in "$tree/root/usr/lib/"*-linux-gnu; do :; done
LD_LIBRARY_PATH=$libraries exec "$tree/root/usr/bin/tmux" "$@"
WRAPPER
    chmod +x "$work/tree/tmux"
    # It must run on this machine before anybody relies on it.
    "$work/tree/tmux" -V >&2
    # By a rename: that it is there means that it is whole. Whoever was first has won.
    mv -T -- "$work/tree" "$tree" 2>/dev/null || [[ -x $tree/tmux ]]
fi
printf '%s\n' "$tree/tmux"
