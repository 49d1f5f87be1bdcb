"""Our network is WeNet's function: outputs that WeNet's own code gave, see ``expected.npz``.

Those were computed from the checkpoints beside them: log_probs under three chunk masks, named
``log_probs_CHUNK_CHUNKS_ON_THE_LEFT``, what ``forward_chunk`` streamed, and both decoders' logits
after each token but the last.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from model.checkpoint import Checkpoint, load_checkpoint
from model.decoder import BiDecoder
from model.masks import length_mask
from tests.paths import DATA

BOUND = 1e-5
Arrays = dict[str, npt.NDArray[np.generic]]


@pytest.fixture(scope="module", params=["wenet-dense", "wenet-moe"])
def pair(request: pytest.FixtureRequest) -> tuple[Checkpoint, Arrays]:
    with np.load(DATA / request.param / "expected.npz") as file:
        return load_checkpoint(DATA / request.param), dict(file)


def tensor(arrays: Arrays, name: str) -> torch.Tensor:
    array = torch.from_numpy(arrays[name])
    return array.float() if array.is_floating_point() else array


@pytest.mark.parametrize(("chunk", "left_chunks"), [(0, -1), (4, 2), (8, -1)])
@torch.inference_mode()
def test_whole_utterances(pair: tuple[Checkpoint, Arrays], chunk: int, left_chunks: int) -> None:
    checkpoint, arrays = pair
    left_context = left_chunks * chunk if left_chunks >= 0 else -1
    out, lengths = checkpoint.network.whole(
        tensor(arrays, "feats"), tensor(arrays, "lengths"), chunk, left_context
    )
    expected = tensor(arrays, f"log_probs_{chunk}_{left_chunks}")
    found = checkpoint.network.ctc(out)
    assert found.shape == expected.shape
    for row, length in enumerate(lengths.tolist()):
        assert length > 20
        torch.testing.assert_close(
            found[row, :length], expected[row, :length], atol=BOUND, rtol=BOUND
        )


@torch.inference_mode()
def test_streaming(pair: tuple[Checkpoint, Arrays]) -> None:
    checkpoint, arrays = pair
    network, feats = checkpoint.network, tensor(arrays, "feats")[:1]
    expected = tensor(arrays, "stream_4_2")
    state, offset, parts = network.encoder.zero_state(8), 0, []
    while offset < expected.size(1):
        begin = offset * 4
        window = feats[:, begin : begin + 3 * 4 + 7]
        _, log_probs, state = network.step(window, torch.tensor([offset]), state)
        parts.append(log_probs)
        offset += log_probs.size(1)
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=BOUND, rtol=BOUND)


@torch.inference_mode()
@pytest.mark.parametrize("side", ["left", "right"])
def test_decoders(pair: tuple[Checkpoint, Arrays], side: str) -> None:
    checkpoint, arrays = pair
    decoder = checkpoint.network.decoder
    assert isinstance(decoder, BiDecoder)
    one_way = decoder.left_decoder if side == "left" else decoder.right_decoder
    tokens = tensor(arrays, "tokens" if side == "left" else "reverse_tokens")
    lengths, memory = tensor(arrays, "token_lengths"), tensor(arrays, "memory")
    everything = torch.ones(memory.shape[:2], dtype=torch.bool)
    found = one_way(tokens, length_mask(lengths, tokens.size(1)), memory, everything)
    expected = tensor(arrays, side)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(
            found[row, :length], expected[row, :length], atol=BOUND, rtol=BOUND
        )
