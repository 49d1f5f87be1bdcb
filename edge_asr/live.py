"""The live view: captions that grow, and a line that says how the microphone does.

It uses the bottom lines of the terminal and never the full screen: finished captions scroll up
and stay, and can be copied.
"""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from edge_asr.captions import Meter, clean, remark
from edge_asr.events import Event, Final, Gap, Partial, Status

METER_CELLS = 16
QUIETEST_DB = -60.0
MAX_LAG_SHOWN_MS = 1000  # more than this is shown as trouble
_TROUBLE = {"waiting", "lost", "stalled", "silent", "overflow"}


class LiveCaptions:
    """Shows events on ``console``; committed text solid, the tail that may still change dim."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._partial: Partial | None = None
        self._status = Status("waiting", "opening the microphone", 0)
        self._meter = Meter()
        self._live = Live(
            console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def show(self, event: Event) -> None:
        """Show one event; finished captions and gaps scroll up."""
        match event:
            case Partial():
                self._partial = event
            case Final():
                self._partial = None
                if event.text:
                    self._console.print(Text(clean(event.text)))
            case Gap():
                self._console.print(Text(remark(event), style="yellow"))
            case Status():
                self._status = event
        self._draw()

    def refresh(self, meter: Meter) -> None:
        """Show the level, the lag and the load."""
        self._meter = meter
        self._draw()

    def close(self) -> None:
        """Leave the captions, remove the rest."""
        self._live.update(Text(""), refresh=True)
        self._live.stop()

    def _draw(self) -> None:
        self._live.update(Group(self._caption(), self._state()), refresh=True)

    def _caption(self) -> Text:
        """The open segment; of a long one, its end, so that the view never outgrows the screen."""
        if self._partial is None:
            return Text("")
        text = Text(clean(self._partial.committed))
        text.append(clean(self._partial.tail), style="dim")
        room = self._console.width * max(1, self._console.height - 3)
        return text if len(text) <= room else Text("...") + text[len(text) - room + 3 :]

    def _state(self) -> Text:
        meter = self._meter
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(self._bar(), style="red" if meter.clipping else "green")
        lag_style = "red" if meter.lag_ms > MAX_LAG_SHOWN_MS else "dim"
        line.append(f" {meter.level_db:4.0f} dB  ", style="dim")
        line.append(f"lag {meter.lag_ms / 1000:.1f} s  ", style=lag_style)
        line.append(f"rtf {meter.rtf:.2f}  ", style="red" if meter.rtf > 1 else "dim")
        style = "bold yellow" if self._status.kind in _TROUBLE else "dim"
        line.append(clean(self._status.message), style=style)
        return line

    def _bar(self) -> str:
        full, empty = "█░" if self._console.encoding.startswith("utf") else "#."
        share = 1 - max(QUIETEST_DB, self._meter.level_db) / QUIETEST_DB
        cells = round(METER_CELLS * min(1.0, share))
        return full * cells + empty * (METER_CELLS - cells)
