"""Nothing of a recording is lost in silence: in every container, as file, pipe and file object."""

from __future__ import annotations

import contextlib
import io
import os
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_asr.audio.raw import RawFormat
from edge_asr.audio.read import read_blocks
from edge_asr.errors import AudioError, InputMissingError, TruncatedError, UsageError
from tests.child import in_child
from tests.edge_asr.audio import inputs
from tests.edge_asr.audio.inputs import (
    CONTAINERS,
    LOSSLESS,
    PLAIN,
    RATE,
    SEEKING,
    SIGNAL,
    STREAMED,
    WAYS,
    encoded,
    heard,
    listen,
)

EVERYTHING = [*CONTAINERS, *SEEKING]


@cache
def whole(name: str) -> tuple[bytes, np.ndarray]:
    """A file, and its samples as libsndfile reads them."""
    data = encoded(name)
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    return data, samples


def check_said(name: str, error: AudioError | None, samples: np.ndarray) -> None:
    """What was not heard is said, with the place; what was heard is right."""
    _, expected = whole(name)
    same = expected[: len(samples)]
    if name in LOSSLESS:
        np.testing.assert_array_equal(samples, same)
    if len(samples) == len(expected):
        return
    assert isinstance(error, TruncatedError if len(samples) else AudioError)
    assert "\n" not in str(error)
    if len(samples):
        (place,) = re.findall(r"reading ended at ([\d.]+) s", str(error))
        assert float(place) == pytest.approx(len(samples) / RATE, abs=0.005)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EVERYTHING)
def test_whole(name: str, way: str, tmp_path: Path) -> None:
    data, expected = whole(name)
    samples, error = heard(data, way, tmp_path)
    assert error is None
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EVERYTHING)
def test_cut_short(name: str, way: str, tmp_path: Path) -> None:
    data, expected = whole(name)
    samples, error = heard(data[: len(data) * 2 // 3], way, tmp_path)
    check_said(name, error, samples)
    assert len(samples) < len(expected)
    # ALAC has its table of packets at the end; a page of Vorbis lasts seconds.
    if name not in ("alac", "vorbis"):
        assert len(samples) > len(expected) / 4, "what is there is heard"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@example(name="wav", cut=1.0, way="file")
@given(
    name=st.sampled_from([*CONTAINERS]),
    cut=st.floats(0, 1),
    way=st.sampled_from(["file", "object"]),
)
def test_cut_anywhere(
    tmp_path_factory: pytest.TempPathFactory, name: str, cut: float, way: str
) -> None:
    data, _ = whole(name)
    folder = tmp_path_factory.mktemp("cut")
    samples, error = heard(data[: round(cut * len(data))], way, folder)
    check_said(name, error, samples)


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_last_bytes_are_missing(name: str, tmp_path: Path) -> None:
    data, _ = whole(name)
    for missing in (1, 2, 3, 5, 17, 40, 150):
        samples, error = heard(data[:-missing], "object", tmp_path)
        check_said(name, error, samples)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*STREAMED, "flac"])
def test_recordings_in_a_row_are_all_heard(name: str, way: str, tmp_path: Path) -> None:
    data, expected = whole(name)
    samples, error = heard(data + data + data, way, tmp_path)
    assert error is None
    np.testing.assert_allclose(samples, np.tile(expected, 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PLAIN)
def test_recordings_in_a_row_of_other_containers_are_said(
    name: str, way: str, tmp_path: Path
) -> None:
    data, expected = whole(name)
    samples, error = heard(data + data, way, tmp_path)
    np.testing.assert_array_equal(samples, expected)
    assert isinstance(error, TruncatedError)
    assert "another recording follows" in str(error)


@pytest.mark.parametrize("name", PLAIN)
def test_a_block_has_the_length_that_was_asked_for(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(whole(name)[0])
    lengths = [len(block) for block, _ in read_blocks(path, 0.4)]
    assert lengths == [6400] * 7 + [3200]


@pytest.mark.parametrize("way", WAYS)
def test_raw_samples(way: str, tmp_path: Path) -> None:
    samples = (SIGNAL.reshape(-1, 2) * 32767).astype("<i2")
    with inputs.given(samples.tobytes() + b"\x01", way, tmp_path) as source:
        blocks = list(read_blocks(source, 0.1, RawFormat(8000, 2)))
    assert {rate for _, rate in blocks} == {8000}
    np.testing.assert_array_equal(
        np.concatenate([block for block, _ in blocks]), samples.astype(np.float32) / 32768
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("data", [b"", b"RI", b"hello " * 2000, bytes(5000), b"OggS", b"fLaC" * 99])
def test_what_is_no_audio(data: bytes, way: str, tmp_path: Path) -> None:
    samples, error = heard(data, way, tmp_path)
    assert len(samples) == 0
    assert type(error) is AudioError
    assert "\n" not in str(error)


def test_what_is_no_audio_and_has_no_end() -> None:
    samples, error = listen("/dev/zero")
    assert len(samples) == 0
    assert "not readable as audio" in str(error)


def test_descriptors_are_closed_however_reading_ends(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in EVERYTHING:
        data, _ = whole(name)
        for part in (data, data[: len(data) // 2], data * 2):
            (tmp_path / "a").write_bytes(part)
            listen(tmp_path / "a")
            blocks = read_blocks(tmp_path / "a", 0.1)
            with contextlib.suppress(AudioError):
                next(blocks)
            blocks.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


def test_standard_input(tmp_path: Path) -> None:
    data, expected = whole("wav")
    (tmp_path / "a.wav").write_bytes(data)
    saved = os.dup(0)
    try:
        with (tmp_path / "a.wav").open("rb") as file:
            os.dup2(file.fileno(), 0)
            samples, error = listen("-")
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert error is None
    np.testing.assert_array_equal(samples, expected)


def test_a_closed_standard_input_is_missing() -> None:
    saved = os.dup(0)
    os.close(0)
    try:
        with pytest.raises(InputMissingError, match="standard input"):
            listen("-")
    finally:
        os.dup2(saved, 0)
        os.close(saved)


@pytest.mark.parametrize("source", [7, None, b"RIFF....WAVE", [0.1, 0.2]])
def test_other_types_are_refused(source: object) -> None:
    with pytest.raises(UsageError, match="allowed are a path and a file object"):
        listen(source)  # type: ignore[arg-type]


def test_text_files_are_refused() -> None:
    with pytest.raises(UsageError, match="binary mode"):
        listen(io.StringIO("RIFF"))  # type: ignore[arg-type]


class Failing(io.BytesIO):
    """Fails where it is read for the third time."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads == 3:
            raise KeyboardInterrupt
        return super().read(min(size or 0, 900))


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_a_file_object_raises_is_raised(name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        listen(Failing(whole(name)[0] * 20))


@pytest.mark.parametrize("name", ["wav", "opus"])
def test_a_forked_process_is_refused_the_rest(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.{name}"
    path.write_bytes(2 * encoded("opus") if name == "opus" else encoded(name))  # links: a thread
    expected = len(listen(str(path))[0])
    blocks = read_blocks(path, 0.1)
    count = len(next(blocks)[0])

    def go_on() -> str:
        with pytest.raises(UsageError) as refused:
            next(blocks)
        return str(refused.value)

    assert in_child(go_on).endswith("open the input after the fork")
    assert count + sum(len(block) for block, _ in blocks) == expected
