"""What a stream knows between two calls, as one plain value."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, is_dataclass

import numpy as np

from edge_asr.audio.features import FbankState, Frames, Samples, flush_samples, push_samples
from edge_asr.audio.intake import Intake
from edge_asr.audio.windows import Step, Windows
from edge_asr.backends.state import State, zero_state
from edge_asr.fusion import Fusion
from edge_asr.package.manifest import FeatureSpec
from edge_asr.search import Search
from edge_asr.search.segments import SegmentState


@dataclass(frozen=True)
class EncoderRequest:
    """What ``Encoder.step`` is to be called with: feats (1, T, F), the encoder frames before
    them, and the state after those."""

    feats: Frames
    offset: int
    state: State


@dataclass
class StreamState:
    """Everything that a stream knows, as plain values: ``copy.deepcopy`` is a snapshot.

    Keep it and give it back; what it holds may change with any version.

    Methods work on copies and put the results in place at their end, all at once and without a
    call in between, in which an error could happen or a signal arrive.
    """

    windows: Windows
    encoder: State
    text: SegmentState
    fusion: Fusion
    left_context: int  # frames that the encoder may look back
    frames_seen_by_encoder: int = 0  # 0 means that ``encoder`` is zeros
    fbank: FbankState = field(default_factory=FbankState)
    intake: Intake | None = None
    waiting: list[Samples] = field(default_factory=list)  # for a step to become complete
    waiting_samples: int = 0
    steps: list[Step] = field(default_factory=list)  # complete, and not yet decoded
    end_ms: int | None = None  # of the run, once no more audio may follow
    origin_samples: int = 0  # of the run, since the stream began
    samples_of_closed_intakes: int = 0  # in this run

    @property
    def position_samples(self) -> int:
        """Audio received and declared lost since the stream began."""
        received = self.intake.received_out if self.intake else 0
        return self.origin_samples + self.samples_of_closed_intakes + received

    def restart_encoder(self) -> None:
        """Let the encoder go on from zeros."""
        self.encoder = zero_state(self.windows.spec)
        self.frames_seen_by_encoder = 0

    def next_run(self, search: Search, lost_samples: int) -> StreamState:
        """The state at the beginning of the run that follows, ``lost_samples`` later."""
        spec = self.windows.spec
        return StreamState(
            windows=Windows(spec, self.windows.chunk_frames),
            encoder=zero_state(spec),
            text=SegmentState(
                search,
                self.text.segment,
                waiting=self.text.waiting,
                events=self.text.events,
                overdue=self.text.overdue,
            ),
            fusion=self.fusion,
            left_context=self.left_context,
            origin_samples=self.position_samples + lost_samples,
        )

    def add_block(self, block: Samples, rate: int, spec: FeatureSpec) -> None:
        """Take in ``block`` (N, C) at ``rate`` Hz; its format may be another than before. Where
        that fails, nothing was taken in."""
        intake, closed = _copied(self.intake), self.samples_of_closed_intakes
        parts = []
        if intake is not None and (intake.rate, intake.channels) != (rate, block.shape[1]):
            parts.append(intake.flush())
            closed += intake.received_out
            intake = None
        if intake is None:
            intake = Intake(rate, block.shape[1], spec.sample_rate)
        parts.append(intake.push(block))
        added = [part for part in parts if len(part)]
        samples = self.waiting_samples + sum(map(len, added))
        self.intake, self.samples_of_closed_intakes = intake, closed
        self.waiting += added
        self.waiting_samples = samples

    def cut_steps(self, spec: FeatureSpec) -> None:
        """Make the samples that wait into steps, if they complete one and no other is left."""
        needed = (self.windows.missing_frames - 1) * spec.shift_samples + spec.window_samples
        if not self.steps and self.waiting_samples >= needed - len(self.fbank.pending):
            self._cut_waiting(spec)

    def cut_last_steps(self, spec: FeatureSpec) -> Exception | None:
        """Make all that is left of the run into steps, padded at its end.

        Returns:
            What failed, if anything did. The run has ended all the same; what could not be made
            into steps is lost, and the clock has counted it.
        """
        failed: Exception | None = None
        for part in (self._close_intake, self._cut_waiting, self._cut_last_frame):
            try:
                part(spec)
            except Exception as error:
                failed = failed or error
        if self.intake is not None:
            self.samples_of_closed_intakes += self.intake.received_out
            self.intake = None
        self.waiting, self.waiting_samples, self.fbank = [], 0, FbankState()
        windows = copy.copy(self.windows)
        steps = windows.flush()
        self.windows = windows
        self.steps += steps
        return failed

    def _close_intake(self, spec: FeatureSpec) -> None:
        """Take the rest out of the intake before the run ends."""
        if (intake := _copied(self.intake)) is not None:
            rest = [intake.flush()]
            samples, received = len(rest[0]), intake.received_out
            self.waiting += rest
            self.waiting_samples += samples
            self.samples_of_closed_intakes += received
            self.intake = None

    def _cut_waiting(self, spec: FeatureSpec) -> None:
        """Of all samples that wait. Where that fails, they still wait."""
        samples = np.concatenate([*self.waiting, np.zeros(0, np.float32)])
        fbank, windows = copy.copy(self.fbank), copy.copy(self.windows)
        steps = windows.push(push_samples(samples, fbank, spec))
        self.waiting, self.waiting_samples = [], 0
        self.fbank, self.windows = fbank, windows
        self.steps += steps

    def _cut_last_frame(self, spec: FeatureSpec) -> None:
        windows = copy.copy(self.windows)
        steps = windows.push(flush_samples(copy.copy(self.fbank), spec))
        self.fbank, self.windows = FbankState(), windows
        self.steps += steps


def _copied(intake: Intake | None) -> Intake | None:
    """A copy to work with. Its stages replace their arrays, so those are shared."""
    duplicate = copy.copy(intake)
    for name, stage in vars(intake).items() if intake else ():
        if is_dataclass(stage):
            setattr(duplicate, name, copy.copy(stage))
    return duplicate
