"""When to try the microphone again: soon after a loss, rarely after a long one."""

from __future__ import annotations

import os
import time

PAUSE_PER_OUTAGE = 0.1  # so silence ends at most this fraction later than it could
SHORTEST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0  # an attempt costs 70 ms of CPU: below one per cent
LOOSE_PAUSE_S = 0.7  # of a device that comes and goes: audio within 1.5 s


class Retry:
    """The time of the next attempt, which is at once when something is plugged in."""

    def __init__(self) -> None:
        self._outage_began: float | None = None
        self._silent_since = time.monotonic()
        self._next_at = time.monotonic()
        self._surroundings = _surroundings()

    def wait(self, timeout_s: float) -> bool:
        """Sleep at most ``timeout_s``; whether an attempt is due now."""
        if self._changed():
            self.succeeded()  # the new device may need a moment: be quick again
            return True
        remaining_s = self._next_at - time.monotonic()
        if remaining_s <= 0:
            return True
        time.sleep(min(timeout_s, remaining_s))
        return False

    def failed(self, *, heard: bool = False) -> None:
        """An attempt failed, or brought audio (``heard``) for a moment: pause.

        The longer nothing was heard, the longer. A device that comes and goes is paused for a
        while too, but is quickly looked for each time that it is gone.
        """
        now = time.monotonic()
        if self._outage_began is None:
            self._outage_began = self._silent_since = now
        if heard:
            self._silent_since = now
            pause_s = min(PAUSE_PER_OUTAGE * (now - self._outage_began), LOOSE_PAUSE_S)
        else:
            pause_s = min(PAUSE_PER_OUTAGE * (now - self._silent_since), LONGEST_PAUSE_S)
        self._next_at = now + max(pause_s, SHORTEST_PAUSE_S)

    def succeeded(self) -> None:
        """The device works: the next loss is a new outage."""
        self._outage_began = None

    def _changed(self) -> bool:
        before, self._surroundings = self._surroundings, _surroundings()
        return before != self._surroundings


def _surroundings() -> tuple[int, ...]:
    """Changes when a sound card or a sound server comes or goes, or ALSA is set up anew."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    home = os.path.expanduser("~")  # stays "~" for a user without one
    watched = ("/dev/snd", runtime, f"{runtime}/pulse", f"{home}/.asoundrc")
    return tuple(map(_changed_at_ns, watched))


def _changed_at_ns(path: str) -> int:
    """When ``path`` was changed; 0 where there is none, or none that may be seen."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
