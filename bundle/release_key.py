"""The release key as the builder has it: from a PEM file, or the development key, which is no secret."""

from __future__ import annotations

import os
from typing import Final

from casparian.trust.keys import PrivateKey

VARIABLE: Final = "CASPARIAN_RELEASE_KEY_FILE"
# The seed that a build without a key compiles in (native/python/build/statements.rs): everybody has it.
DEVELOPMENT_SEED: Final = b"casparian-development-only-key-1"


def load(path: str | None) -> tuple[PrivateKey, bool]:
    """The key, and whether it is the development key.

    Args:
        path: an unencrypted PKCS#8 PEM file of an Ed25519 key; without one, what the environment names.

    Raises:
        Refused: the file holds another thing.
        OSError: it cannot be read.
        ValueError: it is a key of another kind.
    """
    path = path or os.environ.get(VARIABLE) or None
    development = PrivateKey.from_seed(DEVELOPMENT_SEED, "release")
    if path is None:
        return development, True
    with open(path, "rb") as stream:
        key = PrivateKey.from_pem(stream.read(), "release")
    if key.public.keytype != "ed25519":
        raise ValueError(f"{path}: a release key is an Ed25519 key, not {key.public.name}")
    return key, key.public == development.public
