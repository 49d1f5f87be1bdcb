"""The report that a file of figures was made of."""

from __future__ import annotations

import json

import msgspec

from benchmark.paper.report import PaperReport


def read_report(text: str) -> PaperReport:
    """The report whose ``figures`` are in the JSON."""
    fields = json.loads(text)
    for shown in fields["rows"]:
        del shown["rtf"], shown["floor_share"]
    return msgspec.convert(fields, PaperReport)
