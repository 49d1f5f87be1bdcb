"""``edge-asr``, and ``python -m edge_asr``: one program, a module for each command.

Only the module of the command that was asked for is imported, so help comes at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from edge_asr.commands.model_options import Parser
from edge_asr.exits import exit_code

# name -> (module with add_arguments(parser) and run(arguments) -> exit code, what it does)
COMMANDS = {
    "mic": ("edge_asr.commands.mic", "captions from the microphone"),
    "transcribe": (
        "edge_asr.commands.transcribe",
        "captions of audio files, as text, jsonl, srt or vtt",
    ),
    "bench": ("edge_asr.commands.bench", "speed, latency, memory and accuracy on this machine"),
    "lm": ("edge_asr.commands.lm", "a language model estimated from text, as an ARPA file"),
    "inspect": ("edge_asr.commands.inspection", "what is in a model package"),
    "verify": (
        "edge_asr.commands.verification",
        "run the golden vectors of a package on this machine",
    ),
    "doctor": ("edge_asr.commands.doctor", "what is installed, what is missing, and what to run"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The program; the exit code (see ``edge_asr.exits``)."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return exit_code(lambda: _run(arguments))


def _run(argv: list[str]) -> int:
    name = argv[0] if argv else ""
    if name not in COMMANDS:
        _command_parser().parse_args(argv)
        return 0
    module_name, help_text = COMMANDS[name]
    module = importlib.import_module(module_name)
    parser = Parser(prog=f"edge-asr {name}", description=_sentence(help_text))
    module.add_arguments(parser)
    code: int = module.run(parser.parse_args(argv[1:]))
    return code


def _command_parser() -> Parser:
    """Only for help, ``--version`` and wrong commands."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items())
    parser = Parser(
        prog="edge-asr",
        usage=f"edge-asr {{{','.join(COMMANDS)}}} ...",
        description=f"Streaming speech recognition on the device.\n\ncommands:\n{listed}",
        epilog="More about a command: edge-asr COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-asr {_version()}")
    parser.add_argument("command", choices=tuple(COMMANDS), metavar="COMMAND", help="see above")
    return parser


def _version() -> str:
    try:
        return version("edge_asr")
    except PackageNotFoundError:  # a copy that was never installed
        return "(not installed)"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    sys.exit(main())
