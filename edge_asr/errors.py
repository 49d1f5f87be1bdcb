"""The one tree of errors, each with the exit code that the command line ends with.

    EdgeAsrError            70  internal error
    ├── UsageError          64  a wrong option or value
    ├── AudioError          65  audio that cannot be read or decoded
    │   └── TruncatedError      audio that ends before its file or header says
    ├── InputMissingError   66  a file that is not there
    ├── DeviceError         69  no microphone, or it is busy or gone
    │   └── RunawayError    74  a microphone whose clock runs away
    ├── OutputError         73  a file that cannot be created
    └── ConfigError         78  something installed or packaged is wrong
        ├── PackageError        a package that is missing, damaged or from another version
        └── BackendError        a backend that is not installed or refuses a program

The codes are those of sysexits.h. A message is one line and says what is wrong, where, what
is allowed, and what to do next. Where one setting is wrong, the error has all that as data too,
so that a command line, a server or a page can name the setting as its users know it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from numbers import Integral, Number, Real
from reprlib import Repr
from typing import Any

_SHORT = Repr()  # of a value in a message, whatever a request holds
_SHORT.maxstring = _SHORT.maxother = 80


def shown(value: object) -> str:
    """``value`` in a message: on one line, and not long."""
    text = str(value)[:80] if isinstance(value, Number) else _SHORT.repr(value)
    return text.replace("\n", " ")  # of an array


def reason_of(error: BaseException) -> str:
    """What an error says, on one line; of one that is not ours, its kind too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, EdgeAsrError) else f"{type(error).__name__}: {text}"


class EdgeAsrError(Exception):
    """Base of every error that edge_asr raises on purpose."""

    exit_code = 70


class UsageError(EdgeAsrError):
    """An option or argument outside what is allowed.

    Attributes:
        field: the one setting that is wrong, "group.setting" where it is in a group; "" where it
            is not one setting, but what is in a file or how several go together.
        value: what the setting was given.
        allowed: what it may be, in words, as "1 to 64".
    """

    exit_code = 64

    def __init__(
        self, message: str, *, field: str = "", value: object = None, allowed: str = ""
    ) -> None:
        super().__init__(message)
        self.field = field
        self.value = value
        self.allowed = allowed

    @classmethod
    def of_setting(cls, field: str, value: object, allowed: str) -> UsageError:
        """The error of one setting, with the usual message."""
        message = f"{field} is {shown(value)}; allowed are {allowed}"
        return cls(message, field=field, value=value, allowed=allowed)

    def renamed(self, field: str) -> UsageError:
        """The error of the same setting by another name, which its message has too."""
        message = str(self)
        if not message.startswith(self.field):
            return UsageError.of_setting(field, self.value, self.allowed)
        message = field + message.removeprefix(self.field)
        return UsageError(message, field=field, value=self.value, allowed=self.allowed)


def check_type(field: str, value: object, types: Any, allowed: str) -> None:
    """Raise UsageError unless ``value`` is of one of ``types``: a class, or several with ``|``.

    To Python True is the number 1; where numbers are asked for nobody means that, so a boolean
    passes only where ``types`` is ``bool``.
    """
    if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
        raise UsageError.of_setting(field, value, allowed)


def check_number(
    field: str, value: object, low: float, high: float, allowed: str, *, whole: bool = False
) -> None:
    """Raise UsageError unless ``value`` is a number from ``low`` to ``high``; if ``whole``, of an
    integer type. ``allowed`` is the range in words; True and NaN are no numbers."""
    kind, name = (Integral, "whole numbers") if whole else (Real, "numbers")
    if not isinstance(value, kind) or isinstance(value, bool):
        words = allowed if allowed.startswith(name) else f"{name}, {allowed}"
        raise UsageError.of_setting(field, value, words)
    try:
        number = float(value)
    except OverflowError:  # an integer of Python has no end
        number = math.nan
    if not low <= number <= high:
        raise UsageError.of_setting(field, value, allowed)


@contextlib.contextmanager
def settings_of(group: str) -> Iterator[None]:
    """Puts the name of a group before the settings that errors are about: ``silence_ms`` of
    ``endpoint`` is ``endpoint.silence_ms``."""
    try:
        yield
    except UsageError as error:
        if not error.field:
            raise
        raise error.renamed(f"{group}.{error.field}") from error


class AudioError(EdgeAsrError):
    """Audio that cannot be read, is empty, or holds values that are not numbers."""

    exit_code = 65


class TruncatedError(AudioError):
    """Audio that has, or promises, more than could be read. What came before was read: ``partial``
    is what was made of it, a ``Transcript`` where ``Recognizer.transcribe`` raised it."""

    partial: Any = None


class InputMissingError(EdgeAsrError):
    """An input file that does not exist or may not be read."""

    exit_code = 66


class DeviceError(EdgeAsrError):
    """No microphone, no such microphone, or one that is busy."""

    exit_code = 69


class RunawayError(DeviceError):
    """A microphone that delivers audio far faster than real time, again and again."""

    exit_code = 74


class OutputError(EdgeAsrError):
    """An output file that cannot be created."""

    exit_code = 73


class ConfigError(EdgeAsrError):
    """Something installed or packaged is wrong."""

    exit_code = 78


class PackageError(ConfigError):
    """A model package that is missing, damaged, or of another schema version."""


class BackendError(ConfigError):
    """A backend that is unknown to a package, not installed, or refuses a program."""
