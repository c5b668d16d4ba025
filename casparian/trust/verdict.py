"""Decide whether a parser may run.

Rule: a parser runs when the very bytes of its folder are those that this program was built with,
under the same name. The list of hashes is compiled into the native module. Every other parser is
refused until parsers can be signed.

The host decides, before a job is made and again before the guest is given a byte; the guest has no
say. No file access
here: the artifact was read and hashed by `trust.artifact`.
"""

from __future__ import annotations

from collections.abc import Mapping

from casparian.display import show
from casparian.domain.parsers import ParserArtifact
from casparian.errors import Refused


def verify(artifact: ParserArtifact) -> None:
    """Return when the parser may run.

    Raises:
        Refused: `trust.unknown_artifact`.
    """
    from casparian import _native  # heavy, and absent where only contracts are read

    check(artifact, _native.first_party_parsers())


def check(artifact: ParserArtifact, allowed: Mapping[str, str]) -> None:
    """The rule itself, over a list of artifact hashes by parser name."""
    name = artifact.manifest.name
    expected = allowed.get(name)
    if expected == artifact.artifact_hash:
        return
    if expected is None:
        problem = f"the parser `{show(name)}` did not come with this program"
        hint = "only the parsers shown as trusted by `casparian parser list` run in this version"
    else:
        problem = f"the parser `{show(name)}` is not the one that this program was built with"
        hint = "restore its folder from the release, or rebuild the program after changing it"
    raise Refused(
        f"{problem} (`{show(artifact.directory)}`)",
        hint=hint,
        code="trust.unknown_artifact",
        parser=name,
        artifact_hash=artifact.artifact_hash,
        expected_hash=expected,
    )
