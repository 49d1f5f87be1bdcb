"""English as speakers of other languages say it: espeak-ng's voices of those languages, given the
sounds of the English words.

A foreign accent keeps to the sounds that the first language has. espeak-ng leaves out what a voice
does not know, so the sounds that few languages have are replaced by their nearest ones first.
"""

from __future__ import annotations

import numpy as np

# Voices that know everything that is left after ``NEAREST``.
LANGUAGES = (
    "fr-fr", "fr-be", "de", "es", "es-419", "it", "pt-br", "pt", "nl", "sv", "ru", "tr", "hi",
    "ro", "el", "cs", "id",
)  # fmt: skip

# espeak-ng's names of sounds, as ``espeak-ng -x --sep=_ -v en-us`` writes them.
NEAREST = {
    "0": "o", "3": "e_r", "3:": "e_r", "@": "e", "@L": "e_l", "@2": "e", "@5": "u", "a#": "a",
    "A:": "a", "A@": "a_r", "aI": "a_i", "aI@": "a_i_e", "aU": "a_u", "E": "e", "e@": "e_r",
    "eI": "e_i", "I": "i", "I#": "i", "I2": "i", "i:": "i", "i@": "i_r", "i@3": "i_r", "i": "i",
    "O:": "o", "O2": "o", "O@": "o_r", "o@": "o_r", "OI": "o_i", "oU": "o_u", "U": "u", "u:": "u",
    "V": "a", "aa": "a", "t2": "t", "t#": "t", "r-": "r", "l#": "l", "n-": "n", "_|": "", ";": "",
}  # fmt: skip
# Consonants that some speakers replace and others do not, each drawn once per utterance.
SOMETIMES = {
    "T": ("T", "s", "t", "f"), "D": ("D", "d", "z"), "w": ("w", "w", "v"),
    "h": ("h", "h", "h", "x"), "dZ": ("dZ", "tS"), "z": ("z", "z", "s"), "N": ("n_g",),
}  # fmt: skip
_STRESS = "',%="


def accented(sounds: str, rng: np.random.Generator) -> str:
    """Sounds with another accent: both as espeak-ng writes them, joined by ``_``, words by blanks.

    >>> accented("s_'I_k_s", np.random.default_rng(0))
    "s_'i_k_s"
    """
    drawn = {sound: str(rng.choice(ways)) for sound, ways in SOMETIMES.items()}
    words = []
    for word in sounds.split():
        found = []
        for sound in word.split("_"):
            bare = sound.lstrip(_STRESS)
            stress = "'" if "'" in sound[: len(sound) - len(bare)] else ""
            nearest = drawn.get(bare, NEAREST.get(bare, bare))
            if nearest:
                found.append(stress + nearest)
        words.append("_".join(found))
    return " ".join(words)
