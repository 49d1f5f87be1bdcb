"""The page of mutants and of right packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmark.page import table, today
from benchmark.proof.bench import Finding
from benchmark.proof.judges import JUDGES
from benchmark.proof.right import RightPackage
from edge_asr.machine import Machine

ASKED = {"load": 0.95, "verify": 0.99, "export": 0.995}


@dataclass(frozen=True)
class Figures:
    """What the page is made of."""

    command: str
    package: str
    machine: Machine
    findings: list[Finding]
    right: list[RightPackage]
    date: str = field(default_factory=today)


def page(figures: Figures) -> Iterator[str]:
    """Its lines."""
    machine, findings = figures.machine, figures.findings
    yield from ("# Bugs that are found", "")
    yield (
        f"{len(findings)} mutants of the programs of {figures.package}, each with one bug in its "
        "operators, its numbers or its file of weights, and which of them `load`, `edge-asr "
        "verify` and the exporter refuse; checksums, which would find all, are left out."
    )
    yield ""
    yield (
        f"Measured on {figures.date}: {machine.cpu}, {machine.usable_cores} of {machine.cores} "
        f"cores, {machine.system}, Python {machine.python}."
    )
    yield from ("", "```bash", figures.command, "```", "")
    yield from _rates(findings)
    yield from ("## By kind of bug", "")
    yield from table(*_table("bug", findings, lambda finding: finding.kind))
    yield from ("## By program", "")
    yield from table(*_table("program", findings, lambda finding: finding.program))
    yield from _lists(findings)
    if figures.right:
        yield from _right(figures.right)


def _able(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.effect not in ("none", "rounding")]


def _rates(findings: Sequence[Finding]) -> Iterator[str]:
    none = sum(finding.effect == "none" for finding in findings)
    rounding = sum(finding.effect == "rounding" for finding in findings)
    yield (
        f"Of what nobody found, {none} mutants give the same bits as the right program in all "
        f"steps of speech that no judge has heard, and {rounding} differ from it by less than "
        "another right program does, eager torch, in the median step and in nine of ten: whoever "
        "refused these would refuse right programs. The rates leave both out; the lists below do "
        "not."
    )
    yield ""
    able = _able(findings)
    rows = []
    for judge in JUDGES:
        found = sum(judge in finding.found for finding in able)
        of_all = sum(judge in finding.found for finding in findings)
        rows.append(
            [f"`{judge}`", f"{found} of {len(able)}", f"{found / max(1, len(able)):.2%}",
             f"{ASKED[judge]:.1%}", f"{of_all / max(1, len(findings)):.2%}"]
        )  # fmt: skip
    yield from table(("judge", "found", "rate", "asked for", "of all mutants"), rows)
    doubts = sum(bool(finding.doubts) for finding in findings)
    yield (
        "A judge that runs what another one does, and more, is not asked where that one refuses "
        f"by its golden steps. Asked all the same about every 20th mutant, it disagreed {doubts} "
        "times."
    )
    yield ""


def _table(
    title: str, findings: Sequence[Finding], key: Callable[[Finding], str]
) -> tuple[list[str], list[list[str]]]:
    titles = [title, "mutants", "no effect", "below rounding", *JUDGES, "missed by export"]
    names = list(dict.fromkeys(map(key, findings)))
    return titles, [
        *(_row(name, [finding for finding in findings if key(finding) == name]) for name in names),
        _row("all", findings),
    ]


def _row(name: str, findings: Sequence[Finding]) -> list[str]:
    able = _able(findings)
    counts = [
        sum(finding.effect == effect for finding in findings) for effect in ("none", "rounding")
    ]
    rates = [
        f"{sum(judge in finding.found for finding in able) / len(able):.1%}" if able else ""
        for judge in JUDGES
    ]
    missed = sum("export" not in finding.found for finding in able)
    return [name, str(len(findings)), *map(str, counts), *rates, str(missed)]


def _lists(findings: Sequence[Finding]) -> Iterator[str]:
    parts = {
        "Missed by the exporter": [f for f in _able(findings) if "export" not in f.found],
        "Missed by `verify`, found by the exporter": [
            f for f in _able(findings) if "export" in f.found and "verify" not in f.found
        ],
        "Without effect": [f for f in findings if f.effect == "none"],
        "Below rounding": [f for f in findings if f.effect == "rounding"],
    }
    for title, part in parts.items():
        if part:
            yield from (f"## {title}", "")
            yield from (f"* {f.program}, {f.kind}: {f.where} (seed {f.seed})" for f in part)
            yield ""


def _right(right: Sequence[RightPackage]) -> Iterator[str]:
    yield from ("## False alarms", "")
    alarms = [f"{one.name}: {alarm}" for one in right for alarm in one.alarms]
    checks = sum(one.checks for one in right)
    yield (
        f"{len(right)} right packages, {checks} checks by the exporter, `verify` and `load`, "
        "native programs with every kernel of this processor, which differs from the one that "
        f"exported: {len(alarms)} false alarms."
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
