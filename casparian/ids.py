"""Random identities: jobs, homes, requests. What is derived from content lives in `protocol.identity`."""

from __future__ import annotations

import secrets
import uuid


def new_job_id() -> int:
    """Random positive 63-bit integer; collisions across homes that share a sink are negligible."""
    return secrets.randbits(63) or 1


def new_home_id() -> str:
    """UUID of a home, made once when it is initialised."""
    return str(uuid.uuid4())


def new_request_id() -> str:
    """UUID a client puts on a mutation, so that a retry after a crash acts once."""
    return str(uuid.uuid4())
