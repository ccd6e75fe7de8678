#!/usr/bin/env bash
# Fuzzes each target for so many seconds: fuzz/run.sh SECONDS [NAME...]. With cargo-fuzz where it is there,
# else with the same flags by hand. What is found lies in fuzz/artifacts; new inputs in fuzz/found.

set -uo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit 1
seconds=$1
shift
names=("$@")
if ((${#names[@]} == 0)); then
    for file in fuzz_targets/*.rs; do names+=("$(basename -- "$file" .rs)"); done
fi
toolchain=${FUZZ_TOOLCHAIN:-nightly}
host=$(rustc "+$toolchain" -vV | sed -n 's/^host: //p')
# As cargo-fuzz does, but for the address sanitizer: there is no unsafe code of ours.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
export RUSTUP_TOOLCHAIN=$toolchain
cargo build --quiet --release --target "$host" || exit 1
bad=0
printf '| target | seconds | runs | covered edges | found |\n| --- | --- | --- | --- | --- |\n'
for name in "${names[@]}"; do
    mkdir -p "artifacts/$name" "found/$name"
    log=artifacts/$name/log
    "target/$host/release/$name" "found/$name" "corpus/$name" -max_total_time="$seconds" -max_len=4096 \
        -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 -artifact_prefix="artifacts/$name/" >"$log" 2>&1
    status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(grep -oE 'cov: [0-9]+' "$log" | tail -1)
    ((status == 0)) && found=nothing || { found="see fuzz/$log"; bad=1; }
    printf '| %s | %s | %s | %s | %s |\n' "$name" "$seconds" "$runs" "${edges#cov: }" "$found"
done
exit "$bad"
