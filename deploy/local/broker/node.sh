# shellcheck shell=bash
# A RabbitMQ node as a process of this machine: installed, or unpacked. Sourced by broker.sh.

SBIN=       # the server's own scripts
ERLANG_BIN= # Erlang's programs; empty: those in PATH
NODE=       # process id, which is also its process group
EPMD=
STARTS=0
NODE_NAME=orderwright@localhost
NODE_DIR= # its data, configuration and logs

# The server's own scripts are wanted, not Debian's wrapper around them, which insists on root.
installed_available() {
    local dir
    for dir in /usr/lib/rabbitmq/lib/rabbitmq_server-4*/sbin \
        "$(dirname -- "$(readlink -f -- "$(command -v rabbitmq-server)" 2>/dev/null)" 2>/dev/null)"; do
        if [[ -x $dir/rabbitmq-server ]] && compgen -G "$dir/../plugins/rabbit-4.*" >/dev/null; then
            SBIN=$dir
            command -v epmd erl >/dev/null && return 0
            because "installed: rabbitmq-server is here, but erl or epmd is not in PATH"
            return 1
        fi
    done
    because "installed: no rabbitmq-server of version 4"
    return 1
}

# Somebody may take a port between its choice and its use: then all are chosen anew.
node_first_start() {
    local tries=5
    NODE_DIR=$HOME_DIR
    while ((tries-- > 0)); do
        choose_ports AMQP_PORT MANAGEMENT_PORT DIST_PORT EPMD_PORT
        note "starting RabbitMQ ($HOW) in $HOME_DIR, AMQP on 127.0.0.1:$AMQP_PORT"
        node_start && return 0
        if process_runs "$EPMD" && ! grep -q -e eaddrinuse -e dist_port_already_used "$LOG"; then break; fi
        note "somebody took one of the ports"
        node_remove
        rm -rf -- "$NODE_DIR/data"
    done
    tail -n 20 "$LOG" >&2
    return 1
}

# The environment of all programs of the broker, which holds nothing of the caller's.
clean_environment() {
    CLEAN=(PATH="${ERLANG_BIN:+$ERLANG_BIN:}${PATH:-/usr/bin:/bin}" LANG=C.UTF-8 HOME="$HOME_DIR"
        ERL_EPMD_PORT="$EPMD_PORT" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP=/dev/null)
}

# Starts a program of the broker so that the terminal's Ctrl-C does not reach it, and, where the
# kernel can, so that it dies with this script even if that is killed by SIGKILL.
spawn() {
    local with_us=()
    setpriv --pdeathsig KILL true 2>/dev/null && with_us=(setpriv --pdeathsig KILL)
    clean_environment
    setsid "${with_us[@]}" env -i "${CLEAN[@]}" "$@" </dev/null >>"$LOG" 2>&1 &
}

node_start() {
    node_runs && return 0
    STARTS=$((STARTS + 1))
    LOG=$NODE_DIR/node-$STARTS.log
    : >"$LOG"
    configure
    # An epmd of our own, in the foreground: one that the node starts would outlive it unseen.
    if ! process_runs "$EPMD"; then
        spawn epmd
        EPMD=$!
    fi
    # The node itself replaces the script (that is what ALLOW_INPUT is for), so our child is the
    # node and its end is seen at once.
    spawn RABBITMQ_ALLOW_INPUT=1 \
        RABBITMQ_NODENAME="$NODE_NAME" RABBITMQ_DIST_PORT="$DIST_PORT" \
        RABBITMQ_CONFIG_FILE="$NODE_DIR/rabbitmq.conf" \
        RABBITMQ_ADVANCED_CONFIG_FILE="$NODE_DIR/advanced.config" \
        RABBITMQ_CONF_ENV_FILE=/dev/null \
        RABBITMQ_ENABLED_PLUGINS_FILE="$NODE_DIR/enabled_plugins" \
        RABBITMQ_MNESIA_BASE="$NODE_DIR/data" RABBITMQ_LOG_BASE="$NODE_DIR" RABBITMQ_LOGS=- \
        RABBITMQ_PID_FILE="$NODE_DIR/pid" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-noinput -kernel inet_dist_use_interface {127,0,0,1}' \
        "$SBIN/rabbitmq-server"
    NODE=$!
    local deadline=$((SECONDS + START_SECONDS_MAX))
    # Our own log first: on a port that somebody took, another broker could answer.
    until grep -q 'Server startup complete' "$LOG" && amqp_answers "$AMQP_PORT"; do
        if ! node_runs || ! process_runs "$EPMD"; then return 1; fi
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# Everything on loopback. 50 MB of free disk are enough for a test; the default is to refuse all
# messages below a limit that a full laptop can reach.
configure() {
    printf '%s\n' "$PLUGINS" >"$NODE_DIR/enabled_plugins"
    cat >"$NODE_DIR/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$AMQP_PORT
management.tcp.ip = 127.0.0.1
management.tcp.port = $MANAGEMENT_PORT
disk_free_limit.absolute = 50MB
CONF
    if [[ ${BACKEND:-} == cluster ]]; then cluster_configuration >>"$NODE_DIR/rabbitmq.conf"; fi
}

process_runs() { [[ -n $1 ]] && kill -0 "$1" 2>/dev/null; }

node_runs() { process_runs "$NODE"; }

# SIGTERM is an orderly stop: queues are closed, confirmed messages are on disk.
node_stop() {
    local deadline=$((SECONDS + 30))
    node_runs && kill -TERM "$NODE"
    while node_runs; do
        ((SECONDS < deadline)) || node_kill
        sleep 0.05
    done
    NODE=
}

node_ctl() {
    bounded 60 env -i \
        PATH="${ERLANG_BIN:+$ERLANG_BIN:}${PATH:-/usr/bin:/bin}" LANG=C.UTF-8 HOME="$HOME_DIR" \
        ERL_EPMD_PORT="$EPMD_PORT" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP=/dev/null \
        RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_NODENAME=orderwright@localhost \
        "$SBIN/rabbitmqctl" --quiet "$@" >&2
}

# The group, since the node has helper processes.
node_kill() {
    [[ -n $NODE ]] || return 0
    kill -KILL -- "-$NODE" 2>/dev/null
    wait "$NODE" 2>/dev/null
    NODE=
}

# Nothing is to be kept, so nothing has to be closed in good order.
node_remove() {
    node_kill
    [[ -z $EPMD ]] || kill -KILL -- "-$EPMD" 2>/dev/null
    [[ -z $EPMD ]] || wait "$EPMD" 2>/dev/null
    EPMD=
}
