"""The folder in which the commands keep what they made and found, to go on from there."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("edge_asr", "export", "model", "quant")
CLIPS = ROOT / "tests" / "data" / "clips.tsv"


def work_folder(base: Path) -> Path:
    """A folder in ``base`` for this code: what another one made or found is of no use."""
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*")]
    digest = hashlib.sha256()
    for path in sorted(sources):
        if path.suffix in (".py", ".cpp", ".h"):
            digest.update(path.read_bytes())
    folder = base / digest.hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    return folder
