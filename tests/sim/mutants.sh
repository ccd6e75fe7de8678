#!/usr/bin/env bash
# Code that is broken on purpose, each of which the simulation must notice: `make sim-mutants`.
#
# Every tests/sim/mutants/*.patch is applied to a copy of the tree, and the simulation of that copy runs seed
# after seed until one breaks the promise that the patch names. Give names to run some. SEEDS= is how many
# seeds it may take, from the first one on or from the one that the patch names.

# shellcheck disable=SC2016 # the backquotes are those of a Markdown table
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." || exit 1
PATCHES=tests/sim/mutants
SEEDS=${SEEDS:-3000}
# shellcheck source=tests/support/mutants.sh
source tests/support/mutants.sh || exit 1

wanted_names "$@"
bad=0
printf '| broken code | caught by | seed | after so many seeds |\n| --- | --- | --- | --- |\n'
for name in "${names[@]}"; do
    wanted=$(field "$name" Caught-by)
    first=$(field "$name" First)
    log=$WORK/logs/sim.$name.log
    if ! build "$name" --example sim; then
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
