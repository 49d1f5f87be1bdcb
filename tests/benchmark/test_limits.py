"""The machine's limits: measured by the C++ that the kernel library has too."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.limits import SOURCE, Limits, LimitsLibrary, compiler, limits_library
from edge_asr.errors import ConfigError

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler; make test has one")


@pytest.mark.slow
@needs_compiler
def test_measures_what_no_machine_falls_short_of_or_exceeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.limits.LIBRARY", tmp_path / "not built.so")
    library = limits_library(tmp_path)
    limits = library.measure(2, buffer_bytes=32 << 20)
    assert limits.threads == 2
    assert 1e8 < limits.read_bytes_per_s < 1e13
    assert 1e8 < limits.int8_macs_per_s < 1e15
    built = tmp_path / "libmachine_limits.so"
    before = built.stat().st_mtime_ns
    limits_library(tmp_path)
    assert built.stat().st_mtime_ns == before, "compiled again"
    with pytest.raises(ConfigError, match="buffer of 0 MB"):
        library.measure(1, buffer_bytes=1000)
    with pytest.raises(ConfigError, match="buffer"):
        library.measure(65)


def test_a_file_that_is_no_such_library(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(ConfigError, match=r"text\.so: no library"):
        LimitsLibrary(tmp_path / "text.so")


def test_without_library_and_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.limits.LIBRARY", tmp_path / "none.so")
    monkeypatch.setattr("benchmark.limits.compiler", lambda: None)
    with pytest.raises(ConfigError, match="no C\\+\\+ compiler"):
        limits_library(tmp_path / "build")


def test_a_limit_is_the_best_that_was_seen() -> None:
    best = Limits(2, 5.0, 7.0).best(Limits(2, 6.0, 3.0))
    assert best == Limits(2, 6.0, 7.0)
    assert SOURCE.is_file()
