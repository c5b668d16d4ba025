"""Compare the engine that was compiled in with the sources on disk, in a development tree.

The list of files is the one that `native/python/build.rs` hashes: Rust under `native`, Python under
`casparian/guest` and `casparian/sdk`, and `Cargo.lock`.
"""

from __future__ import annotations

import os
from pathlib import Path

from casparian import _native, installation
from casparian.trust.artifact import is_part

_DOMAIN = "casparian.engine.v1"
_FOLDERS = (("native", ".rs"), ("casparian/guest", ".py"), ("casparian/sdk", ".py"))


def development_tree() -> Path | None:
    """Root of the project this package is imported from; `None` when it was installed."""
    root = installation.package().parent
    return root if (root / "Cargo.lock").is_file() and (root / "native").is_dir() else None


def hash_sources(root: Path) -> str:
    """What `engine_sources_hash` would be if the module were built now.

    Raises:
        OSError: a source cannot be read.
    """
    files = [("Cargo.lock", (root / "Cargo.lock").read_bytes())]
    for folder, extension in _FOLDERS:
        for directory, folders, names in os.walk(root / folder):
            folders[:] = [name for name in folders if is_part(name)]
            for name in filter(is_part, names):
                if name.endswith(extension):
                    path = Path(directory, name)
                    files.append((path.relative_to(root).as_posix(), path.read_bytes()))
    return _native.tree_hash(_DOMAIN, files)
