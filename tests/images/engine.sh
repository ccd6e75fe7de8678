# shellcheck shell=bash
# A Docker engine: the one that answers, or Debian's packages unpacked into the cache and run from there, as
# root and without installing anything. Sourced by run.sh, which says where CACHE is.
#
# The engine makes no rules for packets and no bridge of its own, so it changes nothing of this machine's
# network: containers reach each other over networks of compose, and builds use the machine's.

ENGINE_DIR=    # its data, its socket and its log
ENGINE_PID=
ENGINE_SECONDS_MAX=60

engine_ensure() {
    if docker version >/dev/null 2>&1; then
        note "using the Docker engine that answers"
        return
    fi
    if ((EUID != 0)); then
        note "no Docker engine answers, and only root can start one"
        return 1
    fi
    engine_fetch
    engine_start
}

# The engine's parts come from a later Debian than this machine may be; runc is linked with the machine's C
# library, so it comes from the machine's own.
engine_fetch() {
    local tree=$CACHE/docker own
    if [[ ! -d $tree ]]; then
        own=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
        rm -rf -- "$tree.new"
        engine_packages trixie "$tree.new" docker.io docker-compose docker-buildx
        engine_packages "$own" "$tree.new" runc
        engine_iptables "$own" "$tree.new"
        mv -- "$tree.new" "$tree"
    fi
    PATH=$tree/bin:$PATH
    export DOCKER_CONFIG=$tree/config
}

# Unpacks what of these packages an engine is made of, each file by its name alone.
engine_packages() {
    local SUITE=$1 tree=$2 package apt root file
    shift 2
    mkdir -p "$tree/bin" "$tree/config/cli-plugins"
    apt=$(mktemp -d "$CACHE/docker.XXXXXX")
    for package in "$@"; do
        note "fetching $package from Debian's $SUITE (once)"
        # Of the files that it looks for some are missing on every machine.
        (set +o errexit +o pipefail && download "$apt/$package" "$package")
        root=$apt/$package/root
        mkdir -p "$root"
        for file in "$apt/$package"/cache/archives/{docker*,containerd,runc,tini}_*.deb; do
            [[ ! -e $file ]] || dpkg-deb --extract "$file" "$root"
        done
        # The plugins of docker's command line, the programs, and the helper that opens ports. Of each name one.
        find "$root" -type f -path '*/cli-plugins/*' -exec cp -f -t "$tree/config/cli-plugins" {} +
        find "$root" -type f -path '*/*bin/*' \
            \( -name 'docker*' -o -name 'containerd*' -o -name runc \) -exec cp -f -t "$tree/bin" {} \;
        find "$root" -type f \( -name docker-proxy -o -name docker-init \) -exec cp -f -t "$tree/bin" {} \;
    done
    rm -rf -- "$apt"
}

# By it the engine leads a container's questions for names to itself, inside of that container's network. The
# program with its libraries, and a wrapper that finds them.
engine_iptables() {
    local SUITE=$1 tree=$2 apt file
    apt=$(mktemp -d "$CACHE/docker.XXXXXX")
    note "fetching iptables from Debian's $SUITE (once)"
    (set +o errexit +o pipefail && download "$apt" iptables)
    for file in "$apt"/cache/archives/{iptables,libip4tc2,libip6tc2,libxtables12,libmnl0,libnf}*.deb; do
        dpkg-deb --extract "$file" "$tree/iptables"
    done
    rm -rf -- "$apt"
    cat >"$tree/bin/iptables" <<'WRAPPER'
#!/bin/sh
root=$(cd "${0%/*}/../iptables" && pwd)
libraries=$(echo "$root"/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH="$libraries" XTABLES_LIBDIR="$libraries/xtables"
exec "$root/usr/sbin/xtables-nft-multi" iptables "$@"
WRAPPER
    chmod +x "$tree/bin/iptables"
}

# The data stay in the cache: images that were built are there at the next run.
engine_start() {
    local deadline=$((SECONDS + ENGINE_SECONDS_MAX))
    ENGINE_DIR=$(mktemp -d /tmp/orderwright-docker.XXXXXX)
    export DOCKER_HOST=unix://$ENGINE_DIR/docker.sock
    mkdir -p "$CACHE/docker-data"
    # A process group of its own: Ctrl-C is for this script, which then ends the engine.
    setsid dockerd --data-root "$CACHE/docker-data" --exec-root "$ENGINE_DIR/exec" --host "$DOCKER_HOST" \
        --pidfile "$ENGINE_DIR/pid" --iptables=false --ip6tables=false --bridge=none \
        </dev/null >"$ENGINE_DIR/log" 2>&1 &
    ENGINE_PID=$!
    until docker version >/dev/null 2>&1; do
        if ! kill -0 "$ENGINE_PID" 2>/dev/null || ((SECONDS > deadline)); then
            tail -n 20 "$ENGINE_DIR/log" >&2
            return 1
        fi
        sleep 0.2
    done
    note "started a Docker engine, $(docker version --format '{{.Server.Version}}')"
}

engine_stop() {
    [[ -n $ENGINE_PID ]] || return 0
    kill -TERM "$ENGINE_PID" 2>/dev/null
    wait "$ENGINE_PID" 2>/dev/null
    # The engine mounts its data upon itself.
    umount "$CACHE/docker-data" 2>/dev/null
    rm -rf -- "$ENGINE_DIR"
}
