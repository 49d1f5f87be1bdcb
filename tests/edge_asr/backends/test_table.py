"""The table of backends: unknown names, libraries that are not there."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from packaging.requirements import Requirement

from edge_asr.backends import BACKENDS, open_decoder, open_encoder
from edge_asr.backends.onnx_runtime import open_session
from edge_asr.backends.state import zero_state
from edge_asr.backends.table import BAD_ONNXRUNTIME
from edge_asr.errors import BackendError, UsageError
from tests.tiny import DECODER, ENCODER, tiny_onnx

ROOT = Path(__file__).resolve().parents[3]


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


@pytest.mark.parametrize("version", ["1.25.1", "1.27.0", "1.28.0.dev3", "1.29.0+cpu"])
def test_a_library_that_would_end_the_process_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    def session(*arguments: object, **options: object) -> None:
        raise AssertionError("it ends the process")

    monkeypatch.setattr(onnxruntime, "__version__", version)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(BackendError) as caught:
        open_encoder("onnx", tiny_onnx(), ENCODER)
    assert str(caught.value) == (
        f"onnxruntime {version} ends the process when a program is loaded (1.25 to 1.29 do); "
        "run: pip install 'onnxruntime>=1.30'"
    )


@pytest.mark.parametrize("version", ["1.22.0", "1.24.4", "1.30.0", "1.32.0", "2.27.0", "unknown"])
def test_other_versions_are_not(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    assert open_session(tiny_onnx(), 1)


def test_pip_does_not_install_what_is_refused() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = map(Requirement, project["dependencies"])
    (allowed,) = (wanted.specifier for wanted in requirements if wanted.name == "onnxruntime")
    versions = [f"1.{minor}.{patch}" for minor in range(22, 40) for patch in (0, 1, 2)]
    refused = {version for version in versions if BAD_ONNXRUNTIME.include(version)}
    assert {version for version in versions if version not in allowed} == refused
    assert len(refused) == 15
    cure = re.fullmatch(r"pip install '(.+)'", BAD_ONNXRUNTIME.cure)
    assert cure and not any(version in Requirement(cure[1]).specifier for version in refused)


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
