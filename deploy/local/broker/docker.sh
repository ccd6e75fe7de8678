# shellcheck shell=bash
# RabbitMQ in a container. Sourced by broker.sh.

CONTAINER=

docker_available() {
    if ! command -v docker >/dev/null; then
        because "docker: not installed"
        return 1
    fi
    if ! bounded 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
        because "docker: no engine answers"
        return 1
    fi
    if bounded 10 docker image inspect "$IMAGE" >/dev/null 2>&1; then return 0; fi
    note "pulling $IMAGE"
    if bounded 180 docker pull --quiet "$IMAGE" >&2; then return 0; fi
    because "docker: the engine has no image $IMAGE and could not pull it"
    return 1
}

# The ports are chosen here and not by Docker, which would choose new ones at every restart.
# Files are copied in and not mounted, since the engine may run on another machine's file system.
docker_first_start() {
    local try name
    printf '%s\n' "$PLUGINS" >"$HOME_DIR/enabled_plugins"
    # From the host the guest user comes through Docker's network and is not on loopback.
    printf '%s\n' 'loopback_users = none' 'disk_free_limit.absolute = 50MB' >"$HOME_DIR/90-orderwright.conf"
    chmod 644 "$HOME_DIR/enabled_plugins" "$HOME_DIR/90-orderwright.conf"
    for try in 1 2 3 4 5; do
        choose_ports AMQP_PORT MANAGEMENT_PORT
        name="orderwright-broker-$$-$try"
        note "starting $IMAGE as container $name, AMQP on 127.0.0.1:$AMQP_PORT"
        # The name of the node, and with it the data, hangs on the host name.
        bounded 60 docker create --name "$name" --label orderwright.broker --hostname broker \
            --publish "127.0.0.1:$AMQP_PORT:5672" --publish "127.0.0.1:$MANAGEMENT_PORT:15672" \
            "$IMAGE" >/dev/null || return 1
        CONTAINER=$name
        bounded 60 docker cp "$HOME_DIR/enabled_plugins" "$CONTAINER:/etc/rabbitmq/enabled_plugins" >&2 &&
            bounded 60 docker cp "$HOME_DIR/90-orderwright.conf" "$CONTAINER:/etc/rabbitmq/conf.d/90-orderwright.conf" >&2 ||
            return 1
        docker_start && return 0
        if ! docker logs "$CONTAINER" 2>&1 | grep -q .; then
            # It never ran: most likely somebody took a port since it was chosen.
            docker_remove
            continue
        fi
        docker logs --tail 20 "$CONTAINER" >&2
        return 1
    done
    return 1
}

docker_start() {
    bounded 60 docker start "$CONTAINER" >/dev/null || return 1
    local deadline=$((SECONDS + START_SECONDS_MAX))
    until amqp_answers "$AMQP_PORT"; do
        if [[ $(docker inspect --format '{{.State.Running}}' "$CONTAINER" 2>/dev/null) != true ]]; then
            note "the container has ended"
            return 1
        fi
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

docker_stop() { bounded 60 docker stop --time 30 "$CONTAINER" >/dev/null; }

docker_kill() { bounded 60 docker kill "$CONTAINER" >/dev/null; }

docker_ctl() { bounded 60 docker exec "$CONTAINER" rabbitmqctl --quiet "$@" >&2; }

docker_remove() {
    [[ -n $CONTAINER ]] || return 0
    docker rm --force --volumes "$CONTAINER" </dev/null >/dev/null 2>&1
    CONTAINER=
}
