"""The model card that a package carries where the user gives none."""

from __future__ import annotations

from typing import Any

from edge_asr.package.manifest import Manifest

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


def _agreement(row: dict[str, Any]) -> str:
    if "texts" in row:
        return f"{row['equal_texts']} of {row['texts']} texts"
    return f"{row['equal_choices']} of {row['choices']} choices among hypotheses"
