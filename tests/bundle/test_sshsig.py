"""Signatures of a stick: ours and `ssh-keygen`'s are the same bytes, and no changed byte passes."""

from __future__ import annotations

import base64
import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.appliance.stick import sshsig
from casparian.appliance.stick.layout import IDENTITY, NAMESPACE
from casparian.errors import Refused
from casparian.trust.keys import PrivateKey

SEED = b"casparian-development-only-key-1"  # the development key: no secret
KEY = PrivateKey.from_seed(SEED, "release")
MESSAGE = b"bytes that were signed\n"

# Written by OpenSSH 9.2: `ssh-keygen -Y sign -n casparian-stick@v1 -O hashalg=…` with the key of the seed above.
GOLDEN = {
    "sha512": b"""-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgtBvWwbZPiRemU9kaqmFHnzvUMM
UY/Ena6FDwwRj8FXAAAAASY2FzcGFyaWFuLXN0aWNrQHYxAAAAAAAAAAZzaGE1MTIAAABT
AAAAC3NzaC1lZDI1NTE5AAAAQGapXtrODP2sMRxMAMkUOtm6y5xacD7h353OwimX9S1uCe
hiIWT73Cg9hjzthpJGxvC53BZDVjnB8ywMBOpfhQI=
-----END SSH SIGNATURE-----
""",
    "sha256": b"""-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgtBvWwbZPiRemU9kaqmFHnzvUMM
UY/Ena6FDwwRj8FXAAAAASY2FzcGFyaWFuLXN0aWNrQHYxAAAAAAAAAAZzaGEyNTYAAABT
AAAAC3NzaC1lZDI1NTE5AAAAQOwiNIciIXlT7EfXQ68LBktyWTIw4Yfs5CMeNDjOtYPxgt
tm8/gQnd/ubhIq68T6dyeFm0X9+BBCmCG22mrZTAU=
-----END SSH SIGNATURE-----
""",
}
LINE = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILQb1sG2T4kXplPZGqphR5871DDFGPxJ2uhQ8MEY/BVw\n"
FINGERPRINT = "SHA256:yAUUgoTlUPA/7pLK3NnD3fPq4JHF2cT+/AdB0MoKFU0"


def refused(message, armored, namespace=NAMESPACE, code="stick.signature"):
    with pytest.raises(Refused) as caught:
        sshsig.verify(message, armored, namespace)
    assert caught.value.code == code
    return caught.value.message


@pytest.mark.parametrize("algorithm", sorted(GOLDEN))
def test_what_ssh_keygen_signed_verifies(algorithm):
    assert sshsig.verify(MESSAGE, GOLDEN[algorithm], NAMESPACE) == KEY.public


def test_ours_is_byte_for_byte_what_ssh_keygen_writes():
    assert sshsig.sign(MESSAGE, KEY, NAMESPACE) == GOLDEN["sha512"]


def test_key_line_and_fingerprint_are_those_of_ssh_keygen():
    assert sshsig.public_line(KEY.public).encode() == LINE
    assert sshsig.fingerprint(KEY.public) == FINGERPRINT
    assert sshsig.parse_public_line(LINE) == KEY.public
    assert sshsig.parse_public_line(LINE[:-1] + b" the release key\n") == KEY.public
    digest = base64.b64decode(FINGERPRINT.removeprefix("SHA256:") + "=")
    assert sshsig.fingerprint_hex(KEY.public) == digest.hex()


@settings(deadline=None)
@given(st.binary(max_size=3000), st.binary(min_size=32, max_size=32))
def test_what_we_sign_verifies_with_the_same_key(message, seed):
    key = PrivateKey.from_seed(seed, "someone")
    assert sshsig.verify(message, sshsig.sign(message, key, "a@b"), "a@b") == key.public


def test_every_flipped_bit_of_a_signature_is_refused():
    good = GOLDEN["sha512"]
    for at in range(len(good)):
        for bit in range(8):
            refused(MESSAGE, good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])


def test_every_shortened_signature_is_refused():
    for length in range(len(GOLDEN["sha512"])):
        refused(MESSAGE, GOLDEN["sha512"][:length])


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_no_other_bytes_are_a_signature(raw):
    refused(MESSAGE, raw)
    refused(MESSAGE, sshsig._BEGIN + base64.b64encode(sshsig._MAGIC + raw) + b"\n" + sshsig._END)


@settings(deadline=None)
@given(st.integers(0, len(MESSAGE) * 8 - 1))
def test_every_changed_message_is_refused(bit):
    changed = bytearray(MESSAGE)
    changed[bit // 8] ^= 1 << bit % 8
    assert "does not fit" in refused(bytes(changed), GOLDEN["sha512"])


def test_a_signature_for_something_else_is_refused():
    assert "file" in refused(MESSAGE, sshsig.sign(MESSAGE, KEY, "file"))


SPELLINGS = {
    "carriage returns": lambda raw: raw.replace(b"\n", b"\r\n"),
    "other line length": lambda raw: (
        sshsig._BEGIN + b"".join(raw.split(b"\n")[1:-2]) + b"\n" + sshsig._END
    ),
    "text before": lambda raw: b"signed by me\n" + raw,
    "text after": lambda raw: raw + b"\n",
    "blank line": lambda raw: raw.replace(b"\n", b"\n\n", 1),
    "two signatures": lambda raw: raw + raw,
    "spare bits of base64": lambda raw: raw.replace(b"QI=\n", b"QJ=\n"),
}


@pytest.mark.parametrize("name", sorted(SPELLINGS))
def test_another_spelling_of_a_good_signature_is_refused(name):
    changed = SPELLINGS[name](GOLDEN["sha512"])
    assert changed != GOLDEN["sha512"]
    refused(MESSAGE, changed)


def test_a_weak_key_is_refused():
    """By the neutral point anyone can sign anything: R = identity, S = 0."""
    blob = sshsig._string(b"ssh-ed25519") + sshsig._string(b"\x01" + bytes(31))
    forged = sshsig._armour(blob, NAMESPACE.encode(), b"sha512", b"\x01" + bytes(31) + bytes(32))
    assert "weak" in refused(MESSAGE, forged)


KEY_LINES = {
    "no line feed": LINE[:-1],
    "two keys": LINE + LINE,
    "options before": b'command="x" ' + LINE,
    "two spaces": LINE.replace(b" ", b"  ", 1),
    "carriage return": LINE[:-1] + b"\r\n",
    "other kind": LINE.replace(b"ssh-ed25519", b"ssh-rsa", 1),
    "damaged base64": LINE.replace(b"AAAAC3", b"AAAA*3"),
    "cut": LINE[:-8] + b"\n",
    "comment in another script": LINE[:-1] + " schlüssel\n".encode(),
    "empty": b"",
}


@pytest.mark.parametrize("name", sorted(KEY_LINES))
def test_a_key_file_has_one_line_and_one_spelling(name):
    with pytest.raises(Refused) as caught:
        sshsig.parse_public_line(KEY_LINES[name])
    assert caught.value.code == "stick.key"


def test_stock_ssh_keygen_verifies_ours_and_we_verify_its(tmp_path):
    (tmp_path / "allowed").write_text(
        f'{IDENTITY} namespaces="{NAMESPACE}" {sshsig.public_line(KEY.public)}'
    )
    message = os.urandom(10_000)
    (tmp_path / "m.sig").write_bytes(sshsig.sign(message, KEY, NAMESPACE))
    stock = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", IDENTITY, "-n", NAMESPACE]
    done = subprocess.run(
        [*stock, "-s", "m.sig"], input=message, cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert FINGERPRINT.encode() in done.stdout
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "other", "-f", "other"],
        cwd=tmp_path,
        check=True,
    )
    (tmp_path / "n").write_bytes(message)
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", "other", "-n", NAMESPACE, "n"],
        cwd=tmp_path,
        check=True,
    )
    signer = sshsig.verify(message, (tmp_path / "n.sig").read_bytes(), NAMESPACE)
    assert signer == sshsig.parse_public_line((tmp_path / "other.pub").read_bytes())
