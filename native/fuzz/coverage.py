"""The decoder's branch coverage, from `llvm-cov export`: coverage.py EXPORT.json LEAST_PERCENT.

A branch is a place in the source where control may go two ways, each to be seen; of the instances of a template the
best covered one counts. Exits with 1 where fewer than LEAST_PERCENT of the decoder's are seen.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

DECODER = (
    "head.cpp", "block.cpp", "block.h", "decode.cpp", "source.cpp", "source.h", "alias.h", "planes.h", "bytes.h",
    "isa/combine.h", "isa/rans_scalar.h", "isa/portable.cpp", "isa/avx2.cpp", "isa/avx512.cpp", "isa/crc_x86.h",
)  # fmt: skip
# A hook for benchmarks and tests. It reads payloads that were checked before.
NOT_FUZZED = "decode_symbols"


def main(export: Path, least: float) -> int:
    """Print the table; 0 where enough is covered."""
    data = json.loads(export.read_text())["data"][0]
    skipped = [f for f in data["functions"] if NOT_FUZZED in f["name"]]

    seen = total = 0
    missing = []
    print(f"{'decoder':<20} {'branches':>8} {'covered':>8}")
    for file in data["files"]:
        _, _, name = file["filename"].partition("native/src/")
        if name not in DECODER:
            continue
        count, covered = file["summary"]["branches"]["count"], file["summary"]["branches"]["covered"]
        for function in skipped:
            if function["filenames"][0] == file["filename"]:
                count -= 2 * len(function["branches"])
                covered -= sum((branch[4] > 0) + (branch[5] > 0) for branch in function["branches"])
        ways: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
        for line, column, _, _, taken, passed, *_ in file["branches"]:
            ways[line, column][0] += taken
            ways[line, column][1] += passed
        for (line, column), (taken, passed) in ways.items():
            if (taken == 0) != (passed == 0):
                missing.append(f"  {name}:{line}:{column} is never {'true' if taken == 0 else 'false'}")
        seen, total = seen + covered, total + count
        if count:
            print(f"{name:<20} {count:>8} {100 * covered / count:>7.1f}%")
    percent = 100 * seen / max(total, 1)
    print(f"{'all':<20} {total:>8} {percent:>7.1f}%")
    print("\n".join(missing))
    if percent < least:
        print(f"Branch coverage must be at least {least} %, not {percent:.1f} %: fuzz longer, or teach the fuzzer more")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
