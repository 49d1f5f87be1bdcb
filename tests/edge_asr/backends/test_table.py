"""The table of backends: unknown names, libraries that are not there."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edge_asr.backends import BACKENDS, open_decoder, open_encoder
from edge_asr.backends.state import zero_state
from edge_asr.errors import BackendError, UsageError
from tests.tiny import DECODER, ENCODER, tiny_onnx


@pytest.mark.parametrize("name", ["", "ONNX", "tflite", "edge_asr.streams.stream"])
def test_an_unknown_backend_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="choose one of: onnx, executorch, torchscript") as caught:
        open_encoder(name, b"", ENCODER)
    assert (caught.value.field, caught.value.value) == ("backend", name)
    assert caught.value.allowed == "onnx, executorch, torchscript"
    with pytest.raises(UsageError, match="choose one of: onnx, executorch, torchscript"):
        open_decoder(name, b"", DECODER)


@pytest.mark.parametrize(
    ("backend", "library", "command"),
    [
        ("onnx", "onnxruntime", "pip install onnxruntime"),
        ("executorch", "executorch", "pip install executorch==1.5.1"),
        ("torchscript", "torch", "pip install torch==2.13.0"),
    ],
)
def test_a_missing_library_is_named_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, backend: str, library: str, command: str
) -> None:
    monkeypatch.delitem(sys.modules, BACKENDS[backend].module, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BackendError) as caught:
        open_encoder(backend, b"", ENCODER)
    assert str(caught.value) == f"backend '{backend}' is not installed ({library}); run: {command}"


def test_a_state_starts_as_zeros_of_its_own() -> None:
    first, second = zero_state(ENCODER), zero_state(ENCODER)
    assert [(s.shape, s.dtype) for s in first] == [((1, 1, 4), np.float32)]
    first[0][:] = 1
    assert not second[0].any()


@pytest.mark.slow
@pytest.mark.parametrize("program", [b"", b"hello", bytes(4096), tiny_onnx()])
def test_executorch_refuses_what_is_no_program(program: bytes) -> None:
    with pytest.raises(BackendError) as caught:
        open_encoder("executorch", program, ENCODER)
    assert "\n" not in str(caught.value)
