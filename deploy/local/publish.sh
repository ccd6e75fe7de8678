#!/usr/bin/env bash
# Runs one of the examples of docs/publishing with its client library, which is fetched into the cache, once:
#
#   AMQP_URL=amqp://localhost deploy/local/publish.sh python USMF SO-000001 '{"SalesStatus": "Delivered"}'
#
# python takes Python 3 with pip, node takes Node.js with npm, java a JDK, and Debian for its library. Exit code 69: the
# machine has not what the example needs, or it could not be fetched.

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
EXAMPLES=$(cd -- "$HERE/../../docs/publishing" && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$(cd -- "$HERE/../.." && pwd)/.cache}
PIKA=1.4.4
AMQPLIB=2.3.1

note() { echo "publish: $*" >&2; }

missing() {
    note "$*"
    exit 69
}

# Gives the functions that fetch Debian's packages.
# shellcheck source=deploy/local/broker/unpacked.sh
source "$HERE/broker/unpacked.sh"

# Fills a folder by a command that gets the name of an empty one. It appears by a rename: that it is there means that it
# is whole. Whoever was first has won.
filled() {
    local tree=$1 work
    shift
    [[ ! -d $tree ]] || return 0
    mkdir -p -- "$CACHE"
    work=$(mktemp -d "$tree.XXXXXX")
    if ! "$@" "$work" >&2; then
        rm -rf -- "$work"
        missing "the client library could not be fetched"
    fi
    mv -T -- "$work" "$tree" 2>/dev/null || rm -rf -- "$work"
}

pika() { python3 -m pip install --quiet --disable-pip-version-check --no-compile --root-user-action ignore --target "$1" "pika==$PIKA"; }

amqplib() {
    npm install --silent --no-audit --no-fund --prefix "$1" "amqplib@$AMQPLIB" &&
        ln -s "$EXAMPLES/publish.mjs" "$1/publish.mjs"
}

# The jars alone, with what the client logs by.
client() {
    # shellcheck disable=SC2034 # download_alone reads it
    local SUITE package
    SUITE=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
    (set +o errexit +o pipefail && download_alone "$1/apt" librabbitmq-client-java libslf4j-java) || return 1
    for package in "$1"/apt/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$1/tree" || return 1
    done
    cp -L "$1"/tree/usr/share/java/{amqp-client,slf4j-api,slf4j-nop}.jar "$1" &&
        rm -rf -- "$1/apt" "$1/tree"
}

language=${1:-}
[[ -z $language ]] || shift
case $language in
python)
    python3 -m pip --version >/dev/null 2>&1 || missing "there is no Python with pip"
    filled "$CACHE/pika-$PIKA" pika
    PYTHONPATH=$CACHE/pika-$PIKA exec python3 "$EXAMPLES/publish.py" "$@"
    ;;
node)
    npm --version >/dev/null 2>&1 || missing "there is no Node.js with npm"
    filled "$CACHE/amqplib-$AMQPLIB" amqplib
    # Looks for modules beside the link.
    exec node --preserve-symlinks-main "$CACHE/amqplib-$AMQPLIB/publish.mjs" "$@"
    ;;
java)
    javac -version >/dev/null 2>&1 || missing "there is no JDK"
    [[ -e /etc/debian_version ]] || missing "the library comes from Debian's packages, and this is no Debian"
    filled "$CACHE/amqp-client" client
    # Compiles it in memory.
    exec java -cp "$CACHE/amqp-client/*" "$EXAMPLES/Publish.java" "$@"
    ;;
*)
    note "say python, node or java, and then what the example takes"
    exit 64
    ;;
esac
