"""From a failure to one line and an exit code: the one place for it, whatever the command.

    0    done                      69   no microphone (DeviceError)
    64   wrong usage               73   output that cannot be written
    65   audio that is no audio    74   another input or output error
    66   an input file is missing  78   something installed or packaged is wrong
    129  hung up                   130  interrupted (Ctrl-C)
    143  terminated                141  nobody reads the output any more

The codes of ``EdgeAsrError`` are those of its tree; wrong options end with 64 too, where argparse
alone would say 2, so that one mistake has one code however it is noticed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import ParamSpec

from edge_asr.console import complain, standard_streams
from edge_asr.errors import ConfigError, EdgeAsrError, OutputError

P = ParamSpec("P")

_IO_ERROR = 74
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def errors_as_lines(program: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorates the main function of a program for the workstation: errors of ours and of the
    system become one line, after the program's name, and the exit code."""

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            with standard_streams():
                try:
                    return main(*args, **kwargs)
                except (EdgeAsrError, OSError) as error:
                    return _explain(error, program)

        return run

    return decorate


def _explain(error: EdgeAsrError | OSError, program: str = "edge-asr") -> int:
    """One line, and the exit code."""
    if isinstance(error, EdgeAsrError):
        complain(error, program)
        return error.exit_code
    what = f"{error.filename}: " if error.filename else ""
    what += error.strerror or str(error)
    if error.errno not in _NOT_WRITTEN:
        complain(what, program)
        return _IO_ERROR
    complain(f"{what}; make room or choose another place", program)
    return OutputError.exit_code


def exit_code(run: Callable[[], int]) -> int:
    """Call ``run`` and turn how it ended into the exit code of the process.

    An exception that is not expected is a bug and goes on as it is.
    """
    with standard_streams():
        return _exit_code(run)


def _exit_code(run: Callable[[], int]) -> int:
    try:
        with _termination():
            code = _run_and_flush(run)
    except EdgeAsrError as error:
        return _explain(error)
    except ModuleNotFoundError as error:
        if (error.name or "edge_asr").partition(".")[0] == "edge_asr":
            raise
        complain(f"{error.name} is not installed; run: edge-asr doctor")
        return ConfigError.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _discard_stdout()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _discard_stdout()  # else the interpreter tries to write the rest, and says so
        return _explain(error)
    return code


def _run_and_flush(run: Callable[[], int]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a letter ends nothing
    try:
        code = run()
    except SystemExit as end:  # of argparse, after --help or an error
        code = end.code if isinstance(end.code, int) else 0
    sys.stdout.flush()  # here, where a full disk can still be reported
    return code


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGINT end the process through its ``finally`` blocks: unfinished files
    are removed.

    For SIGINT that is not left to KeyboardInterrupt: where one reaches Python code that was made
    from a string, as an import of dataclasses is, the interpreter kills itself with SIGINT at its
    end although the exception was caught (CPython 3.11, run_eval_code_obj).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    signals = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signals.append(signal.SIGINT)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nor where nohup is used
        signals.append(signal.SIGHUP)
    before = [(one, signal.signal(one, terminate) or signal.SIG_DFL) for one in signals]
    try:
        yield
    finally:
        for one, handler in before:
            signal.signal(one, handler)


def _discard_stdout() -> None:
    """What is still in the buffer goes nowhere, without a word from the interpreter."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
