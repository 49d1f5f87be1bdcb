"""Which device is meant, and which settings are tried."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from edge_asr.microphone import devices
from edge_asr.microphone.devices import (
    CaptureFailedError,
    InputDevice,
    configuration_error,
    find_device,
    holder,
    missing_configuration,
    settings,
    stable_name,
)
from edge_asr.microphone.frames import Reason

DESK = InputDevice(0, "Desk: USB Audio (hw:1,0)", 1, 48000, False)
LAPTOP = InputDevice(2, "Laptop: ALC (hw:0,0)", 2, 44100, True)
ARRAY = InputDevice(5, "Desk array: USB Audio (hw:2,0)", 8, 16000, False)
DEVICES = [DESK, LAPTOP, ARRAY]


@pytest.fixture(autouse=True)
def nothing_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "alsa_says_busy", lambda wanted: False)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, LAPTOP),
        ("5", ARRAY),
        ("laptop", LAPTOP),
        ("ARRAY", ARRAY),
        ("Desk: USB Audio (hw:1,0)", DESK),
        ("Desk: USB Audio (hw:7,0)", DESK),  # plugged in again, at another number
        ("Desk: USB Audio", DESK),
        ("DESK: usb audio", DESK),
    ],
)
def test_the_device_that_is_meant(wanted: str | None, found: InputDevice) -> None:
    assert find_device(DEVICES, wanted) == found


@pytest.mark.parametrize(
    ("names", "wanted", "found"),
    [
        (["usbmic2", "usbmic"], "USBMIC", 1),  # a whole name before a part of another
        (["UsbMic", "usbmic"], "usbmic", 1),
        (["usbmic (hw:1,0)", "usbmic (hw:2,0)"], "USBMIC", 0),  # as in the same case
        (["desk", "5"], "5", 1),  # no number of a device
        (["1", "5"], "1", 1),  # the number of one
        (["desk 5"], "5", None),
        (["UsbMic", "usbmic"], "USBMIC", None),
    ],
)
def test_whole_names_come_before_parts(names: list[str], wanted: str, found: int | None) -> None:
    devices = [InputDevice(index, name, 1, 16000, False) for index, name in enumerate(names)]
    if found is not None:
        assert find_device(devices, wanted).index == found
        return
    with pytest.raises(CaptureFailedError):
        find_device(devices, wanted)


def test_without_a_default_the_first() -> None:
    assert find_device([DESK, ARRAY], None) == DESK


@pytest.mark.parametrize(
    ("found", "wanted", "reason", "part"),
    [
        (DEVICES, "desk", Reason.BROKEN, "'Desk array: USB Audio (hw:2,0)'; name one of them"),
        (DEVICES, "1", Reason.ABSENT, "choose one of: 'Desk: USB"),
        (DEVICES, "kitchen", Reason.ABSENT, "no microphone 'kitchen'; choose one of: 'Desk"),
        ([], None, Reason.ABSENT, "no microphone; plug one in, or read a file with --input FILE"),
    ],
)
def test_no_such_device(
    found: list[InputDevice], wanted: str | None, reason: Reason, part: str
) -> None:
    with pytest.raises(CaptureFailedError) as raised:
        find_device(found, wanted)
    assert raised.value.reason == reason
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_device_that_portaudio_hides_because_it_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "alsa_says_busy", lambda wanted: wanted == "hw:1,0")
    with pytest.raises(CaptureFailedError, match="in use") as raised:
        find_device([LAPTOP], "hw:1,0")
    assert raised.value.reason == Reason.BUSY


@pytest.mark.parametrize(
    ("device", "first", "allowed"),
    [
        (DESK, (16000, 1), {(16000, 1), (48000, 1), (44100, 1)}),
        (LAPTOP, (16000, 2), {(16000, 2), (48000, 2), (44100, 2)}),
    ],
)
def test_settings_keep_the_channels(
    device: InputDevice, first: tuple[int, int], allowed: set[tuple[int, int]]
) -> None:
    tried = list(settings(device))
    assert tried[0] == first
    assert set(tried) == allowed
    assert len(tried) == len(allowed)


def test_settings_of_a_device_with_a_rate_of_its_own() -> None:
    assert (96000, 1) in settings(InputDevice(0, "x", 1, 96000, True))


def test_settings_of_an_array_end_with_all_its_channels() -> None:
    tried = list(settings(ARRAY))
    assert [channels for rate, channels in tried if rate == 16000] == [1, 2, 8]
    assert max(channels for _, channels in settings(InputDevice(0, "x", 128, 16000, True))) == 32


def test_the_card_number_is_no_part_of_the_name() -> None:
    assert stable_name("Desk: USB Audio (hw:1,0)") == "Desk: USB Audio"
    assert stable_name("Desk (left) hw:1,0") == "Desk (left) hw:1,0"


def test_the_program_that_records(tmp_path: Path) -> None:
    status = tmp_path / "card1" / "pcm0c" / "sub0" / "status"
    status.parent.mkdir(parents=True)
    status.write_text("closed\n")
    assert holder(tmp_path) == ""
    status.write_text(f"state: RUNNING\nowner_pid   : {2**22 + 1}\n")
    assert holder(tmp_path) == ""  # it has ended since
    status.write_text("state: RUNNING\nowner_pid   : 1\n")
    name = Path("/proc/1/comm").read_text().strip()
    assert holder(tmp_path) == f" (pid 1, {name})"


def test_what_alsa_says_about_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_alsa", lambda: None)
    noise = io.BytesIO(
        b"ALSA lib conf.c:2013:(_snd_config_load_with_include) :1:9:Unexpected }\n"
        b"ALSA lib conf.c:4096:(config_file_open) /home/a b/.asoundrc may be old or corrupted: "
        b"consider to remove or fix it\n"
        b"ALSA lib conf.c:4625:(snd_config_update_r) hooks failed, removing configuration\n"
    )
    assert configuration_error(noise) == "/home/a b/.asoundrc, line 1: Unexpected }"
    assert configuration_error(io.BytesIO(b"ALSA lib: \xff\n")) == ""


def test_a_configuration_that_is_not_there() -> None:
    said = "ALSA lib conf.c:4555:(snd_config_update_r) Cannot access file /a b/alsa.conf\nAborted\n"
    assert missing_configuration(said) == "/a b/alsa.conf"
    assert missing_configuration("ALSA lib pcm.c:2642: Unknown PCM default\n") == ""
