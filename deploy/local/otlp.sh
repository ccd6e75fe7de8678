#!/usr/bin/env bash
# An OTLP receiver that we did not write, for the tests: Rotel's agent (Apache-2.0), taken out of its
# Python package without installing anything. Prints the path of the program on stdout.
#
# ORDERWRIGHT_OTLP_AGENT names one that is there already. Where there is no Python with pip, Debian's is
# unpacked for this one download, and removed again. Exit code 69: it cannot be had here.

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$(cd -- "$HERE/../.." && pwd)/.cache}
VERSION=0.0.1a15
# Of the one file that is fetched: a package of one maintainer is taken as it was looked at.
SHA256=2f4117e58410c933e0dc042a268ef738dab2e3a5d63b5831209acdac2a6ddcb7

note() { echo "otlp: $*" >&2; }
because() { note "$*; set ORDERWRIGHT_OTLP_AGENT"; }

# Gives the functions that unpack Debian's packages.
# shellcheck source=deploy/local/broker/unpacked.sh
source "$HERE/broker/unpacked.sh"

# Runs Python, the machine's own or one that is unpacked into this folder.
python() {
    local work=$1
    shift
    if python3 -m pip --version >/dev/null 2>&1; then
        python3 "$@"
        return
    fi
    local root=$work/python package
    if [[ ! -d $root ]]; then
        # The machine's own suite: its programs run with the machine's own C library.
        # shellcheck disable=SC2034 # download reads it
        SUITE=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
        note "fetching Python from Debian's $SUITE, for one download"
        mkdir -p "$root/usr/bin" "$root/usr/lib"
        ln -s usr/bin usr/lib "$root"
        # Of the files that it looks for some are missing on every machine.
        (set +o errexit +o pipefail && download "$work/apt" python3-pip)
        for package in "$work"/apt/cache/archives/*.deb; do
            dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$root" \
                --keep-directory-symlink --no-same-owner
        done
    fi
    local libraries
    libraries=$(compgen -G "$root/usr/lib/*-linux-gnu")
    PYTHONHOME=$root/usr PYTHONPATH=$root/usr/lib/python3/dist-packages LD_LIBRARY_PATH=$libraries \
        "$root/usr/bin/python3" "$@"
}

# The agent is linked with the library of Python 3.11. Where that is not installed, Debian's is put beside it.
add_library() {
    local work=$1 agent=$2/rotel-agent package
    [[ $(ldd "$agent") == *'libpython3.11.so.1.0 => not found'* ]] || return 0
    note "fetching the library of Python 3.11 from Debian's bookworm"
    # shellcheck disable=SC2034 # download_alone reads it
    SUITE=bookworm
    (set +o errexit +o pipefail && download_alone "$work/library" libpython3.11 libexpat1 zlib1g)
    for package in "$work"/library/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$2/library"
    done
    mv -- "$agent" "$agent.bare"
    cat >"$agent" <<'WRAPPER'
#!/bin/sh
here=$(dirname -- "$0")
LD_LIBRARY_PATH=$(echo "$here"/library/usr/lib/*-linux-gnu):$(echo "$here"/library/lib/*-linux-gnu) exec "$0.bare" "$@"
WRAPPER
    chmod +x "$agent"
}

if [[ -n ${ORDERWRIGHT_OTLP_AGENT:-} ]]; then
    printf '%s\n' "$ORDERWRIGHT_OTLP_AGENT"
    exit 0
fi

tree=$CACHE/rotel-$VERSION
if [[ ! -x $tree/rotel-agent ]]; then
    if [[ $(uname -sm) != 'Linux x86_64' ]]; then
        because "there is no package for $(uname -sm)"
        exit 69
    fi
    mkdir -p -- "$CACHE"
    work=$(mktemp -d "$CACHE/rotel.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    python3 -m pip --version >/dev/null 2>&1 || unpacked_possible || exit 69
    if ! python "$work" -m pip download --quiet --timeout 60 --disable-pip-version-check --no-deps \
        --only-binary=:all: --implementation cp --python-version 311 \
        --platform manylinux_2_34_x86_64 --dest "$work" "rotel==$VERSION" >&2; then
        because "the package could not be fetched (see above)"
        exit 69
    fi
    wheel=$(compgen -G "$work/*.whl")
    printf '%s  %s\n' "$SHA256" "$wheel" | sha256sum --check --quiet >&2
    python "$work" -m zipfile -e "$wheel" "$work/tree"
    chmod +x "$work/tree/rotel/rotel-agent"
    add_library "$work" "$work/tree/rotel"
    # By a rename: that it is there means that it is whole. Whoever was first has won.
    mv -T -- "$work/tree/rotel" "$tree" 2>/dev/null || [[ -x $tree/rotel-agent ]]
fi
printf '%s\n' "$tree/rotel-agent"
