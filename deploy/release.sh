#!/usr/bin/env bash
# What is given to others, in target/dist: both programs, optimised and without symbols, man pages, completions,
# the reference of settings, what they were built of (an SBOM in CycloneDX), and the sums of all.
#
# CHANGELOG.md says whether it is a release. With the version's section, dated, and nothing under Unreleased, the folder
# is orderwright-0.1.0. Without that section it is orderwright-0.1.0-unreleased.COMMIT, to be tried and not to be given
# on. Anything between is refused: `deploy/release.sh name CHANGELOG VERSION COMMIT` tells.
#
# The programs know the commit that they were built of, so there must be no change beside it.

set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
TARGET=${CARGO_TARGET_DIR:-$PWD/target}
CACHE=${ORDERWRIGHT_BROKER_CACHE:-$PWD/.cache}
CYCLONEDX=0.5.9

note() { printf 'release: %s\n' "$*" >&2; }

refuse() {
    note "$*"
    exit 1
}

# What the folder is called, by the changelog.
name() {
    local changelog=$1 version=$2 commit=$3 heading unreleased
    heading=$(grep --fixed-strings "## [$version]" "$changelog" || true)
    if [[ -z $heading ]]; then
        printf 'orderwright-%s-unreleased.%s\n' "$version" "$commit"
        return
    fi
    [[ $heading =~ ^##\ \[[^]]+\]\ -\ [0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] ||
        refuse "$changelog: the section of $version wants the day: ## [$version] - YYYY-MM-DD"
    unreleased=$(awk '/^## /{ inside = $2 == "[Unreleased]" } inside && /^- /' "$changelog" | wc -l)
    ((unreleased == 0)) ||
        refuse "$changelog: $unreleased changes are not in $version: move them there, or raise the version in Cargo.toml"
    printf 'orderwright-%s\n' "$version"
}

# The maker of the SBOM, of one version and in the cache.
cyclonedx() {
    local root=$CACHE/cargo-cyclonedx-$CYCLONEDX
    if [[ ! -x $root/bin/cargo-cyclonedx ]]; then
        note "building cargo-cyclonedx $CYCLONEDX (once)"
        cargo install --quiet --locked --root "$root" "cargo-cyclonedx@$CYCLONEDX"
    fi
    "$root/bin/cargo-cyclonedx" cyclonedx "$@"
}

if [[ ${1:-} == name ]]; then
    name "$2" "$3" "$4"
    exit
fi

[[ -z $(git status --porcelain) ]] || refuse "there are changes that no commit holds: commit them first"
version=$(cargo metadata --locked --no-deps --format-version 1 |
    sed -E 's/.*"name":"orderwright","version":"([^"]+)".*/\1/')
commit=$(git rev-parse --short HEAD)
name=$(name CHANGELOG.md "$version" "$commit")
dist=$TARGET/dist/$name
rm -rf -- "$dist"
mkdir -p "$dist/man" "$dist/completions"

ORDERWRIGHT_COMMIT=$commit cargo build --locked --release --bins
for program in orderwright orderwright-sim; do
    strip -o "$dist/$program" "$TARGET/release/$program"
done
"$dist/orderwright" man "$dist/man"
for shell in bash zsh fish; do
    "$dist/orderwright" completions "$shell" >"$dist/completions/orderwright.$shell"
done
cp CHANGELOG.md docs/config-reference.toml docs/order-update.schema.json docs/asyncapi.yaml "$dist"
# It writes beside Cargo.toml and nowhere else, names the folder that it stands in, and takes the time of the commit.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) cyclonedx --format json --spec-version 1.5 --override-filename "$name.cdx"
sed "s|path+file://$PWD#||g; s|?download_url=file://\\.||g" "$name.cdx.json" >"$dist/$name.cdx.json"
rm -- "$name.cdx.json"
# All that the lock file has, but for what tests alone need, is in it: no less than a hundred.
(($(grep -c '"purl"' "$dist/$name.cdx.json") > 100)) || refuse "$name.cdx.json has not what the programs are built of"
sums=$(cd -- "$dist" && find . -type f -print0 | sort --zero-terminated | xargs --null sha256sum)
printf '%s\n' "$sums" >"$dist/SHA256SUMS"
note "$("$dist/orderwright" --version): $dist"
(cd -- "$dist" && du --apparent-size --human-readable orderwright orderwright-sim "$name.cdx.json") >&2
[[ $name != *-unreleased.* ]] || note "CHANGELOG.md has no section for $version: this is no release"
