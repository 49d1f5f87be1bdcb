"""The eager network behind the runtime's protocol: what every program is compared with."""

from __future__ import annotations

import torch

from edge_asr.backends import EncoderStep, FloatArray, State
from export.program import EncoderProgram
from model.network import Network


class EagerEncoder:
    """``edge_asr.backends.Encoder`` on torch modules."""

    def __init__(self, network: Network) -> None:
        self.program = EncoderProgram(network).eval()

    @torch.inference_mode()
    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        tensors = [torch.from_numpy(array) for array in state]
        outputs = self.program(torch.from_numpy(feats), torch.tensor([offset]), *tensors)
        encoder_out, log_probs, *next_state = (tensor.numpy() for tensor in outputs)
        return EncoderStep(encoder_out, log_probs, tuple(next_state))
