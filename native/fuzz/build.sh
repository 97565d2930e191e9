#!/usr/bin/env bash
# Builds the programs `decode`, `encode` and `expand` in a folder: build.sh fuzz|replay|coverage BUILD_DIR [ROOT]
#   fuzz      libFuzzer, address and undefined-behavior sanitizers (clang)
#   replay    the same sanitizers without libFuzzer ($CXX or c++)
#   coverage  replayers that record branch coverage (clang)
# ROOT is another copy of the repository's native code. Only what changed is built again.
set -euo pipefail
kind=$1 build=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "${3:-$here/../..}" && pwd)
bin=$(cd "$here/../.." && pwd)/.venv/bin
[ -x "$bin/cmake" ] && PATH=$bin:$PATH
command -v cmake >/dev/null && command -v ninja >/dev/null || {
  echo "cmake and ninja must be installed, or be in .venv: 'make native' puts them there"
  exit 1
}

sanitizers=address,undefined
case $kind in
  fuzz) compiler=clang++ flags="-O1 -g -fsanitize=fuzzer-no-link,$sanitizers -fno-sanitize-recover=all" fuzz=ON ;;
  replay) compiler=${CXX:-c++} flags="-O1 -g1 -fsanitize=$sanitizers -fno-sanitize-recover=all" fuzz=OFF ;;
  coverage) compiler=clang++ flags="-O1 -fprofile-instr-generate -fcoverage-mapping" fuzz=OFF ;;
  *) echo "kind must be fuzz, replay or coverage, not '$kind'"; exit 1 ;;
esac
# a build type that the project knows no flags for, so that these are all
cmake -S "$root/native/fuzz" -B "$build" -G Ninja --log-level=ERROR -DCMAKE_BUILD_TYPE=Fuzz -DREGRAIN_FUZZ=$fuzz \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_FLAGS="$flags" >/dev/null
log=$(cmake --build "$build" 2>&1) || { echo "$log"; exit 1; }
