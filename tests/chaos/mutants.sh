#!/usr/bin/env bash
# Builds that are broken on purpose, each under the faults that must show it: `make mutants`.
#
# Every tests/chaos/mutants/*.patch is applied to a copy of the tree, and the daemon of that copy runs
# under chaos with the options that the patch names. It must break the promise that the patch names,
# and the unbroken daemon must keep all promises under the very same options. Give names to run some.

# shellcheck disable=SC2016 # the backquotes are those of a Markdown table
set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." || exit 1
PATCHES=tests/chaos/mutants
# shellcheck source=tests/support/mutants.sh
source tests/support/mutants.sh || exit 1

# Prints the broken promises, one a line; nothing if all were kept. Fails if there is no verdict.
chaos() {
    local log=$WORK/logs/$1.log
    shift
    # The workers' logs, which are kept where a promise was broken, stay in the target folder.
    TMPDIR=$WORK/logs "$TARGET/debug/examples/chaos" "$@" >"$log" 2>&1
    sed -nE 's/^  (.+[^ ]) +([0-9]+)  BROKEN .*/\1 \2/p' "$log"
    grep -qE '^(kept|BROKEN): seed' "$log"
}

rm -rf -- "$WORK/logs"
"$CARGO" build --quiet --bins --example chaos || exit 1
wanted_names "$@"
bad=0
printf '| broken build | caught by | seed | the unbroken one |\n| --- | --- | --- | --- |\n'
for name in "${names[@]}"; do
    read -ra flags <<<"$(field "$name" Chaos)"
    seed=$(sed -E 's/.*--seed ([0-9]+).*/\1/' <<<"${flags[*]}")
    wanted=$(field "$name" Caught-by)
    if ! build "$name" --bin orderwright; then
        printf '| `%s` | not built: %s | | |\n' "$name" "$WORK/logs/$name.build"
        bad=1
        continue
    fi
    broken=$(chaos "$name" --daemon "$WORK/target/debug/orderwright" "${flags[@]}") || bad=1
    whole=$(chaos "$name.unbroken" "${flags[@]}") || bad=1
    [[ -z $whole ]] || bad=1
    if [[ $'\n'$broken != *$'\n'"$wanted "* ]]; then
        broken="NOT by $wanted (${broken:-nothing})"
        bad=1
    fi
    printf '| `%s` | %s | %s | %s |\n' "$name" "${broken//$'\n'/, }" "$seed" "${whole:-keeps all}"
done
exit "$bad"
