"""Which view shows captions: live, plain lines or JSON."""

from __future__ import annotations

import sys

from edge_asr.captions.json_lines import JsonCaptions
from edge_asr.captions.lines import Captions, PlainCaptions
from edge_asr.console import open_terminal


def open_captions(style: str | None) -> Captions:
    """Captions on stdout in a format; None is a live view on a capable terminal, else plain."""
    if style == "jsonl":
        return JsonCaptions(sys.stdout)
    if style != "plain" and sys.stdout.isatty():
        from edge_asr.captions.live import LiveCaptions  # 60 ms that a pipe need not wait for

        console = open_terminal()
        if not console.is_dumb_terminal:
            return LiveCaptions(console)
    return PlainCaptions(sys.stdout, sys.stderr)
