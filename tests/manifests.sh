#!/usr/bin/env bash
# Renders what is shipped for Kubernetes, by Kustomize and by Helm, and has the tools' own validators look at it, at the
# compose file, the Dockerfile, the scripts, the dashboard and the contract. `cargo test --test tidy` looks at how they
# fit the program, and needs none of these. One of the tests runs this script.
#
# Needs kubectl or kustomize, Python with pip, Node.js with npm, and a network the first time: the validators are put into
# .cache. Exit code 69: something could not be looked at here; all that could be is fine.

set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
TOOLS=${ORDERWRIGHT_BROKER_CACHE:-$PWD/.cache}/manifests
# The oldest and the newest Kubernetes that the manifests are for.
KUBERNETES='1.31 1.34'

note() { printf 'manifests: %s\n' "$*" >&2; }

unavailable() {
    note "$*"
    exit 69
}

LEFT_OUT=
left_out() {
    note "LEFT OUT: $*"
    LEFT_OUT=1
}

# shellcheck source=tests/manifests/tools.sh
source tests/manifests/tools.sh

if command -v kubectl >/dev/null; then
    render() { kubectl kustomize "$1"; }
elif command -v kustomize >/dev/null; then
    render() { kustomize build "$1"; }
else
    unavailable "there is neither kubectl nor kustomize"
fi
tools_ensure

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

note "style of YAML, scripts and Dockerfile"
yamllint --strict --config-file deploy/yamllint.yaml deploy docs/asyncapi.yaml docker-compose.yml tests/images
shellcheck --external-sources --source-path=SCRIPTDIR/../.. --source-path=SCRIPTDIR/.. tests/images/*.sh \
    tests/manifests.sh tests/manifests/*.sh tests/support/*.sh tests/sim/*.sh tests/chaos/*.sh deploy/release.sh \
    deploy/local/publish.sh
hadolint Dockerfile

note "the compose file"
check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml tests/images/compose.yaml
if docker compose version >/dev/null 2>&1; then
    docker compose --profile '*' config --quiet
else
    note "no docker compose here: tests/images/run.sh check asks it"
fi

if [[ -e $TOOLS/node/ready ]]; then
    note "the contract, by AsyncAPI's parser"
    node tests/manifests/asyncapi.mjs "$TOOLS/node" docs/asyncapi.yaml
    note "the dashboard, by Grafana's types"
    # Where Grafana's own code has a name for a text, TypeScript wants the name.
    {
        printf "import { type Dashboard, ThresholdsMode } from '@grafana/schema';\nexport const dashboard: Dashboard = "
        sed -E 's/"mode": ?"absolute"/"mode": ThresholdsMode.Absolute/g' deploy/observability/dashboard.json
    } >"$TOOLS/node/dashboard.ts"
    "$TOOLS/node/node_modules/.bin/tsc" --noEmit --strict --skipLibCheck --target es2022 --module nodenext \
        "$TOOLS/node/dashboard.ts"
fi

# Each overlay, the base, and the base with each component.
for folder in deploy/kubernetes/base deploy/kubernetes/overlays/* deploy/kubernetes/components/*; do
    name=$(basename -- "$folder")
    if [[ $folder == */components/* ]]; then
        # Kustomize takes relative paths alone.
        mkdir -p "$work/$name"
        printf 'resources: [%s]\ncomponents: [%s]\n' \
            "$(realpath --relative-to "$work/$name" deploy/kubernetes/base)" \
            "$(realpath --relative-to "$work/$name" "$folder")" >"$work/$name/kustomization.yaml"
        render "$work/$name" >"$work/$name.yaml"
    else
        render "$folder" >"$work/$name.yaml"
    fi
done
note "the chart"
# Helm says of every look that it follows the link.
python3 tests/manifests/chart.py "$work" 2>&1 | { grep --invert-match 'INFO found symbolic link' || true; } >&2
for manifest in "$work"/*.yaml; do
    for version in $KUBERNETES; do
        kubernetes-validate --strict --kubernetes-version "$version" --quiet --no-warn "$manifest"
    done
    python3 tests/manifests/resources.py "$work" "$manifest"
    note "$(basename -- "$manifest" .yaml): $(grep -c '^kind:' "$manifest") resources are valid"
done
[[ -z $LEFT_OUT ]] || exit 69
note "passed"
