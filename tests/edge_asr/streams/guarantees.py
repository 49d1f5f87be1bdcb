"""What edge_asr.events promises, as a function that fails where a stream breaks it."""

from __future__ import annotations

from collections.abc import Sequence

from edge_asr.events import Event, Final, Gap, Partial


def check_guarantees(
    events: Sequence[Event],
    *,
    ended: bool = True,
    in_background: bool = False,
    partial_words: bool = True,
) -> None:
    """Check a whole stream from its first event.

    Args:
        ended: the stream was flushed, so that every segment must have its Final.
        in_background: Partials of later segments may come before a Final.
        partial_words: the Partials have their words.
    """
    final, now_ms, words_end_ms = 0, 0, 0
    committed: dict[int, str] = {}  # of the segments without a Final that said something
    for event in events:
        if isinstance(event, Partial):
            assert event.segment >= final, "something behind the Final"
            assert in_background or event.segment == final, "a hole"
            assert event.committed.startswith(committed.get(event.segment, "")), "it changed"
            assert event.text == event.text.strip()
            assert event.text or event.segment in committed, "nothing said"
            spoken = "".join(word.text for word in event.words)
            assert not partial_words or spoken.replace(" ", "") == event.text.replace(" ", "")
            committed[event.segment] = event.committed
        elif isinstance(event, Final):
            assert event.segment == final, "a hole, or a second Final"
            shown = event.segment in committed
            assert event.text.startswith(committed.pop(final, "")), "committed text is missing"
            if event.text:
                check_words(event, words_end_ms)
            else:
                assert shown and not event.words
            assert words_end_ms <= event.start_ms <= event.end_ms
            final, words_end_ms = final + 1, event.end_ms
            continue
        elif isinstance(event, Gap):
            assert not committed, "a segment goes on over lost audio"
            assert words_end_ms <= event.start_ms <= event.end_ms
            words_end_ms = event.end_ms
        # A Final tells of the past; all others tell of now.
        at_ms = event.start_ms if isinstance(event, Gap) else event.at_ms
        assert at_ms >= now_ms, "time ran backwards"
        now_ms = at_ms
    assert not (ended and committed), "a segment without its Final"


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
