"""Random identities: jobs, homes, requests. What is derived from content lives in `protocol.identity`."""

from __future__ import annotations

import os
import uuid
from typing import Final

_TYPABLE: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u


def new_job_id() -> int:
    """Random positive 63-bit integer; collisions across homes that share a sink are negligible."""
    # `secrets` would load OpenSSL's hashes at every start of a command.
    return int.from_bytes(os.urandom(8)) >> 1 or 1


def new_home_id() -> str:
    """UUID of a home, made once when it is initialised."""
    return str(uuid.uuid4())


def new_request_id() -> str:
    """UUID a client puts on a mutation, so that a retry after a crash acts once."""
    return str(uuid.uuid4())


def new_approval_id() -> str:
    """Eight characters that people can type: 40 random bits, unique in a home because the sentinel looks."""
    number = int.from_bytes(os.urandom(5))
    return "".join(_TYPABLE[number >> shift & 31] for shift in range(35, -1, -5))
