"""Loading a package, opening streams, reading files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asr.errors import AudioError, BackendError, InputMissingError, PackageError, UsageError
from edge_asr.events import Final
from edge_asr.native import library
from edge_asr.native.library import Levers
from edge_asr.package.files import Package
from edge_asr.package.writer import NewProgram, write_package
from edge_asr.programs.loading import load_weights
from edge_asr.streams.recognizer import Recognizer, Transcript, load
from tests.tiny import MANIFEST, RATE, sealed, tiny_files, tiny_onnx, tones

SPEECH = tones("▁one s 400 ▁two 1200 ▁one ty ▁two")


def test_a_package_is_loaded(recognizer: Recognizer) -> None:
    assert recognizer.backend == "onnx"
    assert recognizer.program.precision == "fp32"


@pytest.mark.parametrize("threads", [0, -1, 65, 2**40])
def test_a_wrong_thread_count(tiny_package: Package, threads: int) -> None:
    with pytest.raises(UsageError, match="1 to 64"):
        load(tiny_package.root, threads=threads)


def test_threads_change_no_text(tiny_package: Package, recognizer: Recognizer) -> None:
    stream = load(tiny_package.root, threads=2).stream()
    expected = recognizer.stream()
    assert stream.push(SPEECH) + stream.flush() == expected.push(SPEECH) + expected.flush()


def test_an_unknown_backend(tiny_package: Package) -> None:
    with pytest.raises(UsageError, match="choose one of: onnx, executorch, torchscript"):
        load(tiny_package.root, backend="tflite")


@pytest.mark.parametrize(("backend", "precision"), [("torchscript", None), (None, "int8")])
def test_a_program_that_is_not_there(
    tiny_package: Package, backend: str | None, precision: str | None
) -> None:
    with pytest.raises(PackageError, match="the package offers: onnx fp32"):
        load(tiny_package.root, backend=backend, precision=precision)


def test_loading_a_package_again_leaves_its_levers() -> None:
    if not (library.built() and library.built("onnx")):
        pytest.skip("not built; run: make native")
    first = load(backend="onnx", dispatch="native", levers=Levers(top_k=1), second_pass=False)
    weights = load_weights(first.package, first.program)
    assert weights is not None

    def experts_of_a_row() -> float:
        weights.counters()
        first.transcribe(np.zeros(16000, np.float32), sample_rate=16000)
        counters = weights.counters()
        return counters.pairs / counters.rows

    assert experts_of_a_row() == 1
    load(backend="onnx", dispatch="native", second_pass=False)
    assert experts_of_a_row() == 1
    load(backend="onnx", dispatch="native", levers=Levers(), second_pass=False)
    assert experts_of_a_row() == 2


def test_a_program_that_needs_native_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the operators are not built, that is said before anything is read."""
    program, name = tiny_onnx(), "encoder.fp32.onnx"
    new = NewProgram("encoder", "onnx", "fp32", name, program, ("edge_asr::linear",), "weights")
    files = tiny_files(program) | {"weights": b"of no use"}
    package = write_package(tmp_path / "native", MANIFEST, [new], files)
    monkeypatch.setattr("edge_asr.native.library.built", lambda name="kernels": False)
    with pytest.raises(BackendError, match=r"native operators, and .*not built"):
        load(package.root)


def test_damage_is_found_before_the_program_is_parsed(tiny_package: Package) -> None:
    path = tiny_package.root / "encoder.fp32.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(PackageError, match="sha256"):
        load(tiny_package.root)


@pytest.mark.parametrize(
    "chunk_ms", ["all", 0, -40, 1, 39, 41, 640.5, 65 * 40, 1 << 40, float("nan"), float("inf")]
)
def test_a_wrong_chunk(recognizer: Recognizer, chunk_ms: int) -> None:
    with pytest.raises(UsageError, match="multiples of 40 from 40 to 2560"):
        recognizer.stream(chunk_ms)


def finals(recognizer: Recognizer, samples: np.ndarray, rate: int) -> tuple[Final, ...]:
    stream = recognizer.stream()
    events = stream.push(samples, rate) + stream.flush()
    return tuple(event for event in events if isinstance(event, Final))


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (44100, 2)])
def test_a_file_says_what_its_samples_say(
    recognizer: Recognizer, tmp_path: Path, rate: int, channels: int
) -> None:
    # 12 s, so that the file is read in two blocks.
    speech = np.concatenate([SPEECH, np.zeros(9 * RATE, np.float32), SPEECH])
    times = np.arange(len(speech) * rate // RATE) * (RATE / rate)
    samples = np.interp(times, np.arange(len(speech)), speech)[:, None].repeat(channels, 1)
    soundfile.write(tmp_path / "speech.wav", samples, rate, "PCM_16")
    read, _ = soundfile.read(tmp_path / "speech.wav", dtype="int16", always_2d=True)
    transcript = recognizer.transcribe(tmp_path / "speech.wav")
    assert transcript == Transcript(
        finals(recognizer, read, rate), len(read) * RATE // rate * 1000 // RATE
    )
    assert transcript.text == "ones two onety two ones two onety two"


def test_a_file_of_silence_says_nothing(recognizer: Recognizer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    assert recognizer.transcribe(tmp_path / "silence.wav") == Transcript((), 1000)


def test_a_file_of_one_sample_has_a_duration(recognizer: Recognizer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", np.ones(1), RATE)
    assert recognizer.transcribe(tmp_path / "click.wav").duration_ms == 0


def test_files_that_cannot_be_read(recognizer: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        recognizer.transcribe(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(AudioError):
        recognizer.transcribe(tmp_path / "text.wav")


def test_the_first_backend_of_the_package_is_taken(tiny_package: Package) -> None:
    # The only program says it is for torchscript: without a wish, that is what is opened.
    path = tiny_package.root / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["programs"][0]["backend"] = "torchscript"
    path.write_bytes(sealed(manifest))
    with pytest.raises(BackendError, match="TorchScript"):
        load(tiny_package.root)


def test_the_default_chunk_is_the_package_s(recognizer: Recognizer) -> None:
    spec = recognizer.package.manifest.encoder
    assert recognizer.stream().chunk_ms == spec.default_chunk * 40
    assert recognizer.stream("whole").chunk_ms == spec.max_chunk * 40
    assert recognizer.stream(80).chunk_ms == 80
