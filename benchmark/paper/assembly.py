"""Puts measured times and computed floors together into the rows of the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.limits import Limits
from benchmark.paper.floors import (
    FACTS,
    Part,
    Routing,
    Weights,
    by_kind,
    decoder_parts,
    encoder_parts,
    floor_s,
    overlapped_floor_s,
    stored_bytes,
    total,
)
from benchmark.paper.report import LoadRow, ModelRatio, ModelRow, Row
from benchmark.paper.rounds import STREAM, SWEEP, TASKS, Figure, GroupResult, Task, ratio_of
from benchmark.paper.variants import WENET, Variant
from benchmark.paper.workload import (
    CHUNK_FRAMES,
    FRAME_S,
    HYPOTHESES,
    HYPOTHESIS_UNITS,
    LEFT_FRAMES,
    SECOND_FEATURES,
    SECOND_S,
    WHOLE_FEATURES,
    WHOLE_S,
    encoder_frames,
)
from model.config import NetworkConfig

MeasuredRouting = dict[str, dict[str, list[int]]]


def parts_of(task: Task, conf: NetworkConfig, weights: Weights, routing: Routing) -> list[Part]:
    """The parts of one call of a task."""
    if task.kind == "second":
        memory = encoder_frames(SECOND_FEATURES)
        return decoder_parts(conf, HYPOTHESES, HYPOTHESIS_UNITS, memory, weights, routing)
    left = LEFT_FRAMES if task.kind == "stream" else 0
    return encoder_parts(conf, rows_of(task), left, weights, routing)


def rows_of(task: Task) -> int:
    """Rows that an expert layer gets in one call of a task."""
    if task.kind == "second":
        return HYPOTHESES * (HYPOTHESIS_UNITS + 1)
    return encoder_frames(WHOLE_FEATURES) if task.kind == "whole" else task.chunk


def audio_s(task: Task) -> float:
    """Seconds of audio that one call is for."""
    if task.kind == "stream":
        return task.chunk * FRAME_S
    return WHOLE_S if task.kind == "whole" else SECOND_S


def figure_rows(
    result: GroupResult, threads: int, limits: Limits, network: NetworkConfig,
    measured: MeasuredRouting,
) -> list[Row]:  # fmt: skip
    """A row for each task of each variant of a group with one model."""
    tasks = {task.name: task for task in (*TASKS, *SWEEP)}
    variants = {variant.key: variant for variant in result.group.variants}
    wenet = next((v for v in variants.values() if v.system == WENET), None)
    rows = []
    for (key, name), figure in result.figures.items():
        base = None
        if wenet is not None and key != wenet.key:
            base = result.figures.get((wenet.key, name))
        rows.append(
            _row(variants[key], tasks[name], threads, figure, base, limits, network, measured)
        )
    return rows


def _row(
    variant: Variant, task: Task, threads: int, figure: Figure, base: Figure | None,
    limits: Limits, network: NetworkConfig, measured: MeasuredRouting,
) -> Row:  # fmt: skip
    # Routing was measured for chunks of one size and for the second pass.
    kind = "chunk" if (task.kind, task.chunk) == (STREAM.kind, CHUNK_FRAMES) else task.name
    routing = variant.routing(measured, kind, figure.counted)
    parts = parts_of(task, network, variant.weights, routing)
    ratio = ratio_of(figure, base) if base is not None else None
    return Row(
        model=variant.model,
        variant=variant.label,
        threads=threads,
        task=task.name,
        median_s=figure.median_s,
        min_s=figure.min_s,
        audio_s=audio_s(task),
        floor_s=floor_s(parts, limits),
        overlapped_floor_s=overlapped_floor_s(parts, limits),
        weight_bytes=total(parts).weight_bytes,
        macs=total(parts).macs,
        experts_touched=_mean_touched(parts, network, task, routing),
        wenet=ratio.median if ratio else None,
        wenet_low=ratio.low if ratio else None,
        wenet_high=ratio.high if ratio else None,
    )


def _mean_touched(
    parts: Sequence[Part], network: NetworkConfig, task: Task, routing: Routing
) -> float | None:
    second = task.kind == "second"
    stack = network.decoder_feed_forward if second else network.feed_forward
    if not stack.n_expert:
        return None
    layers = [part.name for part in parts if "feed_forward" in part.name]
    return float(np.mean([routing.touched_in(name, stack, rows_of(task)) for name in layers]))


def load_rows(result: GroupResult, threads: int, network: NetworkConfig) -> list[LoadRow]:
    """A row for each variant that loaded and lived to tell its memory."""
    probes = {
        variant.system: result.loads.get(variant.key, {}).get("probe")
        for variant in result.group.variants
    }
    wenet = probes.get(WENET)
    rows = []
    for variant in result.group.variants:
        load = result.loads.get(variant.key, {})
        if "peak_bytes" not in load:
            continue
        difference = None
        if wenet is not None and variant.system != WENET and "probe" in load:
            difference = float(np.abs(np.array(wenet) - np.array(load["probe"])).mean())
        # Ours loads its decoders when they are asked for; WeNet's are in its one file.
        decoders = variant.system == WENET or (variant.key, "second") in result.figures
        rows.append(
            LoadRow(
                model=variant.model,
                variant=variant.label,
                threads=threads,
                load_s=load["load_s"],
                memory_before_bytes=load["memory_before_bytes"],
                memory_loaded_bytes=load["memory_loaded_bytes"],
                peak_bytes=load["peak_bytes"],
                weight_bytes=stored_bytes(network, variant.weights, decoders),
                difference=difference,
            )
        )
    return rows


def model_ratios(result: GroupResult, threads: int) -> list[ModelRatio]:
    """Every program of a mixture of experts against every dense one."""
    dense = [v for v in result.group.variants if not v.model.startswith("moe")]
    experts = [v for v in result.group.variants if v.model.startswith("moe")]
    ratios = []
    for task in TASKS:
        for variant in experts:
            for other in dense:
                ratio = result.ratio(variant, other, task.name)
                if ratio is not None:
                    words = task.name, threads, variant.key, other.key
                    ratios.append(ModelRatio(*words, ratio.median, ratio.low, ratio.high))
    return ratios


def model_row(work: Path, name: str, network: NetworkConfig) -> ModelRow:
    """Sizes of a model."""
    facts = json.loads((work / name / FACTS).read_text(encoding="utf-8"))
    parts = encoder_parts(network, CHUNK_FRAMES, LEFT_FRAMES, Weights(), Routing())
    kinds = {kind: part.macs for kind, part in by_kind(parts).items()}
    size = stored_bytes(network, Weights(), decoders=True)
    return ModelRow(name, facts["parameters"], size, kinds)
