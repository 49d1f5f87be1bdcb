"""Lists of recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_asr.audio.recordings import Utterance, read_recordings, write_recordings
from edge_asr.errors import ConfigError, InputMissingError, OutputError
from tests.paths import DATA


def test_paths_are_from_the_folder_of_the_list_and_quotes_are_letters(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text('path\tseconds\tspeaker\ttext\na/b.flac\t1.5\tanna\tSAY "YES\n')
    assert read_recordings(path) == [Utterance(tmp_path / "a" / "b.flac", "anna", 'SAY "YES')]


def test_columns_may_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "test.tsv"
    path.write_text("text\tspeaker\tnote\tpath\nYES\tanna\tx\t/a.wav\n")
    assert read_recordings(path) == [Utterance(Path("/a.wav"), "anna", "YES")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"path\ttext\na.wav\tYES\n",
        b"path\tseconds\tspeaker\ttext\na.wav\t1.5\tanna\n",
        b"path\tseconds\tspeaker\ttext\na.wav\t1.5\tanna\tYES\tNO\n",
        b"path\tseconds\tspeaker\ttext\n\t\n",
        b"path\tseconds\tspeaker\ttext\na.wav\t1.5\tanna\t\xff\n",
    ],
    ids=["empty", "header", "text is missing", "too much", "speaker is missing", "no UTF-8"],
)
def test_a_malformed_list_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "test.tsv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"test\.tsv") as caught:
        read_recordings(path)
    assert "\n" not in str(caught.value)


def test_a_missing_list_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="no such recording list"):
        read_recordings(tmp_path / "none.tsv")


def test_the_clips() -> None:
    rows = read_recordings(DATA / "clips.tsv")
    assert len(rows) == 10 and len({row.speaker for row in rows}) == 10
    assert all(row.path.is_file() and row.text.isupper() for row in rows)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [("a.wav", 1.0, "me", 'HE SAID "SO'), ("deep/b.wav", 0.25, "you", '"NO')]
    write_recordings(tmp_path / "list.tsv", rows)
    found = read_recordings(tmp_path / "list.tsv")
    assert found == [Utterance(tmp_path / name, who, text) for name, _, who, text in rows]
    with pytest.raises(OutputError, match="gone"):
        write_recordings(tmp_path / "gone" / "list.tsv", rows)
