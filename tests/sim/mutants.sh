#!/usr/bin/env bash
# Code that is broken on purpose, each of which the simulation must notice: `make sim-mutants`.
#
# Every tests/sim/mutants/*.patch is applied to a copy of the tree, and the simulation of that copy runs seed
# after seed until one breaks the promise that the patch names. Give names to run some. SEEDS= is how many
# seeds it may take, from the first one on or from the one that the patch names.

set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." || exit 1
CARGO=${CARGO:-cargo}
TARGET=$(realpath -m -- "${CARGO_TARGET_DIR:-target}")
WORK=$TARGET/mutants
TREE=$WORK/tree
SEEDS=${SEEDS:-3000}

# Git must not take the copy for a part of the repository around it: it would apply nothing.
build() {
    rm -rf -- "$TREE" && mkdir -p -- "$TREE" "$WORK/logs" || return 1
    git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$TREE" || return 1
    (cd -- "$TREE" && GIT_CEILING_DIRECTORIES=$WORK git apply "$OLDPWD/tests/sim/mutants/$1.patch") || return 1
    # Cargo goes by the time of a file, and one that is no longer patched would look old.
    find "$TREE" -name '*.rs' -exec touch {} +
    (cd -- "$TREE" && CARGO_TARGET_DIR=$WORK/target "$CARGO" build --quiet --example sim) 2>"$WORK/logs/$1.build"
}

names=("$@")
if ((${#names[@]} == 0)); then
    for patch in tests/sim/mutants/*.patch; do names+=("$(basename -- "$patch" .patch)"); done
fi
bad=0
printf '| broken code | caught by | seed | after so many seeds |\n| --- | --- | --- | --- |\n'
for name in "${names[@]}"; do
    wanted=$(sed -n 's/^Caught-by: //p' "tests/sim/mutants/$name.patch")
    first=$(sed -n 's/^First: //p' "tests/sim/mutants/$name.patch")
    log=$WORK/logs/sim.$name.log
    if ! build "$name"; then
        printf '| `%s` | not built: %s | | |\n' "$name" "$WORK/logs/$name.build"
        bad=1
        continue
    fi
    "$WORK/target/debug/examples/sim" --first "${first:-1}" --seeds "$SEEDS" --until "$wanted" >"$log" 2>&1
    caught=$(grep -E "^seed [0-9]+: .*$wanted" "$log" | head -1)
    count=$(sed -nE 's/^([0-9]+) seeds in .*/\1/p' "$log")
    if [[ -z $caught ]]; then
        printf '| `%s` | NOT by "%s" | | %s |\n' "$name" "$wanted" "$count"
        bad=1
    else
        seed=$(sed -E 's/^seed ([0-9]+):.*/\1/' <<<"$caught")
        printf '| `%s` | %s | %s | %s |\n' "$name" "$wanted" "$seed" "$count"
    fi
done
exit "$bad"
