"""What the second pass gets of a segment, that it delays nothing, and how much is kept."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.backends import EncoderStep
from edge_asr.backends.state import State
from edge_asr.events import Event, Final, Partial, Status
from edge_asr.package.units import Units
from edge_asr.search.commit import CommitRule
from edge_asr.search.decoding import Decoding, SearchName
from edge_asr.search.endpoint import EndpointRule
from edge_asr.search.readers import Readers
from edge_asr.search.second_pass import SecondPass
from edge_asr.search.segments import CONTEXT_FRAMES
from edge_asr.streams.stream import Stream
from tests.child import in_child
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import DECODER, ENCODER, MANIFEST, FakeDecoder, Reciting, Samples

SYMBOLS = ("<blank>", "▁a", "▁b", "c")
UNITS = Units(SYMBOLS)
SPEC = msgspec.structs.replace(ENCODER, vocab_size=len(SYMBOLS), encoder_dim=1)
SPOKEN = msgspec.structs.replace(MANIFEST, encoder=SPEC)
ROOMY = msgspec.structs.replace(DECODER, max_hyps=64, max_units=256, max_frames=1024)
FRAME_SAMPLES, FRAME_MS = 640, 40
HASTY = EndpointRule(
    silence_ms=480,
    relax_from_ms=400,
    max_segment_ms=1200,
    min_silence_ms=120,
    hold_ms=400,
    cut_words_from_ms=1600,
)
SILENCE = [0] * 30  # ends a segment by every rule here
A, B, C = 1, 2, 3


def sure(script: Sequence[int]) -> Samples:
    """Log-probabilities (T', V) of one unit for each frame."""
    log_probs = np.full((len(script), len(SYMBOLS)), -12.0, np.float32)
    log_probs[range(len(script)), list(script)] = -0.01
    return log_probs


def stream_of(
    script: Sequence[int],
    decoder: FakeDecoder,
    chunk: int = 4,
    mode: str = "background",
    search: SearchName = "prefix",
    endpoint: EndpointRule = HASTY,
    readers: Readers | None = None,
) -> Stream:
    decoding = Decoding(fresh_context=False, search=search, endpoint=endpoint, second_pass=mode)  # type: ignore[arg-type]
    second_pass = SecondPass(decoder, ROOMY, 1.0, 0.5, readers or Readers())
    return Stream(Reciting(SPEC, sure(script)), SPOKEN, UNITS, chunk, decoding, second_pass)


def audio(frames: int) -> Samples:
    return np.zeros(frames * FRAME_SAMPLES, np.float32)


def finals(events: Sequence[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


runs = st.tuples(st.sampled_from([0, 0, 0, A, B, C]), st.integers(1, 40))
scripts = st.lists(runs, min_size=1, max_size=30).map(
    lambda found: [unit for unit, length in found for _ in range(1 + length // (3 if unit else 1))]
)


@settings(max_examples=30, deadline=None)
@given(
    script=scripts,
    chunk=st.integers(1, 20),
    search=st.sampled_from(["greedy", "prefix"]),
)
def test_the_decoders_read_the_frames_of_their_segment_and_a_little_silence(
    script: list[int], chunk: int, search: SearchName
) -> None:
    decoder = FakeDecoder()
    stream = stream_of(script, decoder, chunk, "inline", search)
    events = stream.push(audio(len(script))) + stream.flush()
    # What greedy search hears in sure frames is what was said.
    onsets = [
        frame
        for frame, unit in enumerate(script)
        if unit and (frame == 0 or script[frame - 1] != unit)
    ]
    read = [encoder_out[:, 0].astype(int) - 1 for _, encoder_out in decoder.read]
    assert len(read) == len(finals(events))
    # Some text of the n-best list may begin earlier than what was said.
    most_silence = CONTEXT_FRAMES * (1 if search == "greedy" else 2)
    before = 0
    for frames in read:
        np.testing.assert_array_equal(frames, np.arange(frames[0], frames[-1] + 1))
        inside = [onset for onset in onsets if before <= onset <= frames[-1]]
        assert inside, "a segment without a unit"
        assert max(before, inside[0] - most_silence) <= frames[0] <= inside[0]
        before = frames[-1] + 1
    for final, frames in zip(finals(events), read, strict=True):
        for word in final.words:
            assert frames[0] <= word.start_ms // FRAME_MS <= frames[-1]
    assert all(onset < before for onset in onsets), "a unit that no decoder reads"


@pytest.mark.parametrize("search", ["greedy", "prefix"])
@pytest.mark.parametrize("chunk", [1, 4, 20])
def test_a_cut_in_speech_divides_frames_where_it_divides_the_text(
    chunk: int, search: SearchName
) -> None:
    script = [A, 0, 0, C, 0, 0, B, 0, 0] * 20  # never 120 ms of silence
    decoder = FakeDecoder(spread=0.0)
    stream = stream_of(script, decoder, chunk, "inline", search)
    events = stream.push(audio(len(script))) + stream.flush()
    spoken = finals(events)
    assert len(spoken) > 3
    assert " ".join(final.text for final in spoken) == " ".join(["ac b"] * 20)
    ends = [0]
    for final, (_, encoder_out) in zip(spoken, decoder.read, strict=True):
        frames = encoder_out[:, 0].astype(int) - 1
        assert frames[0] == ends[-1] == final.words[0].start_ms // FRAME_MS
        ends.append(int(frames[-1]) + 1)
    assert ends[-1] == len(script)


def test_captions_of_the_next_segment_do_not_wait() -> None:
    gate = threading.Event()
    decoder = FakeDecoder(gate=gate)
    script = [A, 0, *SILENCE, B, 0, *SILENCE, A, 0, C, 0, *SILENCE, B]
    with stream_of([*script, *SILENCE], decoder) as stream:
        events = [event for _ in script for event in stream.push(audio(1))]
        assert decoder.begun.wait(60)
        assert not finals(events), "nobody can have read it"
        assert {e.segment for e in events if isinstance(e, Partial)} >= {0, 1, 2}
        gate.set()
        events += stream.flush()
    assert [final.segment for final in finals(events)] == [0, 1, 2, 3]
    check_guarantees(events, in_background=True)
    inline = stream_of([*script, *SILENCE], FakeDecoder(), mode="inline")
    expected = [event for _ in script for event in inline.push(audio(1))] + inline.flush()
    assert finals(events) == finals(expected)
    shown, wanted = ([e for e in found if isinstance(e, Partial)] for found in (events, expected))
    assert shown == wanted


def test_a_final_comes_with_a_later_push_however_small() -> None:
    decoder = FakeDecoder()
    with stream_of([A, 0, *SILENCE], decoder) as stream:
        events = stream.push(audio(28))
        assert decoder.begun.wait(60)
        for _ in range(10_000):
            events += stream.push(np.zeros(1, np.float32))
            if finals(events):
                break
            threading.Event().wait(0.001)
    assert [final.segment for final in finals(events)] == [0]


def test_a_flush_waits_for_every_segment() -> None:
    gate = threading.Event()
    with stream_of([A, 0, *SILENCE, B, 0, *SILENCE], FakeDecoder(gate=gate)) as stream:
        events = stream.push(audio(60))
        assert not finals(events)
        threading.Timer(0.05, gate.set).start()
        events += stream.flush()
        assert [final.segment for final in finals(events)] == [0, 1]
        assert stream.flush() == []


def test_a_stream_is_closed_while_a_decoder_works() -> None:
    gate, decoder = threading.Event(), FakeDecoder()
    decoder.gate = gate
    stream = stream_of([A, 0, *SILENCE, B, 0, *SILENCE], decoder)
    stream.push(audio(60))
    assert decoder.begun.wait(60)
    before = threading.active_count()
    stream.close()  # returns although the gate is shut
    stream.close()
    gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("edge-asr-second-pass"):
            thread.join(60)
            assert not thread.is_alive()
    assert threading.active_count() < before
    assert len(decoder.read) == 1, "what nobody waits for is not read"


@pytest.mark.parametrize("mode", ["inline", "background"])
def test_where_a_decoder_fails_the_first_pass_has_the_last_word(mode: str) -> None:
    script = [A, 0, C, 0, *SILENCE, B, 0, *SILENCE]
    decoder = FakeDecoder(gate=threading.Event())
    decoder.faults = 1
    if mode == "inline":
        decoder.gate = None
    with stream_of(script, decoder, mode=mode) as stream:
        events = stream.push(audio(len(script)))
        if decoder.gate:
            decoder.gate.set()
        events += stream.flush()
    check_guarantees(events, in_background=mode == "background")
    assert [final.text for final in finals(events)] == ["ac", "b"]
    (status,) = (event for event in events if isinstance(event, Status))
    assert (status.kind, status.message) == (
        "recovered",
        "no second pass: the decoder fell asleep",
    )
    assert events[events.index(status) + 1] == finals(events)[0]


def test_a_snapshot_holds_the_segments_that_wait() -> None:
    gate = threading.Event()
    script = [A, 0, *SILENCE, B, 0, *SILENCE]
    with stream_of(script, FakeDecoder(gate=gate)) as stream:
        assert not finals(stream.push(audio(len(script) - 4)))
        snapshot = copy.deepcopy(stream.state)
        assert len(snapshot.text.waiting) == 2
        gate.set()
        first = finals(stream.flush())
        gate.clear()
        stream.state = snapshot  # and again with work under way
        assert not finals(stream.push(audio(4)))
        stream.state = snapshot
        gate.set()
        assert finals(stream.flush()) == first
        assert [final.text for final in first] == ["a", "b"]
    with stream_of(script, FakeDecoder()) as other:
        other.state = snapshot
        assert finals(other.flush()) == first


def test_a_forked_process_reads_what_the_parent_had_under_way() -> None:
    script = [A, 0, *SILENCE, B, 0, *SILENCE]
    decoder = FakeDecoder(gate=threading.Event())
    with stream_of(script, decoder) as stream:
        assert not finals(stream.push(audio(len(script))))
        assert decoder.begun.wait(60)

        def rest() -> list[Event]:
            decoder.gate = None
            return stream.flush()

        there = in_child(rest)
        assert decoder.gate is not None
        decoder.gate.set()
        assert finals(there) == finals(stream.flush())
        assert [final.text for final in finals(there)] == ["a", "b"]


@pytest.mark.parametrize("end", ["close", "go back"])
def test_a_forked_process_gives_up_a_stream_whose_thread_works(end: str) -> None:
    gate, held = threading.Event(), threading.Event()
    decoder = FakeDecoder(gate=gate)
    stream = stream_of([A, 0, *SILENCE], decoder)
    snapshot = copy.deepcopy(stream.state)
    stream.push(audio(2 + len(SILENCE)))
    assert decoder.begun.wait(60)
    (reading,) = stream._steps.segments._waiting._readings.values()
    future = reading.future
    assert future is not None

    def hold() -> None:  # a lock that is the thread's in the moment of the fork
        with future._condition:
            held.set()
            gate.wait(60)

    threading.Thread(target=hold).start()
    assert held.wait(60)
    in_child(stream.close if end == "close" else lambda: setattr(stream, "state", snapshot))
    gate.set()
    stream.close()


def test_two_streams_of_one_decoder_in_two_threads() -> None:
    gate, decoder = threading.Event(), FakeDecoder()
    decoder.gate = gate
    scripts = [[A, 0, *SILENCE, B, 0, *SILENCE] * 4, [C, 0, *SILENCE, A, 0, C, 0, *SILENCE] * 4]
    found: list[list[Event]] = [[], []]

    def listen(which: int) -> None:
        script = scripts[which]
        with stream_of(script, decoder) as stream:
            for _ in script:
                found[which] += stream.push(audio(1))
            found[which] += stream.flush()

    threads = [threading.Thread(target=listen, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    assert decoder.begun.wait(60)
    gate.set()
    for thread in threads:
        thread.join(60)
    for events, script in zip(found, scripts, strict=True):
        check_guarantees(events, in_background=True)
        alone = stream_of(script, FakeDecoder(), mode="inline")
        expected = alone.push(audio(len(script))) + alone.flush()
        assert finals(events) == finals(expected)


def kept_frames(stream: Stream) -> int:
    """Encoder frames that a stream has in its state."""
    text = stream.state.text
    parts = [*text.encoder_out, *(cut.encoder_out[0] for cut in text.waiting)]
    return sum(len(part) for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize("search", ["greedy", "prefix"])
@pytest.mark.parametrize(
    ("script", "most_frames"),
    [
        ([0], 2 * CONTEXT_FRAMES),  # silence
        ([A, 0, 0, B, 0], 40),  # speech without a pause: cut after 1200 ms at the latest
        ([C, 0], 40),  # a word without an end: any unit after 1600 ms
        ([A], 1024 + CONTEXT_FRAMES),  # a single sound, longer than any decoder reads
    ],
    ids=["silence", "speech", "one word", "one unit"],
)
def test_what_is_kept_has_bounds(script: list[int], most_frames: int, search: SearchName) -> None:
    stream = stream_of(script * (1500 // len(script)), FakeDecoder(), 5, "inline", search)
    for _ in range(15):
        stream.push(audio(100))
        assert kept_frames(stream) <= most_frames + 5
    stream.close()


class Dead:
    """An encoder that says a word and then gives no numbers ever again."""

    def __init__(self) -> None:
        self.inner, self.steps = Reciting(SPEC, sure([0, 0, A, 0])), 0

    def step(self, feats: Samples, offset: int, state: State) -> EncoderStep:
        result = self.inner.step(feats, offset, state)
        self.steps += 1
        if self.steps > 2:
            result.log_probs[:] = np.nan
        return result


def test_an_encoder_that_gives_no_numbers_any_more_fills_no_memory() -> None:
    decoding = Decoding(fresh_context=False, endpoint=HASTY, second_pass="inline")
    second_pass = SecondPass(FakeDecoder(), ROOMY, 1.0, 0.5)
    stream = Stream(Dead(), SPOKEN, UNITS, 4, decoding, second_pass)
    events: list[Event] = []
    for _ in range(13):
        events += stream.push(audio(100))
        assert kept_frames(stream) <= 1024 + CONTEXT_FRAMES + 4
    events += stream.flush()
    assert [final.text for final in finals(events)] == ["a"]
    check_guarantees(events)


def test_segments_are_as_long_whatever_the_step() -> None:
    # A step of 20 s of speech without a pause holds more than one segment.
    script = [A, 0, 0, 0, C, 0, 0] * 150
    rule, commit = EndpointRule(), CommitRule()
    lengths = []
    for chunk in (16, 512):
        decoding = Decoding(fresh_context=False, endpoint=rule, commit=commit)
        stream = Stream(Reciting(SPEC, sure(script)), SPOKEN, UNITS, chunk, decoding)
        spoken = finals(stream.push(audio(len(script))) + stream.flush())
        lengths.append([final.end_ms - final.start_ms for final in spoken])
        assert " ".join(final.text for final in spoken) == " ".join(["ac"] * 150)
    for found in lengths:
        assert max(found) <= rule.max_segment_ms + 16 * FRAME_MS
        assert min(found[:-1]) >= rule.max_segment_ms - rule.hold_ms - 16 * FRAME_MS
