"""How a command ends: one line and an exit code, whatever happens."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_asr import errors
from edge_asr.exits import errors_as_lines, exit_code


def every_error() -> list[type[errors.EdgeAsrError]]:
    found = [errors.EdgeAsrError]
    for kind in found:
        found += kind.__subclasses__()
    return found


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize("kind", every_error())
def test_errors_of_ours_are_one_line(
    kind: type[errors.EdgeAsrError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(kind("a\nb \x1b[31mred"))) == kind.exit_code
    assert capsys.readouterr().err == "edge-asr: a b [31mred\n"


def test_programs_beside_the_command_say_who_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    @errors_as_lines("apps.one")
    def main(argv: list[str]) -> int:
        """What it does."""
        if argv:
            raise errors.UsageError(f"{argv[0]}: no\nsuch thing")
        return 3

    assert main([]) == 3
    assert main.__doc__ == "What it does."
    assert main(["a"]) == errors.UsageError.exit_code
    assert capsys.readouterr().err == "apps.one: a: no such thing\n"
    full = OSError(errno.ENOSPC, "No space left on device", "a.pt")
    assert errors_as_lines("apps.one")(raising(full))() == errors.OutputError.exit_code
    said = capsys.readouterr().err
    assert said == "apps.one: a.pt: No space left on device; make room or choose another place\n"
    with pytest.raises(TypeError):
        main(["a"], "b")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141),
        (SystemExit(0), 0),
        (SystemExit(64), 64),
    ],
)
def test_other_ends_say_nothing(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(error)) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 73), (errno.EIO, 74)])
def test_a_disk_that_fails_is_one_line(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(OSError(number, os.strerror(number), "out.txt"))) == code
    message = capsys.readouterr().err
    assert message.startswith(f"edge-asr: out.txt: {os.strerror(number)}")
    assert message.count("\n") == 1


def test_a_terminal_that_lacks_a_letter_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", narrow)

    def run() -> int:
        print("caf\u00e9 \u2581one")
        return 0

    assert exit_code(run) == 0
    assert narrow.buffer.getvalue() == b"caf? ?one\n"  # type: ignore[attr-defined]


def test_a_missing_library_is_named_but_a_bug_of_ours_is_not_hidden(
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = ModuleNotFoundError("No module named 'soxr'", name="soxr")
    assert exit_code(raising(missing)) == 78
    assert capsys.readouterr().err == "edge-asr: soxr is not installed; run: edge-asr doctor\n"
    with pytest.raises(ModuleNotFoundError):
        exit_code(raising(ModuleNotFoundError("typo", name="edge_asr.typo")))
    with pytest.raises(ZeroDivisionError):
        exit_code(raising(ZeroDivisionError()))


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_termination_runs_what_cleans_up(signum: signal.Signals, code: int) -> None:
    cleaned = []

    def run() -> int:
        try:
            os.kill(os.getpid(), signum)
            signal.pause()
        finally:
            cleaned.append(True)
        return 0

    found = signal.signal(signum, signal.SIG_DFL)
    try:
        assert exit_code(run) == code
        assert signal.getsignal(signum) is signal.SIG_DFL
    finally:
        signal.signal(signum, found)
    assert cleaned


def test_a_hangup_that_is_ignored_ends_nothing() -> None:
    found = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert exit_code(lambda: signal.raise_signal(signal.SIGHUP) or 7) == 7
    finally:
        signal.signal(signal.SIGHUP, found)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_swallow_what_is_for_them(closed: str, tmp_path: Path) -> None:
    program = (
        "import sys; from edge_asr.exits import exit_code; from edge_asr.errors import AudioError\n"
        "def run():\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        print('text'); sys.stderr.isatty(); file.write(str(file.fileno() > 2))\n"
        "        raise AudioError('what is wrong')\n"
        "sys.exit(exit_code(run))"
    )
    command = f'"$0" -c "$1" "$2" {closed}'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable, program, tmp_path / "file"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 65
    assert result.stdout == ("text\n" if closed == "2>&-" else "")
    assert result.stderr == ("edge-asr: what is wrong\n" if closed == ">&-" else "")
    # A library that writes to descriptor 2 must not write into a file of ours.
    assert (tmp_path / "file").read_text() == "True"


def test_an_interrupt_while_importing_ends_as_any_other(tmp_path: Path) -> None:
    # An import of dataclasses or namedtuples runs code made from a string; an interrupt there is
    # where CPython ends the process by a signal although KeyboardInterrupt was caught.
    (tmp_path / "interrupted.py").write_text(
        "import sys; from edge_asr.exits import exit_code\n"
        "text = '__import__(\"signal\").raise_signal(2) or [0 for _ in range(10**9)]'\n"
        "sys.exit(exit_code(lambda: eval(text)))"
    )
    result = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
