"""What a guest is after its fork: locked down by the native module, and without a way to import from disk.

The lockdown itself is `native/confine`; its steps and what each wall does when a kernel lacks it are in
`docs/adr/0005-confinement.md`. Here is only what concerns the interpreter.
"""

from __future__ import annotations

import faulthandler
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final, NoReturn

from casparian import _native

BRIDGE_FD: Final = 3  # after the lockdown: 0 is /dev/null, 1 and 2 are the log pipe


class SealedImporter(importlib.abc.MetaPathFinder):
    """The last finder of a guest: says why a module that is not loaded cannot be."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> NoReturn:
        """Never finds anything.

        Raises:
            ModuleNotFoundError: always; code that can do without the module goes on.
        """
        del path, target
        raise ModuleNotFoundError(
            f"`{fullname}` is not loaded, and a guest cannot open files: if it is a module of the standard library,"
            " of pyarrow or of the parser's locked environment, name it under `preload` in parser.toml",
            name=fullname,
        )


def confine(
    *,
    parent_pid: int,
    bridge_fd: int,
    log_fd: int,
    memory_bytes: int,
    cpu_seconds: int,
    supervisor_fd: int | None = None,
    program_fd: int | None = None,
) -> dict[str, str]:
    """Lock this process down and return the record of what is in force; see `_native.lock_down`.

    Raises:
        OSError: an essential step was refused: the guest must end before it reads a byte.
        RuntimeError: an essential step is impossible here.
    """
    record = _native.lock_down(
        parent_pid=parent_pid,
        bridge_fd=bridge_fd,
        log_fd=log_fd,
        memory_bytes=memory_bytes,
        cpu_seconds=cpu_seconds,
        supervisor_fd=supervisor_fd,
        program_fd=program_fd,
    )
    faulthandler.enable(all_threads=False)  # a crash leaves its Python stack in the log
    seal_imports()
    return record


def seal_imports() -> None:
    """From now on only modules that are part of the interpreter can be imported anew."""
    sys.meta_path[:] = [
        importlib.machinery.BuiltinImporter,
        importlib.machinery.FrozenImporter,
        SealedImporter(),
    ]
