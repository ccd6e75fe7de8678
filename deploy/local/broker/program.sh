# A program of Debian's, for scripts that source this: one that a variable names, else the machine's own, else
# unpacked from its package into the cache, without root and without installing anything.
# shellcheck shell=bash

# shellcheck source=deploy/local/broker/unpacked.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/unpacked.sh"

# provide NAME SIZE VERSION_FLAG: prints the program's path. Exit code 69: it can be had in none of these ways.
#
# The caller has `fetch FOLDER`, which downloads the packages, and `wrapper`, which prints a script that starts
# the program from below `$tree/root`.
provide() {
    local name=$1 size=$2 flag=$3
    local variable=ORDERWRIGHT_${name^^}
    note() { echo "$name: $*" >&2; }
    because() { note "$*, and $variable names no other one"; }
    if [[ -n ${!variable:-} ]]; then
        printf '%s\n' "${!variable}"
        return
    fi
    if command -v "$name"; then return; fi
    unpacked_possible || exit 69
    # The machine's own suite: its programs run with the machine's own C library.
    # shellcheck disable=SC2034 # the download reads it
    SUITE=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-none}")
    local tree=$CACHE/$name-$SUITE
    if [[ ! -x $tree/$name ]]; then
        mkdir -p -- "$CACHE"
        work=$(mktemp -d "$CACHE/$name.XXXXXX")
        trap 'rm -rf -- "$work"' EXIT
        trap 'exit 1' TERM INT
        note "fetching it from Debian's $SUITE (once; about $size)"
        # Of the files that the download looks for some are missing on every machine.
        if ! (set +o pipefail && fetch "$work/apt"); then
            because "the packages could not be fetched (see above)"
            exit 69
        fi
        mkdir -p "$work/tree/root"
        local package
        for package in "$work"/apt/cache/archives/*.deb; do
            dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$work/tree/root" --no-same-owner
        done
        wrapper >"$work/tree/$name"
        chmod +x "$work/tree/$name"
        # It must run on this machine before anybody relies on it.
        "$work/tree/$name" "$flag" >&2
        # By a rename: that it is there means that it is whole. Whoever was first has won.
        mv -T -- "$work/tree" "$tree" 2>/dev/null || [[ -x $tree/$name ]]
    fi
    printf '%s\n' "$tree/$name"
}
