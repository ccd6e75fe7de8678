#!/usr/bin/env bash
# One private RabbitMQ for tests and the demo; see usage() below for the whole interface.
#
# Whoever starts this script holds its stdin open for as long as the broker is wanted. When that
# process ends, in whatever way, stdin ends too, and the script stops what it started. So nothing
# is left behind by a test that panics or a demo that is killed.

set -uo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd -- "$HERE/../.." && pwd)
IMAGE=${ORDERWRIGHT_BROKER_IMAGE:-rabbitmq:4-management}
SUITE=${ORDERWRIGHT_BROKER_SUITE:-trixie}
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$REPOSITORY/.cache}
PLUGINS='[rabbitmq_management,rabbitmq_consistent_hash_exchange].'
# A start takes 3 to 8 s on two idle cores; a machine that also compiles can be much slower.
START_SECONDS_MAX=120
NODES_WANTED=${ORDERWRIGHT_BROKER_NODES:-1}
# How long the nodes of a cluster wait for a sign of life from each other.
TICK_SECONDS=8

# shellcheck source=deploy/local/broker/ports.sh
source "$HERE/broker/ports.sh"
# shellcheck source=deploy/local/broker/docker.sh
source "$HERE/broker/docker.sh"
# shellcheck source=deploy/local/broker/node.sh
source "$HERE/broker/node.sh"
# shellcheck source=deploy/local/broker/cluster.sh
source "$HERE/broker/cluster.sh"
# shellcheck source=deploy/local/broker/unpacked.sh
source "$HERE/broker/unpacked.sh"

usage() {
    cat <<'USAGE'
broker.sh run [DIR]   bring up one RabbitMQ, on loopback ports of its own
broker.sh fetch       only fill the cache of the unpacked broker
broker.sh help        this text

`run` keeps its data in DIR (a new temporary folder if omitted). Once the broker serves, one line
comes out on stdout:
    {"amqp":"amqp://guest:guest@127.0.0.1:PORT/%2f","management":"http://127.0.0.1:PORT","how":"..."}
Then it takes commands on stdin, one a line, and answers each with one line:
    restart   stop fully, start again on the same ports and data   the line above
    kill      SIGKILL the node                                     {"down":"killed"}
    stop      stop the node in good order                          {"down":"stopped"}
    start     start it again after kill or stop                    the line above
    ctl ...   run rabbitmqctl with these words on it               the line above
Of a cluster, each of them but ctl takes the number of a node, from 1, and there are two more:
    freeze N  SIGSTOP the node: it holds its connections and says nothing   {"down":"frozen"}
    thaw N    let it go on; answered once the cluster is whole again        the line above
The line of a cluster names all nodes as well: "nodes":["amqp://...", ...].
What cannot be done is answered by {"error":"..."}. At the end of stdin, on SIGINT and on SIGTERM
everything that was started is stopped and its data removed; the exit code is then 0.

The broker is the first of these that can be had, named by "how":
    given      AMQP_URL is set: that broker is used, nothing is started
    docker     an engine answers, and has or can pull the image
    installed  a rabbitmq-server of version 4 is on this machine
    unpacked   Debian's packages, unpacked without root into .cache/ and run from there

Environment:
    AMQP_URL                    use this broker (and ORDERWRIGHT_MANAGEMENT_URL, if it has one)
    ORDERWRIGHT_BROKER          docker, installed or unpacked: this one or none
    ORDERWRIGHT_BROKER_IMAGE    rabbitmq:4-management
    ORDERWRIGHT_BROKER_SUITE    Debian suite to unpack: bookworm (3.10), trixie (4.0) or sid (4.3)
    ORDERWRIGHT_BROKER_NODES    3: a cluster of so many nodes (2 to 7; not with docker)
    ORDERWRIGHT_BROKER_CACHE    where to unpack, to share it among checkouts; default .cache/
USAGE
}

note() { printf 'broker: %s\n' "$*" >&2; }

# A JSON string's inside. The texts are ours or a URL, so only these two characters can occur.
escaped() {
    local text=${1//\\/\\\\}
    printf '%s' "${text//\"/\\\"}"
}

answer_error() { printf '{"error":"%s"}\n' "$(escaped "$1")"; }

answer_ready() {
    local management=null
    [[ -z $MANAGEMENT ]] || management="\"$(escaped "$MANAGEMENT")\""
    local nodes= port
    for port in "${AMQP_PORTS[@]}"; do nodes+="${nodes:+,}\"amqp://guest:guest@127.0.0.1:$port/%2f\""; done
    printf '{"amqp":"%s","management":%s,"how":"%s","nodes":[%s]}\n' \
        "$(escaped "$AMQP")" "$management" "$HOW" "$nodes"
}

# Runs a command for at most so many seconds. It and its alarm have process groups of their own, so
# that a signal to this script is acted on at once and the terminal's Ctrl-C leaves the tidying to
# this script.
TASK=
ALARM=
bounded() {
    local seconds=$1 code
    shift
    set -m
    "$@" </dev/null &
    TASK=$!
    {
        sleep "$seconds"
        kill -TERM -- "-$TASK"
    } </dev/null >/dev/null 2>&1 &
    ALARM=$!
    set +m
    wait "$TASK"
    code=$?
    TASK=
    end_group "$ALARM"
    ALARM=
    return "$code"
}

end_group() {
    [[ -n $1 ]] || return 0
    kill -TERM -- "-$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

# ---- the choice ----

REASONS=()
because() { REASONS+=("$1"); }

# Sets HOW to the first kind of broker that can be had here.
choose() {
    local kind kinds="docker installed unpacked"
    case ${ORDERWRIGHT_BROKER:-} in
    '') ;;
    docker | installed | unpacked) kinds=$ORDERWRIGHT_BROKER ;;
    *)
        because "ORDERWRIGHT_BROKER is '$ORDERWRIGHT_BROKER': it must be docker, installed or unpacked"
        return 1
        ;;
    esac
    if [[ ! $NODES_WANTED =~ ^[1-7]$ ]]; then
        because "ORDERWRIGHT_BROKER_NODES is '$NODES_WANTED': it must be a number from 1 to 7"
        return 1
    fi
    if ((NODES_WANTED > 1)); then kinds=${kinds/docker/}; fi
    # Another suite is asked for by who wants another version, which no other kind can promise.
    if [[ -n ${ORDERWRIGHT_BROKER_SUITE:-} && -z ${ORDERWRIGHT_BROKER:-} ]]; then
        kinds=unpacked
    fi
    for kind in $kinds; do
        if "${kind}_available"; then
            HOW=$kind
            return 0
        fi
    done
    return 1
}

explain() {
    local reason
    note "no RabbitMQ could be brought up:"
    for reason in "${REASONS[@]}"; do note "  $reason"; done
    note "To go on, do one of these and try again:"
    note "  set AMQP_URL=amqp://user:password@host:5672/%2f to use a broker that runs already"
    note "  install Docker, so that $IMAGE can be run"
    note "  install rabbitmq-server, version 4"
}

# ---- the life of one broker ----

OWNS_DIR=
HOME_DIR=

# Ends everything, however this came about. A second signal must not interrupt the tidying.
finish() {
    trap '' INT TERM HUP PIPE
    end_group "$TASK"
    end_group "$ALARM"
    case ${HOW:-} in
    docker) docker_remove ;;
    installed | unpacked) "${BACKEND:-node}_remove" ;;
    esac
    [[ -z $HOME_DIR ]] || rm -rf -- "$HOME_DIR"
    [[ -z $OWNS_DIR ]] || rmdir -- "$OWNS_DIR" 2>/dev/null
}

fail() {
    note "$1"
    answer_error "$1"
    exit 1
}

# One reply a command: the caller writes a line and reads a line, and cannot get out of step.
obey() {
    if [[ $HOW == given ]]; then
        answer_error "the broker was given by AMQP_URL: it is not ours to $1"
        return
    fi
    local done=true node=() words
    if [[ $BACKEND == cluster ]]; then
        if [[ ! ${2:-} =~ ^[1-7]$ ]] || ((${2:-0} > NODES_WANTED)); then
            answer_error "which of the $NODES_WANTED nodes to $1?"
            return
        fi
        node=("$2")
    fi
    case $BACKEND:$1 in
    cluster:restart) cluster_stop "$2" && cluster_start_again "$2" || done=false ;;
    cluster:start) cluster_start_again "$2" || done=false ;;
    cluster:freeze | cluster:thaw) "cluster_$1" "$2" || done=false ;;
    cluster:ctl) answer_error "not on a cluster" && return ;;
    *:restart) "${BACKEND}_stop" && "${BACKEND}_start" || done=false ;;
    *:start | *:stop | *:kill) "${BACKEND}_$1" "${node[@]}" || done=false ;;
    *:ctl)
        read -ra words <<<"${2:-}"
        "${BACKEND}_ctl" "${words[@]}" || done=false
        ;;
    *)
        answer_error "unknown command: $1"
        return
        ;;
    esac
    case $done:$1 in
    false:*) answer_error "$1 failed; the reason is on stderr" ;;
    *:stop) echo '{"down":"stopped"}' ;;
    *:kill) echo '{"down":"killed"}' ;;
    *:freeze) echo '{"down":"frozen"}' ;;
    *) answer_ready ;;
    esac
}

run() {
    local command node
    trap finish EXIT
    # Through exit, so that the EXIT trap is the one place that tidies.
    trap 'exit 0' INT TERM HUP PIPE

    if [[ -n ${AMQP_URL:-} ]]; then
        HOW=given AMQP=$AMQP_URL MANAGEMENT=${ORDERWRIGHT_MANAGEMENT_URL:-}
    else
        if ! choose; then
            explain
            local all
            printf -v all '%s; ' "${REASONS[@]}"
            answer_error "no RabbitMQ could be brought up: ${all%; }; set AMQP_URL or install Docker"
            exit 1
        fi
        case $HOW:$NODES_WANTED in
        docker:*) BACKEND=docker ;;
        *:1) BACKEND=node ;;
        *) BACKEND=cluster ;;
        esac
        make_home "${1:-}"
        "${BACKEND}_first_start" || fail "RabbitMQ ($HOW) did not start; the reason is above"
        AMQP="amqp://guest:guest@127.0.0.1:$AMQP_PORT/%2f"
        MANAGEMENT="http://127.0.0.1:$MANAGEMENT_PORT"
    fi
    answer_ready
    while read -r command node; do
        [[ -z $command ]] || obey "$command" "$node"
    done
    exit 0
}

# A folder of our own inside DIR, so that removing it cannot touch what was there before.
make_home() {
    local dir=$1
    if [[ -z $dir ]]; then
        dir=$(mktemp -d "${TMPDIR:-/tmp}/orderwright-broker.XXXXXX") || fail "no temporary folder"
        OWNS_DIR=$dir
    elif [[ ! -d $dir ]]; then
        mkdir -p -- "$dir" || fail "cannot make $dir"
        OWNS_DIR=$(cd -- "$dir" && pwd)
    fi
    HOME_DIR=$(mktemp -d "$(cd -- "$dir" && pwd)/broker.XXXXXX") || fail "cannot write to $dir"
}

case ${1:-help} in
run) run "${2:-}" ;;
fetch)
    trap finish EXIT
    trap 'exit 130' INT TERM HUP
    unpacked_available || {
        explain
        exit 1
    }
    ;;
help | -h | --help) usage ;;
*)
    usage >&2
    exit 64
    ;;
esac
