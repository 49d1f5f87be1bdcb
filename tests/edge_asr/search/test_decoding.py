"""Whole recordings through search, endpoints and second pass: no word is lost, none is doubled."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_asr.errors import UsageError
from edge_asr.events import Event, Final
from edge_asr.fusion.grammar import Grammar
from edge_asr.fusion.hotwords import Hotwords
from edge_asr.package.units import Units
from edge_asr.search.commit import NEVER
from edge_asr.search.decoding import Decoding, SearchName
from edge_asr.search.endpoint import EndpointRule
from edge_asr.search.greedy import greedy
from edge_asr.search.prefix import PrefixSearch
from edge_asr.search.second_pass import SecondPass
from edge_asr.streams.stream import Stream
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import DECODER, ENCODER, MANIFEST, FakeDecoder, Reciting, Samples

SYMBOLS = ("<blank>", "▁a", "▁b", "c", "▁", "你")
UNITS = Units(SYMBOLS)
SPEC = msgspec.structs.replace(ENCODER, vocab_size=len(SYMBOLS), encoder_dim=1)
SPOKEN = msgspec.structs.replace(MANIFEST, encoder=SPEC)
ROOMY = msgspec.structs.replace(DECODER, max_hyps=64, max_units=256, max_frames=1024)
FRAME_SAMPLES = 640
HASTY = EndpointRule(
    silence_ms=480,
    relax_from_ms=400,
    max_segment_ms=1200,
    min_silence_ms=120,
    hold_ms=400,
    cut_words_from_ms=1600,
)
# Durations down to the shortest that are allowed.
rules = st.builds(
    lambda silence, least, relax, more, hold, words: EndpointRule(
        nothing_said_ms=400,
        silence_ms=silence,
        min_silence_ms=least,
        relax_from_ms=relax,
        max_segment_ms=relax + more,
        hold_ms=hold,
        cut_words_from_ms=relax + more + words,
    ),
    st.integers(80, 600),
    st.integers(80, 300),
    st.integers(0, 1000),
    st.integers(1, 1000),
    st.integers(0, 600),
    st.integers(0, 800),
)


def sure(script: Sequence[int]) -> Samples:
    """Log-probabilities (T', V) of one unit for each frame."""
    log_probs = np.full((len(script), len(SYMBOLS)), -12.0, np.float32)
    log_probs[range(len(script)), list(script)] = -0.01
    return log_probs


def decoded(
    log_probs: Samples, chunk: int, decoding: Decoding, decoder: FakeDecoder | None = None
) -> list[Event]:
    second_pass = None if decoder is None else SecondPass(decoder, ROOMY, 1.0, 0.5)
    encoder = Reciting(SPEC, log_probs)
    with Stream(encoder, SPOKEN, UNITS, chunk, decoding, second_pass) as stream:
        samples = np.zeros(len(log_probs) * FRAME_SAMPLES, np.float32)
        return stream.push(samples) + stream.flush()


def letters(events: Sequence[Event]) -> str:
    """All Finals without spaces: a cut may divide a word."""
    return "".join(event.text for event in events if isinstance(event, Final)).replace(" ", "")


runs = st.tuples(st.sampled_from([0, 0, 0, *range(1, len(SYMBOLS))]), st.integers(1, 14))
scripts = st.lists(runs, min_size=1, max_size=40).map(
    lambda found: [unit for unit, length in found for _ in range(length)]
)


@pytest.mark.parametrize("search", ["greedy", "prefix"])
@settings(max_examples=25, deadline=None)
@given(
    script=scripts,
    chunk=st.integers(1, 20),
    rule=st.one_of(st.just(HASTY), rules),
    second_pass=st.sampled_from(["off", "inline", "background"]),
)
def test_no_word_is_lost_or_doubled(
    search: SearchName, script: list[int], chunk: int, rule: EndpointRule, second_pass: str
) -> None:
    # The decoders find all texts equally good, so that CTC decides, which is sure.
    decoder = None if second_pass == "off" else FakeDecoder(spread=0.0)
    decoding = Decoding(
        fresh_context=False,
        search=search,
        endpoint=rule,
        second_pass=second_pass,  # type: ignore[arg-type]
    )
    events = decoded(sure(script), chunk, decoding, decoder)
    check_guarantees(events, in_background=second_pass == "background")
    heard = UNITS.text(token.id for token in greedy(sure(script), 0))
    assert letters(events) == heard.replace(" ", "")


@settings(max_examples=15, deadline=None)
@given(
    script=scripts,
    chunks=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    rule=st.sampled_from([HASTY, EndpointRule(silence_ms=480)]),
)
# As old as a segment can become when its last word ends, and then quiet for less than enough.
@example(script=[1] * 5 + [0] * 11 + [1] * 14 + [0] * 2, chunks=(1, 7), rule=HASTY)
# A unit that writes nothing, cut off a word that was shown or not yet.
@example(script=[0] + [4] * 6 + [0] * 11 + [1] * 14, chunks=(1, 16), rule=HASTY)
def test_no_final_depends_on_the_step(
    script: list[int], chunks: tuple[int, int], rule: EndpointRule
) -> None:
    # What is committed does: it is looked at behind each step, and no cut is inside of it.
    decoding = Decoding(fresh_context=False, endpoint=rule, commit=NEVER)
    first, second = (
        [event for event in decoded(sure(script), chunk, decoding) if isinstance(event, Final)]
        for chunk in chunks
    )
    assert first == second


def spikes(seed: int, frames: int) -> Samples:
    """Log-probabilities (T', V) as of a model that is fairly sure: spikes of 0.8 to 1 in a
    quarter of the frames, but for pauses, and blanks of 0.9 to 1 between them."""
    generator = np.random.default_rng(seed)
    vocab_size = len(SYMBOLS)
    others = generator.dirichlet(np.full(vocab_size, 0.3), frames)
    sureness = generator.uniform(0.9, 1.0, (frames, 1))
    units = np.zeros(frames, np.int64)
    spoken = (generator.random(frames) < 0.25) & (np.arange(frames) // 20 % 4 != 3)
    units[spoken] = generator.integers(1, vocab_size, int(spoken.sum()))
    sureness[spoken] = generator.uniform(0.8, 1.0, (int(spoken.sum()), 1))
    probs = others * (1 - sureness)
    probs[range(frames), units] += sureness[:, 0]
    log_probs: Samples = np.log(np.maximum(probs, 1e-6)).astype(np.float32)
    return log_probs


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    chunk=st.sampled_from([3, 16, 64]),
    rule=st.sampled_from([HASTY, EndpointRule(silence_ms=480)]),
)
def test_a_long_recording_cut_by_endpoints_is_the_text_decoded_whole(
    seed: int, chunk: int, rule: EndpointRule
) -> None:
    log_probs = spikes(seed, 240)
    whole = PrefixSearch(0)
    whole.push(log_probs)
    text = UNITS.text(token.id for token in whole.tokens())
    events = decoded(log_probs, chunk, Decoding(fresh_context=False, endpoint=rule))
    assert sum(isinstance(event, Final) for event in events) > 1
    assert letters(events) == text.replace(" ", "")


@pytest.mark.slow
@pytest.mark.parametrize("sureness", [0.97, 0.99, 0.998])
@pytest.mark.parametrize("chunk", [1, 16])
def test_silence_is_no_phrase_of_a_grammar(sureness: float, chunk: int) -> None:
    # The grammar forbids to say nothing, and every phrase has a little probability.
    grammar = Grammar.phrases(["a", "b ac"], UNITS)
    rest = math.log((1 - sureness) / (len(SYMBOLS) - 1))
    log_probs = np.full((400, len(SYMBOLS)), rest, np.float32)
    log_probs[:, 0] = math.log(sureness)
    decoding = Decoding(fresh_context=False, grammar=grammar)
    assert decoded(log_probs, chunk, decoding) == []
    log_probs[200] = sure([1])[0]
    assert letters(decoded(log_probs, chunk, decoding)) == "a"


def test_what_a_grammar_cannot_end_is_no_text() -> None:
    grammar = Grammar.phrases(["b ac"], UNITS)
    exact = Decoding(fresh_context=False, grammar=grammar, beam=1)
    events = decoded(sure([0, 2, 0, 0, 1, *[0] * 40]), 1, exact)
    check_guarantees(events)
    assert letters(events) == ""
    assert [event.segment for event in events if isinstance(event, Final)] == [0]


@pytest.mark.parametrize("search", ["greedy", "prefix"])
@pytest.mark.parametrize("every", [8, 9, 11])
def test_a_noise_that_is_no_word_keeps_no_segment_open(search: SearchName, every: int) -> None:
    script = [1, *[0] * 74]  # 3 s: twice the longest segment
    log_probs = sure(script)
    log_probs[every::every] = math.log(0.25 / (len(SYMBOLS) - 1))
    log_probs[every::every, 0] = math.log(0.75)
    decoding = Decoding(fresh_context=False, search=search, endpoint=HASTY)
    for chunk in (1, 7, 25):
        with Stream(Reciting(SPEC, log_probs), SPOKEN, UNITS, chunk, decoding) as stream:
            events = stream.push(np.zeros(len(script) * FRAME_SAMPLES, np.float32))
        (final,) = (event for event in events if isinstance(event, Final))
        assert (final.text, final.end_ms) == ("a", 40)


@pytest.mark.parametrize("chunk", [1, 16, 200])
@pytest.mark.parametrize("words", [2, 5, 9])
def test_a_phrase_that_is_longer_than_a_segment_goes_on_in_the_next(words: int, chunk: int) -> None:
    # Half a second a word, and 0.24 s between them, which would end an old segment.
    grammar = Grammar.phrases(["a" + " b" * words, "ac"], UNITS)
    script = [1, 0, 0, 0, 0, 0, 0] + [2, 0, 0, 0, 0, 0, 0] * words + [0] * 12 + [1, 3]
    decoding = Decoding(fresh_context=False, grammar=grammar, endpoint=HASTY)
    events = decoded(sure(script), chunk, decoding)
    check_guarantees(events)
    assert letters(events) == "a" + "b" * words + "ac"
    finals = [event for event in events if isinstance(event, Final)]
    assert len(finals) == (2 if words == 2 else 3 if words == 5 else 4)
    assert finals[-1].text == "ac", "after silence another phrase begins"


@settings(max_examples=25, deadline=None)
@given(
    pauses=st.lists(st.integers(1, 12), min_size=2, max_size=24),
    chunk=st.integers(1, 20),
    rule=st.one_of(st.just(HASTY), rules),
)
def test_cuts_of_a_phrase_are_as_if_there_were_none(
    pauses: list[int], chunk: int, rule: EndpointRule
) -> None:
    # The first word of a phrase is another than the rest; only silence ends a phrase.
    script, before = [], math.inf
    for pause in pauses:
        script += [1 if before * 40 >= rule.silence_ms else 2, *[0] * pause]
        before = pause
    grammar = Grammar.jsgf("#JSGF V1.0; public <phrase> = a b*;", UNITS)
    decoding = Decoding(fresh_context=False, grammar=grammar, endpoint=rule)
    events = decoded(sure(script), chunk, decoding)
    check_guarantees(events)
    heard = UNITS.text(token.id for token in greedy(sure(script), 0))
    assert letters(events) == heard.replace(" ", "")


@pytest.mark.parametrize("score_beam", [0.0, 1e-300, 1e-9, math.inf])
def test_the_narrowest_beam_has_the_best_text(score_beam: float) -> None:
    decoding = Decoding(fresh_context=False, score_beam=score_beam)
    assert letters(decoded(sure([1, 0, 2, 3, 0]), 4, decoding)) == "abc"


@pytest.mark.parametrize(
    "wrong",
    [
        {"search": "best"},
        {"second_pass": "on"},
        {"beam": 0},
        {"beam": 65},
        {"beam": math.nan},
        {"beam": 2.5},
        {"beam": True},
        {"beam": "5"},
        {"nbest": 1.5},
        {"nbest": None},
        {"score_beam": math.nan},
        {"score_beam": None},
        {"score_beam": "20"},
        {"score_beam": 10**400},
        {"blank_penalty": False},
        {"hotword_bonus": "much"},
        {"nbest": 0},
        {"score_beam": -1.0},
        {"blank_skip": 0.4},
        {"blank_skip": 1.1},
        {"blank_penalty": -0.1},
        {"blank_penalty": math.inf},
        {"hotword_bonus": 0.0},
        {"hotword_bonus": 20.5},
        {"hotword_bonus": math.nan},
        {"ctc_weight": -0.1},
        {"reverse_weight": 1.1},
        {"reverse_weight": math.nan},
    ],
)
def test_a_choice_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"{name}.*allowed are"):
        Decoding(**wrong)  # type: ignore[arg-type]


def test_greedy_search_has_no_beam() -> None:
    with pytest.raises(UsageError, match="beam is 5; allowed are none for greedy") as caught:
        Decoding(search="greedy", beam=5)
    assert (caught.value.field, caught.value.value) == ("beam", 5)


def test_both_searches_take_a_penalty_for_blank() -> None:
    log_probs = sure([1, 0, 2])
    log_probs[1, :2] = math.log(0.6), math.log(0.3)
    for search in ("greedy", "prefix"):
        said = []
        for penalty in (None, 3.0):
            decoding = Decoding(search=search, blank_penalty=penalty)  # type: ignore[arg-type]
            found = decoding.new_search(0, decoding.fusion(None))
            found.push(log_probs)
            said.append([(token.start, token.end) for token in found.tokens()])
        assert said == [[(0, 1), (2, 3)], [(0, 2), (2, 3)]]


def test_greedy_search_takes_no_automata() -> None:
    grammar = Grammar.phrases(["a"], UNITS)
    for name in ("grammar", "language_model"):
        with pytest.raises(UsageError, match="choose prefix search"):
            Decoding(search="greedy", **{name: grammar})  # type: ignore[arg-type]
    hotwords, _ = Hotwords.build(["a"], UNITS)
    with pytest.raises(UsageError, match="choose prefix search"):
        Decoding(search="greedy").fusion(hotwords)
    assert len(Decoding(grammar=grammar, language_model=grammar).fusion(hotwords).automata) == 3
