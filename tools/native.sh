#!/usr/bin/env bash
# Builds the kernels without Python at build/native (or $1), and runs the programs of native/tests, optionally through
# an emulator: tools/native.sh [BUILD_DIR [EMULATOR ...]]. Further CMake arguments: $REGRAIN_CMAKE_ARGS.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/native}
shift || true
bin=$PWD/.venv/bin
[ -x "$bin/cmake" ] || { echo "cmake is missing from .venv: run 'make native' rather than this script"; exit 1; }

# shellcheck disable=SC2086
"$bin/cmake" -S . -B "$build" -G Ninja -DCMAKE_MAKE_PROGRAM="$bin/ninja" --log-level=WARNING \
  -DREGRAIN_PYTHON=OFF -DREGRAIN_TESTS=ON -DREGRAIN_WERROR=ON ${REGRAIN_CMAKE_ARGS:-}
"$bin/cmake" --build "$build"
for source in native/tests/*.cpp; do
  program=$build/$(basename "$source" .cpp)
  echo "$* $program"
  "$@" "$program"
done
