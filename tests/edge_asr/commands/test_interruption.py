"""A signal as a flag."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from edge_asr.commands.interruption import EXIT_LIMIT_S, SIGNALS, Interruption


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_is_a_flag_once(signum: signal.Signals) -> None:
    before = [signal.getsignal(every) for every in SIGNALS]
    with Interruption() as interruption:
        assert not interruption.came()
        signal.raise_signal(signum)
        assert interruption.came()
        # The next signal is not caught: who insists, ends it.
        assert all(signal.getsignal(every) == signal.SIG_DFL for every in SIGNALS)
    assert [signal.getsignal(every) for every in SIGNALS] == before
    assert interruption.signum == signum


def test_without_a_signal_all_is_as_before() -> None:
    before = [signal.getsignal(every) for every in SIGNALS]
    with pytest.raises(ZeroDivisionError), Interruption() as interruption:
        raise ZeroDivisionError
    assert [signal.getsignal(every) for every in SIGNALS] == before
    assert (interruption.signum, interruption.came()) == (None, False)


def test_a_hangup_that_is_ignored_stays_so() -> None:
    found = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.came()
            signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert interruption.signum == signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, found)


def end_of(lines: str, limit_s: float) -> int:
    """The exit code of a process that goes on after a signal."""
    program = (
        "import signal, threading\n"
        "from edge_asr.commands import interruption\n"
        f"interruption.EXIT_LIMIT_S = {limit_s}\n"
        "with interruption.Interruption():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        f"    {lines}\n"
    )
    return subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode


def test_what_takes_too_long_is_ended() -> None:
    assert EXIT_LIMIT_S > 1, "the last words of a slow board"
    assert end_of("threading.Event().wait()", 0.01) == 128 + signal.SIGTERM


def test_a_second_signal_ends_the_process() -> None:
    assert end_of("signal.raise_signal(signal.SIGINT)", 60) == -signal.SIGINT
