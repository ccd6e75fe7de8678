# shellcheck shell=bash
# Several RabbitMQ nodes of one cluster as processes of this machine. Sourced by broker.sh.
#
# Each node is one of node.sh, with a folder and ports of its own; epmd and the Erlang cookie are
# shared. What is known of each is kept in arrays, and put into the variables of node.sh while
# something is done to it.

NODES=()
AMQP_PORTS=()
MANAGEMENT_PORTS=()
DIST_PORTS=()
LOGS=()
CURRENT=
# Healing takes some 5 s where it works.
HEAL_SECONDS_MAX=15

# Whom node.sh speaks of from here on: a number from 1.
node_use() {
    CURRENT=$1
    NODE=${NODES[$1]:-} AMQP_PORT=${AMQP_PORTS[$1]} MANAGEMENT_PORT=${MANAGEMENT_PORTS[$1]}
    # shellcheck disable=SC2034 # node.sh reads them
    DIST_PORT=${DIST_PORTS[$1]} LOG=${LOGS[$1]:-} NODE_NAME=orderwright$1@localhost NODE_DIR=$HOME_DIR/$1
    AMQP="amqp://guest:guest@127.0.0.1:$AMQP_PORT/%2f"
    MANAGEMENT="http://127.0.0.1:$MANAGEMENT_PORT"
}

node_keep() { NODES[CURRENT]=$NODE LOGS[CURRENT]=${LOG:-}; }

# The nodes start alone and then join the first: finding each other by configuration takes minutes
# where some are not up yet.
cluster_first_start() {
    local number port_names=(EPMD_PORT)
    for ((number = 1; number <= NODES_WANTED; number++)); do
        port_names+=("AMQP_PORTS[$number]" "MANAGEMENT_PORTS[$number]" "DIST_PORTS[$number]")
    done
    choose_ports "${port_names[@]}"
    note "starting $NODES_WANTED nodes of RabbitMQ ($HOW) in $HOME_DIR, AMQP on ${AMQP_PORTS[*]}"
    for ((number = 1; number <= NODES_WANTED; number++)); do
        mkdir -p -- "$HOME_DIR/$number"
        if ! cluster_start "$number" || ! cluster_join "$number"; then
            tail -n 20 "$LOG" >&2
            return 1
        fi
    done
    cluster_is_whole || return 1
    node_use 1
}

cluster_join() {
    (($1 > 1)) || return 0
    local step
    for step in stop_app "join_cluster orderwright1@localhost" start_app; do
        # shellcheck disable=SC2086 # the words of a command
        bounded "$START_SECONDS_MAX" env -i "${CLEAN[@]}" "$SBIN/rabbitmqctl" --quiet \
            --node "$NODE_NAME" $step >&2 || return 1
    done
}

# Run for each node by node.sh when it writes the configuration.
#
# A node that was frozen and goes on has been given up by the others, and Mnesia takes that for a
# partition, which autoheal ends by a restart of one side. With pause_minority it stays: the others are
# back before the node can find itself a minority (measured on 4.0.5). The tick time is a minute by
# default, and a frozen node is missed after about as long; that is shortened, so that a run of minutes
# sees it several times.
cluster_configuration() {
    echo 'cluster_partition_handling = autoheal'
    echo "net_ticktime = $TICK_SECONDS"
    echo 'queue_leader_locator = balanced'
}

# True once every node lists all: a node that missed the others founds a cluster of its own.
cluster_is_whole() {
    local deadline=$((SECONDS + ${1:-$START_SECONDS_MAX})) number whole
    while :; do
        whole=0
        for ((number = 1; number <= NODES_WANTED; number++)); do
            [[ $(cluster_members "$number") == "$NODES_WANTED" ]] && whole=$((whole + 1))
        done
        ((whole < NODES_WANTED)) || return 0
        if ((SECONDS >= deadline)); then
            for ((number = 1; number <= NODES_WANTED; number++)); do
                note "node $number sees $(cluster_members "$number") of $NODES_WANTED"
                grep -h -i -e autoheal -e partition -e pause "${LOGS[number]}" | tail -n 5 >&2
            done
            return 1
        fi
        sleep 0.2
    done
}

# How many nodes run, as one of them sees it: its management API names each once.
cluster_members() {
    (
        exec 3<>"/dev/tcp/127.0.0.1/${MANAGEMENT_PORTS[$1]}" || exit 1
        printf 'GET /api/nodes?columns=name,running HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n' >&3
        timeout 5 cat <&3 | grep -o '"running":true' | grep -c .
    ) 2>/dev/null
}

cluster_start() { node_use "$1" && node_start && node_keep; }

# A restarted node is back when the others see it, too.
cluster_start_again() { cluster_start "$1" && cluster_is_whole; }

cluster_stop() {
    node_use "$1"
    node_stop
    node_keep
}

cluster_kill() {
    node_use "$1"
    node_kill
    node_keep
}

# The group, since the node has helper processes.
cluster_freeze() { kill -STOP -- "-${NODES[$1]}"; }

# A node that goes on may restart to heal the partition, and serves nobody meanwhile. Where the nodes
# do not heal by themselves, the one that was frozen is restarted, as an operator would.
cluster_thaw() {
    kill -CONT -- "-${NODES[$1]}" || return 1
    if ! cluster_is_whole "$HEAL_SECONDS_MAX"; then
        note "node $1 does not come back by itself: restarting it"
        cluster_kill "$1" && cluster_start_again "$1" || return 1
    fi
    cluster_serves "$1"
}

cluster_serves() {
    local deadline=$((SECONDS + START_SECONDS_MAX))
    until amqp_answers "${AMQP_PORTS[$1]}"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

cluster_remove() {
    local number
    for ((number = 1; number <= NODES_WANTED; number++)); do
        [[ -n ${NODES[number]:-} ]] || continue
        node_use "$number"
        node_kill
        node_keep
    done
    NODE=
    node_remove
}
