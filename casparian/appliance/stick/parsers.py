"""The parsers of a stick: copied to a private place by their hashes, and deployed from there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from casparian.appliance.stick import layout, staging, verify
from casparian.appliance.stick.checklist import Checklist
from casparian.appliance.stick.folder import StickFolder
from casparian.appliance.stick.home_side import HomeSide, ParserOutcome
from casparian.appliance.stick.installation_store import remove_tree
from casparian.appliance.stick.refusals import refused, writing
from casparian.appliance.stick.verify import Signed


def deploy(
    folder: StickFolder, signed: Signed, side: HomeSide, checklist: Checklist, program: str
) -> list[ParserOutcome]:
    """Deploy from a private copy, whose bytes were hashed as they were written.

    Args:
        folder: the stick.
        signed: its documents.
        side: the home that they are for.
        checklist: told what became of each; one that is refused hinders none of the others.
        program: deploys them; empty: we do so ourselves.
    """
    paths = verify.below(signed.sums, layout.PARSERS)
    if not paths:
        return []
    with _private_folder() as inside:
        for path in paths:
            target = os.path.join(inside, path.rpartition("/")[2])
            staging.copy_verified(folder, signed, path, target)
        outcomes = side.deploy(program, inside)
    for outcome in outcomes:
        if outcome.outcome == "refused":
            error = refused("stick.trust", outcome.message, hint=outcome.hint)
            error.code = outcome.code or error.code
            checklist.failed(f"parser {outcome.package}", error)
        else:
            checklist.passed(f"parser {outcome.package}", outcome.message)
    return outcomes


@contextlib.contextmanager
def _private_folder() -> Iterator[str]:
    with writing(tempfile.gettempdir()):
        path = tempfile.mkdtemp(prefix="casparian-stick-")
    try:
        yield path
    finally:
        remove_tree(path)
