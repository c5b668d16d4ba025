"""What works on this machine and in this home, and what does not: checks that need no sentinel.

Each check is a function that gives one or more `Check`s and never raises for what it looks for: a
broken catalog is an answer. Nothing is changed and nothing is deleted.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from importlib import metadata
from typing import Final, Literal

import msgspec

import casparian
from casparian import _native, config
from casparian.appliance import doctor_isolation, engine_sources, output_check
from casparian.appliance.sample import run_sample
from casparian.display import show, size_text
from casparian.domain.isolation import IsolationLevel
from casparian.errors import CasparianError
from casparian.paths import Home, first_party_parsers
from casparian.query.engine import Query
from casparian.trust import verdict
from casparian.trust.library import Origin, ParserLibrary

Status = Literal["ok", "warn", "fail"]

FREE_BYTES_WARN: Final = 5 << 30
FREE_BYTES_FAIL: Final = 256 << 20
_NAMED_MAX: Final = 3  # paths that one message names
_PACKAGES: Final = ("pyarrow", "duckdb", "msgspec", "blake3")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `casparian doctor`."""

    check: str
    status: Status
    message: str
    hint: str | None = None
    details: tuple[dict[str, str], ...] = ()


def checks(home: Home, *, verify: bool = False) -> tuple[Check, ...]:
    """Run every check.

    Args:
        home: looked at, never changed; it may be one that does not exist yet.
        verify: hash every recorded output file again.
    """
    found: list[Check] = [_versions(), _native_build(), *_engine(), *_parsers(home)]
    found += [*_guest(home), _home(home), _disk("home", home.root)]
    found += _outputs(home, verify=verify)
    return tuple(found)


def _versions() -> Check:
    parts = [f"casparian {casparian.__version__}", f"Python {platform.python_version()}"]
    parts += [f"{package} {metadata.version(package)}" for package in _PACKAGES]
    parts.append(f"{platform.system()} {platform.release()} {platform.machine()}")
    return Check(check="versions", status="ok", message=", ".join(parts))


def _native_build() -> Check:
    info = _native.build_info()
    profile = info["profile"]
    message = f"{profile} build, {info['rustc']}"
    if profile == "release":
        return Check(check="native module", status="ok", message=message)
    return Check(
        check="native module",
        status="warn",
        message=f"{message}: many times slower",
        hint="build it again with `maturin develop --release`",
    )


def _engine() -> Iterable[Check]:
    """In a development tree only: an installed program has no sources beside it."""
    root = engine_sources.development_tree()
    if root is None:
        return
    compiled = _native.engine_sources_hash()
    try:
        same = engine_sources.hash_sources(root) == compiled
    except OSError as error:
        yield Check(check="engine", status="fail", message=f"{error}")
        return
    if same:
        message = f"the sources on disk are those that were compiled in ({compiled[:12]}…)"
        yield Check(check="engine", status="ok", message=message)
    else:
        yield Check(
            check="engine",
            status="fail",
            message="the sources on disk are not those that were compiled in",
            hint="build the native module again: rows would be recorded under the wrong engine",
        )


def _parsers(home: Home) -> Iterable[Check]:
    entries = ParserLibrary(first_party_parsers(), home.parsers).list()
    trusted = 0
    for entry in entries:
        name = f"parser {show(entry.name)}"
        ours = entry.origin is Origin.FIRST_PARTY
        error = entry.error
        if entry.artifact is not None:
            try:
                verdict.verify(entry.artifact)
                trusted += 1
                continue
            except CasparianError as refusal:
                error = refusal
        assert error is not None
        yield Check(
            check=name,
            status="fail" if ours else "warn",
            message=error.message,
            hint=error.hint,
        )
    missing = sorted(set(_native.first_party_parsers()) - {entry.name for entry in entries})
    if missing:
        yield Check(
            check="parsers",
            status="fail",
            message=f"not installed: {', '.join(missing)}",
            hint="restore the `parsers` folder from the release",
        )
    else:
        yield Check(check="parsers", status="ok", message=f"{trusted} verified")


def _guest(home: Home) -> Iterable[Check]:
    """Whether a guest starts and parses, and what confines it."""
    try:
        result = run_sample(home)
        minimum = IsolationLevel(config.load(home).settings.min_isolation)
    except CasparianError as error:
        yield Check(check="guest", status="fail", message=error.message, hint=error.hint)
        return
    except OSError as error:
        reason = f"{error.strerror or error}: {show(str(error.filename or ''))}"
        yield Check(check="guest", status="fail", message=reason)
        return
    if result.as_expected:
        yield Check(check="guest", status="ok", message="starts and parses the built-in sample")
    else:
        yield Check(
            check="guest",
            status="fail",
            message=f"the built-in sample gave {result.rows} of 2 rows",
            hint="`HOME/logs/worker-once.log` has the details",
        )
    for line in doctor_isolation.lines(result.isolation, minimum):
        yield Check(**msgspec.structs.asdict(line))


def _home(home: Home) -> Check:
    if not home.root.is_dir():
        message = f"`{show(str(home.root))}` does not exist yet"
        return Check(
            check="home", status="ok", message=message, hint="`casparian run DIR` makes it"
        )
    if not os.access(home.root, os.W_OK | os.X_OK):
        return Check(
            check="home",
            status="fail",
            message=f"`{show(str(home.root))}` cannot be written",
            hint="choose another with `--home DIR`, or mend its permissions",
        )
    mode = home.root.stat().st_mode
    if mode & 0o022:
        return Check(
            check="home",
            status="warn",
            message=f"`{show(str(home.root))}` can be written by other users",
            hint=f"chmod go-w {show(str(home.root))}",
        )
    return Check(check="home", status="ok", message=f"`{show(str(home.root))}`")


def _disk(name: str, directory: str | os.PathLike[str]) -> Check:
    """Free space where a directory lies or will lie."""
    path = os.path.abspath(directory)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    free = shutil.disk_usage(path).free
    status: Status = (
        "fail" if free < FREE_BYTES_FAIL else "warn" if free < FREE_BYTES_WARN else "ok"
    )
    return Check(
        check=f"disk space ({name})",
        status=status,
        message=f"{size_text(free)} free at `{show(path)}`",
        hint=None if status == "ok" else "outputs need about as much as the evidence",
    )


def _outputs(home: Home, *, verify: bool) -> Iterable[Check]:
    """Catalog, recorded outputs, orphans, stages, ledgers."""
    if not home.catalog.exists():
        message = "none yet"
        yield Check(check="catalog", status="ok", message=message, hint="casparian run DIR")
        return
    try:
        query = Query(home)
    except CasparianError as error:
        yield Check(check="catalog", status="fail", message=error.message, hint=error.hint)
        return
    with query:
        tables = [name for name in query.tables if not name.endswith("__all")]
        yield Check(
            check="catalog",
            status="ok",
            message=f"generation {query.catalog.generation}, tables: {', '.join(tables)}",
        )
        yield _recorded(query, verify=verify)
        sinks = output_check.sinks_of(query)
        yield _stray(list(output_check.orphans(query, sinks)))
        if not _sentinel_runs(home):
            yield _stages(list(output_check.leftover_stages(query, sinks)))
        for sink in sinks:
            if not sink.location.startswith(f"{home.root}/"):
                yield _disk(sink.uri, sink.location)
        if query.has_control("ledgers"):
            yield _ledgers(query)


def _recorded(query: Query, *, verify: bool) -> Check:
    lines = output_check.recorded_outputs(query)
    problems = [
        problem
        for line in lines
        if (problem := output_check.check_output(line, verify=verify)) is not None
    ]
    if problems:
        named = "; ".join(f"`{show(p.path)}` {p.message}" for p in problems[:_NAMED_MAX])
        more = f"; and {len(problems) - _NAMED_MAX} more" if len(problems) > _NAMED_MAX else ""
        return Check(
            check="outputs",
            status="fail",
            message=f"{len(problems)} of {len(lines)} files: {named}{more}",
            hint="restore them, or run the evidence again with `--mode replace`",
        )
    how = "exist and have their hashes" if verify else "exist"
    hint = None if verify else "`casparian doctor --verify` hashes them"
    return Check(check="outputs", status="ok", message=f"{len(lines)} files {how}", hint=hint)


def _stray(paths: list[str]) -> Check:
    if not paths:
        return Check(check="orphans", status="ok", message="no file without a record")
    return Check(
        check="orphans",
        status="warn",
        message=f"{len(paths)} files of this home without a record: {_named(paths)}",
        hint="no table shows them; look where they come from before removing them",
    )


def _stages(paths: list[str]) -> Check:
    if not paths:
        return Check(check="staging", status="ok", message="nothing left over")
    return Check(
        check="staging",
        status="warn",
        message=f"{len(paths)} stages left over: {_named(paths)}",
        hint="the next sentinel finishes or removes them: `casparian sentinel start`",
    )


def _ledgers(query: Query) -> Check:
    table = query.control("ledgers")
    red = query.fetch(f"SELECT count(*) AS n FROM {table} WHERE NOT balanced")[0]["n"]
    if red:
        return Check(
            check="ledgers",
            status="warn",
            message=f"{red} sources do not balance",
            hint="casparian ledger",
        )
    return Check(check="ledgers", status="ok", message="every source balances")


def _named(paths: list[str]) -> str:
    return ", ".join(f"`{show(path)}`" for path in paths[:_NAMED_MAX])


def _sentinel_runs(home: Home) -> bool:
    """Whether a sentinel holds this home: its stages are in use then.

    Read from the kernel's list of locks: trying the lock could keep a sentinel from starting.
    """
    try:
        inode = os.stat(home.lock_file).st_ino
        with open("/proc/locks", encoding="ascii") as locks:
            return any(
                "FLOCK" in line and line.split()[5].rpartition(":")[2] == str(inode)
                for line in locks
                if "->" not in line  # a process that waits for a lock does not hold it
            )
    except OSError:
        return False
