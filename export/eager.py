"""The eager network behind the runtime's protocols: what every program is compared with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edge_asr.backends import DecoderScores, EncoderStep, FloatArray, IntArray
from edge_asr.backends.state import State
from export.program import EncoderProgram, reads_both_ways, with_replaced
from model.decoder import BiDecoder
from model.network import Network
from quant.linear import QuantLinear
from quant.linear4 import QuantLinear4


class EagerEncoder:
    """``edge_asr.backends.Encoder`` on torch modules."""

    def __init__(self, network: Network, float_activations: bool = False) -> None:
        """``float_activations`` keeps the rounded weights of a quantized network, and rounds
        nothing else: the difference is what rounding activations does."""
        self.program = EncoderProgram(network).eval()
        if float_activations:
            self.program = with_replaced(self.program, FLOAT_ACTIVATIONS)

    @torch.inference_mode()
    def step(self, feats: FloatArray, offset: int, state: State) -> EncoderStep:
        """See ``edge_asr.backends.Encoder``."""
        tensors = [torch.from_numpy(array) for array in state]
        outputs = self.program(torch.from_numpy(feats), torch.tensor([offset]), *tensors)
        encoder_out, log_probs, *next_state = (tensor.numpy() for tensor in outputs)
        return EncoderStep(encoder_out, log_probs, tuple(next_state))


class EagerDecoder:
    """``edge_asr.backends.Decoder`` by WeNet's formula: the decoders as they are trained, one
    unpadded hypothesis after the other."""

    def __init__(self, network: Network, float_activations: bool = False) -> None:
        """``float_activations``: see ``EagerEncoder``."""
        decoder = network.decoder
        if float_activations:
            decoder = with_replaced(decoder, FLOAT_ACTIVATIONS)
        self.left, self.right = decoder, None
        if isinstance(decoder, BiDecoder):
            self.left = decoder.left_decoder
            self.right = decoder.right_decoder if reads_both_ways(network) else None
        self.sos, self.eos = network.conf.sos, network.conf.eos

    @torch.inference_mode()
    def score(
        self, hyps: IntArray, hyp_lengths: IntArray, encoder_out: FloatArray
    ) -> DecoderScores:
        """See ``edge_asr.backends.Decoder``."""
        memory = torch.from_numpy(encoder_out)
        left = np.zeros((len(hyps), hyps.shape[1] + 1), np.float32)
        right = np.zeros_like(left)
        for row, length in enumerate(hyp_lengths):
            units = torch.from_numpy(hyps[row, :length])
            left[row, : length + 1] = self._log_probs(self.left, units, memory)
            if self.right is not None:
                backwards = self._log_probs(self.right, units.flip(0), memory)
                right[row, :length], right[row, length] = backwards[:length].flip(0), backwards[-1]
        return DecoderScores(left, right)

    def _log_probs(self, decoder: nn.Module, units: Tensor, memory: Tensor) -> Tensor:
        """Log-probabilities (U+1,) of units (U,) and eos, in this order."""
        tokens = torch.cat([torch.tensor([self.sos]), units]).unsqueeze(0)
        mask = torch.ones(1, memory.size(1), dtype=torch.bool)
        logits = decoder(tokens, torch.ones_like(tokens, dtype=torch.bool), memory, mask)
        targets = torch.cat([units, torch.tensor([self.eos])])
        return torch.log_softmax(logits[0], dim=-1)[torch.arange(len(targets)), targets]


def _float_linear(layer: QuantLinear | QuantLinear4) -> nn.Linear:
    outputs, inputs = layer.weight.shape
    linear = nn.Linear(inputs, outputs)
    linear.weight = nn.Parameter(layer.dequantized(), requires_grad=False)
    linear.bias = nn.Parameter(layer.bias, requires_grad=False)
    return linear


FLOAT_ACTIVATIONS = {QuantLinear: _float_linear, QuantLinear4: _float_linear}
