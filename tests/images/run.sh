#!/usr/bin/env bash
# Builds the images, brings docker-compose.yml up, and does to it what happens to a cluster: a worker and the
# broker are killed, workers come and go. In the end the simulator's ledger must have every update, and every order
# its last one; where nothing was killed, once and in order. See usage().

set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd -- "$HERE/../.." && pwd)
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$REPOSITORY/.cache}
PROFILE=${ORDERWRIGHT_PROFILE:-release}
export COMPOSE_PROJECT_NAME=orderwright-test COMPOSE_FILE=docker-compose.yml:tests/images/compose.yaml
export ORDERWRIGHT_IMAGE=orderwright-test/orderwright ORDERWRIGHT_SIMULATOR_IMAGE=orderwright-test/simulator
ORDERS=200
BOOK= # the ledger, before what must be in order

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
        ((code == 0)) || docker compose logs --tail 40 orderwright rabbitmq >&2
        docker compose --profile "*" down --volumes --timeout 40 >&2
    fi
    debian_tidy
    engine_stop
    exit "$code"
}

# By the sections of docker-compose.yml, or from programs that are there.
build() {
    local begun=$SECONDS target commit version image
    commit=$(git -C "$REPOSITORY" rev-parse --short HEAD)
    if [[ -n ${ORDERWRIGHT_BINARIES:-} ]]; then
        mkdir -p "$CACHE/binaries/out"
        cp "$ORDERWRIGHT_BINARIES"/orderwright{,-sim} "$CACHE/binaries/out"
        for target in orderwright simulator; do
            image=$ORDERWRIGHT_IMAGE
            [[ $target == orderwright ]] || image=$ORDERWRIGHT_SIMULATOR_IMAGE
            # In the place of the stage that compiles.
            docker build --network=host --target "$target" --tag "$image" --build-context build="$CACHE/binaries" \
                --build-arg RUNTIME_IMAGE="$RUNTIME_IMAGE" --build-arg COMMIT="$commit" "$REPOSITORY"
        done
    else
        docker compose build --build-arg RUST_IMAGE="$RUST_IMAGE" --build-arg RUNTIME_IMAGE="$RUNTIME_IMAGE" \
            --build-arg PROFILE="$PROFILE" --build-arg COMMIT="$commit" orderwright simulator
    fi
    note "built in $((SECONDS - begun)) s: $(docker image ls --format '{{.Repository}} {{.Size}}' |
        grep -E '^orderwright-test/(orderwright|simulator) ' | tr '\n' ' ')"
    version=$(docker run --rm --network=none "$ORDERWRIGHT_IMAGE" --version)
    note "$version"
    [[ -n ${ORDERWRIGHT_BINARIES:-} || $version == *"$commit"* ]] || fail "--version says '$version' and not the commit $commit"
    for image in "$ORDERWRIGHT_IMAGE" "$ORDERWRIGHT_SIMULATOR_IMAGE"; do
        [[ $(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.revision"}}' "$image") == "$commit" ]] ||
            fail "$image: the label does not say the commit $commit"
    done
}

# What we depend on is compiled once: with another source, only our own crate is.
layers_are_kept() {
    local work log compiled
    work=$(mktemp -d "$CACHE/context.XXXXXX")
    cp -r "$REPOSITORY"/{Cargo.toml,Cargo.lock,src,templates,Dockerfile,.dockerignore} "$work"
    # No other build had this.
    printf '// %s\n' "$(date +%s%N)" >>"$work/src/lib.rs"
    log=$work.log
    docker build --progress=plain --network=host --target build --build-arg RUST_IMAGE="$RUST_IMAGE" \
        --build-arg RUNTIME_IMAGE="$RUNTIME_IMAGE" --build-arg PROFILE="$PROFILE" "$work" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail "another source does not build"
    }
    compiled=$(grep -oE ' Compiling [^ ]+' "$log" | sort -u)
    rm -rf -- "$work" "$log"
    [[ $compiled == ' Compiling orderwright' ]] || fail "with another source there was compiled: ${compiled//$'\n'/,}"
    note "with another source only our own crate is compiled"
}

# Ports that nobody has, so that a playground can run beside.
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

up() {
    local begun=$SECONDS port
    export ORDERWRIGHT_RABBITMQ_IMAGE=$RABBITMQ_IMAGE ORDERWRIGHT_PROMETHEUS_IMAGE=$PROMETHEUS_IMAGE
    for port in AMQP MANAGEMENT SIMULATOR PROMETHEUS; do
        export "ORDERWRIGHT_${port}_PORT=$(free_port)"
    done
    UP=1
    # The command that the file itself and deploy/README.md name.
    docker compose up --wait --no-build
    note "up and healthy in $((SECONDS - begun)) s; a worker was ready $(ready_after "$(workers | head -n 1)") s after its start"
}

# Seconds from the start of a container to what its daemon says when it consumes.
ready_after() {
    docker logs --timestamps "$1" 2>&1 | python3 -c '
import datetime, re, sys
time = lambda text: datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z$", r"\1+00:00", text))
ready = next(line for line in sys.stdin if "consuming" in line)
print(round((time(ready.split()[0]) - time(sys.argv[1])).total_seconds(), 2))
' "$(docker inspect --format '{{.State.StartedAt}}' "$1")"
}

# The profile with Prometheus: it scrapes every worker and the broker, and takes the rules. Grafana's image is to be
# had nowhere but at its maker's.
observed() {
    local wanted=$1 deadline=$((SECONDS + 90)) seen
    docker compose up --wait --no-build --no-recreate prometheus
    while :; do
        seen="$(asked 'sum(up{job="orderwright"})') $(asked 'sum(up{job="rabbitmq"})') $(asked 'sum(orderwright_shards_owned)')"
        [[ $seen == "$wanted 1 64" ]] && break
        ((SECONDS < deadline)) || fail "Prometheus sees workers, broker and shards: $seen"
        sleep 1
    done
    (($(curl --silent --fail --max-time 10 "http://127.0.0.1:$ORDERWRIGHT_PROMETHEUS_PORT/api/v1/rules" |
        python3 -c 'import json, sys; print(sum(len(it["rules"]) for it in json.load(sys.stdin)["data"]["groups"]))') > 10)) ||
        fail "Prometheus has not the rules"
    note "Prometheus scrapes $wanted workers and the broker, and has the rules"
}

# What an expression comes to now; nothing where there is no sample.
asked() {
    curl --silent --max-time 10 --get --data-urlencode "query=$1" \
        "http://127.0.0.1:$ORDERWRIGHT_PROMETHEUS_PORT/api/v1/query" |
        python3 -c 'import json, sys; print(*(it["value"][1] for it in json.load(sys.stdin)["data"]["result"]))' 2>/dev/null || true
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
    docker compose up --wait --no-build --scale orderwright="$1"
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
    BOOK=$(ledger '')
    publish 13 32 80 &
    publisher=$!
    scale 4
    scale 2
    wait "$publisher" || fail "publishing failed though nothing happened to the broker"
    written $((32 * ORDERS))
}

# Every update is written, and every order's last one last. What a killed worker or broker had on the way may be
# written again; where nothing was killed, nothing is written twice or out of order.
judge() {
    local book letters last name
    book=$(ledger '')
    note "the ledger: $book"
    (($(figure overlaps <<<"$book") == 0)) || fail "two writers were at work on one order"
    (($(figure applied_distinct <<<"$book") == 32 * ORDERS)) || fail "not every update was written"
    for name in out_of_order applied_twice; do
        note "$name: $(figure $name <<<"$BOOK") after the kills, $(figure $name <<<"$book") at the end"
        (($(figure $name <<<"$book") == $(figure $name <<<"$BOOK"))) || fail "$name rose while nothing was killed"
    done
    last=$(curl --silent --fail --max-time 100 "http://127.0.0.1:$ORDERWRIGHT_SIMULATOR_PORT/data/SalesOrderHeadersV2(dataAreaId='USMF',SalesOrderNumber='SO-[000001-000$ORDERS]')?cross-company=true" |
        grep -o '"UpdateSequence":32[,}]' | wc -l)
    ((last == ORDERS)) || fail "only $last of $ORDERS orders ended with their last update"
    letters=$(docker compose run --rm --no-TTY --interactive=false cli dead-letters ls --output ndjson | wc -l)
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
[[ -n ${ORDERWRIGHT_BINARIES:-} ]] || layers_are_kept
up
observed 2
trouble
observed 2
judge
