"""``edge-asr doctor``: whether captions can work here, and for each problem what to run.

It looks and starts nothing: no backend is imported and no program is loaded; only the native
kernels are opened, to say what they can do here. That a program computes what it should is for
``edge-asr verify``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_asr.backends.table import BACKENDS, NOT_KNOWN, Backend
from edge_asr.console import clean
from edge_asr.errors import BackendError, ConfigError, DeviceError, EdgeAsrError
from edge_asr.machine import REQUIRED, Machine, describe_machine, installed
from edge_asr.package import BUNDLED_PACKAGES

Devices = list[dict[str, object]]


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``exit_code`` 0: captions work whatever it says."""

    subject: str
    found: str
    advice: str = ""
    exit_code: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``edge-asr doctor`` has no options."""


def run(arguments: argparse.Namespace) -> int:
    """Look and print; 0 if captions can work, else 78 (installation) or 69 (microphone)."""
    findings = []
    for finding in examine():
        findings.append(finding)
        mark = "!!" if finding.exit_code else "  "
        print(clean(f"{mark} {finding.subject:<12} {finding.found}"), flush=True)
        if finding.advice:
            print(clean(f"{'':<15} -> {finding.advice}"), flush=True)
    code = verdict(findings)
    print({0: "captions can work", 69: "no microphone"}.get(code, "captions cannot work yet"))
    return code


def verdict(findings: Sequence[Finding]) -> int:
    """The exit code: the installation comes before the microphone, which needs it."""
    codes = {finding.exit_code for finding in findings}
    return max(codes, default=0)


def examine(
    packages: Path = BUNDLED_PACKAGES, list_devices: Callable[[], Devices] | None = None
) -> Iterator[Finding]:
    """All findings, each as soon as it is known.

    Args:
        packages: the folder of the bundled packages.
        list_devices: asks for the microphones; None asks PortAudio.
    """
    machine = describe_machine()
    yield from _system(machine)
    yield from _libraries(machine)
    if not set(REQUIRED) <= machine.libraries.keys():
        return  # the rest cannot even be looked at
    backends = [name for name, backend in BACKENDS.items() if _works(backend)]
    yield from _backends(backends)
    yield from _native()
    yield from _bundled(packages, backends)
    if list_devices is None:
        from edge_asr.microphone.process import list_devices as ask_portaudio

        list_devices = ask_portaudio
    yield _microphones(list_devices)


def _system(machine: Machine) -> Iterator[Finding]:
    yield Finding("edge_asr", machine.libraries.get("edge_asr", "not installed, run from a copy"))
    yield Finding("python", f"{machine.python}, {sys.executable}")
    yield Finding("system", machine.system)
    yield Finding("processor", f"{machine.cpu}, {machine.usable_cores} of {machine.cores} cores")
    yield Finding("", " ".join(machine.cpu_features) or "no vector features known to us")
    encoding = (getattr(sys.stdout, "encoding", None) or "none").lower()
    if encoding.replace("-", "") != "utf8":
        yield Finding(
            "terminal",
            f"writes {encoding}, which lacks the letters of many languages",
            "export LANG=C.UTF-8",
        )


def _libraries(machine: Machine) -> Iterator[Finding]:
    found = {name: machine.libraries.get(name) for name in REQUIRED}
    yield Finding("libraries", ", ".join(f"{name} {v}" for name, v in found.items() if v))
    for name, version in found.items():
        if version is None:
            yield Finding(
                name, "is not installed", f"pip install {name}", exit_code=ConfigError.exit_code
            )


def _missing(modules: Sequence[str]) -> list[str]:
    return [name for name in modules if importlib.util.find_spec(name) is None]


def _libraries_of(backend: Backend) -> Sequence[str]:
    """What a backend needs here."""
    bound = backend.binding is not None and not _missing([backend.binding])
    return backend.libraries if bound else (*backend.libraries, *backend.without_binding)


def _bad_version(backend: Backend) -> str | None:
    """The version of its library that is installed, if that must not be used."""
    bad = backend.bad_versions
    version = None if bad is None else installed(bad.library)
    return version if bad and version and bad.include(version) else None


def _works(backend: Backend) -> bool:
    return not _missing(_libraries_of(backend)) and _bad_version(backend) is None


def _backends(present: Sequence[str]) -> Iterator[Finding]:
    for name, backend in BACKENDS.items():
        libraries = _libraries_of(backend)
        if name in present:
            versions = ", ".join(f"{library} {installed(library)}" for library in libraries)
            yield Finding(name, versions)
        elif backend.bad_versions and (version := _bad_version(backend)):
            bad = backend.bad_versions
            yield Finding(name, f"{bad.library} {version} {bad.why}", bad.cure)
        else:
            missing = ", ".join(_missing(libraries))
            yield Finding(name, f"{missing} not installed", backend.install)
    if not present:
        yield Finding(
            "backends",
            "none is installed that works",
            next(iter(BACKENDS.values())).install,
            exit_code=ConfigError.exit_code,
        )


def _native() -> Iterator[Finding]:
    """What is built of edge_asr.native. Captions work without, at the speed of stock operators."""
    from edge_asr.native import library as native

    try:
        sets = native.kernels()
        runs = native.library().edge_asr_kernel().decode()
    except BackendError as error:
        yield Finding("kernels", str(error))
    else:
        known = [name if can else f"{name} (not on this processor)" for name, can in sets.items()]
        yield Finding("kernels", f"run with {runs}; built: {', '.join(known)}")
    for backend in BACKENDS.values():
        if backend.binding is not None:
            binding = f"{backend.title} without {' or '.join(backend.without_binding)}"
            if _missing([backend.binding]):
                yield Finding("binding", f"{binding} is not built", native.BUILD)
            else:
                yield Finding("binding", f"{binding} is built")


def _bundled(packages: Path, backends: Sequence[str]) -> Iterator[Finding]:
    """Every bundled package, and a problem if none of them can be used."""
    roots = sorted(path.parent for path in packages.glob("*/manifest.json"))
    findings = [_package(root, backends) for root in roots]
    usable = any(not finding.exit_code for finding in findings)
    for finding in findings:
        yield finding if not usable else dataclasses.replace(finding, exit_code=0)
    if not usable:
        yield Finding(
            "packages",
            "no package that came with edge_asr can be used",
            "install the wheel again, or make export-int8 CKPT=... in the checkout",
            exit_code=ConfigError.exit_code,
        )


def _package(root: Path, backends: Sequence[str]) -> Finding:
    from edge_asr.package.files import open_package
    from edge_asr.programs.loading import preferred_dispatch

    try:
        package = open_package(root)
        package.check_files()
    except EdgeAsrError as error:
        return Finding(
            root.name,
            str(error),
            "install the wheel again",
            exit_code=ConfigError.exit_code,
        )
    programs = package.manifest.programs
    offered = {program.backend for program in programs if program.role == "encoder"}
    if fitting := [name for name in backends if name in offered]:
        found = f"opens; runs on {', '.join(fitting)}"
        with contextlib.suppress(EdgeAsrError):  # it is for verify to say what is wrong
            preferred, why = preferred_dispatch(fitting[0], trying=False)
            chosen = package.program("encoder", fitting[0], preferred=preferred)
            reason = why if chosen.dispatch == preferred else f"it has no {preferred} one"
            found += f"; takes the {chosen.dispatch} program ({reason})"
        return Finding(root.name, found, f"edge-asr verify {root.name}")
    here, unknown = sorted(offered & BACKENDS.keys()), sorted(offered - BACKENDS.keys())
    return Finding(
        root.name,
        f"opens, but needs {' or '.join([*here, *(f'{name} ({NOT_KNOWN})' for name in unknown)])}",
        "install one of these backends" if here else "install a newer edge_asr",
        exit_code=ConfigError.exit_code,
    )


def _microphones(list_devices: Callable[[], Devices]) -> Finding:
    without = "without a microphone: edge-asr transcribe speech.wav"
    try:
        devices = list_devices()
    except DeviceError as error:
        return Finding("microphone", str(error), without, exit_code=DeviceError.exit_code)
    if not devices:
        return Finding(
            "microphone",
            "PortAudio works and finds none",
            f"plug one in, then: edge-asr mic --list-devices; {without}",
            exit_code=DeviceError.exit_code,
        )
    names = ", ".join(
        f"{device['name']}{' (default)' if device['is_default'] else ''}" for device in devices
    )
    return Finding("microphone", names)
