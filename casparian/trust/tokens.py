"""Keys that never leave a hardware token (PKCS#11): ECDSA on P-256 or P-384, as PIV cards and smart cards have it.

The extra `casparian[tokens]` brings the binding; the token's maker brings the library. A signature is made inside the
token, over the SHA-2 digest of the bytes, and checked here before it is used: a token that answers nonsense is noticed.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from casparian.display import show
from casparian.trust.keys import PublicKey, from_crypto
from casparian.trust.refusals import refused

if TYPE_CHECKING:
    from casparian.errors import Refused


class TokenKey:
    """A signing key inside a token; a session is opened for each signature and closed after it."""

    def __init__(self, token: Any, key_label: str | None, pin: str) -> None:
        self._token = token
        self._label = key_label
        self._pin = pin
        self.public = self._read_public()

    def sign(self, data: bytes) -> bytes:
        """The signature over these bytes.

        Raises:
            Refused: `trust.token`.
        """
        import pkcs11
        from pkcs11.util.ec import encode_ecdsa_signature

        digest = hashlib.sha384 if self.public.scheme.endswith("p384") else hashlib.sha256
        try:
            with self._token.open(user_pin=self._pin) as session:
                key = self._only(session, pkcs11.ObjectClass.PRIVATE_KEY)
                raw = key.sign(digest(data).digest(), mechanism=pkcs11.Mechanism.ECDSA)
        except pkcs11.PKCS11Error as error:
            raise _failed(error) from error
        signature: bytes = encode_ecdsa_signature(raw)
        if not self.public.verifies(signature, data):
            raise refused("trust.token", "the token made a signature that does not fit its key")
        return signature

    def _read_public(self) -> PublicKey:
        import pkcs11
        from cryptography.hazmat.primitives.serialization import load_der_public_key
        from pkcs11.util.ec import encode_ec_public_key

        try:
            with self._token.open(user_pin=self._pin) as session:
                key = self._only(session, pkcs11.ObjectClass.PUBLIC_KEY)
                der = encode_ec_public_key(key)
            return from_crypto(load_der_public_key(der))
        except pkcs11.PKCS11Error as error:
            raise _failed(error) from error
        except ValueError as error:
            raise refused(
                "trust.scheme", "the token's key is on neither of the curves P-256 and P-384"
            ) from error

    def _only(self, session: Any, kind: Any) -> Any:
        """The one elliptic key of a kind with our label; the search is finished before its session ends."""
        import pkcs11

        wanted = {pkcs11.Attribute.CLASS: kind, pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.EC}
        if self._label is not None:
            wanted[pkcs11.Attribute.LABEL] = self._label
        found = list(session.get_objects(wanted))
        if len(found) != 1:
            raise refused(
                "trust.token",
                f"the token has {len(found)} elliptic keys of that label",
                hint="name one: `--token TOKEN/KEY`",
            )
        return found[0]


def open_token(library: str, label: str, pin: str) -> TokenKey:
    """A key on a token.

    Args:
        library: path of the PKCS#11 library of the token's maker.
        label: the token's label, or `TOKEN/KEY` when it holds several keys.
        pin: the user's PIN.

    Raises:
        Refused: `trust.token`: no binding, library, token or key, or a wrong PIN; `trust.scheme`.
    """
    try:
        import pkcs11
    except ImportError as error:
        raise refused("trust.token", "the PKCS#11 binding is not installed") from error
    token_label, _, key_label = label.partition("/")
    try:
        token = pkcs11.lib(os.path.abspath(library)).get_token(token_label=token_label)
        return TokenKey(token, key_label or None, pin)
    except pkcs11.PKCS11Error as error:
        raise _failed(error) from error
    except RuntimeError as error:  # the binding's word for a library that cannot be loaded
        raise refused("trust.token", f"`{show(library)}` is no PKCS#11 library") from error


def _failed(error: Exception) -> Refused:
    """What the token answered, in its own word: the binding's errors are named for PKCS#11's codes."""
    said = show(str(error)) or type(error).__name__
    return refused("trust.token", f"the token refused: {type(error).__name__} {said}".rstrip())
