"""Choices of a stream from plain data: every field, and whatever is wrong about it."""

from __future__ import annotations

import json
import math
from collections import UserDict
from dataclasses import fields, replace

import pytest

from edge_asr.errors import UsageError
from edge_asr.fusion.grammar import Grammar
from edge_asr.package.units import Units
from edge_asr.search.commit import CommitRule
from edge_asr.search.decoding import Decoding
from edge_asr.search.decoding_options import decoding_from
from edge_asr.search.endpoint import EndpointRule

# As a request would have it: no value is the default of its field.
REQUEST = """{
    "search": "greedy", "score_beam": 12, "blank_skip": 0.9, "blank_penalty": 0.5,
    "second_pass": "inline", "ctc_weight": 0.3, "reverse_weight": 0, "nbest": 3,
    "hotword_bonus": 2, "language_model": "off", "fresh_context": false,
    "endpoint": {
        "nothing_said_ms": 4000, "silence_ms": 700, "max_segment_ms": 15000,
        "relax_from_ms": 9000, "min_silence_ms": 160, "hold_ms": 1000,
        "cut_words_from_ms": 18000, "blank_threshold": 0.7
    },
    "commit": {"silence_ms": 200, "margin": 4, "latest_ms": 3000}
}"""
EXPECTED = Decoding(
    search="greedy",
    score_beam=12,
    blank_skip=0.9,
    blank_penalty=0.5,
    second_pass="inline",
    ctc_weight=0.3,
    reverse_weight=0,
    nbest=3,
    hotword_bonus=2,
    language_model="off",
    fresh_context=False,
    endpoint=EndpointRule(4000, 700, 15_000, 9000, 160, 1000, 18_000, 0.7),
    commit=CommitRule(silence_ms=200, margin=4, latest_ms=3000),
)


def test_every_field_of_a_request() -> None:
    settings = json.loads(REQUEST)
    assert decoding_from(settings) == EXPECTED
    assert settings == json.loads(REQUEST), "the mapping is left as it was"
    usual = Decoding()
    same = [f.name for f in fields(Decoding) if getattr(EXPECTED, f.name) == getattr(usual, f.name)]
    assert same == ["beam", "grammar"], "one is not for greedy search, one has no plain form"
    assert decoding_from({"beam": 5}) == Decoding(beam=5)
    for rule in ("endpoint", "commit"):
        found, default = getattr(EXPECTED, rule), getattr(usual, rule)
        changed = [getattr(found, f.name) != getattr(default, f.name) for f in fields(found)]
        assert all(changed)


def test_what_is_left_out_keeps_its_default() -> None:
    assert decoding_from({}) == Decoding()
    assert decoding_from({"endpoint": {}, "commit": {}}) == Decoding()
    nothing = dict.fromkeys(
        ("beam", "blank_penalty", "second_pass", "ctc_weight", "reverse_weight", "language_model",
         "grammar")
    )  # fmt: skip
    assert decoding_from(nothing) == Decoding()


def test_any_mapping_and_any_automaton() -> None:
    grammar = Grammar.phrases(["a"], Units(("<blank>", "▁a")))
    settings = UserDict({"grammar": grammar, "commit": UserDict({"latest_ms": math.inf})})
    found = decoding_from(settings)
    assert found.grammar is grammar
    assert found.commit == CommitRule(latest_ms=math.inf)
    assert decoding_from({"language_model": grammar}).language_model is grammar


@pytest.mark.parametrize("longest_ms", [1000, 1001, 3000, 20_000, 29_000, 30_000])
def test_a_shorter_segment_moves_what_depends_on_it(longest_ms: int) -> None:
    rule = decoding_from({"endpoint": {"max_segment_ms": longest_ms}}).endpoint
    assert rule.max_segment_ms == longest_ms
    assert rule.hold_ms < rule.max_segment_ms - rule.relax_from_ms, "a pause can be found"
    given = {"max_segment_ms": longest_ms, "hold_ms": 250}
    assert decoding_from({"endpoint": given}).endpoint == replace(rule, hold_ms=250)
    if longest_ms == EndpointRule().max_segment_ms:
        assert rule == EndpointRule()


@pytest.mark.parametrize(
    ("settings", "field", "value", "allowed"),
    [
        ({"search": "best"}, "search", "best", "prefix, greedy"),
        ({"search": None}, "search", None, "prefix, greedy"),
        ({"second_pass": True}, "second_pass", True, "background, inline, off, null"),
        ({"second_pass": ["off"]}, "second_pass", ["off"], "background, inline, off, null"),
        ({"beam": 0}, "beam", 0, "1 to 64"),
        (
            {"beam": 5, "search": "greedy"},
            "beam",
            5,
            "none for greedy search, which has no beam; leave it out",
        ),
        ({"beam": 5.0}, "beam", 5.0, "whole numbers, null"),
        ({"beam": "5"}, "beam", "5", "whole numbers, null"),
        ({"beam": True}, "beam", True, "whole numbers, null"),
        ({"nbest": None}, "nbest", None, "whole numbers"),
        ({"score_beam": "inf"}, "score_beam", "inf", "numbers"),
        ({"score_beam": False}, "score_beam", False, "numbers"),
        ({"score_beam": 10**400}, "score_beam", 10**400, "numbers"),
        ({"blank_penalty": -1}, "blank_penalty", -1, "0 to 100"),
        ({"language_model": "on"}, "language_model", "on", "automata, off, null"),
        ({"language_model": {"file": "x"}}, "language_model", {"file": "x"}, "automata, off, null"),
        ({"grammar": "a | b"}, "grammar", "a | b", "automata, null"),
        ({"fresh_context": 1}, "fresh_context", 1, "true and false, null"),
        ({"endpoint": 700}, "endpoint", 700, "mappings of settings"),
        ({"commit": None}, "commit", None, "mappings of settings"),
        ({"endpoint": {"silence_ms": 1}}, "endpoint.silence_ms", 1, "80 to 30000 ms"),
        ({"commit": {"silence_ms": -1}}, "commit.silence_ms", -1, "numbers from 0"),
        ({"endpoint": {"hold_ms": "x"}}, "endpoint.hold_ms", "x", "whole numbers"),
        ({"endpoint": {"max_segment_ms": 999}}, "endpoint.max_segment_ms", 999, "1000 to 30000"),
        ({"endpoint": {"blank_threshold": 1}}, "endpoint.blank_threshold", 1,
         "numbers between 0 and 1"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(
    settings: dict[str, object], field: str, value: object, allowed: str
) -> None:
    with pytest.raises(UsageError) as caught:
        decoding_from(settings)
    error = caught.value
    assert (error.field, error.value, error.allowed) == (field, value, allowed)
    assert str(error).startswith(f"{field} is ")
    assert str(error).endswith(f"; allowed are {allowed}")


@pytest.mark.parametrize("settings", [None, [], "beam", 5, [{"beam": 5}]])
def test_what_is_no_mapping_is_refused(settings: object) -> None:
    with pytest.raises(UsageError, match="allowed are mappings of settings") as caught:
        decoding_from(settings)  # type: ignore[arg-type]
    assert (caught.value.field, caught.value.value) == ("decoding", settings)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"beams": 5}, "beams"),
        ({"Search": "prefix"}, "Search"),
        ({"__class__": 1}, "__class__"),
        ({"silence_ms": 700}, "silence_ms"),
        ({"endpoint": {"latest_ms": 1}}, "endpoint.latest_ms"),
        ({"commit": {"hold_ms": 1}}, "commit.hold_ms"),
        ({"x" * 5000: 1}, "x" * 80),
        ({7: 1}, "7"),
    ],
)
def test_an_unknown_setting_is_named(settings: dict[str, object], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        decoding_from(settings)
    kind = {"endpoint": EndpointRule, "commit": CommitRule}.get(field.partition(".")[0], Decoding)
    known = ", ".join(f.name for f in fields(kind))
    assert (caught.value.field, caught.value.allowed) == (field, known)
    assert str(caught.value) == f"{field!r} is no setting; allowed are {known}"


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"endpoint": {"relax_from_ms": 29_000}}, "must be in this order"),
        ({"search": "greedy", "language_model": Grammar.phrases(["a"], Units(("<blank>", "▁a")))},
         "choose prefix search"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_no_one_setting(
    settings: dict[str, object], part: str
) -> None:
    with pytest.raises(UsageError, match=part) as caught:
        decoding_from(settings)
    assert caught.value.field == ""
