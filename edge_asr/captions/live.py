"""The live view: captions that grow, and a line that says how the microphone does.

It uses the bottom lines of the terminal and never the full screen: finished captions scroll up
and stay, and can be copied.
"""

from __future__ import annotations

import contextlib

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from edge_asr.captions.lines import remark, writing
from edge_asr.captions.meter import Meter
from edge_asr.console import clean
from edge_asr.events import Event, Final, Gap, Partial, Status

METER_CELLS = 16
QUIETEST_DB = -60.0
MAX_LAG_SHOWN_MS = 1000  # more than this is shown as trouble
_TROUBLE = {"waiting", "lost", "stalled", "silent"}  # no level is worth showing then


class LiveCaptions:
    """Shows events on ``console``; committed text solid, the tail that may still change dim.

    Each open segment has lines of its own, in the order in which they scroll up when finished:
    while a second pass reads one, the next may be growing below it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open: dict[int, Partial] = {}  # by segment
        self._status = Status("waiting", "starting", 0)
        self._meter = Meter()
        self._drawn: object = None
        self._live = Live(
            self,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with writing():
            self._live.start()
            # rich hides the cursor; who ends this by force would not get it back.
            console.show_cursor(True)

    def show(self, event: Event) -> None:
        """Show one event; finished captions and gaps scroll up.

        Raises:
            BrokenPipeError: the terminal is gone.
        """
        match event:
            case Partial():
                self._open[event.segment] = event
            case Final():
                self._open.pop(event.segment, None)
                self._scroll(Text(clean(event.text)))
            case Gap():
                self._scroll(Text(remark(event), style="yellow"))
            case Status(kind="overflow"):
                pass  # the gap says it, where it belongs
            case Status():
                self._status = event
        self._draw()

    def warn(self, message: str) -> None:
        """Show what is wrong between the captions; stderr may be the same terminal."""
        self._scroll(Text(clean(message), style="yellow"))
        self._draw()

    def refresh(self, meter: Meter) -> None:
        """Show the level, the lag and the load."""
        self._meter = meter
        self._draw()

    def close(self) -> None:
        """Leave the captions, remove the rest."""
        with contextlib.suppress(OSError):
            self._live.stop()

    def _scroll(self, line: Text) -> None:
        if line:
            with writing():
                # Long lines are the terminal's to break: they copy as one line.
                self._console.print(line, soft_wrap=True)

    def _draw(self) -> None:
        view = (self._caption(), self._state(), self._console.size)
        if view != self._drawn:
            self._drawn = view
            with writing():
                self._live.refresh()

    def __rich__(self) -> Group:
        """What is shown now; rich also asks when captions scroll up."""
        return Group(self._caption(), self._state())

    def _caption(self) -> Text:
        """The open segments; where they are long, their end: the view never outgrows the screen."""
        lines: list[Text] = []
        for _, partial in sorted(self._open.items()):
            if partial.text:
                text = Text(clean(partial.committed))
                text.append(clean(partial.tail), style="dim")
                lines += text.wrap(self._console, self._console.width)
        room = max(1, self._console.height - 2)  # for the state, and where the cursor goes
        return Text("\n").join(lines[-room:])

    def _state(self) -> Text:
        meter = self._meter
        line = Text(no_wrap=True, overflow="ellipsis" if self._has_unicode else "crop")
        if self._status.kind in _TROUBLE:
            return line.append(clean(self._status.message), style="bold yellow")
        line.append(self._bar(), style="red" if meter.clipping else "green")
        lag_style = "red" if meter.lag_ms > MAX_LAG_SHOWN_MS else "dim"
        line.append(f" {meter.level_db:4.0f} dB  ", style="dim")
        line.append(f"lag {meter.lag_ms / 1000:.1f} s  ", style=lag_style)
        line.append(f"rtf {meter.rtf:.2f}  ", style="red" if meter.rtf > 1 else "dim")
        return line.append(clean(self._status.message), style="dim")

    def _bar(self) -> str:
        full, empty = "█░" if self._has_unicode else "#."
        share = 1 - max(QUIETEST_DB, self._meter.level_db) / QUIETEST_DB
        room = min(METER_CELLS, self._console.width // 4)
        cells = round(room * min(1.0, share))
        return full * cells + empty * (room - cells)

    @property
    def _has_unicode(self) -> bool:
        return self._console.encoding.startswith("utf")
