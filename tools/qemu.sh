#!/usr/bin/env bash
# Runs the native tests on CPUs this machine may not be: 64-bit Arm, and x86-64 of three generations.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(uname -m)" = x86_64 ] || { echo "make qemu starts from an x86-64 machine, and this is $(uname -m)"; exit 1; }

missing=
for tool in aarch64-linux-gnu-g++ qemu-aarch64 qemu-x86_64; do
  command -v $tool >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  packages="g++-aarch64-linux-gnu qemu-user"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing:$missing. On Debian or Ubuntu, as root:"
    echo "  apt-get install $packages"
    exit 1
  fi
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
fi

REGRAIN_CMAKE_ARGS="--toolchain tools/aarch64.cmake" tools/native.sh build/native-aarch64 qemu-aarch64 -L /usr/aarch64-linux-gnu
tools/native.sh build/native qemu-x86_64 -cpu qemu64   # the baseline: no byte shuffle, no CRC instruction
tools/native.sh build/native qemu-x86_64 -cpu Nehalem  # SSE4.2, no AVX
tools/native.sh build/native qemu-x86_64 -cpu max      # all that the emulator has: AVX2 from QEMU 7.2 on, no AVX-512
