"""SSHSIG: the signature format of `ssh-keygen -Y`, for Ed25519 keys: what anyone can check with stock tools.

Source: PROTOCOL.sshsig of OpenSSH, and RFC 4253 (`ssh-ed25519` blobs), RFC 8709. The signature is over

    "SSHSIG"  string namespace  string reserved ("")  string hash_algorithm  string H(message)

Rules:
  * One spelling: the armour is compared with what `_armour` writes from the parsed fields, as `ssh-keygen` wraps it, so
    that a changed byte anywhere is refused, also one that means nothing (a space, a spare bit of base64).
  * `verify` says which key signed; whether that key may sign is the caller's to decide, by the whole key.
  * A weak key (a point of small order, by which anyone could sign) is refused with the other malformed ones.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from casparian.errors import Refused
from casparian.trust import keys
from casparian.trust.keys import PublicKey, SigningKey

ALGORITHM: Final = b"ssh-ed25519"
SIGNATURE_BYTES_MAX: Final = 4096  # one by Ed25519 has about 300
_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_HASHES: Final = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----\n"
_END: Final = b"-----END SSH SIGNATURE-----\n"
_LINE: Final = 70  # characters of base64 that `ssh-keygen` writes on a line


def sign(message: bytes, key: SigningKey, namespace: str) -> bytes:
    """The armoured signature over a message, byte for byte what `ssh-keygen -Y sign` writes with the same key.

    Args:
        message: what is signed.
        key: an Ed25519 key.
        namespace: what the signature is for: one made for something else does not verify.
    """
    name = namespace.encode("ascii")
    signature = key.sign(_signed(message, name, b"sha512"))
    return _armour(key_blob(key.public), name, b"sha512", signature)


def verify(message: bytes, armored: bytes, namespace: str) -> PublicKey:
    """The key that signed a message for a namespace.

    Args:
        message: the bytes that were signed.
        armored: the content of the `.sig` file.
        namespace: what the signature must be for.

    Raises:
        Refused: `stick.signature`: it is none, it is for something else, or it does not fit the message.
    """
    blob, name, algorithm, signature = _parsed(armored)
    if name != namespace.encode("ascii"):
        raise _refused(f"the signature is for {name[:60]!a}, not for {namespace}")
    key = _key_of(blob)
    if not key.verifies(signature, _signed(message, name, algorithm)):
        raise _refused(f"the signature of the key {fingerprint(key)} does not fit what was signed")
    return key


def fingerprint(key: PublicKey) -> str:
    """`SHA256:` and 43 characters, as `ssh-keygen -lf` prints it."""
    digest = hashlib.sha256(key_blob(key)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def fingerprint_hex(key: PublicKey) -> str:
    """The same digest as 64 hexadecimal digits: what `casparian.trust.words` makes words of."""
    return hashlib.sha256(key_blob(key)).hexdigest()


def public_line(key: PublicKey, comment: str = "") -> str:
    """The key as a line of OpenSSH (`ssh-ed25519 AAAA… comment`), with its line feed."""
    fields = [ALGORITHM.decode(), base64.b64encode(key_blob(key)).decode(), comment]
    return " ".join(field for field in fields if field) + "\n"


def parse_public_line(raw: bytes) -> PublicKey:
    """The key of such a line; nothing else may be in the file.

    Raises:
        Refused: `stick.key`: it is not one line with one Ed25519 key.
    """
    line, end, rest = raw.partition(b"\n")
    fields = line.split(b" ", 2)
    if not end or rest or len(raw) > SIGNATURE_BYTES_MAX or len(fields) < 2:
        raise _refused("the release key is not one line of OpenSSH's format", "stick.key")
    try:
        blob = base64.b64decode(fields[1], validate=True)
        key = _key_of(blob)
    except (binascii.Error, ValueError, Refused):
        raise _refused("the release key is no Ed25519 key", "stick.key") from None
    comment = fields[2] if len(fields) == 3 else b""
    if not comment.isascii() or public_line(key, comment.decode("ascii")).encode() != raw:
        raise _refused("the release key is not in its one spelling", "stick.key")
    return key


def key_blob(key: PublicKey) -> bytes:
    """The key as SSH's protocol has it; ValueError for another kind than Ed25519."""
    if key.keytype != "ed25519":
        raise ValueError(key.scheme)
    return _string(ALGORITHM) + _string(bytes.fromhex(key.public))


def _signed(message: bytes, namespace: bytes, algorithm: bytes) -> bytes:
    digest = _HASHES[algorithm](message).digest()
    return _MAGIC + b"".join(map(_string, (namespace, b"", algorithm, digest)))


def _armour(blob: bytes, namespace: bytes, algorithm: bytes, signature: bytes) -> bytes:
    inner = _string(ALGORITHM) + _string(signature)
    fields = (blob, namespace, b"", algorithm, inner)
    body = _MAGIC + _VERSION.to_bytes(4, "big") + b"".join(map(_string, fields))
    text = base64.b64encode(body)
    lines = (text[at : at + _LINE] + b"\n" for at in range(0, len(text), _LINE))
    return _BEGIN + b"".join(lines) + _END


def _parsed(armored: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Key blob, namespace, hash algorithm and signature; nothing is verified yet."""
    if len(armored) > SIGNATURE_BYTES_MAX:
        raise _refused("the signature is too large to be one")
    if not armored.startswith(_BEGIN) or not armored.endswith(_END):
        raise _refused("the file holds no SSH signature")
    try:
        inside = armored[len(_BEGIN) : -len(_END)].replace(b"\n", b"")
        reader = _Reader(base64.b64decode(inside, validate=True))
        if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != _VERSION:
            raise ValueError
        blob, namespace, reserved, algorithm, inner = (reader.string() for _ in range(5))
        reader.end()
        inside_signature = _Reader(inner)
        kind, signature = inside_signature.string(), inside_signature.string()
        inside_signature.end()
    except (binascii.Error, ValueError):
        raise _refused("the signature is damaged") from None
    if algorithm not in _HASHES or kind != ALGORITHM or len(signature) != 64 or reserved:
        raise _refused("the signature is not by an Ed25519 key, as a release's is")
    if _armour(blob, namespace, algorithm, signature) != armored:
        raise _refused("the signature is not in its one spelling")
    return blob, namespace, algorithm, signature


def _key_of(blob: bytes) -> PublicKey:
    try:
        reader = _Reader(blob)
        kind, public = reader.string(), reader.string()
        reader.end()
    except ValueError:
        raise _refused("the signature's key is damaged") from None
    if kind != ALGORITHM or len(public) != 32:
        raise _refused("the signature is not by an Ed25519 key, as a release's is")
    record = keys.KeyRecord(
        keytype="ed25519", keyval=keys.KeyRecord.Value(public=public.hex()), scheme="ed25519"
    )
    try:
        return keys.public_key(record)
    except Refused as error:
        raise _refused(f"the signature's key is refused: {error.message}") from error


class _Reader:
    """Fields of SSH's wire format; ValueError past the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise ValueError("past the end")
        self._at += count
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("more than it should hold")


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _refused(message: str, code: str = "stick.signature") -> Refused:
    return Refused(
        message,
        code=code,
        hint="do not use this stick; get it again from whoever made it, and compare the printed card",
    )
