"""What is compared with what: models, programs, settings, and which of them run side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.paper.floors import Routing, Weights
from edge_asr.native.library import Levers

MODELS = ("dense-225m", "moe-1b", "dense-1b")
WENET = "wenet"
OURS = "edge_asr"
INT4_GROUP = 128  # as accurate on commands-en as smaller groups, see levers.md


def _words(levers: Levers) -> list[str]:
    """How the page names those that are set."""
    named = [("top-", levers.top_k), ("weight from ", levers.min_weight),
             ("at most ", levers.max_experts)]  # fmt: skip
    return [f"{name}{value:g}" for name, value in named if value]


@dataclass(frozen=True)
class Variant:
    """One way to run one model. A worker process runs one variant."""

    model: str
    system: str = OURS
    backend: str = "onnx"
    dispatch: str = "native"  # or portable
    precision: str = "int8"  # or int4: int8 with int4 experts
    levers: Levers = field(default_factory=Levers)

    @property
    def label(self) -> str:
        """What runs, without the model."""
        if self.system == WENET:
            return "WeNet, TorchScript, quantize_dynamic"
        precision = "int4 experts" if self.precision == "int4" else self.precision
        return ", ".join([self.backend, self.dispatch, precision, *_words(self.levers)])

    @property
    def key(self) -> str:
        """Unique among all variants."""
        return f"{self.model}: {self.label}"

    @property
    def weights(self) -> Weights:
        """How its floor counts bytes."""
        return Weights(expert_bits=4 if self.precision == "int4" else 8, group=INT4_GROUP)

    def routing(
        self, measured: dict[str, dict[str, list[int]]], task: str, counted: Counted | None = None
    ) -> Routing:
        """How its floor counts experts.

        Args:
            measured: by ``benchmark.paper.routing``, for the checkpoint as it was made.
            counted: by the worker itself, which settles it.

        Calls of which nothing is known (other chunk sizes, a threshold) are taken to choose evenly.
        """
        if counted is not None:
            return Routing(counted.experts_per_frame, everywhere=counted.experts_per_call)
        top_1 = self.levers.top_k == 1
        kind = task + ("_top_1" if top_1 else "")
        layers = {} if self.levers.min_weight else measured.get(kind, {})
        return Routing(
            per_frame=1.0 if top_1 else None,
            touched={name: sum(calls) / len(calls) for name, calls in layers.items()},
            at_most=self.levers.max_experts or None,
        )


@dataclass(frozen=True)
class Counted:
    """What a worker's expert layers did, in the mean."""

    experts_per_call: float
    experts_per_frame: float


@dataclass(frozen=True)
class Group:
    """Variants whose workers live at the same time, so that their ratios hold. The first is what
    the others are compared with."""

    name: str
    variants: tuple[Variant, ...]

    @property
    def model(self) -> str | None:
        """The one model of all of them, or None where there are several."""
        models = {variant.model for variant in self.variants}
        return models.pop() if len(models) == 1 else None


LEVERS = (Levers(top_k=1), Levers(min_weight=0.3), Levers(max_experts=4))


def programs(
    model: str, backends: Sequence[str], dispatches: Sequence[str], precisions: Sequence[str]
) -> list[Variant]:
    """Ours of one model. int4 experts and levers are of the native operator, and of experts.

    Portable programs are those of the first backend: they are what native ones are held against.
    """
    found = [
        Variant(model, backend=backend, dispatch=dispatch)
        for dispatch in dispatches
        for backend in (backends if dispatch == "native" else backends[:1])
    ]
    if model.startswith("moe") and "native" in dispatches:
        native = [variant for variant in found if variant.dispatch == "native"]
        if "int4" in precisions:
            found += [Variant(model, backend=v.backend, precision="int4") for v in native]
        best = native[0].backend
        precision = "int4" if "int4" in precisions else "int8"
        found += [
            Variant(model, backend=best, precision=precision, levers=lever) for lever in LEVERS
        ]
    return found


def groups(variants: Sequence[Variant]) -> list[Group]:
    """Each model against WeNet, and the fastest dispatch of all models against one another."""
    found = []
    for model in dict.fromkeys(v.model for v in variants):
        same = [v for v in variants if v.model == model]
        same.sort(key=lambda v: v.system != WENET)
        found.append(Group(f"{model}, all programs", tuple(same)))
    ours = [v for v in variants if v.system == OURS]
    dispatch = "native" if any(v.dispatch == "native" for v in ours) else "portable"
    backend = ours[0].backend if ours else ""
    across = [v for v in ours if v.dispatch == dispatch and v.backend == backend]
    if len({v.model for v in across}) > 1:
        found.append(Group("models compared with one another", tuple(across)))
    return found


def split(group: Group, memory_bytes: dict[str, float], budget_bytes: float) -> list[Group]:
    """Parts of a group that fit into memory, each with the group's first variant.

    A part always has at least two variants, also where those do not fit.
    """
    first, *others = group.variants
    parts: list[list[Variant]] = [[first]]
    used = memory_bytes[first.key]
    for variant in others:
        need = memory_bytes[variant.key]
        if used + need > budget_bytes and len(parts[-1]) > 1:
            parts.append([first])
            used = memory_bytes[first.key]
        parts[-1].append(variant)
        used += need
    if len(parts) == 1:
        return [group]
    count = len(parts)
    return [
        Group(f"{group.name} ({number} of {count})", tuple(part))
        for number, part in enumerate(parts, 1)
    ]


def memory_estimate(variant: Variant, weight_bytes: float) -> float:
    """Resident bytes of a worker, from the bytes of its int8 weights; generous.

    WeNet's loader holds weights twice and keeps its convolutions in float32; the portable programs
    are held by the reader and by the library that prepares them.
    """
    factor = {"native": 1.3, "portable": 2.3}[variant.dispatch]
    return 3e8 + weight_bytes * (2.5 if variant.system == WENET else factor)


def package_folder(work: Path, model: str, dispatch: str) -> Path:
    """Where our package of a model's portable or native programs is."""
    return work / f"{model}.{dispatch}.package"


def wenet_file(work: Path, model: str) -> Path:
    """Where WeNet's scripted model is."""
    return work / f"{model}.wenet.zip"
