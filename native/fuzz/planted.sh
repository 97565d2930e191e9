#!/usr/bin/env bash
# Do the fuzzers find bugs? Each patch in planted/ puts a realistic one into a copy of the sources, and the decoder's
# fuzzer, or for those named expand_* that of rows, must find it, from the corpus, within planted.sh [SECONDS] (ten
# minutes).
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-600}
build=build/planted copy=build/planted/copy
signs='AddressSanitizer: [a-z-]+|runtime error: .*|^[a-z ]*: .* on [a-z0-9]+|timeout|out-of-memory'

. native/fuzz/tools.sh
mkdir -p $copy/native
missed=0
for patch in native/fuzz/planted/*.patch; do
  name=$(basename "$patch" .patch) target=decode most=6000
  case $name in expand_*) target=expand most=200 ;; esac
  # only what differs is copied, so only that is built again
  cp -u CMakeLists.txt $copy
  (cd native && find . -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt) | while read -r file; do
    cmp -s "native/$file" "$copy/native/$file" || install -D -m 644 "native/$file" "$copy/native/$file"
  done
  patch -s -p1 -d $copy <"$patch" || { echo "$patch no longer applies: bring it up to date"; exit 1; }
  native/fuzz/build.sh fuzz $build/fuzz $copy
  rm -rf $build/work && mkdir $build/work
  log=$build/$name.log
  start=$(date +%s%N)
  if $build/fuzz/$target -max_total_time="$seconds" -max_len=$most -timeout=20 -rss_limit_mb=2000 \
    -artifact_prefix=$build/"$name"- $build/work native/fuzz/corpus/$target >"$log" 2>&1; then
    echo "$name: NOT FOUND in $seconds s"
    missed=1
  else
    tenths=$((($(date +%s%N) - start) / 100000000))
    last=$(grep -oE '^#[0-9]+' "$log" | tail -1 || true)
    how=$(grep -m 1 -oE "$signs" "$log" || echo "see $log")
    echo "$name: found after $((tenths / 10)).$((tenths % 10)) s, past input ${last:-#0} ($how)"
  fi
done
exit $missed
