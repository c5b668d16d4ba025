"""One dispatch in a worker of its own: the one that jobs run in, with the same confinement; nothing is recorded."""

from __future__ import annotations

import subprocess
from typing import Final

from casparian import processes
from casparian.display import show
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol.worker import Conclude, Dispatch, Receipt, decode, encode

_ERROR_CHARACTERS_MAX: Final = 500


def run(home: Home, dispatch: Dispatch) -> Receipt:
    """Run it to its end and return the receipt; sources may have failed in it.

    Raises:
        CasparianError: `rederive.failed`: the worker could not run, or the job as a whole failed.
    """
    process = subprocess.run(
        processes.command("worker", home, "--once"),
        input=encode(dispatch),
        capture_output=True,
        check=False,
        env=processes.host_environment(),
    )
    if process.returncode != 0:
        said = process.stderr.decode(errors="replace").strip()[-_ERROR_CHARACTERS_MAX:]
        raise failed(f"the worker ended with {process.returncode}: {show(said)}")
    receipt = decode(process.stdout, Conclude).receipt
    if receipt.code is not None:
        raise failed(f"{receipt.code}: {show(receipt.message)}")
    return receipt


def failed(message: str) -> CasparianError:
    """The source could not be read again."""
    return CasparianError(
        f"The source could not be read again: {message}",
        code="rederive.failed",
        hint="`HOME/logs/worker-once.log` has the details",
    )
