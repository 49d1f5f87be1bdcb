"""Whatever fails, in whichever call: what was lost is said, all else is delivered once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

import edge_asr.audio.features
import edge_asr.audio.intake
from edge_asr.backends import DecoderScores, Encoder, EncoderStep
from edge_asr.backends.state import State
from edge_asr.errors import BackendError
from edge_asr.events import Event, Final, Gap, Partial, Status
from edge_asr.fusion.hotwords import Hotwords
from edge_asr.search.decoding import Decoding
from edge_asr.search.endpoint import EndpointRule
from edge_asr.search.prefix import PrefixSearch
from edge_asr.search.second_pass import SecondPass
from edge_asr.streams.recognizer import Recognizer
from edge_asr.streams.stream import MAX_OVERDUE, Stream
from tests.edge_asr.streams.guarantees import check_guarantees
from tests.tiny import DECODER, MANIFEST, RATE, UNITS, FakeDecoder, Samples, tones

HASTY = EndpointRule(silence_ms=480, max_segment_ms=2000, relax_from_ms=1000, hold_ms=400)
DECODING = Decoding(endpoint=HASTY, second_pass="inline")
FAR_MS = 2500  # from a fault: its segment may be cut elsewhere, and be read otherwise
SPEECH = tones("▁one ▁two s 1500 ▁one ▁two ty 400")
ROOMY = msgspec.structs.replace(DECODER, max_hyps=10, max_units=64, max_frames=256)
SEEDS = range(3)
ERRORS = ((BackendError, "the device is gone"), (MemoryError, ""), (RuntimeError, "two\nlines"))
Operation = Callable[[Stream], list[Event]]


class Faults:
    """Counts calls; ``fault`` is called in the one with that number, and in all if it is None."""

    def __init__(self, at: int | None = 0, fault: Callable[[], None] = lambda: None) -> None:
        self.at, self.fault, self.calls = at, fault, 0

    def __call__(self) -> bool:
        """Whether it is this call."""
        self.calls += 1
        if self.at not in (None, self.calls):
            return False
        self.fault()
        return True


def raising(number: int) -> Callable[[], None]:
    def fault() -> None:
        kind, message = ERRORS[number % len(ERRORS)]
        raise kind(message)

    return fault


class FaultyEncoder:
    """Gives no numbers in calls that ``faults`` names and does not fail in itself."""

    def __init__(self, encoder: Encoder, faults: Faults) -> None:
        self.encoder, self.faults = encoder, faults

    def step(self, feats: Samples, offset: int, state: State) -> EncoderStep:
        is_faulty = self.faults()
        result = self.encoder.step(feats, offset, state)
        return replace(result, log_probs=result.log_probs * np.nan) if is_faulty else result


class FaultyDecoder(FakeDecoder):
    """The same for the second pass."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(spread=0.01)
        self.called = faults

    def score(
        self, hyps: npt.NDArray[np.int64], hyp_lengths: npt.NDArray[np.int64], encoder_out: Samples
    ) -> DecoderScores:
        is_faulty = self.called()
        scores = super().score(hyps, hyp_lengths, encoder_out)
        return replace(scores, left=scores.left * np.nan) if is_faulty else scores


def operations(seed: int, rate: int = RATE) -> list[Operation]:
    """What is done to a random stream, several segments in one push among it."""
    draw = np.random.default_rng(seed)
    words = [
        str(draw.choice(["▁one", "▁two", "▁one s", "▁two ty", "700", "1100"])) for _ in range(14)
    ]
    speech = tones(" ".join(words))
    times = np.arange(len(speech) * rate // RATE) * (RATE / rate)
    speech = np.interp(times, np.arange(len(speech)), speech).astype(np.float32)
    made: list[Operation] = []
    start = 0
    while start < len(speech):
        end = start + int(draw.choice([50, 4000, 9000, 20_000, 90_000]))
        made.append(lambda stream, start=start, end=end: stream.push(speech[start:end], rate))  # type: ignore[misc]
        start = end
        if draw.random() < 0.2:
            made.append(lambda stream: stream.flush())
        if draw.random() < 0.2:
            made.append(lambda stream: stream.declare_gap(333, "overflow"))
    return [*made, lambda stream: stream.flush()]


def run(
    recognizer: Recognizer,
    todo: Sequence[Operation],
    encoder: Faults | None = None,
    decoder: Faults | None = None,
    again: bool = False,
) -> tuple[list[Event], int, int]:
    """All events, the position, and how often anything was raised.

    Args:
        again: what raised is done once more.
    """
    second_pass = SecondPass(FaultyDecoder(decoder or Faults()), ROOMY, 0.5, 0.3)
    tones_encoder = FaultyEncoder(recognizer.encoder, encoder or Faults())
    stream = Stream(tones_encoder, MANIFEST, UNITS, 8, DECODING, second_pass)
    events, raised = [], 0
    for operation in todo:
        for _ in range(2):
            try:
                events += operation(stream)
                break
            except (BackendError, MemoryError, RuntimeError):
                raised += 1
                if not again:
                    break
    position_ms = stream.position_ms
    events += stream.push([])
    check_guarantees(events)
    return events, position_ms, raised


def without_messages(events: Sequence[Event]) -> list[Event]:
    return [replace(e, message="") if isinstance(e, Status) else e for e in events]


def messages(events: Sequence[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Status)]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_encoder_that_fails_loses_what_one_without_numbers_loses(
    recognizer: Recognizer, seed: int
) -> None:
    todo, counting = operations(seed), Faults()
    run(recognizer, todo, encoder=counting)
    assert counting.calls > 9
    for call in [*range(1, counting.calls + 1), None]:
        events, position_ms, raised = run(recognizer, todo, Faults(call, raising(seed)))
        expected = run(recognizer, todo, Faults(call))
        assert (without_messages(events), position_ms) == (
            without_messages(expected[0]),
            expected[1],
        )
        assert raised == 1 or call is None
        assert all(m.startswith("the encoder failed: ") and "\n" not in m for m in messages(events))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_decoder_that_fails_leaves_the_first_pass(recognizer: Recognizer, seed: int) -> None:
    todo, counting = operations(seed), Faults()
    run(recognizer, todo, decoder=counting)
    assert counting.calls > 1
    for call in [*range(1, counting.calls + 1), None]:
        events, position_ms, raised = run(recognizer, todo, decoder=Faults(call, raising(seed)))
        expected = run(recognizer, todo, decoder=Faults(call))
        assert [e for e in events if not isinstance(e, Status)] == expected[0]
        assert (position_ms, raised) == (expected[1], 0)
        assert len(messages(events)) == (counting.calls if call is None else 1)


# Where audio is made ready: module, function, and how what is lost at the end is said.
STAGES: list[tuple[Any, str]] = [
    (edge_asr.audio.intake.soxr, "resample"),
    (edge_asr.audio.features, "log_mel"),
]


@pytest.mark.parametrize(("module", "name"), STAGES, ids=[name for _, name in STAGES])
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_audio_that_could_not_be_read_is_read_by_the_next_call_or_said_to_be_lost(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, seed: int
) -> None:
    todo, inner = operations(seed, 44_100), getattr(module, name)
    faults = Faults()

    def faulty(*arguments: Any) -> Any:
        faults()
        return inner(*arguments)

    monkeypatch.setattr(module, name, faulty)
    whole, position_ms, _ = run(recognizer, todo)
    calls = faults.calls
    delivered = 0
    for call in range(1, calls + 1, max(1, calls // 15)):
        faults = Faults(call, raising(seed))
        # A push of the resampler takes nothing in then, one of the filterbank all.
        events, at_ms, raised = run(recognizer, todo, again=name == "resample")
        assert raised == 1
        if not messages(events):
            assert (events, at_ms) == (whole, position_ms)
            delivered += 1
        else:
            assert messages(events)[0].startswith("the end of the audio could not be read: ")
            assert len(messages(events)) == 1
    assert delivered


@pytest.mark.parametrize("seed", SEEDS)
def test_a_search_that_fails_keeps_the_clock(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    todo, faults, inner = operations(seed), Faults(), PrefixSearch._push_frame

    def faulty(search: PrefixSearch, *arguments: Any) -> None:
        faults()
        inner(search, *arguments)

    monkeypatch.setattr(PrefixSearch, "_push_frame", faulty)
    whole, position_ms, _ = run(recognizer, todo)
    for call in range(1, faults.calls + 1, max(1, faults.calls // 15)):
        faults = Faults(call, raising(seed))
        events, at_ms, raised = run(recognizer, todo)
        assert (at_ms, raised, len(messages(events))) == (position_ms, 1, 1)
        assert [e for e in events if isinstance(e, Gap)] == [e for e in whole if isinstance(e, Gap)]
        (status,) = (event for event in events if isinstance(event, Status))
        assert words_far_from(status.at_ms, events) == words_far_from(status.at_ms, whole)


def words_far_from(at_ms: int, events: Sequence[Event]) -> list[tuple[str, int]]:
    finals = [event for event in events if isinstance(event, Final)]
    words = [word for final in finals for word in final.words]
    return [(w.text, w.start_ms) for w in words if abs(w.start_ms - at_ms) > FAR_MS]


class Interrupted(BaseException):
    """As a signal, from whatever is being done."""


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_an_interrupted_encoder_step_is_tried_again(recognizer: Recognizer, seed: int) -> None:
    todo, counting = operations(seed), Faults()
    whole, position_ms, _ = run(recognizer, todo, encoder=counting)

    def interrupt() -> None:
        raise Interrupted

    for call in range(1, counting.calls + 1):
        encoder = FaultyEncoder(recognizer.encoder, Faults(call, interrupt))
        second_pass = SecondPass(FaultyDecoder(Faults()), ROOMY, 0.5, 0.3)
        stream = Stream(encoder, MANIFEST, UNITS, 8, DECODING, second_pass)
        events: list[Event] = []
        for operation in todo:
            try:
                events += operation(stream)
            except Interrupted:
                if stream.state.end_ms is None:
                    events += stream.push([])
                else:
                    events += operation(stream)  # the flush, or the gap
        assert (events + stream.flush(), stream.position_ms) == (whole, position_ms)


def test_a_step_may_be_given_up_by_hand(recognizer: Recognizer) -> None:
    stream = recognizer.stream(160)
    stream.feed(tones("▁one ▁two"))
    assert stream.next_step() is not None
    (status,) = stream.take_failure(BackendError("the batch is lost"))
    assert status == Status("recovered", "the encoder failed: the batch is lost", 0)
    request = stream.next_step()
    assert request is not None and request.offset == 0
    assert [type(e) for e in stream.flush()][-1] in (Partial, Final)


def test_where_each_call_fails_events_are_returned_before_they_are_too_many(
    recognizer: Recognizer,
) -> None:
    def fail() -> None:
        raise BackendError("the device is gone")

    encoder = FaultyEncoder(recognizer.encoder, Faults(None, fail))
    stream, speech = Stream(encoder, MANIFEST, UNITS, 1), tones("▁one ▁two 700")[: 36 * 640]
    events: list[Event] = []
    held = raised = 0
    for _ in range(30):
        for start in range(0, len(speech), 640):
            try:
                events += stream.push(speech[start : start + 640])
            except BackendError:
                raised += 1
            held = max(held, len(stream.state.text.events))
    assert raised > 2 * MAX_OVERDUE > 0
    assert MAX_OVERDUE < held <= MAX_OVERDUE + 2
    with pytest.raises(BackendError):
        stream.flush()
    events += stream.push([])
    assert len(events) == 30 * 36
    check_guarantees(events)


def test_hotwords_that_cannot_be_scored_change_nothing(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise MemoryError

    stream, untouched = recognizer.stream(), recognizer.stream()
    first = stream.push(SPEECH)
    with monkeypatch.context() as patch:
        patch.setattr(Hotwords, "advance", fail)
        with pytest.raises(MemoryError):
            stream.set_hotwords(["twos"])
    rest = stream.flush() + stream.push(SPEECH) + stream.flush()
    assert first + rest == [e for _ in range(2) for e in untouched.push(SPEECH) + untouched.flush()]


def test_a_step_with_too_few_frames_is_a_fault_and_the_clock_goes_on(
    recognizer: Recognizer,
) -> None:
    stream = recognizer.stream(160)
    stream.feed(tones("▁one 3000"))
    request = stream.next_step()
    assert request is not None
    result = recognizer.encoder.step(request.feats, request.offset, request.state)
    with pytest.raises(BackendError, match="3 frames of 4"):
        stream.take(replace(result, log_probs=result.log_probs[:, :3]))
    (status, *_) = stream.flush()
    assert isinstance(status, Status) and "3 frames of 4" in status.message
    assert stream.position_ms == len(tones("▁one 3000")) // 16


def test_an_encoder_output_that_is_no_number_is_passed_over(recognizer: Recognizer) -> None:
    stream = recognizer.stream(160)
    stream.feed(tones("▁one 3000"))
    request = stream.next_step()
    assert request is not None
    result = recognizer.encoder.step(request.feats, request.offset, request.state)
    result.encoder_out[0, 2, 1] = np.nan
    (status,) = stream.take(result)
    assert isinstance(status, Status) and "no numbers" in status.message
    request = stream.next_step()
    assert request is not None and request.offset == 0
