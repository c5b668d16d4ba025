"""A fingerprint as people compare it."""

from __future__ import annotations

import pytest

from casparian.trust import words

FINGERPRINT = "48492a32f2e6b8b410bdf8a24d9d5abb81fdaa8b87b17df086e58a07e1db2fcd"
PHRASE = "embark enable million total high foam drill sample pelican hollow find jewel"


def test_words_are_those_of_the_standard():
    assert " ".join(words.words_of(FINGERPRINT)) == PHRASE
    assert len(words.qr_text(f"CASPARIAN-ROOT:1:{FINGERPRINT}").splitlines()) >= 20


@pytest.mark.parametrize(
    "given",
    [PHRASE, PHRASE.upper(), FINGERPRINT, f"SHA256:{FINGERPRINT}", words.grouped(FINGERPRINT)],
)
def test_a_fingerprint_may_be_given_in_every_form_that_is_shown(given):
    words.check_fingerprint(FINGERPRINT, given)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (PHRASE.replace("jewel", "jungle"), "trust.words"),
        (" ".join(words.words_of("ab" * 32)), "trust.words"),
        (PHRASE.removesuffix(" jewel"), "trust.fingerprint"),
        (FINGERPRINT[:-1], "trust.fingerprint"),
        ("SHA256:" + "0" * 64, "trust.fingerprint"),
        ("", "trust.fingerprint"),
    ],
)
def test_another_fingerprint_is_refused(given, code):
    with pytest.raises(Exception) as refusal:
        words.check_fingerprint(FINGERPRINT, given)
    assert refusal.value.code == code


def test_every_single_wrong_word_is_noticed():
    for position in range(12):
        typed = PHRASE.split()
        typed[position] = "zoo"
        with pytest.raises(Exception) as refusal:
            words.check_words(FINGERPRINT, tuple(typed))
        assert refusal.value.code == "trust.words"
