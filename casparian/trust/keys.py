"""Keys: public ones as they stand in documents, private ones at rest under a passphrase.

Rules:
  * Four schemes: Ed25519, ECDSA on P-256 and P-384 (what tokens have), ML-DSA-65 (post-quantum). The scheme is part of
    the key, never of a signature.
  * `keyid` = SHA-256 of the canonical key. A key has one spelling: another encoding of the same point is refused, or it
    would be a second vote.
  * A private key file holds PKCS#8 under ChaCha20-Poly1305, its key from Argon2id with the parameters in the file. All of
    the file is authenticated; a checksum tells a damaged file from a wrong passphrase.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

from casparian.errors import Refused
from casparian.trust import documents
from casparian.trust.refusals import refused

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

SCHEMES: Final = {  # what a person types, and what a document says
    "ed25519": ("ed25519", "ed25519"),
    "ecdsa-sha2-nistp256": ("ecdsa", "ecdsa-sha2-nistp256"),
    "ecdsa-sha2-nistp384": ("ecdsa", "ecdsa-sha2-nistp384"),
    "ml-dsa-65": ("ml-dsa", "ml-dsa-65/1"),
}
_ARGON2_MEMORY_MAX_KIB: Final = 4 << 20
_PRIME: Final = 2**255 - 19
# Points of small order on Curve25519, as y: a signature by such a "key" can be made for any text without a secret.
# RFC 8032, section 5.1.7 leaves refusing them to the user.
_SMALL_ORDER: Final = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    }
)


class PublicKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key in its one spelling."""

    keyid: str
    keytype: str
    scheme: str
    public: str  # hex for Ed25519, PEM for the others

    def record(self) -> dict[str, Any]:
        """The key as it stands in a document."""
        return {
            "keytype": self.keytype,
            "keyval": {"public": self.public},
            "scheme": self.scheme,
        }

    @property
    def name(self) -> str:
        """The scheme as a person types it."""
        return self.scheme.partition("/")[0]

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether this key made the signature over these bytes."""
        from securesystemslib.exceptions import UnverifiedSignatureError
        from securesystemslib.signer import Signature

        try:
            self.sslib().verify_signature(Signature(self.keyid, signature.hex()), data)
        except UnverifiedSignatureError:
            return False
        return True

    def sslib(self) -> SSlibKey:
        """The key as the signature library has it."""
        from securesystemslib.signer import SSlibKey

        return SSlibKey(self.keyid, self.keytype, self.scheme, {"public": self.public})


class SigningKey(Protocol):
    """What can sign: a key in memory, or one inside a token."""

    @property
    def public(self) -> PublicKey:
        """The public half."""

    def sign(self, data: bytes) -> bytes:
        """The signature over these bytes."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public key in a document."""

    class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """The key's own bytes as text."""

        public: str

    keytype: str
    keyval: Value
    scheme: str


def public_key(record: KeyRecord, keyid: str | None = None) -> PublicKey:
    """A public key from a document.

    Args:
        record: what the document says.
        keyid: the id it is listed under.

    Raises:
        Refused: `trust.scheme`, `trust.duplicate_key` (wrong id or another spelling).
    """
    from cryptography.exceptions import UnsupportedAlgorithm

    if (record.keytype, record.scheme) not in SCHEMES.values():
        raise refused("trust.scheme", f"keys of the kind {record.scheme[:40]!a} are not accepted")
    given = PublicKey(
        keyid=compute_keyid(record.keytype, record.scheme, record.keyval.public),
        keytype=record.keytype,
        scheme=record.scheme,
        public=record.keyval.public,
    )
    try:
        # The library's own parser of this key, behind a private name: there is no public one.
        loaded = given.sslib()._crypto_key()  # noqa: SLF001
        canonical = from_crypto(loaded)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refused("trust.scheme", f"the public key {given.keyid[:12]} is not valid") from error
    if canonical != given:
        raise refused(
            "trust.duplicate_key", f"the key {given.keyid[:12]} is not in its canonical spelling"
        )
    if keyid is not None and keyid != given.keyid:
        raise refused(
            "trust.duplicate_key", f"the key {given.keyid[:12]} is listed as {keyid[:12]!a}"
        )
    _check_order(given)
    return given


def from_crypto(key: Any) -> PublicKey:
    """Our form of a public key of `cryptography`; ValueError for a kind that is not accepted."""
    from securesystemslib.signer import SSlibKey

    made = SSlibKey.from_crypto(key)
    if (made.keytype, made.scheme) not in SCHEMES.values():
        raise ValueError(made.scheme)
    return PublicKey(
        keyid=made.keyid, keytype=made.keytype, scheme=made.scheme, public=made.keyval["public"]
    )


def compute_keyid(keytype: str, scheme: str, public: str) -> str:
    """SHA-256 of the canonical key: what TUF and in-toto call the key id."""
    canonical = "".join(
        (
            '{"keytype":',
            _quoted(keytype),
            ',"keyval":{"public":',
            _quoted(public),
            '},"scheme":',
            _quoted(scheme),
            "}",
        )
    )
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


class Argon2(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hard a passphrase is to guess; RFC 9106 names the parameters."""

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 256 * 1024
    name: Literal["argon2id"] = "argon2id"


class _KeyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["casparian.private-key.v1"]
    checksum: str
    cipher: Literal["chacha20-poly1305"]
    holder: str
    kdf: Argon2
    keyid: str
    nonce: str
    public: KeyRecord
    salt: str
    secret: str


class PrivateKey:
    """A private key in memory.

    Args:
        secret: a key of `cryptography`.
        holder: whose it is; a person's keys count once.
    """

    def __init__(self, secret: Any, holder: str) -> None:
        from securesystemslib.signer import CryptoSigner

        if not documents.LABEL.match(holder):
            raise refused("trust.name", f"the holder's name {holder[:80]!a} is not allowed")
        self.public = from_crypto(secret.public_key())
        self.holder = holder
        self._secret = secret
        self._signer = CryptoSigner(secret, self.public.sslib())

    def __repr__(self) -> str:
        return f"<private key {self.public.keyid[:12]} of {self.holder!a}>"

    @classmethod
    def generate(cls, scheme: str = "ed25519", *, holder: str = "unnamed") -> PrivateKey:
        """Make a new key from the system's randomness.

        Raises:
            Refused: `trust.scheme`.
        """
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa

        if scheme == "ed25519":
            return cls(ed25519.Ed25519PrivateKey.generate(), holder)
        if scheme == "ecdsa-sha2-nistp256":
            return cls(ec.generate_private_key(ec.SECP256R1()), holder)
        if scheme == "ecdsa-sha2-nistp384":
            return cls(ec.generate_private_key(ec.SECP384R1()), holder)
        if scheme == "ml-dsa-65":
            return cls(mldsa.MLDSA65PrivateKey.generate(), holder)
        raise refused("trust.scheme", f"keys of the kind {scheme[:40]!a} are not accepted")

    @classmethod
    def from_seed(cls, seed: bytes, holder: str) -> PrivateKey:
        """The Ed25519 key of a fixed seed of 32 bytes: for tests and golden vectors."""
        from cryptography.hazmat.primitives.asymmetric import ed25519

        return cls(ed25519.Ed25519PrivateKey.from_private_bytes(seed), holder)

    @classmethod
    def from_pem(cls, pem: bytes, holder: str) -> PrivateKey:
        """An unencrypted PKCS#8 PEM key, as other tools write it.

        Raises:
            Refused: `trust.scheme`, `trust.malformed`.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            secret = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise refused(
                "trust.malformed",
                "the file is no unencrypted PEM private key",
                hint="`openssl pkcs8 -topk8 -nocrypt` writes one",
            ) from error
        try:
            return cls(secret, holder)
        except ValueError as error:
            raise refused("trust.scheme", "this kind of key is not accepted") from error

    def sign(self, data: bytes) -> bytes:
        """The signature over these bytes (ML-DSA: over their SHA-512, as TUF's TAP 21 says)."""
        return bytes.fromhex(self._signer.sign(data).signature)

    def write(
        self, path: str | os.PathLike[str], passphrase: str, *, kdf: Argon2 | None = None
    ) -> None:
        """Write the key under a passphrase, readable by its owner only; never over another file.

        Raises:
            Refused: `trust.key_exists`, `trust.passphrase` (it is empty).
            OSError: the file cannot be written.
        """
        raw = self.sealed(passphrase, kdf=kdf)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise refused("trust.key_exists", f"`{os.fspath(path)}` is there already") from None
        with os.fdopen(file, "wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())

    def sealed(self, passphrase: str, *, kdf: Argon2 | None = None) -> bytes:
        """The key file's bytes."""
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        if not passphrase:
            raise refused(
                "trust.passphrase", "the passphrase is empty", hint="choose several words"
            )
        plain = self._secret.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        chosen, salt, nonce = kdf or Argon2(), os.urandom(16), os.urandom(12)
        head = {
            "cipher": "chacha20-poly1305",
            "holder": self.holder,
            "kdf": msgspec.to_builtins(chosen),
            "keyid": self.public.keyid,
            "kind": "casparian.private-key.v1",
            "nonce": nonce.hex(),
            "public": self.public.record(),
            "salt": salt.hex(),
        }
        key = _derive(passphrase, salt, chosen)
        secret = ChaCha20Poly1305(key).encrypt(nonce, plain, documents.encode(head))
        body = {**head, "secret": base64.b64encode(secret).decode()}
        return documents.encode({**body, "checksum": _checksum(body)}) + b"\n"

    @classmethod
    def read(cls, path: str | os.PathLike[str], passphrase: str) -> PrivateKey:
        """Read a key file.

        Raises:
            Refused: `trust.passphrase`, `trust.key_damaged`, `trust.scheme`.
            OSError: the file cannot be read.
        """
        return cls.opened(_read_small(path), passphrase)

    @classmethod
    def opened(cls, raw: bytes, passphrase: str) -> PrivateKey:
        """The key in a key file's bytes."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
        from cryptography.hazmat.primitives.serialization import load_der_private_key

        file, head = _parsed(raw)
        key = _derive(passphrase, bytes.fromhex(file.salt), file.kdf)
        try:
            plain = ChaCha20Poly1305(key).decrypt(
                bytes.fromhex(file.nonce), base64.b64decode(file.secret), documents.encode(head)
            )
        except InvalidTag:
            raise refused(
                "trust.passphrase", f"the passphrase of the key {file.keyid[:12]} is wrong"
            ) from None
        opened = cls(load_der_private_key(plain, None), file.holder)
        if opened.public.keyid != file.keyid:
            raise refused("trust.key_damaged", "the key file holds another key than it says")
        return opened


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a key file says without its passphrase."""

    public: PublicKey
    holder: str
    kdf: Argon2


def inspect(raw: bytes) -> KeyInfo:
    """What a private key file's bytes say without the passphrase."""
    file, _ = _parsed(raw)
    return KeyInfo(public=public_key(file.public, file.keyid), holder=file.holder, kdf=file.kdf)


class _PublicFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["casparian.public-key.v1"]
    holder: str
    keyid: str
    public: KeyRecord


def export_public(key: PublicKey, holder: str) -> bytes:
    """The file by which a public key travels."""
    document = {
        "holder": holder,
        "keyid": key.keyid,
        "kind": "casparian.public-key.v1",
        "public": key.record(),
    }
    return documents.encode(document) + b"\n"


def import_public(raw: bytes) -> tuple[PublicKey, str]:
    """Public key and holder from such a file, or from a private key file (without opening it).

    Raises:
        Refused: `trust.malformed`, `trust.scheme`, `trust.duplicate_key`, `trust.key_damaged`.
    """
    document = documents.decode(raw.removesuffix(b"\n"), "the key file")
    if document.get("kind") == "casparian.private-key.v1":
        info = inspect(raw)
        return info.public, info.holder
    file = documents.shape(document, _PublicFile, "the key file")
    if not documents.LABEL.match(file.holder):
        raise refused("trust.name", f"the holder's name {file.holder[:80]!a} is not allowed")
    return public_key(file.public, file.keyid), file.holder


def _parsed(raw: bytes) -> tuple[_KeyFile, dict[str, Any]]:
    try:
        document = documents.decode(raw.removesuffix(b"\n"), "the key file")
        file = documents.shape(document, _KeyFile, "the key file")
        sizes = len(bytes.fromhex(file.salt)), len(bytes.fromhex(file.nonce))
        base64.b64decode(file.secret, validate=True)
    except (Refused, ValueError) as error:
        raise refused("trust.key_damaged", "the key file is damaged, or is no key file") from error
    checksum = document.pop("checksum")
    sound = (
        checksum == _checksum(document)
        and sizes == (16, 12)
        and documents.LABEL.match(file.holder) is not None
        and 1 <= file.kdf.iterations <= 64
        and 1 <= file.kdf.lanes <= 64
        and 8 * file.kdf.lanes <= file.kdf.memory_kib <= _ARGON2_MEMORY_MAX_KIB
    )
    if not sound:
        raise refused("trust.key_damaged", "the key file is damaged: its checksum does not fit")
    document.pop("secret")
    return file, document


def _checksum(document: dict[str, Any]) -> str:
    return hashlib.sha256(documents.encode(document)).hexdigest()


def _derive(passphrase: str, salt: bytes, kdf: Argon2) -> bytes:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    return Argon2id(
        salt=salt,
        length=32,
        iterations=kdf.iterations,
        lanes=kdf.lanes,
        memory_cost=kdf.memory_kib,
    ).derive(passphrase.encode("utf-8", "surrogateescape"))


def _check_order(key: PublicKey) -> None:
    if key.keytype != "ed25519":
        return
    y = int.from_bytes(bytes.fromhex(key.public), "little") & ((1 << 255) - 1)
    if y >= _PRIME or y in _SMALL_ORDER:
        raise refused(
            "trust.scheme", f"the key {key.keyid[:12]} is a weak point: anyone could sign"
        )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _read_small(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(documents.DOCUMENT_BYTES_MAX + 1)
