#!/usr/bin/env bash
# Debian's Prometheus and its promtool, for the tests of rules and dashboard: unpacked into the cache
# without installing anything. Prints the folder that holds both programs on stdout.
#
# ORDERWRIGHT_PROMETHEUS names a folder where they are already. Exit code 69: they cannot be had here.

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$(cd -- "$HERE/../.." && pwd)/.cache}

note() { echo "prometheus: $*" >&2; }

# Gives the functions that fetch Debian's packages.
# shellcheck source=deploy/local/broker/unpacked.sh
source "$HERE/broker/unpacked.sh"

if [[ -n ${ORDERWRIGHT_PROMETHEUS:-} ]]; then
    printf '%s\n' "$ORDERWRIGHT_PROMETHEUS"
    exit 0
fi

because() { note "$*; put prometheus and promtool into a folder and set ORDERWRIGHT_PROMETHEUS"; }
unpacked_possible || exit 69
# The machine's own suite: the programs run with the machine's own C library.
# shellcheck disable=SC2034 # download_alone reads it
SUITE=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-none}")
tree=$CACHE/prometheus-$SUITE
if [[ ! -x $tree/promtool ]]; then
    mkdir -p -- "$CACHE"
    work=$(mktemp -d "$CACHE/prometheus.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    note "fetching Prometheus from Debian's $SUITE (once; about 30 MB)"
    # Of the files that it looks for some are missing on every machine.
    if ! (set +o pipefail && download_alone "$work/apt" prometheus); then
        because "the package could not be fetched (see above)"
        exit 69
    fi
    dpkg-deb --fsys-tarfile "$work"/apt/cache/archives/prometheus_*.deb |
        tar --extract --directory "$work" --no-same-owner ./usr/bin
    # By a rename: that it is there means that it is whole. Whoever was first has won.
    mv -T -- "$work/usr/bin" "$tree" 2>/dev/null || [[ -x $tree/promtool ]]
fi
printf '%s\n' "$tree"
