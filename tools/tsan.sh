#!/usr/bin/env bash
# Runs the native tests under ThreadSanitizer, products included. Then: can it fail? Each patch in native/tests/planted/ puts
# a race into a copy of the sources, and threadtest must be told of it.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/tsan copy=build/tsan-planted
export REGRAIN_CMAKE_ARGS="-DREGRAIN_SANITIZE=thread -DREGRAIN_SANITIZE_PRODUCTS=ON"
bare=() # GCC 12's runtime wants addresses that some kernels no longer give a program
if setarch -R true 2>/dev/null; then bare=(setarch -R); fi

tools/native.sh $build "${bare[@]}"

missed=0
for patch in native/tests/planted/*.patch; do
  # only what differs is copied, so only that is built again
  find CMakeLists.txt native -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt | while read -r file; do
    cmp -s "$file" "$copy/$file" || install -D -m 644 "$file" "$copy/$file"
  done
  patch -s -p1 -d $copy <"$patch" || { echo "$patch no longer applies: bring it up to date"; exit 1; }
  # shellcheck disable=SC2086
  .venv/bin/cmake -S $copy -B $copy/build -G Ninja -DCMAKE_MAKE_PROGRAM="$PWD/.venv/bin/ninja" --log-level=WARNING \
    -DREGRAIN_PYTHON=OFF -DREGRAIN_TESTS=ON $REGRAIN_CMAKE_ARGS
  .venv/bin/cmake --build $copy/build --target threadtest
  if "${bare[@]}" $copy/build/threadtest >$copy/log 2>&1 || ! grep -q "ThreadSanitizer: data race" $copy/log; then
    echo "$patch: NOT FOUND"
    missed=1
  else
    echo "$patch: found"
  fi
done
exit $missed
