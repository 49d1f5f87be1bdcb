"""CTranslate2's file: what is written is read, and damage is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_asr.errors import ConfigError, InputMissingError
from model.whisper.weights import read_weights
from tests.model.whisper.small_whisper import write


def test_every_kind_of_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    whole = rng.integers(-127, 128, (3, 4)).astype(np.int8)
    scale = rng.uniform(50, 200, 3).astype(np.float32)
    arrays = {
        "a/weight": whole, "a/weight_scale": scale, "b/weight": whole,
        "b/weight_scale": np.array(20.0, np.float32),
        "c": rng.standard_normal((2, 3, 1)).astype(np.float32),
        "d": rng.standard_normal(5).astype(np.float16), "e": np.array(7, np.int32),
    }  # fmt: skip
    write(tmp_path / "model.bin", arrays)
    found = read_weights(tmp_path / "model.bin")
    assert set(found) == {"a/weight", "b/weight", "c", "d", "e"}
    np.testing.assert_allclose(found["a/weight"], whole / scale[:, None], rtol=1e-6)
    np.testing.assert_allclose(found["b/weight"], whole / 20.0, rtol=1e-6)
    np.testing.assert_array_equal(found["c"], arrays["c"])
    np.testing.assert_array_equal(found["d"], arrays["d"].astype(np.float32))
    assert found["e"].item() == 7


@pytest.mark.parametrize("size", [0, 3, 20, 45, -1])
def test_a_cut_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "model.bin"
    write(path, {"weight": np.ones((4, 4), np.float32)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ConfigError, match="not a model of CTranslate2, or damaged"):
        read_weights(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"give model\.bin"):
        read_weights(tmp_path / "model.bin")
