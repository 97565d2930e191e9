"""Statistics of a network's weights, one tensor at a time, in bounded memory."""

from regrain.profiling.tensor import DEFAULT_BLOCK, profile_tensor

__all__ = ["DEFAULT_BLOCK", "profile_tensor"]
