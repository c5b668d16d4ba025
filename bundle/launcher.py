"""Write `bin/casparian`: it finds the version's folder through links and becomes the program.

A shell's own commands do, but for a link: then `readlink` is asked, by path, so that no PATH is needed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_FIND: Final = """\
#!/bin/sh
# Starts Casparian from the folder above this one, also through links and without a PATH.
self=$0
if [ -L "$self" ]; then self=$(PATH=/usr/bin:/bin; readlink -f -- "$self"); fi
here=${self%/*}
if [ "$here" = "$self" ]; then here=.; fi
"""
_FROZEN: Final = 'exec "$here/../app/casparian" "$@"\n'
_PLAIN: Final = 'exec "$here/../runtime/bin/python3" -I -B -m casparian "$@"\n'


def write_launcher(tree: Path, *, frozen: bool) -> None:
    """Write the launcher of a tree."""
    path = tree / "bin" / "casparian"
    path.parent.mkdir()
    path.write_text(_FIND + (_FROZEN if frozen else _PLAIN), "ascii")
    os.chmod(path, 0o755)  # noqa: S103 - a program is for everybody
