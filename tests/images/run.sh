#!/usr/bin/env bash
# Builds the images, brings docker-compose.yml up, and does to it what happens to a cluster: a worker and the
# broker are killed, workers come and go. In the end the simulator's ledger must have every update, once and in
# order. See usage().

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd -- "$HERE/../.." && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$REPOSITORY/.cache}
export COMPOSE_PROJECT_NAME=orderwright-test
ORDERS=200

usage() {
    cat <<'USAGE'
tests/images/run.sh [check]

check   only what needs no build: the Dockerfile by the engine itself, the compose file
else    all of it

Takes the Docker engine that answers, or as root on Debian starts one of its own, and ends it. Base images are
made here (with debootstrap, of Debian's packages and this machine's Rust), or pulled. Needs curl and Python.
    ORDERWRIGHT_PULL=1       pull them
    ORDERWRIGHT_PROFILE=dev  build with another of Cargo's profiles than `release`, to be quicker
    ORDERWRIGHT_BINARIES=DIR put these programs into the images, and compile nothing
USAGE
}

note() { printf 'images: %s\n' "$*" >&2; }

fail() {
    note "FAILED: $*"
    exit 1
}

# shellcheck source=deploy/local/broker/unpacked.sh
source "$REPOSITORY/deploy/local/broker/unpacked.sh"
# shellcheck source=tests/images/engine.sh
source "$HERE/engine.sh"
# shellcheck source=tests/images/bases.sh
source "$HERE/bases.sh"

UP=
finish() {
    local code=$?
    set +e
    trap '' INT TERM HUP
    if [[ -n $UP ]]; then
        ((code == 0)) || docker compose logs --tail 40 orderwright topology rabbitmq >&2
        docker compose down --volumes --timeout 40 >&2
    fi
    debian_tidy
    engine_stop
    exit "$code"
}

build() {
    local target begun=$SECONDS commit instead=()
    commit=$(git -C "$REPOSITORY" rev-parse --short HEAD)
    if [[ -n ${ORDERWRIGHT_BINARIES:-} ]]; then
        mkdir -p "$CACHE/binaries/out"
        cp "$ORDERWRIGHT_BINARIES"/orderwright{,-sim} "$CACHE/binaries/out"
        # In the place of the stage that compiles.
        instead=(--build-context build="$CACHE/binaries")
    fi
    for target in orderwright simulator; do
        docker build --network=host --target "$target" --tag "orderwright-test/$target" \
            --build-arg RUST_IMAGE="$RUST_IMAGE" --build-arg RUNTIME_IMAGE="$RUNTIME_IMAGE" \
            --build-arg PROFILE="${ORDERWRIGHT_PROFILE:-release}" --build-arg COMMIT="$commit" \
            "${instead[@]}" "$REPOSITORY"
    done
    note "built in $((SECONDS - begun)) s: $(docker image ls --format '{{.Repository}} {{.Size}}' |
        grep -E '^orderwright-test/(orderwright|simulator) ' | tr '\n' ' ')"
    local version
    version=$(docker run --rm --network=none orderwright-test/orderwright --version)
    [[ -n ${ORDERWRIGHT_BINARIES:-} || $version == *"$commit"* ]] || fail "--version says '$version' and not the commit $commit"
}

# Ports that nobody has, so that a playground can run beside.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

up() {
    export ORDERWRIGHT_IMAGE=orderwright-test/orderwright ORDERWRIGHT_SIMULATOR_IMAGE=orderwright-test/simulator
    export ORDERWRIGHT_RABBITMQ_IMAGE=$RABBITMQ_IMAGE
    ORDERWRIGHT_AMQP_PORT=$(free_port)
    ORDERWRIGHT_MANAGEMENT_PORT=$(free_port)
    ORDERWRIGHT_SIMULATOR_PORT=$(free_port)
    export ORDERWRIGHT_AMQP_PORT ORDERWRIGHT_MANAGEMENT_PORT ORDERWRIGHT_SIMULATOR_PORT
    local begun=$SECONDS
    UP=1
    # Without --wait: it takes the end of the one that declares for a failure.
    docker compose up --detach --no-build
    all_healthy 2
    note "up and healthy in $((SECONDS - begun)) s"
}

workers() { docker compose ps --quiet orderwright; }

# Waits until so many workers, and the broker, are healthy.
all_healthy() {
    local wanted=$1 deadline=$((SECONDS + 180)) healthy
    while :; do
        healthy=$(docker compose ps --quiet orderwright rabbitmq |
            xargs --no-run-if-empty docker inspect --format '{{.State.Health.Status}}' | grep -c '^healthy$' || true)
        ((healthy == wanted + 1)) && return
        ((SECONDS < deadline)) || fail "$healthy of $((wanted + 1)) containers are healthy after 180 s"
        sleep 1
    done
}

# Publishes updates number $1 to $2 of every order, at a rate. The program itself says what was confirmed.
publish() {
    local from=$1 to=$2 rate=$3
    awk -v from="$from" -v to="$to" -v orders="$ORDERS" 'BEGIN {
        for (n = from; n <= to; n++) for (o = 1; o <= orders; o++)
            printf "{\"key\":{\"dataAreaId\":\"USMF\",\"SalesOrderNumber\":\"SO-%06d\"},\"changes\":{\"DeliveryDate\":\"2025-02-%02d\",\"UpdateSequence\":%d}}\n", o, n % 28 + 1, n
    }' | docker compose run --rm --no-TTY cli publish --file - --rate "$rate"
}

ledger() { curl --silent --fail --max-time 100 "http://127.0.0.1:$ORDERWRIGHT_SIMULATOR_PORT/sim/ledger$1"; }

figure() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# Waits until so many different updates are written.
written() {
    local wanted=$1 deadline=$((SECONDS + 300)) have
    while :; do
        have=$(ledger "?applied_distinct_min=$wanted&wait_ms=60000" | figure applied_distinct)
        ((have >= wanted)) && return
        ((SECONDS < deadline)) || fail "$have of $wanted updates were written after 300 s"
    done
}

# Shards of each worker, as the broker sees them: "22 21 21".
spread() {
    local id address
    for id in $(workers); do
        address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$id")
        curl --silent --max-time 5 "http://$address:9464/metrics" |
            awk '/^orderwright_shards_owned/ { sum += $2 } END { printf "%d ", sum }'
    done
}

spreads_over() {
    local wanted=$1 deadline=$((SECONDS + 90)) now
    while :; do
        now=$(spread)
        # None has more than its fair share, and all together have all.
        if awk -v wanted="$wanted" -v now="$now" 'BEGIN {
            n = split(now, of, " "); for (i in of) { sum += of[i]; if (of[i] > most) most = of[i] }
            exit !(n == wanted && sum == 64 && most <= int((64 + wanted - 1) / wanted))
        }'; then
            note "the 64 shards lie on $wanted workers: $now"
            return
        fi
        ((SECONDS < deadline)) || fail "the shards do not lie evenly on $wanted workers: $now"
        sleep 1
    done
}

scale() {
    docker compose up --detach --no-build --no-recreate --scale orderwright="$1" orderwright
    all_healthy "$1"
    spreads_over "$1"
}

trouble() {
    local victim publisher
    spreads_over 2
    # So few conflicts that no update meets four in a row: none may be dead-lettered here.
    curl --silent --fail --output /dev/null --request PUT --data '{"conflict_rate":0.01}' \
        "http://127.0.0.1:$ORDERWRIGHT_SIMULATOR_PORT/sim/faults"

    note "a worker is killed while updates flow"
    publish 1 5 100 &
    publisher=$!
    sleep 4
    victim=$(workers | head -n 1)
    docker kill "$victim" >/dev/null
    wait "$publisher" || fail "publishing failed though the broker was there"
    docker start "$victim" >/dev/null
    all_healthy 2
    written $((5 * ORDERS))

    note "the broker is killed while a backlog is worked off"
    publish 6 12 2000
    docker compose kill rabbitmq
    sleep 2
    docker compose start rabbitmq
    all_healthy 2
    written $((12 * ORDERS))

    note "2 workers become 4, and 2 again, while updates flow"
    publish 13 32 80 &
    publisher=$!
    scale 4
    scale 2
    wait "$publisher" || fail "publishing failed though nothing happened to the broker"
    written $((32 * ORDERS))
}

# Everything once and in order, but for what a killed worker or broker had on the way: that may be written again.
judge() {
    local book letters
    book=$(ledger '')
    note "the ledger: $book"
    (($(figure overlaps <<<"$book") == 0)) || fail "two writers were at work on one order"
    (($(figure applied_distinct <<<"$book") == 32 * ORDERS)) || fail "not every update was written"
    letters=$(docker compose run --rm --no-TTY cli dead-letters ls --output ndjson | wc -l)
    ((letters == 0)) || fail "$letters dead letters"
    # SIGTERM reaches the process, and it drains.
    local id
    id=$(workers | head -n 1)
    docker stop --time 40 "$id" >/dev/null
    (($(docker inspect --format '{{.State.ExitCode}}' "$id") == 0)) || fail "the drain did not end with 0"
    note "passed: $((32 * ORDERS)) updates"
}

case ${1:-all} in
check | all) ;;
*)
    usage
    exit 64
    ;;
esac
mkdir -p -- "$CACHE"
trap finish EXIT
trap 'exit 130' INT TERM HUP
cd -- "$REPOSITORY"
engine_ensure
docker compose --profile '*' config --quiet
bases_ensure
# Only a newer plugin knows how.
if docker build --help 2>/dev/null | grep --quiet -e '--check'; then
    docker build --check --build-arg RUST_IMAGE="$RUST_IMAGE" --build-arg RUNTIME_IMAGE="$RUNTIME_IMAGE" .
fi
[[ ${1:-all} == all ]] || exit 0
build
up
trouble
judge
