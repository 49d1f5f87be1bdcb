"""What edge_asr.events promises, as a function that fails where a stream breaks it."""

from __future__ import annotations

from collections.abc import Sequence

from edge_asr.events import Event, Final, Gap, Partial


def check_guarantees(events: Sequence[Event], *, ended: bool = True) -> None:
    """Check a whole stream from its first event.

    Args:
        ended: the stream was flushed, so that every segment must have its Final.
    """
    segment, committed, spoke, now_ms, words_end_ms = 0, "", False, 0, 0
    for event in events:
        if isinstance(event, Partial):
            assert event.segment == segment, "a hole, or something behind the Final"
            assert event.committed.startswith(committed), "committed text changed"
            assert event.text == event.text.strip() != ""
            committed, spoke = event.committed, True
        elif isinstance(event, Final):
            assert event.segment == segment, "a hole, or a second Final"
            assert event.text.startswith(committed), "committed text is not in the Final"
            check_words(event, words_end_ms)
            segment, committed, spoke = segment + 1, "", False
            words_end_ms = event.end_ms
            continue
        elif isinstance(event, Gap):
            assert not spoke, "a segment goes on over lost audio"
            assert words_end_ms <= event.start_ms <= event.end_ms
            words_end_ms = event.end_ms
        # A Final tells of the past; all others tell of now.
        at_ms = event.start_ms if isinstance(event, Gap) else event.at_ms
        assert at_ms >= now_ms, "time ran backwards"
        now_ms = at_ms
    assert not (ended and spoke), "a segment without its Final"


def check_words(final: Final, not_before_ms: int) -> None:
    """Words in order, inside the segment, together the text."""
    assert final.words
    spoken = "".join(word.text for word in final.words)
    assert spoken.replace(" ", "") == final.text.replace(" ", "")
    assert (final.start_ms, final.end_ms) == (final.words[0].start_ms, final.words[-1].end_ms)
    before_ms = not_before_ms
    for word in final.words:
        assert word.text
        assert before_ms <= word.start_ms <= word.end_ms
        assert all(type(time) is int for time in (word.start_ms, word.end_ms))
        assert 0 <= word.confidence <= 1
        before_ms = word.end_ms
