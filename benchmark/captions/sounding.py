"""Where something sounds in a recording, by its loudness alone.

No aligner: the first and the last 10 ms in which the level is more than a third of the way from
the quiet of the recording to its loudest place. Of a recording of one word that is near the word's
borders; weak sounds at them (F, S, the breath after T) may fall below.
"""

from __future__ import annotations

import numpy as np

from benchmark.loudness import FRAME_MS, levels_db
from edge_asr.bench.play import Clip

SHARE = 0.35  # of the way from quiet to loudest, in dB
MIN_RANGE_DB = 20.0  # less, and loudness does not tell speech from noise


def sounding_ms(clip: Clip) -> tuple[int, int] | None:
    """Start and end of what sounds; None where noise is nearly as loud."""
    level_db = levels_db(clip)
    if len(level_db) == 0:
        return None
    quiet, loudest = np.percentile(level_db, 10), level_db.max()
    if loudest - quiet < MIN_RANGE_DB:
        return None
    loud = np.flatnonzero(level_db > quiet + SHARE * (loudest - quiet))
    return int(loud[0]) * FRAME_MS, (int(loud[-1]) + 1) * FRAME_MS
