#!/usr/bin/env bash
# A Chromium for the test of the status page. Prints the path of the program on stdout.
#
# ORDERWRIGHT_CHROMIUM names one that is there already; else the machine's own is taken; else Debian's
# package with all that it needs is unpacked into the cache, without root and without installing anything.

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$(cd -- "$HERE/../.." && pwd)/.cache}
# Raise it when the steps below change: an older tree is replaced.
RECIPE=1

note() { echo "chromium: $*" >&2; }

# Gives the functions that fetch Debian's packages.
# shellcheck source=deploy/local/broker/unpacked.sh
source "$HERE/broker/unpacked.sh"

if [[ -n ${ORDERWRIGHT_CHROMIUM:-} ]]; then
    printf '%s\n' "$ORDERWRIGHT_CHROMIUM"
    exit 0
fi
if command -v chromium; then exit 0; fi

# The machine's own suite: its programs run with the machine's own C library.
# shellcheck disable=SC2034 # download reads it
SUITE=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-none}")
tree=$CACHE/chromium-$SUITE-$RECIPE
if [[ -x $tree/chromium ]]; then
    printf '%s\n' "$tree/chromium"
    exit 0
fi
because() { note "$*"; }
unpacked_possible || exit 1

mkdir -p -- "$CACHE"
work=$(mktemp -d "$CACHE/chromium.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' TERM INT
note "fetching Chromium from Debian's $SUITE (once; about 200 MB)"
root=$work/tree/root
for dir in bin sbin lib lib64; do
    mkdir -p "$root/usr/$dir"
    ln -s "usr/$dir" "$root/$dir"
done
# Of the files that it looks for some are missing on every machine.
(set +o errexit +o pipefail && download "$work/apt" chromium fonts-dejavu-core)
for package in "$work"/apt/cache/archives/*.deb; do
    # The machine's own C library is the one that is loaded.
    case ${package##*/} in libc6_* | libc-bin_*) continue ;; esac
    dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$root" \
        --keep-directory-symlink --no-same-owner
done
cat >"$work/tree/chromium" <<'WRAPPER'
#!/bin/sh
# All paths are relative to this file, so the tree can be moved with its checkout.
tree=$(cd "${0%/*}" && pwd)
for libraries in "$tree/root/usr/lib/"*-linux-gnu; do :; done
fonts=$tree/fonts.conf
[ -e "$fonts" ] && [ "$(sed -n 's/.*<dir>\(.*\)<.dir>.*/\1/p' "$fonts")" = "$tree/root/usr/share/fonts" ] ||
    printf '<fontconfig><dir>%s</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>\n' \
        "$tree/root/usr/share/fonts" >"$fonts"
FONTCONFIG_FILE=$fonts LD_LIBRARY_PATH=$libraries:$libraries/pulseaudio exec "$tree/root/usr/lib/chromium/chromium" "$@"
WRAPPER
chmod +x "$work/tree/chromium"
# It must run on this machine before anybody relies on it.
"$work/tree/chromium" --version >&2
# By a rename: that it is there means that it is whole. Whoever was first has won.
mv -T -- "$work/tree" "$tree" 2>/dev/null || [[ -x $tree/chromium ]]
printf '%s\n' "$tree/chromium"
