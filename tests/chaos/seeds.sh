#!/usr/bin/env bash
# Chaos for one seed after the other: `make chaos-seeds`.
#
# Prints a row of the table in docs/PROOF.md for each. What is promised depends on what is done for the order of
# updates, so the seeds take turns: with sequences (1, 4, 7, 10), over one queue (2, 5, 8), and plain (3, 6, 9).
# Fails if a run broke a promise, came to no verdict, or had a kind of fault less than once a minute.

set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." || exit 1
TARGET=$(realpath -m -- "${CARGO_TARGET_DIR:-target}")
WORK=$TARGET/chaos-seeds
MODES=("" --sequenced --inbox)

length=$1
shift
mkdir -p -- "$WORK" || exit 1
bad=0
for seed in "$@"; do
    log=$WORK/$seed.log row=$WORK/$seed.row
    rm -f -- "$row"
    # The workers' logs, which are kept where a promise was broken, stay in the target folder.
    TMPDIR=$WORK "$TARGET/debug/examples/chaos" --seconds "$length" --seed "$seed" ${MODES[seed % 3]:+"${MODES[seed % 3]}"} \
        --proof "$row" >"$log" 2>&1 || bad=1
    if ! cat -- "$row" 2>/dev/null; then
        printf 'seed %s came to no verdict: %s\n' "$seed" "$(tail -n 1 -- "$log")" >&2
        bad=1
    fi
    if few=$(grep -E '; FEW: ' -- "$log"); then
        printf 'seed %s had too few:\n%s\n' "$seed" "$few" >&2
        bad=1
    fi
done
exit "$bad"
