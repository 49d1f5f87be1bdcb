"""The state of a stream between two steps of an encoder: its beginning, and less left context than
a program has room for.

A program always attends to its whole cache. What it may see of it is written into the state, as
the manifest says: positions, offsets and shapes stay what they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_asr.errors import UsageError
from edge_asr.package.manifest import EncoderSpec

State = tuple[npt.NDArray[np.generic], ...]


def zero_state(spec: EncoderSpec) -> State:
    """The state at the beginning of a stream."""
    return tuple(np.zeros(tensor.shape, tensor.dtype) for tensor in spec.state)


def limit_left_context(state: State, spec: EncoderSpec, frames: int) -> State:
    """A state of which the next step sees only the newest ``frames`` encoder frames.

    A step brings new frames into the cache, so a limit that stays is set before each step. What
    is hidden once stays hidden: behind a larger limit a stream sees more again as frames come.

    Args:
        state: is left as it is; only tensors that change are copied.
        frames: from 0, the chunk alone, to ``spec.left_context``, which changes nothing.

    Raises:
        UsageError: another number of frames, or the package does not say how to hide any.
    """
    if not 0 <= frames <= spec.left_context:
        raise UsageError(
            f"left context of {frames} encoder frames; allowed are 0 to {spec.left_context}, for "
            "which the package has room"
        )
    oldest = spec.left_context - frames
    if oldest == 0:
        return state
    if all(tensor.hide is None for tensor in spec.state):
        raise UsageError(
            f"left context of {frames} encoder frames; this package allows {spec.left_context} "
            "only, because its manifest says of no state how to hide frames: export it again"
        )
    limited = list(state)
    for index, tensor in enumerate(spec.state):
        if tensor.hide is not None:
            limited[index] = state[index].copy()
            limited[index][(slice(None),) * tensor.hide.axis + (slice(oldest),)] = tensor.hide.value
    return tuple(limited)
