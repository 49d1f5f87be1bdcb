"""What is compared, and what fits into memory together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.paper.variants import (
    LEVERS,
    WENET,
    Counted,
    Group,
    Variant,
    groups,
    memory_estimate,
    programs,
    split,
)
from edge_asr.native.library import Levers

MEASURED = {
    "chunk": {"a": [7, 8], "b": [6, 6]},
    "chunk_top_1": {"a": [5, 5], "b": [4, 6]},
    "second": {"c": [8]},
}


def everything() -> list[Variant]:
    found = []
    for model in ("dense-225m", "moe-1b", "dense-1b"):
        found += programs(model, ["onnx"], ["portable", "native"], ["int8", "int4"])
        found.append(Variant(model, WENET, "torchscript", "portable"))
    return found


def test_int4_and_levers_are_of_experts_and_of_the_native_operator() -> None:
    dense = programs("dense-1b", ["onnx"], ["portable", "native"], ["int8", "int4"])
    assert [v.dispatch for v in dense] == ["portable", "native"]
    portable = programs("moe-1b", ["onnx"], ["portable"], ["int8", "int4"])
    assert [(v.dispatch, v.precision) for v in portable] == [("portable", "int8")]
    native = programs("moe-1b", ["onnx", "executorch"], ["native"], ["int8", "int4"])
    assert len(native) == 4 + len(LEVERS)
    assert {v.levers for v in native} == {Levers(), *LEVERS}


def test_labels_differ() -> None:
    found = everything()
    assert len({variant.key for variant in found}) == len(found)


def test_groups_compare_with_wenet_and_across_models() -> None:
    *same, across = groups(everything())
    assert [group.model for group in same] == ["dense-225m", "moe-1b", "dense-1b"]
    assert all(group.variants[0].system == WENET for group in same)
    assert sum(len(group.variants) for group in same) == len(everything())
    assert across.model is None
    assert {v.dispatch for v in across.variants} == {"native"}
    assert not any(v.system == WENET for v in across.variants)


def test_one_model_is_compared_with_no_other() -> None:
    (group,) = groups(programs("moe-1b", ["onnx"], ["portable"], ["int8"]))
    assert group.model == "moe-1b"


@given(st.lists(st.floats(1, 10), min_size=2, max_size=9), st.floats(1, 30))
@settings(max_examples=50, deadline=None)
def test_parts_fit_into_memory(sizes: list[float], budget: float) -> None:
    variants = tuple(Variant(f"m{index}") for index in range(len(sizes)))
    memory = {v.key: size for v, size in zip(variants, sizes, strict=True)}
    parts = split(Group("all", variants), memory, budget)
    first, *others = variants
    assert [v for part in parts for v in part.variants[1:]] == others
    for part in parts:
        assert part.variants[0] == first
        assert len(part.variants) >= 2
        fits = sum(memory[v.key] for v in part.variants) <= budget
        assert fits or len(part.variants) == 2


def test_wenet_and_portable_programs_are_taken_to_need_more() -> None:
    native, portable = (Variant("m", dispatch=d) for d in ("native", "portable"))
    wenet = Variant("m", WENET, "torchscript", "portable")
    needs = [memory_estimate(v, 1e9) for v in (native, portable, wenet)]
    assert needs == sorted(needs)
    assert needs[0] > 1e9


def test_routing_of_a_floor() -> None:
    plain = Variant("moe-1b")
    assert plain.routing(MEASURED, "chunk").touched == {"a": 7.5, "b": 6.0}
    assert plain.routing(MEASURED, "chunk 4").touched == {}
    top_1 = Variant("moe-1b", levers=Levers(top_k=1)).routing(MEASURED, "chunk")
    assert (top_1.per_frame, top_1.touched) == (1.0, {"a": 5.0, "b": 5.0})
    few = Variant("moe-1b", levers=Levers(max_experts=4)).routing(MEASURED, "chunk")
    assert (few.at_most, few.touched["a"]) == (4, 7.5)
    # What the worker counted is what it read.
    counted = few = Variant("moe-1b", levers=Levers(min_weight=0.3)).routing(
        MEASURED, "chunk", Counted(4.5, 1.4)
    )
    assert (counted.everywhere, counted.per_frame) == (4.5, 1.4)
