"""How a stream turns log-probabilities into text: one value with all that can be chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from edge_asr.errors import UsageError, check_number
from edge_asr.fusion import Automaton, Fusion
from edge_asr.fusion.hotword_text import DEFAULT_BONUS, MAX_BONUS
from edge_asr.package.manifest import MAX_BEAM, MAX_BLANK_PENALTY, LanguageModelSpec
from edge_asr.search import Search
from edge_asr.search.commit import NEVER, CommitRule
from edge_asr.search.endpoint import EndpointRule
from edge_asr.search.greedy import GreedySearch
from edge_asr.search.prefix import BEAM, BLANK_SKIP, SCORE_BEAM, PrefixSearch

# name -> lowest, highest, whether it is a whole number, whether it may be None
_BOUNDS: tuple[tuple[str, float, float, bool, bool], ...] = (
    ("beam", 1, MAX_BEAM, True, True),
    ("nbest", 1, MAX_BEAM, True, False),
    ("score_beam", 0, math.inf, False, False),
    ("blank_skip", 0.5, 1, False, False),
    ("blank_penalty", 0, MAX_BLANK_PENALTY, False, True),
    ("ctc_weight", 0, 100, False, True),
    ("reverse_weight", 0, 1, False, True),
)
_GREEDY_BEAM = "none for greedy search, which has no beam; leave it out"
SearchName = Literal["prefix", "greedy"]
# "inline": a push waits for the second pass of a segment that it ended; "background": it comes
# with a later push, or with the flush.
SecondPassMode = Literal["background", "inline", "off"]


@dataclass(frozen=True)
class Decoding:
    """Choices for a stream.

    Attributes:
        search: of the first pass. Greedy is the cheapest and takes no automata.
        beam: hypotheses of prefix search, and units looked at in a frame; None is what the package
            wants with its language model where that is used, else ``prefix.BEAM``. Greedy search
            has none.
        score_beam: nats below the best where a hypothesis is given up.
        blank_skip: frames with more blank than this are taken as blank.
        blank_penalty: nats taken from blank in all other frames, against words that are left out;
            None is what the package wants with its language model where that is used, else 0.
        second_pass: None is "background" where the package has decoders, else "off".
        ctc_weight, reverse_weight: of the second pass; None are those of the training.
        nbest: texts that a ``Final`` lists.
        hotword_bonus: nats per unit of a phrase that has no bonus of its own; above 0, up to 20.
        language_model: an automaton that scores; see ``edge_asr.fusion.language_model``. None is
            the package's, if it has one, for prefix search without a grammar.
        grammar: an automaton that forbids; see ``edge_asr.fusion.grammar``. Nothing is committed
            before the end of a segment then, since any text may turn out not to be allowed. A
            phrase ends with ``endpoint.silence_ms`` of silence; one that is longer than a segment
            goes on in the next.
        endpoint, commit: where segments end, and what is promised not to change.
        fresh_context: after silence has ended a segment the encoder starts from zeros, as at the
            beginning of the utterances that it was trained on; else its context goes on. None is
            what the package wants.

    Raises:
        UsageError: a value outside what is allowed, or a beam or automata for greedy search.
    """

    search: SearchName = "prefix"
    beam: int | None = None
    score_beam: float = SCORE_BEAM
    blank_skip: float = BLANK_SKIP
    blank_penalty: float | None = None
    second_pass: SecondPassMode | None = None
    ctc_weight: float | None = None
    reverse_weight: float | None = None
    nbest: int = 1
    hotword_bonus: float = DEFAULT_BONUS
    language_model: Automaton | Literal["off"] | None = None
    grammar: Automaton | None = None
    endpoint: EndpointRule = field(default_factory=EndpointRule)
    commit: CommitRule = field(default_factory=CommitRule)
    fresh_context: bool | None = None

    def __post_init__(self) -> None:
        choices = {
            "search": get_args(SearchName),
            "second_pass": (*get_args(SecondPassMode), None),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                words = ", ".join(map(str, allowed))
                raise UsageError.of_setting(name, getattr(self, name), words)
        for name, low, high, is_whole, may_be_none in _BOUNDS:
            value = getattr(self, name)
            if value is not None or not may_be_none:
                check_number(name, value, low, high, f"{low:g} to {high:g}", whole=is_whole)
        if self.search == "greedy" and self.beam is not None:
            raise UsageError.of_setting("beam", self.beam, _GREEDY_BEAM)
        words = f"numbers above 0, up to {MAX_BONUS:g}"
        check_number("hotword_bonus", self.hotword_bonus, math.nextafter(0, 1), MAX_BONUS, words)
        if self.search == "greedy" and (self.language_model not in (None, "off") or self.grammar):
            raise UsageError(
                "greedy search takes no language model and no grammar; choose prefix search"
            )

    def fusion(self, hotwords: Automaton | None) -> Fusion:
        """All automata of a stream.

        Raises:
            UsageError: hotwords for greedy search.
        """
        if hotwords is not None and self.search == "greedy":
            raise UsageError("greedy search takes no hotwords; choose prefix search")
        model = None if self.language_model == "off" else self.language_model
        automata = (hotwords, model, self.grammar)
        return Fusion(
            tuple(automaton for automaton in automata if automaton is not None),
            has_grammar=self.grammar is not None,
        )

    def new_search(self, blank: int, fusion: Fusion) -> Search:
        """A search at its beginning."""
        penalty = self.blank_penalty or 0.0
        if self.search == "greedy":
            return GreedySearch(blank, penalty, self.blank_skip)
        beam = BEAM if self.beam is None else self.beam
        return PrefixSearch(blank, beam, self.score_beam, self.blank_skip, fusion, penalty)

    def with_settings_of(self, spec: LanguageModelSpec | None) -> Decoding:
        """With the beam and the blank penalty that a package sets for its language model, where
        nothing else is chosen."""
        if spec is None:
            return self
        beam = spec.beam if self.beam is None else self.beam
        penalty = spec.blank_penalty if self.blank_penalty is None else self.blank_penalty
        return replace(self, beam=beam, blank_penalty=penalty)

    def with_package_model(
        self, model: Automaton | None, spec: LanguageModelSpec | None
    ) -> Decoding:
        """With the language model of a package, if it has one, and what the package wants with
        it; for where ``takes_language_model`` says so."""
        if model is None:
            return self
        return replace(self.with_settings_of(spec), language_model=model)

    @property
    def takes_language_model(self) -> bool:
        """Whether that of the package is meant, if it has one. Nothing else decides this."""
        return self.language_model is None and self.search == "prefix" and self.grammar is None

    @property
    def endpoint_rule(self) -> EndpointRule:
        """``endpoint``; with a grammar the silence that ends a segment, and so its phrase, does not
        fall with age."""
        if self.grammar is None:
            return self.endpoint
        return replace(self.endpoint, min_silence_ms=self.endpoint.silence_ms)

    @property
    def commit_rule(self) -> CommitRule:
        """``commit``, or never where a text may turn out not to be allowed."""
        return self.commit if self.grammar is None else NEVER
