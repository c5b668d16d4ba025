"""What works on this machine and in this home, and what does not: checks that need no sentinel.

Each check is a function that gives one or more `Check`s and never raises for what it looks for: a
broken catalog is an answer. Nothing is changed and nothing is deleted.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Final

import casparian
from casparian import _native, config
from casparian.appliance import (
    doctor_installation,
    doctor_isolation,
    doctor_outputs,
    doctor_quarantine,
    doctor_truth,
    engine_sources,
)
from casparian.appliance.doctor_check import Check, Status
from casparian.appliance.doctor_processes import sentinel_runs
from casparian.appliance.doctor_truth import Truth
from casparian.appliance.output_check import Progress
from casparian.appliance.sample import run_sample
from casparian.display import show, size_text
from casparian.domain.isolation import IsolationLevel
from casparian.errors import CasparianError
from casparian.paths import Home, first_party_parsers
from casparian.query.engine import Query
from casparian.trust import verdict
from casparian.trust.artifact import read_artifact
from casparian.trust.library import Origin, ParserLibrary, Standing

FREE_BYTES_WARN: Final = 5 << 30
FREE_BYTES_FAIL: Final = 256 << 20
_PACKAGES: Final = ("pyarrow", "duckdb", "msgspec", "blake3")


def checks(home: Home, *, verify: bool = False) -> tuple[Check, ...]:
    """Run every check that needs no sentinel.

    Args:
        home: looked at, never changed; it may be one that does not exist yet.
        verify: hash every recorded output file again, and every file of the installation.
    """
    return (*machine_checks(home, verify=verify), *home_checks(home, verify=verify))


def machine_checks(home: Home, *, verify: bool = False) -> Iterator[Check]:
    """What does not depend on what was committed: the program, its parsers, confinement, the home, the disk.

    Args:
        home: looked at, never changed.
        verify: hash every file of the installation again.
    """
    yield from doctor_installation.check_own(verify=verify)
    yield _versions()
    yield _native_build()
    yield from _engine()
    yield _release_key()
    yield from _parsers(home)
    yield from _guest(home)
    yield _home(home)
    yield _disk("home", home.root)


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


def _release_key() -> Check:
    """Which key signed the program's own parsers, and whether its signatures hold."""
    key = verdict.release_key()
    name = f"key {key.public.keyid[:12]}… signed the program's own parsers"
    for entry in ParserLibrary(first_party_parsers(), "/nonexistent").list():
        try:
            verdict.verify_first_party(entry.name, read_artifact(entry.directory))
        except (CasparianError, KeyError) as error:
            return Check(check="release key", status="fail", message=f"{show(entry.name)}: {error}")
    if not key.development:
        return Check(check="release key", status="ok", message=name)
    return Check(
        check="release key",
        status="ok",
        message=f"{name}: the development key, which everybody has; receipts say so",
        hint="a release is built with `CASPARIAN_RELEASE_KEY_FILE`; a policy trusts the development key only where it lists it",
    )


def _parsers(home: Home) -> Iterable[Check]:
    entries = ParserLibrary.of(home).list()
    trusted = 0
    for entry in entries:
        name = f"parser {show(entry.name)}"
        ours = entry.origin is Origin.FIRST_PARTY
        error = entry.error
        if entry.standing in (Standing.RETIRED, Standing.WAITING):
            continue
        if entry.artifact is not None:
            try:
                verdict.verify(entry.artifact, home)
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
    yield from doctor_isolation.checks(result.isolation, minimum)


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


def home_checks(
    home: Home,
    truth: Truth | None = None,
    *,
    verify: bool = False,
    progress: Progress | None = None,
) -> Iterator[Check]:
    """Catalog, recorded outputs, database sinks, orphans, stages, ledgers.

    Args:
        home: whose outputs; nothing in it is changed.
        truth: what the sentinel has on record; without it the catalog is believed.
        verify: hash every recorded output file again.
        progress: told how many bytes of how many are hashed.
    """
    report = progress or (lambda _done, _total: None)
    if not home.catalog.exists():
        if truth is not None and truth.live:
            error = CasparianError(f"`{home.catalog}` is missing")
            yield doctor_outputs.broken_catalog(error)
            yield from doctor_outputs.check_files(home, truth, verify=verify, progress=report)
        else:
            message = "none yet"
            yield Check(check="catalog", status="ok", message=message, hint="casparian run DIR")
            if truth is not None:
                yield from doctor_outputs.check_files(home, truth, verify=verify, progress=report)
        return
    try:
        query = Query(home)
    except CasparianError as error:
        yield doctor_outputs.broken_catalog(error)
        if truth is not None:
            yield from doctor_outputs.check_files(home, truth, verify=verify, progress=report)
        return
    with query:
        if truth is None:
            truth = doctor_truth.of_catalog(query, at_rest=not sentinel_runs(home))
        yield doctor_outputs.check_catalog(query, truth)
        yield from doctor_outputs.check_files(home, truth, verify=verify, progress=report)
        for sink in truth.sinks:
            if not sink.location.startswith(f"{home.root}/"):
                yield _disk(sink.uri, sink.location)
        if query.has_control("ledgers"):
            yield doctor_outputs.check_ledgers(query)
        yield doctor_quarantine.check(query, verify=verify)


def catalog_problem(home: Home) -> Check | None:
    """Whether readers can open the catalog as it is; to be asked before a sentinel starts, which would write it again."""
    if not home.catalog.exists():
        return None
    try:
        Query(home).close()
    except CasparianError as error:
        return doctor_outputs.broken_catalog(error)
    return None
