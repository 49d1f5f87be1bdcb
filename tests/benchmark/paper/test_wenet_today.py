"""The worker with WeNet's model, on a stand-in that keeps WeNet's contract of caches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmark.paper.wenet_today import WenetPlayer, main
from benchmark.paper.workload import (
    HYPOTHESES,
    HYPOTHESIS_UNITS,
    LEFT_FRAMES,
    SECOND_FEATURES,
    SOS,
    WHOLE_FEATURES,
    encoder_frames,
)

VOCABULARY = 11
_POSITIONS = 5000
_EMPTY = torch.zeros(0, 0, 0, 0)


class FakeWenet:
    """Keeps what it was asked for; caches grow to ``required`` frames as WeNet's do."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, int, int]] = []  # frames, offset, cached frames
        self.scored: list[tuple[Tensor, Tensor, Tensor, float]] = []

    def forward_encoder_chunk(
        self,
        xs: Tensor,
        offset: int,
        required_cache_size: int,
        att_cache: Tensor = _EMPTY,
        cnn_cache: Tensor = _EMPTY,
    ) -> tuple[Tensor, Tensor, Tensor]:
        frames, cached = encoder_frames(xs.size(1)), att_cache.size(2)
        assert offset >= cached
        assert offset + frames <= _POSITIONS
        self.chunks.append((frames, offset, cached))
        size = min(cached + frames, required_cache_size)
        return torch.zeros(1, frames, 4), torch.zeros(1, 1, size, 8), torch.zeros(1, 1, 4, 14)

    def ctc_activation(self, xs: Tensor) -> Tensor:
        return torch.zeros(*xs.shape[:2], VOCABULARY)

    def forward_attention_decoder(
        self, hyps: Tensor, lengths: Tensor, memory: Tensor, reverse_weight: float
    ) -> None:
        self.scored.append((hyps, lengths, memory, reverse_weight))


@pytest.fixture
def model() -> FakeWenet:
    return FakeWenet()


@pytest.mark.parametrize("chunk", [1, 16, 100])
def test_times_chunks_with_full_caches_only(model: FakeWenet, chunk: int) -> None:
    handlers = WenetPlayer(model).handlers()
    for _ in range(2):
        assert len(handlers["stream"]({"chunk": chunk, "count": 3})["times_s"]) == 3
    filling = -(-LEFT_FRAMES // chunk)
    assert len(model.chunks) == filling + 2 + 3 + 3  # filled and compiled once
    assert {(frames, cached) for frames, _, cached in model.chunks[filling:]} == {
        (chunk, LEFT_FRAMES)
    }


def test_whole_utterances_keep_no_cache(model: FakeWenet) -> None:
    answer = WenetPlayer(model).handlers()["whole"]({"count": 1})
    assert len(answer["times_s"]) == 1
    assert set(model.chunks) == {(encoder_frames(WHOLE_FEATURES), 0, 0)}


def test_second_pass_runs_both_decoders_over_ten_seconds(model: FakeWenet) -> None:
    WenetPlayer(model).handlers()["second"]({"count": 2})
    hyps, lengths, memory, reverse_weight = model.scored[-1]
    assert hyps.shape == (HYPOTHESES, HYPOTHESIS_UNITS + 1)
    assert set(hyps[:, 0].tolist()) == {SOS}
    assert int(hyps[:, 1:].min()) > SOS
    assert int(hyps.max()) < VOCABULARY
    assert set(lengths.tolist()) == {HYPOTHESIS_UNITS + 1}
    assert memory.size(1) == encoder_frames(SECOND_FEATURES)
    assert reverse_weight > 0
    assert len(model.scored) == 2 + 2


def test_memory_and_probe(model: FakeWenet) -> None:
    handlers = WenetPlayer(model).handlers()
    assert handlers["memory"]({})["peak_bytes"] > 1e7
    assert len(handlers["probe"]({})["log_probs"]) == 16


def test_export_without_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "final.zip"
    assert main(["export", str(tmp_path), str(out), "--wenet", str(tmp_path)]) == 66
    assert "git clone https://github.com/wenet-e2e/wenet" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_a_file_that_is_not_there_is_an_answer(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "benchmark.paper.wenet_today",
        "serve",
        str(tmp_path / "no.zip"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, input="")
    assert result.returncode == 1
    assert result.stdout.startswith('{"error": ')
