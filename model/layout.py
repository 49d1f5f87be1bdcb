"""What is in a checkpoint directory: the files that are needed, or those that WeNet leaves instead.

WeNet's recipes leave files of epochs and an average of the best, and the units in another folder.
Which of them is meant is for a person to say, so an error names what is there.
"""

from __future__ import annotations

from pathlib import Path

from edge_asr.errors import InputMissingError

# What is needed -> what may lie there in its place, the likeliest first.
_INSTEAD = {
    "train.yaml": ("*.yaml",),
    "final.pt": ("avg*.pt", "*.pt"),
    "units.txt": ("lang_char.txt", "words.txt", "dict.txt", "tokens.txt", "*units*.txt"),
}
_AVERAGED = "avg*.pt"
_NAMED = 4  # files in a message


def check_layout(path: Path, weights: str = "final.pt") -> None:
    """Raise InputMissingError unless train.yaml, units.txt and the file ``weights`` are there."""
    missing = [name for name in ("train.yaml", weights, "units.txt") if not (path / name).is_file()]
    if not missing:
        return
    wanted = (
        "a checkpoint is a directory with train.yaml, final.pt and units.txt, as WeNet writes it"
    )
    if path.is_file():
        raise InputMissingError(f"{path}: is a file; {wanted}: give its directory, {path.parent}")
    found = {name: _instead(path, name) for name in missing}
    there = [file for files in found.values() for file in files[:_NAMED]]
    copies = [f"{files[0]} to {name}" for name, files in found.items() if files]
    raise InputMissingError(
        f"{path}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        + (f"; there are {', '.join(there)}" if there else "")
        + (f", so copy for example {' and '.join(copies)}" if copies else "")
        + f"; {wanted}"
    )


def unused_average(path: Path) -> str:
    """A remark where averaged weights lie in a directory whose final.pt is taken, or ""."""
    averaged = sorted(file.name for file in path.glob(_AVERAGED))
    if not averaged or not (path / "final.pt").is_file():
        return ""
    return (
        f"{path}: final.pt is taken, which WeNet leaves as the last epoch; there is also "
        f"{averaged[-1]}, so copy that to final.pt if the average is meant"
    )


def _instead(path: Path, name: str) -> list[str]:
    """Files that may be meant, the latest epoch first."""
    patterns = _INSTEAD.get(name, ())
    files = [
        file
        for pattern in patterns
        for file in sorted(path.glob(pattern), key=lambda file: _number(file.stem), reverse=True)
    ]
    return list(dict.fromkeys(file.name for file in files if file.name != "decoder.pt"))


def _number(stem: str) -> tuple[int, str]:
    digits = "".join(filter(str.isdecimal, stem))
    return int(digits or 0), stem
