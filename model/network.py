"""The whole model: encoder, CTC head, decoders, and the joint loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import NetworkConfig
from model.decoder import BiDecoder, Decoder
from model.encoder import Encoder, EncoderState, subsampled_frames
from model.masks import chunk_mask, length_mask

IGNORED = -1  # marks padding in label tensors


class CtcHead(nn.Module):
    """Encoder frames to log-probabilities of units."""

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__()
        self.ctc_lo = nn.Linear(dim, vocab_size)

    def forward(self, encoder_out: Tensor) -> Tensor:
        """(B, T', D) to log_probs (B, T', V), float32."""
        return F.log_softmax(self.ctc_lo(encoder_out).float(), dim=-1)


class Network(nn.Module):
    """U2++ with dense or mixture-of-experts feed-forward layers."""

    def __init__(self, conf: NetworkConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.conf = conf
        self.encoder = Encoder(conf, dropout)
        self.ctc = CtcHead(conf.dim, conf.vocab_size)
        self.decoder: nn.Module
        if conf.bidirectional:
            self.decoder = BiDecoder(conf, dropout)
        else:
            self.decoder = Decoder(conf, conf.decoder_blocks, dropout)

    def step(
        self, feats: Tensor, offset: Tensor, state: EncoderState
    ) -> tuple[Tensor, Tensor, EncoderState]:
        """One chunk: feats (B, T, F), offset int64 (1,), state to encoder_out (B, T', D),
        log_probs (B, T', V) and the next state."""
        encoder_out, state = self.encoder.step(feats, offset, state)
        return encoder_out, self.ctc(encoder_out), state

    def whole(
        self, feats: Tensor, lengths: Tensor, chunk: int, left_context: int, offset: int = 0
    ) -> tuple[Tensor, Tensor]:
        """A batch of whole utterances under a chunk mask (see ``masks.chunk_mask``).

        Args:
            feats: (B, T, F), padded; lengths (B,) counts feature frames.
            offset: position of the first encoder frame.

        Returns:
            encoder_out (B, T', D) and its lengths (B,).
        """
        frames = subsampled_frames(feats.size(1), self.conf)
        out_lengths = torch.div(
            lengths - self.conf.right_context - 1,
            self.conf.subsampling_rate,
            rounding_mode="floor",
        ).add(1).clamp(min=0, max=frames)  # fmt: skip
        valid = length_mask(out_lengths, frames)
        mask = valid[:, None, None, :] & chunk_mask(frames, chunk, left_context)
        state = self.encoder.zero_state(0, feats.size(0))
        encoder_out, _ = self.encoder(feats, torch.tensor([offset]), state, mask)
        return encoder_out, out_lengths

    def loss(self, encoder_out: Tensor, lengths: Tensor, labels: list[list[int]]) -> Tensor:
        """Joint loss per utterance (WeNet): ctc_weight * CTC + (1 - ctc_weight) * attention,
        where the attention loss mixes both directions by reverse_weight."""
        conf = self.conf
        ctc = self.ctc_loss(encoder_out, lengths, labels)
        if conf.ctc_weight == 1.0:
            return ctc
        return conf.ctc_weight * ctc + (1 - conf.ctc_weight) * self.attention_loss(
            encoder_out, lengths, labels
        )

    def ctc_loss(self, encoder_out: Tensor, lengths: Tensor, labels: list[list[int]]) -> Tensor:
        """CTC loss per utterance of encoder_out (B, T', D)."""
        log_probs = self.ctc(encoder_out)
        target = torch.tensor([unit for label in labels for unit in label], dtype=torch.long)
        sizes = torch.tensor([len(label) for label in labels])
        return F.ctc_loss(
            log_probs.transpose(0, 1), target, lengths, sizes,
            blank=self.conf.blank, reduction="sum", zero_infinity=True,
        ) / len(labels)  # fmt: skip

    def attention_loss(
        self, encoder_out: Tensor, lengths: Tensor, labels: list[list[int]], noise: float = 0.0
    ) -> Tensor:
        """Attention loss per utterance, of both directions; the part ``noise`` of the units that
        the decoders read, not of those they are to say, is replaced by random ones."""
        conf = self.conf
        memory_mask = length_mask(lengths, encoder_out.size(1))
        left = self._one_way_loss(labels, encoder_out, memory_mask, False, noise)
        if not conf.bidirectional or conf.reverse_weight == 0.0:
            return left
        right = self._one_way_loss(labels, encoder_out, memory_mask, True, noise)
        return (1 - conf.reverse_weight) * left + conf.reverse_weight * right

    def predict(
        self, labels: list[list[int]], memory: Tensor, memory_mask: Tensor, reverse: bool,
        noise: float = 0.0,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """What a direction says of each unit, knowing those before it.

        Returns:
            logits (B, U + 1, V) and targets (B, U + 1), which end in eos, then ``IGNORED``.
        """
        conf = self.conf
        longest = max(len(label) for label in labels) + 1
        tokens = torch.full((len(labels), longest), conf.eos)
        target = torch.full((len(labels), longest), IGNORED)
        for row, label in enumerate(labels):
            ordered = torch.tensor(label[::-1] if reverse else label, dtype=torch.long)
            tokens[row, 0] = conf.sos
            tokens[row, 1 : len(label) + 1] = ordered
            target[row, : len(label)] = ordered
            target[row, len(label)] = conf.eos
        if noise:
            replaced = torch.rand(tokens.shape) < noise
            replaced[:, 0] = False
            tokens = torch.where(replaced, torch.randint(conf.vocab_size, tokens.shape), tokens)
        decoder = self.decoder
        if isinstance(decoder, BiDecoder):
            decoder = decoder.right_decoder if reverse else decoder.left_decoder
        return decoder(tokens, target != IGNORED, memory, memory_mask), target

    def _one_way_loss(
        self, labels: list[list[int]], memory: Tensor, memory_mask: Tensor, reverse: bool,
        noise: float,
    ) -> Tensor:  # fmt: skip
        logits, target = self.predict(labels, memory, memory_mask, reverse, noise)
        # WeNet measures the divergence from 1 - s on the target and s / (V - 1) on each other
        # unit; torch gives s / V to every unit, and leaves out the target's own entropy.
        smoothing, others = self.conf.label_smoothing, self.conf.vocab_size - 1
        loss = F.cross_entropy(
            logits.float().flatten(0, 1), target.flatten(), ignore_index=IGNORED,
            label_smoothing=smoothing * self.conf.vocab_size / others, reduction="sum",
        )  # fmt: skip
        entropy = -_x_log_x(1 - smoothing) - others * _x_log_x(smoothing / others)
        return (loss - entropy * int((target != IGNORED).sum())) / len(labels)


def _x_log_x(x: float) -> float:
    return x * math.log(x) if x > 0 else 0.0
