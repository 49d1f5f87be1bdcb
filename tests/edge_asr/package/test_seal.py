"""Any change of a sealed text is found."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asr.errors import PackageError
from edge_asr.package.seal import seal, unseal

TEXT = b'{\n  "name": "a",\n  "rate": 0.97\n}\n'


def test_what_is_sealed_is_json_and_comes_back() -> None:
    sealed = seal(TEXT)
    assert unseal(sealed, "m") == TEXT
    fields = json.loads(sealed)
    assert list(fields) == ["digest", "name", "rate"] and len(fields["digest"]) == 64


def test_what_has_no_digest_is_told_from_what_has_a_wrong_one() -> None:
    assert unseal(TEXT, "m") is None


def test_every_flipped_bit_is_found() -> None:
    sealed, first = seal(TEXT), len(seal(TEXT)) - len(TEXT) + 2
    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            try:
                found = unseal(bytes(changed), "m")
            except PackageError as error:
                assert str(error).startswith("m: does not have the digest")
            else:  # no digest is seen any more: whoever needs one refuses it
                assert place < first and found is None


@given(st.binary(), st.binary())
def test_any_other_text_is_refused(text: bytes, other: bytes) -> None:
    sealed = seal(text)
    rest = other.removeprefix(b"{\n")
    changed = sealed[: len(sealed) - len(text.removeprefix(b"{\n"))] + rest
    if rest == text.removeprefix(b"{\n"):
        assert unseal(changed, "m") == b"{\n" + rest
        return
    with pytest.raises(PackageError, match="damaged or was changed"):
        unseal(changed, "m")
