# Sourced: gets what fuzzing needs beside the usual compiler, and sets COV and PROFDATA to llvm-cov and llvm-profdata.
fuzzing_works() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const char *, unsigned long) { return 0; }' |
    clang++ -fsanitize=fuzzer,address -x c++ - -o /dev/null 2>/dev/null
}
find_tool() {  # the one beside clang, of its own version, or else the one in PATH
  local tool
  tool=$(clang++ -print-prog-name="$1" 2>/dev/null) && [ -x "$tool" ] && echo "$tool" || command -v "$1"
}
have_all() {
  fuzzing_works && COV=$(find_tool llvm-cov) && PROFDATA=$(find_tool llvm-profdata) && command -v patch >/dev/null
}
if ! have_all; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Fuzzing needs clang with libFuzzer, llvm-cov and patch. On Debian or Ubuntu, as root:"
    echo "  apt-get install clang llvm libclang-rt-14-dev patch     (14 stands for clang's version)"
    exit 1
  fi
  install() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null; }
  apt-get update -qq
  install clang llvm patch
  install "libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev"
  have_all || { echo "clang++ can't link -fsanitize=fuzzer, though its packages were just installed"; exit 1; }
fi
