#!/usr/bin/env bash
# Fuzzes decoder, encoder and the expanding of rows: run.sh [SECONDS [JOBS]], by default ten minutes, two jobs. Starts from the corpus, adds
# what reaches new code to it, then measures the decoder's branch coverage with it; under 95 % is a failure, as is a
# finding.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-600} jobs=${2:-2}
corpus=native/fuzz/corpus build=build/fuzz
[ "$seconds" -gt 0 ] && [ "$jobs" -gt 0 ] || { echo "SECONDS and JOBS must be at least 1"; exit 1; }

. native/fuzz/tools.sh
for kind in fuzz coverage; do
  echo "building: $kind"
  native/fuzz/build.sh $kind $build/$kind
done

work=$build/work found=$build/found
mkdir -p $work/decode $work/encode $work/expand $found

fuzz() {  # TARGET SECONDS MOST_BYTES JOB
  local log=$build/$1-$4.log
  $build/fuzz/"$1" -max_total_time="$2" -max_len="$3" -timeout=20 -rss_limit_mb=2000 -print_final_stats=1 \
    -artifact_prefix=$found/"$1"- $work/"$1" $corpus/"$1" >"$log" 2>&1 || {
    echo "FOUND by $1:"
    grep -m 3 -E 'ERROR|runtime error|: .* on |Test unit written' "$log" || tail -20 "$log"
    return 1
  }
  awk -v who="$1, job $4" '/number_of_executed/ {runs = $2} /new_units_added/ {new = $2}
    END {print who ": " runs " runs, " new " new inputs"}' "$log"
}

echo "fuzzing for $seconds seconds with $jobs jobs"
running=()
for job in $(seq 2 "$jobs"); do
  fuzz decode "$seconds" 6000 "$job" & running+=($!)
done
{
  fuzz encode $((seconds / 4 + 1)) 2000 1 && fuzz expand $((seconds / 8 + 1)) 200 1 &&
    fuzz decode $((seconds - seconds / 4 - seconds / 8)) 6000 1
} & running+=($!)
failed=0
for process in "${running[@]}"; do wait "$process" || failed=1; done
if [ $failed != 0 ]; then
  echo "Findings are in $found; native/fuzz/README.md tells what to do with one."
  exit 1
fi

echo "merging into $corpus"
for target in decode encode expand; do
  merge=($build/fuzz/$target -use_counters=0) log=$build/merge.log
  "${merge[@]}" -merge=1 $corpus/$target $work/$target >$log 2>&1 || { tail $log; exit 1; }
  inputs=$(find $corpus/$target -type f | wc -l) bytes=$(du -sb $corpus/$target | cut -f1)
  if [ "$inputs" -gt 200 ] || [ "$bytes" -gt 250000 ]; then
    rm -rf $build/less && mkdir $build/less
    "${merge[@]}" -set_cover_merge=1 $build/less $corpus/$target >$log 2>&1 || { tail $log; exit 1; }
    find $corpus/$target -name 'found-*' -exec cp {} $build/less \;  # former findings stay
    rm -rf ${corpus:?}/$target && mv $build/less $corpus/$target
  fi
  echo "$target: $(find $corpus/$target -type f | wc -l) inputs, $(du -sb $corpus/$target | cut -f1) bytes"
done

for target in decode encode; do
  LLVM_PROFILE_FILE=$build/$target.profraw $build/coverage/$target $corpus/$target 2>/dev/null
done
"$PROFDATA" merge $build/decode.profraw $build/encode.profraw -o $build/all.profdata
"$COV" export $build/coverage/decode -object $build/coverage/encode -instr-profile $build/all.profdata \
  >$build/coverage.json 2>/dev/null
python3 native/fuzz/coverage.py $build/coverage.json 95
