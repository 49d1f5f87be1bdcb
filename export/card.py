"""``python -m export.card PACKAGE --card FILE``: gives a package another model card.

Its programs stay as they are, byte for byte. Where an export is given no card, one is made here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from edge_asr.errors import ConfigError, InputMissingError
from edge_asr.exits import errors_as_lines
from edge_asr.package.files import Package
from edge_asr.package.manifest import Manifest
from edge_asr.package.writer import write_package
from export.addition import join_files, join_programs, open_whole

CARD = "README.md"


def model_card(manifest: Manifest, parity: dict[str, Any]) -> str:
    """README.md of a package, from what is known about it."""
    rows = "\n".join(
        f"| {file} | {row['max_abs']:.1e} | {row['mean_abs']:.1e} | {_agreement(row)} |"
        for file, row in parity["programs"].items()
    )
    metrics = "\n".join(f"| {name} | {value:g} |" for name, value in manifest.metrics.items())
    table = f"\n| measured | |\n|---|---|\n{metrics}\n" if metrics else ""
    return f"""# {manifest.name}

Language: {manifest.language}. Licence: {manifest.license}. Units: {manifest.encoder.vocab_size}.
Made on {manifest.provenance.created} from a checkpoint with sha256
`{manifest.provenance.checkpoint_sha256}`.
Quantization: {manifest.provenance.quantization}.
{table}
Each program against eager torch of the same precision, on log-probabilities: of streamed speech
(encoder), of given units (decoder).

| program | max error | mean error | equal results |
|---|---|---|---|
{rows}
"""


def card_is_generated(base: Package) -> bool:
    """Whether the exporter made the model card of ``base``, so that it may make another."""
    if CARD not in {entry.file for entry in base.manifest.files}:
        return True
    try:
        generated = model_card(base.manifest, {"programs": base.parity})
    except KeyError:  # a certificate of another kind
        return False
    return base.read(CARD) == generated.encode()


def recard(
    base: Package,
    card: str,
    metrics: dict[str, float] | None = None,
    license: str | None = None,
) -> Package:
    """Write ``base`` again with another model card, and where given other metrics, all of them, and
    another licence.

    Raises:
        PackageError: the package is damaged.
        OutputError: it cannot be written.
    """
    fields = {"metrics": metrics, "license": license}
    given = {name: value for name, value in fields.items() if value is not None}
    manifest = msgspec.structs.replace(base.manifest, **given)
    files = join_files(base, {}) | {CARD: card.encode()}
    return write_package(base.root, manifest, join_programs(base, []), files, replace=True)


def read_card(path: Path) -> str:
    """The text of a model card.

    Raises:
        InputMissingError, ConfigError: the file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputMissingError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason})") from error


def read_metrics(path: Path) -> dict[str, float]:
    """The figures of a JSON file, by name.

    Raises:
        InputMissingError, ConfigError: the file cannot be read, or holds something else.
    """
    try:
        return msgspec.json.decode(read_card(path), type=dict[str, float])
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{path}: an object of names and numbers is expected ({error})"
        ) from error


@errors_as_lines("export.card")
def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m export.card", description=__doc__)
    parser.add_argument("package", type=Path, help="the package's directory")
    parser.add_argument("--card", type=Path, required=True, help="its new README.md")
    parser.add_argument("--metrics", type=Path, help="JSON file with figures for its manifest")
    parser.add_argument("--license", help="licence of the weights")
    options = parser.parse_args(arguments)
    base, card = open_whole(options.package), read_card(options.card)
    metrics = read_metrics(options.metrics) if options.metrics else None
    print(recard(base, card, metrics, options.license).root / CARD)
    return 0


def _agreement(row: dict[str, Any]) -> str:
    if "texts" in row:
        return f"{row['equal_texts']} of {row['texts']} texts"
    return f"{row['equal_choices']} of {row['choices']} choices among hypotheses"


if __name__ == "__main__":
    raise SystemExit(main())
