"""DSSE envelopes (Dead Simple Signing Envelope) over in-toto statements: bytes that are signed as they are.

Rules: the envelope has one spelling, as every document; each key signs once, in order; at least one has signed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from casparian.trust import documents
from casparian.trust.keys import SigningKey
from casparian.trust.refusals import refused

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope as DsseEnvelope

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
SIGNATURES_MAX: Final = 64


class _Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: tuple[_Signature, ...]


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """An envelope whose shape was checked; its payload is not to be read before a signature holds."""

    payload: bytes
    signatures: dict[str, bytes]

    @property
    def signed_bytes(self) -> bytes:
        """What the signatures are over (DSSE's pre-authentication encoding)."""
        return _dsse(self.payload).pae()


def open_envelope(raw: bytes, what: str) -> Envelope:
    """Read an envelope; nothing is verified.

    Raises:
        Refused: `trust.malformed`, `trust.too_large`.
    """
    parsed = documents.shape(documents.decode(raw, what), _Envelope, what)
    if parsed.payload_type != PAYLOAD_TYPE:
        raise documents.malformed(what, f"its payload is {parsed.payload_type[:80]!a}")
    if len(parsed.signatures) > SIGNATURES_MAX:
        raise refused("trust.too_large", f"{what} has more than {SIGNATURES_MAX} signatures")
    if not parsed.signatures:
        raise documents.malformed(what, "nobody has signed it")
    signatures = {entry.keyid: _base64(entry.sig, what) for entry in parsed.signatures}
    if [entry.keyid for entry in parsed.signatures] != sorted(signatures):
        raise documents.malformed(what, "its signatures are not in order, each key once")
    return Envelope(payload=_base64(parsed.payload, what), signatures=signatures)


def seal(payload: bytes, keys: Iterable[SigningKey]) -> bytes:
    """An envelope over a payload, signed by each key."""
    data = _dsse(payload).pae()
    return _written(payload, {key.public.keyid: key.sign(data) for key in keys})


def add_signature(raw: bytes, key: SigningKey) -> bytes:
    """The envelope with one more signature; the same key signs it once.

    Raises:
        Refused: `trust.malformed`, `trust.too_large`.
    """
    envelope = open_envelope(raw, "the envelope")
    mine = {key.public.keyid: key.sign(envelope.signed_bytes)}
    return _written(envelope.payload, {**envelope.signatures, **mine})


def _written(payload: bytes, signatures: dict[str, bytes]) -> bytes:
    from securesystemslib.signer import Signature

    envelope = _dsse(payload)
    for keyid in sorted(signatures):
        envelope.signatures[keyid] = Signature(keyid, signatures[keyid].hex())
    return documents.encode(envelope.to_dict())


def _dsse(payload: bytes) -> DsseEnvelope:
    from securesystemslib.dsse import Envelope as DsseEnvelope

    return DsseEnvelope(payload, PAYLOAD_TYPE, {})


def _base64(text: str, what: str) -> bytes:
    """Bytes of standard base64 in its one spelling: no other alphabet, no spare bits."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise documents.malformed(what, "it is not base64") from None
    if base64.b64encode(decoded).decode() != text:
        raise documents.malformed(what, "its base64 has another spelling")
    return decoded
