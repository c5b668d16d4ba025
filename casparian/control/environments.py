"""Environments of parsers, as a person looks after them: what is there, what has room, what a parser needs."""

from __future__ import annotations

import msgspec

from casparian import config
from casparian.domain.parsers import ParserArtifact
from casparian.errors import UsageError
from casparian.paths import Home
from casparian.protocol import identity
from casparian.worker import environment_cache
from casparian.worker.environment_cache import Listed

_MEBIBYTE = 1 << 20


def listed(home: Home) -> list[Listed]:
    """Every environment of a home, the last used one first."""
    return environment_cache.listed(home)


def prune(home: Home, keep_mb: int | None, *, dry_run: bool) -> list[Listed]:
    """Remove those used longest ago until the others fit; never one in use. Returns the removed ones.

    Args:
        home: whose cache.
        keep_mb: what may stay, in MiB; `None`: the setting `environments_mb_max`.
        dry_run: only say which.
    """
    allowed = config.load(home).settings.environments_mb_max if keep_mb is None else keep_mb
    return environment_cache.prune(home, allowed * _MEBIBYTE, dry_run=dry_run)


def env_hash_of(artifact: ParserArtifact) -> str:
    """Which environment a parser needs.

    Raises:
        UsageError: `env.none`: it needs none.
    """
    if not artifact.requirements:
        raise UsageError(
            f"the parser `{artifact.manifest.name}` has no environment",
            code="env.none",
            hint='`[environment]` with `lock = "requirements.lock"` in its parser.toml gives it one',
            parser=artifact.manifest.name,
        )
    return identity.environment_hash(artifact.requirements)


def described(one: Listed) -> dict[str, object]:
    """As `--json` gives it."""
    found: dict[str, object] = msgspec.to_builtins(one)
    return found
