#!/usr/bin/env bash
# What is given to others, in target/dist: both programs, optimised and without symbols, man pages, completions,
# the reference of settings, what they were built of (an SBOM in CycloneDX), and the sums of all.
#
# The programs know the commit that they were built of, so there must be no change beside it.

set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
TARGET=${CARGO_TARGET_DIR:-$PWD/target}

note() { printf 'release: %s\n' "$*" >&2; }

if [[ -n $(git status --porcelain) ]]; then
    note "there are changes that no commit holds: commit them first"
    exit 1
fi
if ! cargo cyclonedx --version >/dev/null 2>&1; then
    note "for the SBOM: cargo install cargo-cyclonedx --locked"
    exit 1
fi

version=$(cargo metadata --locked --no-deps --format-version 1 |
    sed -E 's/.*"name":"orderwright","version":"([^"]+)".*/\1/')
if ! grep --quiet --fixed-strings "## [$version]" CHANGELOG.md; then
    note "CHANGELOG.md has no section for $version: what is under Unreleased belongs there"
    exit 1
fi
dist=$TARGET/dist/orderwright-$version
rm -rf -- "$dist"
mkdir -p "$dist/man" "$dist/completions"

ORDERWRIGHT_COMMIT=$(git rev-parse --short HEAD) cargo build --locked --release --bins
for program in orderwright orderwright-sim; do
    strip -o "$dist/$program" "$TARGET/release/$program"
done
"$dist/orderwright" man "$dist/man"
for shell in bash zsh fish; do
    "$dist/orderwright" completions "$shell" >"$dist/completions/orderwright.$shell"
done
cp CHANGELOG.md docs/config-reference.toml docs/order-update.schema.json "$dist"
# It writes beside Cargo.toml and nowhere else.
cargo cyclonedx --format json --override-filename "orderwright-$version.cdx"
mv "orderwright-$version.cdx.json" "$dist"
sums=$(cd -- "$dist" && find . -type f -print0 | sort --zero-terminated | xargs --null sha256sum)
printf '%s\n' "$sums" >"$dist/SHA256SUMS"
note "$("$dist/orderwright" --version): $dist"
