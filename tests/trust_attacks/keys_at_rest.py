"""Keys at rest."""

from __future__ import annotations

import json

import msgspec

from casparian.trust import documents
from casparian.trust.keys import (
    KeyRecord,
    PrivateKey,
    PublicKey,
    export_public,
    import_public,
    public_key,
)
from tests.factories.trust import QUICK, key
from tests.trust_attacks.table import attack


def key_file(path):
    where = path / "alice.key"
    key("alice").write(where, "correct horse", kdf=QUICK)
    return where


attack("key: a wrong passphrase", "trust.passphrase")(
    lambda o, path: PrivateKey.read(key_file(path), "wrong")
)
attack("key: an empty passphrase", "trust.passphrase")(
    lambda o, path: key("alice").write(path / "k", "", kdf=QUICK)
)
attack("key: overwritten", "trust.key_exists")(lambda o, path: [key_file(path), key_file(path)])


@attack("key: damaged", "trust.key_damaged")
def _(o, path):
    where = key_file(path)
    raw = bytearray(where.read_bytes())
    raw[len(raw) // 2] ^= 1
    where.write_bytes(raw)
    PrivateKey.read(where, "correct horse")


def changed_key(path, change):
    """A key file that was changed on purpose, its checksum made to fit."""
    import hashlib

    where = key_file(path)
    document = json.loads(where.read_bytes())
    del document["checksum"]
    change(document)
    document["checksum"] = hashlib.sha256(documents.encode(document)).hexdigest()
    where.write_bytes(documents.encode(document) + b"\n")
    return where


@attack("key: another holder written into the file", "trust.passphrase")
def _(o, path):
    where = changed_key(path, lambda document: document.update(holder="eve"))
    PrivateKey.read(where, "correct horse")


@attack("key: a derivation that takes all memory", "trust.key_damaged")
def _(o, path):
    where = changed_key(path, lambda document: document["kdf"].update(memory_kib=1 << 40))
    PrivateKey.read(where, "correct horse")


@attack("key: a public key that is none", "trust.scheme")
def _(o, _):
    value = KeyRecord.Value(public="zz")
    public_key(KeyRecord(keytype="ed25519", scheme="ed25519", keyval=value))


@attack("key: a scheme that is not its curve's", "trust.scheme")
def _(o, _):
    made = PrivateKey.generate("ecdsa-sha2-nistp384", holder="x").public
    record = PublicKey(
        keyid=made.keyid, keytype="ecdsa", scheme="ed25519", public=made.public
    ).record()
    public_key(msgspec.convert(record, KeyRecord))


@attack("key: the curve of another scheme", "trust.duplicate_key")
def _(o, _):
    made = PrivateKey.generate("ecdsa-sha2-nistp384", holder="x").public
    record = {**made.record(), "scheme": "ecdsa-sha2-nistp256"}
    public_key(msgspec.convert(record, KeyRecord))


attack("key: a scheme that is not accepted", "trust.scheme")(
    lambda o, _: PrivateKey.generate("rsa-2048", holder="x")
)
attack("key: a holder whose name hides something", "trust.name")(
    lambda o, _: PrivateKey.generate(holder="ada\u202e")
)
attack("key: a PEM file that is none", "trust.malformed")(
    lambda o, _: PrivateKey.from_pem(b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "x")
)


@attack("key: a PEM file of a kind that is not accepted", "trust.scheme")
def _(o, _):
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    secret = X25519PrivateKey.generate()
    pem = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    PrivateKey.from_pem(pem, "x")


@attack("key: a public file whose holder hides something", "trust.name")
def _(o, _):
    raw = export_public(key("alice").public, "alice").replace(b'"alice"', b'"ali\\u200bce"')
    import_public(raw)


@attack("key: a public file with another id", "trust.duplicate_key")
def _(o, _):
    raw = export_public(key("alice").public, "alice")
    import_public(raw.replace(key("alice").public.keyid.encode(), b"ab" * 32))
