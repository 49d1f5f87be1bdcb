"""What a training reads, and its batches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asr.audio.recordings import read_recordings
from edge_asr.errors import AudioError, ConfigError, EdgeAsrError, InputMissingError
from edge_asr.package.manifest import FeatureSpec
from model.data import batches, cmvn, load_data
from model.tokenizer import SPACE, SPECIAL
from tests.model.clips import write
from tests.model.recipes import recipe
from tests.paths import DATA

SPEC = FeatureSpec()


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 500), max_size=60),
    bound=st.integers(1, 2000),
    seed=st.integers(0, 99),
)
def test_batches_hold_each_index_once_within_the_bound(
    lengths: list[int], bound: int, seed: int
) -> None:
    found = batches(lengths, bound, np.random.default_rng(seed))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        assert batch
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= bound
    assert found == batches(lengths, bound, np.random.default_rng(seed))


@pytest.mark.slow
def test_cmvn_is_mean_and_deviation() -> None:
    data = load_data(recipe(), DATA, SPEC, quiet=True)
    mean, istd = cmvn(data.train)
    everything = np.concatenate([e.frames[0].astype(np.float64) for e in data.train])
    np.testing.assert_allclose(mean.numpy(), everything.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(istd.numpy(), 1 / everything.std(axis=0), rtol=1e-4)


def test_load_data_fits_together() -> None:
    data = load_data(recipe(noise=["clips.tsv", "an4"]), DATA, SPEC, quiet=True)
    rows = read_recordings(DATA / "clips.tsv")
    assert [data.tokenizer.decode(e.label) for e in data.train] == [row.text for row in rows]
    examples, texts = data.dev["clips.tsv"]
    assert texts == [row.text for row in rows] and len(examples) == len(rows)
    assert len(data.noises) == 10 + 6
    assert all(e.frames[0].dtype == np.float16 for e in data.train)


@pytest.mark.parametrize(
    ("changes", "kind", "word"),
    [
        ({"train": ["nothing.tsv"]}, InputMissingError, "nothing.tsv"),
        ({"train": ["empty.tsv"]}, ConfigError, "empty.tsv"),
        ({"dev": ["empty.tsv"]}, ConfigError, "empty.tsv"),
        ({"train": ["short.tsv"]}, AudioError, "short.wav"),
        ({"train": ["gone.tsv"]}, InputMissingError, "gone.wav"),
        ({"noise": ["no folder"]}, InputMissingError, "no folder"),
        ({"noise": ["no*thing"]}, InputMissingError, "no.thing"),
    ],
)
def test_data_that_cannot_be_trained_on(
    changes: dict[str, list[str]], kind: type[EdgeAsrError], word: str, tmp_path: Path
) -> None:
    header = "path\tseconds\tspeaker\ttext\n"
    (tmp_path / "empty.tsv").write_text(header)
    (tmp_path / "good.tsv").write_text(header + "good.wav\t1\tme\tYES\n")
    (tmp_path / "short.tsv").write_text(header + "short.wav\t1\tme\tYES\n")
    (tmp_path / "gone.tsv").write_text(header + "gone.wav\t1\tme\tYES\n")
    rng = np.random.default_rng(0)
    write(tmp_path / "good.wav", 0.1 * rng.normal(size=16000))
    write(tmp_path / "short.wav", 0.1 * rng.normal(size=1000))
    conf = dataclasses.replace(recipe(train=["good.tsv"], dev=[]), **changes)
    with pytest.raises(kind, match=word):
        load_data(conf, tmp_path, SPEC, quiet=True)


def test_noises_by_pattern_and_lists_in_the_first_folder_that_has_them(tmp_path: Path) -> None:
    for number in (1, 2, 5):
        write(tmp_path / f"{number}-a.wav", 0.1 * np.random.default_rng(number).normal(size=8000))
    conf = recipe(noise=["[1-4]-*", "clips.tsv"])
    data = load_data(conf, [tmp_path, DATA], SPEC, quiet=True)
    assert len(data.noises) == 2 + 10 and len(data.train) == 10 == data.recorded


def test_only_utterances_of_known_words_are_taken_from_a_closed_set(tmp_path: Path) -> None:
    header = "path\tseconds\tspeaker\ttext\n"
    for name in ("first", "second", "third"):
        write(tmp_path / f"{name}.wav", 0.1 * np.random.default_rng(0).normal(size=16000))
    (tmp_path / "train.tsv").write_text(header + "first.wav\t1\tme\tYES NO\n")
    (tmp_path / "said.tsv").write_text(header + "third.wav\t1\tit\tSEVEN\n")
    rows = ["second.wav\t1\tme\tNO SEVEN", "first.wav\t1\tme\tNO WAY"]
    (tmp_path / "other.tsv").write_text(header + "\n".join(rows) + "\n")
    conf = recipe(train=["train.tsv"], dev=[], synthetic=["said.tsv"], closed=["other.tsv"])
    data = load_data(conf, tmp_path, SPEC, quiet=True)
    said = [data.tokenizer.decode(example.label) for example in data.train]
    assert said == ["YES NO", "NO SEVEN", "SEVEN"] and data.recorded == 2


def test_noise_too_short_to_use_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "good.tsv").write_text("path\tseconds\tspeaker\ttext\ngood.wav\t1\tme\tYES\n")
    (tmp_path / "noise").mkdir()
    write(tmp_path / "good.wav", 0.1 * np.random.default_rng(0).normal(size=16000))
    write(tmp_path / "noise" / "click.wav", np.zeros(100))
    data = load_data(recipe(train=["good.tsv"], dev=[], noise=["noise"]), tmp_path, SPEC, True)
    assert data.noises == []


def test_units_of_another_model_are_kept() -> None:
    symbols = [*SPECIAL, SPACE, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'", "▁E", "NT"]
    data = load_data(recipe(pieces=40), DATA, SPEC, quiet=True, symbols=symbols)
    assert data.tokenizer.symbols == symbols
    assert [symbols[i] for i in data.tokenizer.encode("ENTER")] == ["▁E", "NT", "E", "R"]
