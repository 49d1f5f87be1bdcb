"""Whisper's encoder and text decoder into a network of ours, whose function is nearly theirs.

* Blocks become Conformer blocks: the convolution module and the first feed-forward begin as
  nothing (their last projections are zero); what Whisper has no block for begins as nothing whole.
* gelu(x) is silu(1.702 x) / 1.702 to about 0.02, so weights before it are multiplied and weights
  after it divided.
* Frames of 20 ms are merged in pairs: at first, their mean.
* A Conformer block ends with a norm, Whisper's does not: ``fit_final_norms`` makes each the affine
  map nearest to no change on real speech.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_asr.errors import ConfigError
from model.config import NetworkConfig
from model.encoder import EncoderLayer
from model.feed_forward import FeedForward
from model.network import Network
from model.subsampling import Conv1dSubsampling
from model.whisper.mel import Matrix

GELU_AS_SILU = 1.702
END, NO_TIMES = "<|endoftext|>", "<|notimestamps|>"

Weights = Mapping[str, Tensor]


def check_network(conf: NetworkConfig, weights: Weights, where: str) -> None:
    """Raise ConfigError unless a network of ``conf`` can begin with ``weights``."""
    dim = weights["encoder/layer_norm/gamma"].numel()
    for name, value, needed in (
        ("input_layer", conf.input_layer, "conv1d4"),
        ("pos_enc_layer_type", conf.positions, "abs_pos_whisper"),
        ("output_size", conf.dim, dim),
        ("linear_units", conf.feed_forward.hidden, 4 * dim),
        ("n_expert", conf.feed_forward.n_expert + conf.decoder_feed_forward.n_expert, 0),
        ("decoder", "bitransformer" if conf.bidirectional else "transformer", "transformer"),
        ("input_layer of the decoder learned", conf.decoder_positions_learned, True),
    ):
        if value != needed:
            raise ConfigError(f"{where}: {name} is {value!r}; to begin as Whisper it is {needed!r}")
    if conf.blocks < (blocks := _count(weights, "encoder")):
        raise ConfigError(f"{where}: num_blocks is {conf.blocks}; Whisper has {blocks}")


@torch.no_grad()
def begin_as_whisper(
    network: Network, weights: Weights, features: Matrix, tokens: Sequence[int]
) -> None:
    """Put the weights in.

    Args:
        network: one that passes ``check_network``; its CMVN is set already.
        features: ``mel.feature_map``.
        tokens: Whisper's token for each unit.
    """
    encoder = network.encoder
    assert isinstance(encoder.embed, Conv1dSubsampling)
    cmvn = encoder.global_cmvn
    _begin_subsampling(encoder.embed, weights, features, cmvn.mean, cmvn.istd)
    for index, layer in enumerate(encoder.encoders):
        assert isinstance(layer, EncoderLayer)
        _silence(layer.feed_forward_macaron.w_2, layer.conv_module.pointwise_conv2)
        if index < _count(weights, "encoder"):
            _begin_layer(layer, weights, f"encoder/layer_{index}")
        else:
            _silence(layer.feed_forward.w_2, layer.self_attn.linear_out)
    _norm(encoder.after_norm, weights, "encoder/layer_norm")
    _begin_decoder(network.decoder, weights, tokens)


@torch.no_grad()
def fit_final_norms(network: Network, weights: Weights, feats: Sequence[Tensor]) -> list[float]:
    """Set the last norm of each of Whisper's blocks but the last, whose output is normed anyway.

    Args:
        feats: features (T, F) of some recordings.

    Returns:
        For each, the part of the variance that is still changed.
    """
    errors = []
    for index in range(_count(weights, "encoder") - 1):
        norm = network.encoder.encoders[index].norm_final
        kept: list[Tensor] = []
        hook = norm.register_forward_hook(lambda module, args, out, kept=kept: kept.append(args[0]))
        for frames in feats:
            network.whole(frames[None], torch.tensor([len(frames)]), 0, -1)
        hook.remove()
        x = torch.cat([part.flatten(0, 1) for part in kept])
        normed = F.layer_norm(x, x.shape[1:])
        centred, wanted = normed - normed.mean(0), x - x.mean(0)
        norm.weight.copy_((centred * wanted).sum(0) / centred.square().sum(0))
        norm.bias.copy_(x.mean(0) - norm.weight * normed.mean(0))
        left = (normed * norm.weight + norm.bias - x).square().sum() / wanted.square().sum()
        errors.append(float(left))
    return errors


def _begin_subsampling(
    embed: Conv1dSubsampling, weights: Weights, features: Matrix, mean: Tensor, istd: Tensor
) -> None:
    taps, bias = weights["encoder/conv1/weight"], weights["encoder/conv1/bias"]  # (O, 80, 3), (O,)
    linear = torch.from_numpy(features).float()
    ours = torch.einsum("omk,im->oik", taps, linear[:-1])  # over Kaldi's bins
    bias = bias + torch.einsum("omk,m->o", taps, linear[-1])
    bias = bias + torch.einsum("oik,i->o", ours, mean)
    _set(embed.first, _windows(ours / istd[None, :, None]) * GELU_AS_SILU, bias * GELU_AS_SILU)
    second = weights["encoder/conv2/weight"], weights["encoder/conv2/bias"]
    _set(embed.second, _windows(second[0]), second[1] * GELU_AS_SILU)
    half = torch.eye(embed.merge.out_features) / (2 * GELU_AS_SILU)
    _set(embed.merge, torch.cat([half, half], dim=1), torch.zeros(embed.merge.out_features))


def _windows(taps: Tensor) -> Tensor:
    """Weights (O, I, 3) of a convolution as those over windows of frames (O, 3 I)."""
    return taps.transpose(1, 2).flatten(1)


def _begin_layer(layer: EncoderLayer, weights: Weights, place: str) -> None:
    _begin_attention(layer.self_attn, weights, f"{place}/self_attention")
    _norm(layer.norm_mha, weights, f"{place}/self_attention/layer_norm")
    _begin_feed_forward(layer.feed_forward, weights, f"{place}/ffn", 2.0)  # it counts half
    _norm(layer.norm_ff, weights, f"{place}/ffn/layer_norm")


def _begin_decoder(decoder: nn.Module, weights: Weights, tokens: Sequence[int]) -> None:
    table = weights["decoder/embeddings/weight"]
    rows = table[torch.tensor(tokens)]
    decoder.embed[0].weight.copy_(rows)
    places = weights["decoder/position_encodings/encodings"]
    # Ours begin with one special unit, Whisper's with two.
    decoder.embed.positions.copy_(torch.cat([places[1:], places[-1:]]))
    _set(decoder.output_layer, rows, torch.zeros(len(rows)))
    _norm(decoder.after_norm, weights, "decoder/layer_norm")
    for index, layer in enumerate(decoder.decoders):
        place = f"decoder/layer_{index}"
        _begin_attention(layer.self_attn, weights, f"{place}/self_attention")
        _begin_attention(layer.src_attn, weights, f"{place}/attention")
        _begin_feed_forward(layer.feed_forward, weights, f"{place}/ffn", 1.0)
        for norm, part in (("norm1", "self_attention"), ("norm2", "attention"), ("norm3", "ffn")):
            _norm(getattr(layer, norm), weights, f"{place}/{part}/layer_norm")


def _begin_attention(attention: nn.Module, weights: Weights, place: str) -> None:
    """Projections: one of queries, keys and values; or of queries, and of keys and values."""
    parts = [attention.linear_q, attention.linear_k, attention.linear_v, attention.linear_out]
    pairs: list[tuple[Tensor, Tensor]] = []
    while f"{place}/linear_{len(pairs)}/weight" in weights:
        name = f"{place}/linear_{len(pairs)}"
        pairs.append((weights[f"{name}/weight"], weights[f"{name}/bias"]))
    rows = torch.cat([weight for weight, _ in pairs])
    biases = torch.cat([bias for _, bias in pairs])
    sizes = [len(rows) // 4] * 4
    for part, row, bias in zip(parts, rows.split(sizes), biases.split(sizes), strict=True):
        _set(part, row, bias)


def _begin_feed_forward(layer: FeedForward, weights: Weights, place: str, factor: float) -> None:
    first, second = f"{place}/linear_0", f"{place}/linear_1"
    _set(layer.w_1, weights[f"{first}/weight"] * GELU_AS_SILU,
         weights[f"{first}/bias"] * GELU_AS_SILU)  # fmt: skip
    _set(layer.w_2, weights[f"{second}/weight"] * (factor / GELU_AS_SILU),
         weights[f"{second}/bias"] * factor)  # fmt: skip


def _norm(norm: nn.LayerNorm, weights: Weights, place: str) -> None:
    _set(norm, weights[f"{place}/gamma"], weights[f"{place}/beta"])


def _set(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)


def _silence(*layers: nn.Module) -> None:
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def _count(weights: Weights, stack: str) -> int:
    return sum(name.startswith(f"{stack}/layer_") and name.endswith("/ffn/layer_norm/gamma")
               for name in weights)  # fmt: skip
