"""What ``load``, ``verify`` and the exporter say of a program: the functions that they call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from edge_asr.backends import Decoder, Encoder
from edge_asr.errors import EdgeAsrError
from edge_asr.package.files import Package
from edge_asr.package.manifest import BackendName, Precision, Program
from edge_asr.programs.golden import check_golden
from edge_asr.programs.golden_decoder import check_decoder_golden
from export.verify import Reference, verify_program
from export.verify_decoder import DecoderReference, verify_decoder
from export.verify_scores import ScoreReference, verify_scores
from export.verify_steps import StepReference, verify_steps

JUDGES = ("load", "verify", "export")
# What one judge refuses by its golden steps, the next refuses too: it runs the same, and more.
_BY_STEPS = ("golden steps", "golden scores")

Check = Callable[[], object]


class Judges(Protocol):
    """Those of a role."""

    def checks(self, program: Encoder | Decoder) -> dict[str, Check]:
        """What each judge does; it raises EdgeAsrError if it refuses the program."""


@dataclass(frozen=True)
class EncoderJudges:
    """Of an encoder."""

    package: Package
    program: Program
    reference: Reference
    steps: StepReference

    def checks(self, encoder: Encoder) -> dict[str, Check]:  # type: ignore[override]
        """See ``Judges``."""
        manifest, label = self.package.manifest, label_of(self.program)
        spec, units = manifest.encoder, manifest.units

        def export() -> None:
            verify_steps(encoder, self.steps.golden, spec, "encoder")
            verify_program(encoder, self.reference, spec, self.package.units, units.blank, label)

        return {
            "load": lambda: check_golden(self.package, encoder, self.program),
            "verify": lambda: check_golden(self.package, encoder, self.program, steps=None),
            "export": export,
        }


@dataclass(frozen=True)
class DecoderJudges:
    """Of a decoder."""

    package: Package
    program: Program
    reference: DecoderReference
    scores: ScoreReference

    def checks(self, decoder: Decoder) -> dict[str, Check]:  # type: ignore[override]
        """See ``Judges``."""
        spec = self.package.manifest.decoder
        assert spec is not None
        label = label_of(self.program)

        def golden(whole: bool) -> object:
            return check_decoder_golden(self.package, decoder, self.program, whole=whole)

        def export() -> None:
            verify_scores(decoder, self.scores.golden, "decoder")
            verify_decoder(decoder, self.reference, spec, label)

        return {
            "load": lambda: golden(False),
            "verify": lambda: golden(True),
            "export": export,
        }


def label_of(program: Program) -> tuple[BackendName, Precision]:
    """What the exporter calls it."""
    return program.backend, cast(Precision, program.precision)


def refusals(checks: dict[str, Check], *, all_of_them: bool = False) -> dict[str, str]:
    """Which judges refuse a program, and what they say. A judge is not run where another one's
    refusal implies its own, unless ``all_of_them`` are to be."""
    found: dict[str, str] = {}
    implied = ""
    for judge, check in checks.items():
        if implied and not all_of_them:
            found[judge] = implied
            continue
        try:
            check()
        except EdgeAsrError as error:
            found[judge] = str(error)
            if any(words in str(error) for words in _BY_STEPS):
                implied = f"as {judge} does"
    return found
