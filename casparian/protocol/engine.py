"""Identity of the engine that executes parsers here and now."""

from __future__ import annotations

import platform
from functools import lru_cache
from importlib import metadata

from casparian import _native
from casparian.protocol import identity


@lru_cache(maxsize=1)
def current_engine_hash() -> str:
    """H over native sources, guest and SDK (compiled in), and the versions of CPython, pyarrow and tzdata."""
    return identity.engine_hash(
        _native.engine_sources_hash(),
        platform.python_version(),
        metadata.version("pyarrow"),
        metadata.version("tzdata"),
    )
