"""The page of mutants and of right packages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmark.page import table, today
from benchmark.proof.bench import DOUBTED, Finding
from benchmark.proof.judges import JUDGES
from benchmark.proof.right import RightPackage
from edge_asr.machine import Machine

COUNTED = ("", "missed")  # effects
ASKED = {"load": 0.95, "verify": 0.99, "export": 0.995}


@dataclass(frozen=True)
class Tally:
    """Mutants of a program with one kind of bug: how many, how many of them need not be found, and
    how many of the others each judge found."""

    program: str
    kind: str
    mutants: int
    without_effect: int
    below_rounding: int
    found: dict[str, int]

    @property
    def able(self) -> int:
        """Those that are to be found."""
        return self.mutants - self.without_effect - self.below_rounding


@dataclass(frozen=True)
class Figures:
    """What the page is made of.

    Attributes:
        not_found: mutants that some judge did not find.
        doubts: of mutants of which judges were asked that need not be, how many one of these did
            not find.
    """

    command: str
    package: str
    machine: Machine
    tallies: list[Tally]
    not_found: list[Finding]
    doubts: int
    right: list[RightPackage]
    date: str = field(default_factory=today)


def tallied(findings: Sequence[Finding]) -> list[Tally]:
    """By program and kind."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.program, finding.kind), []).append(finding)
    return [
        Tally(
            *group,
            len(some),
            sum(finding.effect == "none" for finding in some),
            sum(finding.effect == "rounding" for finding in some),
            {judge: sum(judge in f.found for f in some if f.effect in COUNTED) for judge in JUDGES},
        )
        for group, some in groups.items()
    ]


def figures_of(
    findings: Sequence[Finding],
    right: list[RightPackage],
    command: str,
    package: str,
    machine: Machine,
) -> Figures:
    """The figures of all mutants."""
    not_found = [finding for finding in findings if len(finding.found) < len(JUDGES)]
    doubts = sum(bool(finding.doubts) for finding in findings)
    return Figures(command, package, machine, tallied(findings), not_found, doubts, right)


def page(figures: Figures) -> Iterator[str]:
    """Its lines."""
    machine, tallies = figures.machine, figures.tallies
    yield from ("# Bugs that are found", "")
    yield (
        f"{sum(tally.mutants for tally in tallies)} mutants of the programs of "
        f"`{figures.package}`, each with one bug in its operators, its numbers or its file of "
        "weights, and which of them `load`, `edge-asr verify` and the exporter refuse. Checksums, "
        "which would find every change of a file, are left out: a bug is there before they are."
    )
    yield ""
    yield (
        f"Measured on {figures.date}: {machine.cpu}, {machine.usable_cores} of {machine.cores} "
        f"cores, {machine.system}, Python {machine.python}."
    )
    yield from ("", "```bash", figures.command, "```", "")
    yield from _rates(tallies, figures.doubts)
    yield from ("## By kind of bug", "")
    yield from _table("bug", "kind", tallies)
    yield from ("## By program", "")
    yield from _table("program", "program", tallies)
    yield from _lists(figures.not_found)
    if figures.right:
        yield from _right(figures.right)


def _rates(tallies: Sequence[Tally], doubts: int) -> Iterator[str]:
    none = sum(tally.without_effect for tally in tallies)
    rounding = sum(tally.below_rounding for tally in tallies)
    yield (
        f"Of what some judge missed, {none} mutants give the same bits as the right program in all "
        f"steps of speech that no judge has heard, and {rounding} differ from it by less than "
        "another right program does, eager torch, in the median step and in nine of ten: who "
        "refused these by what a program gives would refuse right ones. The rates leave both out, "
        "although the exporter finds most of them, as it compares weights bit for bit; the lists "
        "below do not."
    )
    yield ""
    able, mutants = sum(t.able for t in tallies), sum(t.mutants for t in tallies)
    rows = []
    for judge in JUDGES:
        found = sum(tally.found[judge] for tally in tallies)
        rates = (found / max(1, able), ASKED[judge], found / max(1, mutants))
        rows.append([f"`{judge}`", f"{found} of {able}", *(f"{rate:.2%}" for rate in rates)])
    yield from table(("judge", "found", "rate", "asked for", "of all mutants"), rows)
    yield (
        "A judge that runs what another one does, and more, is not asked where that one refuses "
        f"by its golden steps. Asked all the same about every {DOUBTED}th mutant, it disagreed "
        f"{doubts} times."
    )
    yield ""


def _table(title: str, attribute: str, tallies: Sequence[Tally]) -> Iterator[str]:
    titles = [title, "mutants", "no effect", "below rounding", *JUDGES, "missed by export"]
    groups: dict[str, list[Tally]] = {}
    for tally in tallies:
        groups.setdefault(getattr(tally, attribute), []).append(tally)
    yield from table(titles, [_row(*group) for group in (*groups.items(), ("all", tallies))])


def _row(name: str, tallies: Sequence[Tally]) -> list[str]:
    able = sum(tally.able for tally in tallies)
    found = {judge: sum(tally.found[judge] for tally in tallies) for judge in JUDGES}
    counts = (
        sum(tally.mutants for tally in tallies),
        sum(tally.without_effect for tally in tallies),
        sum(tally.below_rounding for tally in tallies),
    )
    rates = [f"{found[judge] / able:.1%}" if able else "" for judge in JUDGES]
    return [name, *map(str, counts), *rates, str(able - found["export"])]


def _lists(findings: Sequence[Finding]) -> Iterator[str]:
    parts = {
        "Missed by the exporter": [
            f for f in findings if "export" not in f.found and f.effect in COUNTED
        ],
        "Missed by `verify`, found by the exporter": [
            f
            for f in findings
            if "export" in f.found and "verify" not in f.found and f.effect in COUNTED
        ],
        "Without effect": [f for f in findings if f.effect == "none"],
        "Below rounding": [f for f in findings if f.effect == "rounding"],
    }
    for title, part in parts.items():
        if part:
            yield from (f"## {title}", "")
            yield from (_line(finding) for finding in part)
            yield ""


def _line(finding: Finding) -> str:
    far = f", {finding.times:.2g} times rounding" if finding.times > 0 else ""
    where = f"{finding.program}, {finding.kind}: {finding.where}"
    return f"* {where}{far} (seed {finding.seed})"


def _right(right: Sequence[RightPackage]) -> Iterator[str]:
    yield from ("## False alarms", "")
    silent = sum(one.checks == 0 for one in right)
    right = [one for one in right if one.checks]
    alarms = [f"{one.name}: {alarm}" for one in right for alarm in one.alarms]
    checks = sum(one.checks for one in right)
    yield (
        f"`python -m benchmark.proof.right`: {len(right)} right packages, {checks} checks by the "
        "exporter, `verify` and `load`, native programs with every kernel of this processor, of "
        f"which the first named was that of the export: {len(alarms)} false alarms. {silent} more "
        "random networks give too few different texts for equal ones to prove anything, and were "
        "refused as such."
    )
    yield ""
    yield from table(
        ("package", "network", "backends", "kernels", "checks", "false alarms"),
        [
            [one.name, one.network, ", ".join(one.backends), ", ".join(one.kernels),
             str(one.checks), str(len(one.alarms))]
            for one in right
        ],
    )  # fmt: skip
    yield from (f"* {alarm}" for alarm in alarms)
