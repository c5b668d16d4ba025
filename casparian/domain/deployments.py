"""Parsers that were deployed: versions side by side, of which the one with the highest serial that is not retired runs."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One deployed version of a parser. The content lies in `HOME/artifacts/<artifact_hash>`."""

    parser: str
    version: str
    serial: int  # of the statement; 0 for an unsigned one
    artifact_hash: str
    deployed_at_ns: int
    retired_at_ns: int | None = None

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.parser}@{self.version}"


def current(deployments: Iterable[Deployment]) -> dict[str, Deployment]:
    """The deployment of each parser that runs when nobody names a version."""
    found: dict[str, Deployment] = {}
    for deployment in deployments:
        if deployment.retired_at_ns is not None:
            continue
        other = found.get(deployment.parser)
        if other is None or _order(deployment) > _order(other):
            found[deployment.parser] = deployment
    return found


def _order(deployment: Deployment) -> tuple[int, int]:
    return deployment.serial, deployment.deployed_at_ns
