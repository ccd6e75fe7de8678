#!/usr/bin/env bash
# Counts the instructions and allocations of the pure work for one update, and holds them to the baseline:
# 3 % more instructions (and over 100), or one more allocation, and it fails. `BLESS=1` writes the baseline anew.

set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."

BASELINE=tests/hot/baseline.txt
ROUNDS=1000
if ! valgrind=$(deploy/local/valgrind.sh); then
    echo 'counts: SKIPPED, there is no Valgrind and none can be had' >&2
    [[ -z ${ORDERWRIGHT_SKIP_NOTHING:-} ]]
    exit
fi
"${CARGO:-cargo}" build --quiet --profile bench --example hot
hot=${CARGO_TARGET_DIR:-target}/release/examples/hot

# Instructions of a run with so many rounds.
instructions() {
    "$valgrind" --tool=callgrind --callgrind-out-file=/dev/null "$hot" run "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : *//p'
}

found=$(mktemp)
trap 'rm -f -- "$found"' EXIT
for case in $("$hot" list); do
    work=$(instructions "$case" "$ROUNDS")
    start=$(instructions "$case" 0)
    printf '%s %d %d\n' "$case" $(((work - start) / ROUNDS)) "$("$hot" allocations "$case")" >>"$found"
done

if [[ -n ${BLESS:-} ]]; then
    {
        echo '# case, instructions, allocations: make counts BLESS=1 writes this'
        cat -- "$found"
    } >"$BASELINE"
fi

# Fewer are no failure, but a baseline that they should be taken over into.
awk -v baseline="$BASELINE" '
    BEGIN {
        while ((getline line < baseline) > 0) {
            split(line, part, " ")
            if (part[1] != "#") { instructions[part[1]] = part[2]; allocations[part[1]] = part[3] }
        }
        printf "%-10s %14s %14s %8s %12s %9s\n", "case", "instructions", "baseline", "ratio", "allocations", "baseline"
    }
    {
        if (!($1 in instructions)) { printf "%s is not in the baseline\n", $1; failed = 1; next }
        ratio = $2 / instructions[$1]
        printf "%-10s %14d %14d %8.3f %12d %9d\n", $1, $2, instructions[$1], ratio, $3, allocations[$1]
        if (ratio > 1.03 && $2 - instructions[$1] > 100) { printf "%s takes over 3 %% more instructions\n", $1; failed = 1 }
        if ($3 > allocations[$1]) { printf "%s allocates more often\n", $1; failed = 1 }
    }
    END { exit failed }
' "$found" || {
    echo 'counts: find out why; if it is worth its price, make counts BLESS=1 and say so in the commit' >&2
    exit 1
}
