"""Chunks give what the chunk-masked whole utterance gives, for every network and chunk size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import POSITION_PERIOD
from model.encoder import EncoderState, sinusoids, subsampled_frames
from model.network import Network
from tests.model.networks import network, speech

BOUND = 1e-4
ABSOLUTE = {"pos_enc_layer_type": "abs_pos_whisper", "selfattention_layer_type": "selfattn"}


def stream(
    net: Network, feats: torch.Tensor, chunk: int, left: int, offset: int = 0
) -> tuple[torch.Tensor, EncoderState]:
    """log_probs (1, T', V) of whole chunks of ``feats``, and the state after them.

    A stream that begins at ``offset`` has an empty past there, as the whole utterance has.
    """
    rate, size = net.conf.subsampling_rate, net.conf.right_context + 1
    state, parts, begin = net.encoder.zero_state(left), [], 0
    with torch.inference_mode():
        while begin * rate + (chunk - 1) * rate + size <= feats.size(1):
            window = feats[:, begin * rate : (begin + chunk - 1) * rate + size]
            _, log_probs, state = net.step(window, torch.tensor([offset + begin]), state)
            parts.append(log_probs)
            begin += chunk
    return torch.cat(parts, 1), state


def whole(net: Network, feats: torch.Tensor, chunk: int, left: int) -> torch.Tensor:
    with torch.inference_mode():
        out, _ = net.whole(feats, torch.tensor([feats.size(1)]), chunk, left)
        return net.ctc(out)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    input_layer=st.sampled_from(["conv2d", "conv2d6", "conv2d8", "conv1d4"]),
    positions=st.sampled_from([{}, ABSOLUTE]),
    norm=st.sampled_from(["layer_norm", "batch_norm"]),
    kernel=st.integers(2, 15),
    mlp=st.sampled_from(["moe", "position_wise_feed_forward"]),
    chunk=st.integers(1, 25),
    left=st.integers(0, 64),
    chunks=st.integers(2, 5),
)
def test_chunks_equal_the_masked_whole(
    input_layer: str,
    positions: dict[str, str],
    norm: str,
    kernel: int,
    mlp: str,
    chunk: int,
    left: int,
    chunks: int,
) -> None:
    net = network({"input_layer": input_layer, "cnn_module_norm": norm,
                   "cnn_module_kernel": kernel, "mlp_type": mlp} | positions)  # fmt: skip
    # Past the point where the cache is full, up to a bound on the price.
    count = max(chunks, min(2 + left // chunk, 60)) * chunk
    frames = (count - 1) * net.conf.subsampling_rate + net.conf.right_context + 1
    feats = speech(frames)
    streamed, _ = stream(net, feats, chunk, left)
    assert streamed.size(1) == count == subsampled_frames(frames, net.conf)
    torch.testing.assert_close(
        streamed, whole(net, feats, chunk, left), atol=BOUND, rtol=0, check_stride=False
    )


def test_bound_sees_a_lost_state() -> None:
    """What a stream would give that forgets: far outside the bound of the test above."""
    net, feats = network(), speech(7 + 4 * 31)
    expected = whole(net, feats, 16, 64)
    for name in EncoderState._fields:
        first, state = stream(net, feats[:, : 7 + 4 * 15], 16, 64)
        damaged = state._replace(**{name: torch.zeros_like(getattr(state, name))})
        with torch.inference_mode():
            _, second, _ = net.step(feats[:, 64:], torch.tensor([16]), damaged)
        found = torch.cat([first, second], 1)
        assert (found - expected).abs().max() > 20 * BOUND, name


def test_chunks_of_changing_size_share_one_state() -> None:
    """A mask of chunks of different sizes, made by hand, against a stream of those chunks."""
    net, left = network(), 6
    sizes = [3, 1, 8, 2, 5, 1, 1, 7]
    total = sum(sizes)
    feats = speech(7 + 4 * (total - 1))
    begins = [sum(sizes[:index]) for index in range(len(sizes))]
    mask = torch.zeros(total, total, dtype=torch.bool)
    state, parts = net.encoder.zero_state(left), []
    with torch.inference_mode():
        for begin, size in zip(begins, sizes, strict=True):
            mask[begin : begin + size, max(0, begin - left) : begin + size] = True
            window = feats[:, 4 * begin : 4 * (begin + size - 1) + 7]
            _, log_probs, state = net.step(window, torch.tensor([begin]), state)
            parts.append(log_probs)
        fresh = net.encoder.zero_state(0)
        out, _ = net.encoder(feats, torch.tensor([0]), fresh, mask[None, None])
        expected = net.ctc(out)
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=BOUND, rtol=0)


def test_one_chunk_is_the_unmasked_whole() -> None:
    net, feats = network(), speech(200)
    frames = subsampled_frames(200, net.conf)
    torch.testing.assert_close(
        stream(net, feats, frames, 0)[0], whole(net, feats, 0, -1), atol=BOUND, rtol=0
    )


def test_positions_wrap_in_the_middle_of_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real stream over three ends of a short period equals the whole, which wraps too."""
    net, feats = network(), speech(7 + 4 * 119)
    long = whole(net, feats, 8, 24)
    monkeypatch.setattr("model.encoder.POSITION_PERIOD", 37)
    wrapped = whole(net, feats, 8, 24)
    torch.testing.assert_close(stream(net, feats, 8, 24)[0], wrapped, atol=BOUND, rtol=0)
    torch.testing.assert_close(wrapped[:, :32], long[:, :32], atol=0, rtol=0)
    assert (wrapped[:, 40:] - long[:, 40:]).abs().max() > 20 * BOUND


@pytest.mark.parametrize("begin", [POSITION_PERIOD - 20, 3 * POSITION_PERIOD - 7])
def test_positions_wrap(begin: int) -> None:
    """No wall after 200 s: past the end of WeNet's table, positions begin again."""
    net, feats = network(), speech(7 + 4 * 39)
    late, state = stream(net, feats, 8, 16, offset=begin)
    assert torch.isfinite(late).all() and all(torch.isfinite(part).all() for part in state)
    # The same frames with positions counted modulo the period, and all of the cache valid.
    cache = net.encoder.zero_state(16)
    parts = []
    with torch.inference_mode():
        for index in range(5):
            window = feats[:, 32 * index : 32 * index + 35]
            offset = (begin + 8 * index) % POSITION_PERIOD
            if offset < 16:
                offset += POSITION_PERIOD  # the same position; the cache stays valid
            _, log_probs, cache = net.step(window, torch.tensor([offset]), cache)
            parts.append(log_probs)
    torch.testing.assert_close(late, torch.cat(parts, 1), atol=0, rtol=0)


def test_positions_matter_and_repeat_only_with_the_period() -> None:
    period = sinusoids(torch.remainder(torch.arange(2 * POSITION_PERIOD), POSITION_PERIOD), 8)
    torch.testing.assert_close(period[:POSITION_PERIOD], period[POSITION_PERIOD:])
    net, feats = network(), speech(67)
    state = net.encoder.zero_state(4)
    with torch.inference_mode():
        at = [net.step(feats, torch.tensor([p]), state)[1] for p in (4, 40, POSITION_PERIOD + 4)]
    assert (at[0] - at[1]).abs().max() > 20 * BOUND
    torch.testing.assert_close(at[0], at[2], atol=0, rtol=0)


def test_state_is_a_value() -> None:
    """A step does not change the state it was given, nor its shapes."""
    net, feats = network(), speech(67)
    _, state = stream(net, feats, 16, 24)
    copy = EncoderState(*(part.clone() for part in state))
    with torch.inference_mode():
        first = net.step(feats, torch.tensor([16]), state)
        second = net.step(feats, torch.tensor([16]), state)
    for before, kept, new in zip(state, copy, first[2], strict=True):
        torch.testing.assert_close(before, kept, atol=0, rtol=0)
        assert new.shape == before.shape
    torch.testing.assert_close(first[1], second[1], atol=0, rtol=0)


def test_padding_of_a_batch_changes_nothing() -> None:
    """Each utterance of a batch gives what it gives alone, whatever stands behind its end."""
    net = network()
    long, short = speech(131, seed=1), speech(90, seed=2)
    batch = torch.full((2, 131, 80), 1e4)
    batch[0], batch[1, :90] = long[0], short[0]
    kinds: list[tuple[Any, Any]] = [(0, -1), (4, 8), (8, -1)]
    for chunk, left in kinds:
        with torch.inference_mode():
            out, lengths = net.whole(batch, torch.tensor([131, 90]), chunk, left)
            found = net.ctc(out)
        assert lengths.tolist() == [32, 21]
        for row, feats in enumerate((long, short)):
            expected = whole(net, feats, chunk, left)
            torch.testing.assert_close(
                found[row : row + 1, : expected.size(1)], expected, atol=BOUND, rtol=0
            )
