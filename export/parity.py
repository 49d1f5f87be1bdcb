"""What was measured of a program against the eager network, what it may be, and the refusal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edge_asr.errors import EdgeAsrError

# The golden bounds of a program: this times the largest difference seen here.
GOLDEN_SAFETY = 3.0

# A quantized program may differ in the mean by this part of what rounding itself does: it computes
# with the eager network's integers, and differs where a last bit moves one.
ROUNDING_SHARE = 0.25


class ParityError(EdgeAsrError):
    """A program that does not equal the network it was made from."""

    exit_code = 70


@dataclass(frozen=True)
class Bounds:
    """What a program may differ by, on log-probabilities of units, and the share of results that
    must be equal."""

    max_abs: float
    mean_abs: float
    agreement: float

    def row(self, result: str) -> dict[str, float]:
        """The entry of parity.json; ``result`` is what is compared, "text" or "choice"."""
        return {
            "max_abs": self.max_abs,
            "mean_abs": self.mean_abs,
            f"{result}_agreement": self.agreement,
        }


@dataclass(frozen=True)
class Parity:
    """What was measured for one program, and what a board may differ by because of it."""

    backend: str
    precision: str
    amounts: Mapping[str, int]  # of what was compared: steps and texts, or segments and hypotheses
    max_abs: float
    mean_abs: float
    allowed_mean_abs: float
    results: str  # "texts" of clips, or "choices" among hypotheses
    compared: int  # results
    equal: int
    golden_max_abs: float  # of any log-probability
    golden_mean_abs: float  # over the log-probabilities of a step, or of all hypotheses

    def row(self) -> dict[str, str | int | float]:
        """The entry of parity.json."""
        return {
            "backend": self.backend,
            "precision": self.precision,
            **self.amounts,
            "max_abs": self.max_abs,
            "mean_abs": self.mean_abs,
            "allowed_mean_abs": self.allowed_mean_abs,
            self.results: self.compared,
            f"equal_{self.results}": self.equal,
            "golden_max_abs": self.golden_max_abs,
            "golden_mean_abs": self.golden_mean_abs,
        }

    def __str__(self) -> str:
        """The figures, for who waits for the export."""
        line = (
            f"max error {self.max_abs:.1e}, mean {self.mean_abs:.1e}, "
            f"{self.equal} of {self.compared} {self.results} equal"
        )
        different = self.amounts.get(f"different_{self.results}", self.compared)
        if 2 * different < self.compared:
            line += f", which proves little: only {different} of them differ and say something"
        return line


def refuse(parity: Parity, bounds: Bounds, program: str) -> None:
    """Raise ParityError, which names ``program``, where a measurement is outside its bounds or is
    not finite."""
    agreement = parity.equal / parity.compared
    measured = [  # each so that NaN is refused too
        ("max error", parity.max_abs, parity.max_abs <= bounds.max_abs),
        ("mean error", parity.mean_abs, parity.mean_abs <= parity.allowed_mean_abs),
        (f"share of equal {parity.results}", agreement, agreement >= bounds.agreement),
    ]
    for what, value, good in measured:
        if not good:
            raise ParityError(
                f"{program}: {what} {value:.3g} is outside the bounds ({bounds}, in the mean "
                f"{parity.allowed_mean_abs:.3g} here); no package was written"
            )
    for name, number in parity.row().items():
        if isinstance(number, float) and not math.isfinite(number):
            raise ParityError(f"{program}: {name} is {number}; no package was written")
