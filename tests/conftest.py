"""Fixtures for all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_asr.native import library
from edge_asr.package.files import Package, open_package
from edge_asr.streams.recognizer import Recognizer, load
from tests.tiny import write_tiny_package


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--native", type=Path, help="folder of the native libraries to test")


def pytest_configure(config: pytest.Config) -> None:
    if folder := config.getoption("--native"):
        library.FOLDER = folder.resolve(strict=True)


@pytest.fixture(scope="session")
def _built_tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_package(tmp_path_factory.mktemp("tiny") / "tiny").root


@pytest.fixture
def tiny_package(_built_tiny_package: Path, tmp_path: Path) -> Package:
    """A package of its own for this test, to damage as it likes; see ``tests.tiny``."""
    return open_package(shutil.copytree(_built_tiny_package, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def recognizer(_built_tiny_package: Path) -> Recognizer:
    """The tiny package, loaded."""
    return load(_built_tiny_package)
