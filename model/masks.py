"""Who may see whom: masks for training and for the whole-utterance forward."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths: Tensor, frames: int) -> Tensor:
    """(B, frames), true where a frame belongs to the utterance."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def chunk_mask(frames: int, chunk: int, left_context: int) -> Tensor:
    """(frames, frames): a frame sees its chunk and ``left_context`` frames before the chunk.

    ``chunk`` <= 0 is the whole utterance, ``left_context`` < 0 all that came before.
    """
    frame = torch.arange(frames)
    if chunk <= 0:
        return torch.ones(frames, frames, dtype=torch.bool)
    begin = torch.div(frame, chunk, rounding_mode="floor") * chunk
    seen = frame.unsqueeze(0) < (begin + chunk).unsqueeze(1)
    if left_context >= 0:
        seen = seen & (frame.unsqueeze(0) >= (begin - left_context).unsqueeze(1))
    return seen
