"""How a trained weight is stored: its indices, what its mask keeps, or both."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from regrain.codecs.front import DTYPES
from regrain.codecs.quantized import Quantized, encode_quantized, matrix_shape
from regrain.codecs.sparse import Sparse, sparse_size
from regrain.core.dtypes import Bytes, numpy_dtype
from regrain.core.recipe import LayerPlan
from regrain.models.statedict import tensor_bytes, tensor_dtype
from regrain.transforms.saliency import spread, unit_sums

Form = Quantized | Sparse


def form_of(plan: LayerPlan, tensor: Tensor, quantized: Quantized | None, mask: Tensor | None) -> Form | None:
    """The form of a weight that passed through its plan; None for one that is stored as it is.

    A mask that keeps no whole units of the plan's pattern is kept weight by weight.
    """
    dtype = tensor_dtype(tensor)
    if mask is None or plan.pruning is None or dtype not in DTYPES:
        return quantized
    shape = tuple(tensor.shape)
    kept = mask.cpu().numpy().reshape(matrix_shape(shape))
    unit = plan.pruning.pattern.unit(shape)
    units = unit_sums(kept.astype(np.float32), unit) > 0
    if not np.array_equal(spread(units, unit, kept.shape), kept):
        unit, units = (1, 1), kept
    if quantized is not None:
        return Sparse.quantized(quantized, units, unit)
    return Sparse.of(tensor_bytes(tensor).view(numpy_dtype(dtype)).reshape(shape), units, unit)


def restored(form: Form, dtype: str) -> Bytes:
    """The bytes that a form gives back."""
    return form.dequantized(dtype) if isinstance(form, Quantized) else form.dense(dtype)


def size_of(form: Form, dtype: str) -> int:
    """Bytes of its payload."""
    return encode_quantized(form, dtype, seed=0).size if isinstance(form, Quantized) else sparse_size(form, dtype)
