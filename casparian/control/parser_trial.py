r"""Run a Python parser over bytes in this very process: for its author's own tests, in which a debugger works.

    found = try_parser(FOLDER, b"colour green\n")
    assert found.tables["settings"].num_rows == 1

Nothing is confined here and nothing is committed; `casparian parser test` runs it as a job would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from casparian.contracts.settings import effective_config
from casparian.domain.parsers import ConfigValue
from casparian.guest.importer import PACKAGE, load_entry
from casparian.sdk.testing import Collected, collect
from casparian.trust.artifact import read_artifact
from casparian.trust.library import parser_from_files


def try_parser(
    folder: str | os.PathLike[str],
    data: bytes,
    settings: Mapping[str, ConfigValue] | None = None,
    *,
    display_path: str = "sample",
    companions: Mapping[str, bytes] | None = None,
) -> Collected:
    """Everything that a parser gives for one source: rows by table, and what it sets aside.

    Args:
        folder: of the parser.
        data: the source.
        settings: that differ from its defaults.
        display_path: of the source, for parsers whose rules read the path.
        companions: bytes of files that belong to the source, by role.

    Raises:
        CasparianError: the folder holds no parser, or a setting is wrong. What the parser raises passes through.
    """
    directory = os.path.abspath(folder)
    files = read_artifact(directory)
    artifact = parser_from_files(directory, files)
    finders = list(sys.meta_path)
    try:
        entry = load_entry(files, artifact.manifest.entry)
        return collect(
            entry,
            data,
            outputs=artifact.contract.outputs,
            config=effective_config(artifact.manifest, settings or {}),
            display_path=display_path,
            companions=companions,
        )
    finally:
        sys.meta_path[:] = finders
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
