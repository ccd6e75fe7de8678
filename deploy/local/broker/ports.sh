# shellcheck shell=bash
# Free ports, and whether an AMQP server answers on one. Sourced by broker.sh.

# True if no socket of this machine uses the port. The kernel's own table is asked where there is
# one, since it also shows sockets that listen on other addresses or linger after a close.
port_is_free() {
    local port=$1 hex table
    printf -v hex ':%04X ' "$port"
    for table in /proc/net/tcp /proc/net/tcp6; do
        if [[ -r $table && $(<"$table") == *"$hex"* ]]; then return 1; fi
    done
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

# Sets the named variables to free ports, all different. They lie below 32768, where the kernel
# takes its ephemeral ports from, so no outgoing connection can grab one before the broker does.
choose_ports() {
    local name port taken=' '
    for name in "$@"; do
        while :; do
            port=$((20000 + RANDOM % 12000))
            if [[ $taken != *" $port "* ]] && port_is_free "$port"; then break; fi
        done
        taken+="$port "
        printf -v "$name" '%s' "$port"
    done
}

# True if a server answers AMQP's greeting with a method frame. An accepted connection alone
# proves nothing: Docker's proxy accepts before the broker in the container listens.
amqp_answers() {
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
        printf 'AMQP\0\0\011\001' >&3
        IFS= read -r -t 2 -n 1 byte <&3 && [[ $byte == $'\001' ]]
    ) 2>/dev/null
}
