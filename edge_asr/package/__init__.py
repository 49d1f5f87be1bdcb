"""A package as it is written: manifest, units, files. Nothing here opens a program."""

from pathlib import Path

BUNDLED_PACKAGES = Path(__file__).parents[1] / "packages"  # those that come with edge_asr
DEFAULT_PACKAGE = "commands-en"  # one of them
