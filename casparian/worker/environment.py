"""Have an environment ready: find it, or make it from the wheelhouse and nothing else.

Rules:
  * What is locked is what is installed: a wheel counts only when its SHA-256 is in the lock. It is read once, and the bytes that
    were hashed are those that are installed. A newer or another file of the same name changes nothing, wherever it lies.
  * No network, no index, no configuration of the machine's pip, no source code that would have to be built, no dependency
    that the lock does not name: nothing of a package is run here.
  * Made in a folder of its own, checked against each package's own list of files, made durable, then renamed. A crash leaves
    nothing half; who asks for the same one meanwhile waits for the lock.
  * No package takes the place of a module of the program or of the standard library.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

import msgspec
from msgspec import structs

from casparian import config, installation
from casparian.contracts.requirements import Requirement
from casparian.display import show
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.protocol import identity
from casparian.worker import environment_cache as cache
from casparian.worker import installed, wheelhouse
from casparian.worker.cancel import Cancellation
from casparian.worker.environment_cache import EnvironmentRecord, Lock
from casparian.worker.faults import JobFault

_MEBIBYTE: Final = 1 << 20
_WAIT_SECONDS: Final = 0.1
_TRIES: Final = 3
_PIP_LINES_SHOWN: Final = 3
_PIP: Final = (
    "-I",
    "-B",
    "-m",
    "pip",
    "--isolated",
    "--disable-pip-version-check",
    "--no-input",
    "--no-color",
    "--quiet",
    "install",
    "--no-index",
    "--require-hashes",
    "--only-binary=:all:",
    "--no-deps",
    "--no-compile",
    "--no-cache-dir",
    "--no-warn-script-location",
    "--root-user-action=ignore",
)

Say = Callable[[str], None]


class Environment:
    """One environment, which nobody removes until it is closed."""

    def __init__(self, directory: str, record: EnvironmentRecord, lock: Lock) -> None:
        self.directory = directory
        self.record = record
        self._lock = lock

    @property
    def site(self) -> str:
        """The folder to import from."""
        return os.path.join(self.directory, cache.SITE)

    def close(self) -> None:
        """Do not use it any more."""
        self._lock.close()


def prepare(
    home: Home,
    requirements: Sequence[Requirement],
    cancellation: Cancellation,
    say: Say = lambda _text: None,
) -> Environment:
    """The environment of a lock: found, made, or made again when it is damaged or of another interpreter.

    Args:
        home: whose cache, and whose settings `wheelhouse`, `environment_mb_max` and `environments_mb_max`.
        requirements: the whole lock.
        cancellation: of the job that waits.
        say: told what is being done.

    Raises:
        JobFault: a code of the family `env`.
        Cancelled: nothing half is left.
    """
    env_hash = identity.environment_hash(one.line for one in requirements)
    try:
        return _prepare(home, env_hash, requirements, cancellation, say)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise JobFault(
            "env.no_space" if full else "env.io",
            f"the environment {env_hash[:12]} could not be written: {error.strerror}",
        ) from error
    except CasparianError as error:
        if isinstance(error, JobFault):
            raise
        raise JobFault("env.wheelhouse", error.message) from error


def _prepare(
    home: Home,
    env_hash: str,
    requirements: Sequence[Requirement],
    cancellation: Cancellation,
    say: Say,
) -> Environment:
    settings = config.load(home).settings
    directory = cache.directory_of(home, env_hash)
    made = 0
    while True:
        # Looked for each time: who waits to make one must see that another made it and uses it from now on.
        with ExitStack() as stack:
            lock = stack.enter_context(Lock(home, env_hash))
            record = cache.usable(directory) if lock.share() else None
            if record is not None:
                if made:  # while it is in use, so that it is not the one that goes
                    cache.prune(home, settings.environments_mb_max * _MEBIBYTE)
                stack.pop_all()
                return Environment(directory, record, lock)
        if made == _TRIES:
            raise JobFault(
                "env.io", f"the environment {env_hash[:12]} was removed as often as it was made"
            )
        with Lock(home, env_hash) as own:
            if own.take():
                if cache.usable(directory) is None:  # somebody else may have made it meanwhile
                    cache.set_aside(home, env_hash)
                    cache.sweep(home, env_hash)
                    _make(home, env_hash, requirements, settings, cancellation, say)
                    made += 1
                continue
        cancellation.check()
        say("another process prepares the environment")
        time.sleep(_WAIT_SECONDS)


def _make(
    home: Home,
    env_hash: str,
    requirements: Sequence[Requirement],
    settings: config.Settings,
    cancellation: Cancellation,
    say: Say,
) -> None:
    """Make it beside its place, and rename; for who holds the lock alone."""
    work = cache.work_directory(home, env_hash)
    site = os.path.join(work, cache.SITE)
    wheels = os.path.join(work, "wheels")
    os.makedirs(wheels)
    try:
        bytes_max = settings.environment_mb_max * _MEBIBYTE
        packages = []
        expanded = 0
        for number, requirement in enumerate(requirements, start=1):
            cancellation.check()
            say(f"package {number} of {len(requirements)}: {requirement.name}")
            for package, size in wheelhouse.take(
                requirement, wheelhouse.folders(settings.wheelhouse), wheels, bytes_max
            ):
                packages.append(package)
                expanded += size
        if expanded > bytes_max:
            raise JobFault(
                "env.too_large",
                f"the environment takes {expanded >> 20} MiB, more than `environment_mb_max` allows"
                f" ({settings.environment_mb_max})",
            )
        say(f"installing {len(requirements)} packages")
        _install(requirements, work, wheels, site, cancellation)
        shutil.rmtree(wheels)
        modules = installed.check(site)
        record = EnvironmentRecord(
            env_hash=env_hash,
            interpreter=cache.interpreter(),
            packages=tuple(sorted(packages, key=lambda one: (one.name, one.wheel))),
            modules=modules,
            files=dict(cache.files_of(site)),
            size_bytes=0,
        )
        size_bytes = sum(size for size, _ in record.files.values())
        say("making it durable")
        with open(os.path.join(work, cache.RECORD_FILE), "xb") as file:
            file.write(msgspec.json.encode(structs.replace(record, size_bytes=size_bytes)))
        _make_durable(work)
        os.rename(work, cache.directory_of(home, env_hash))
        _sync(str(home.environments))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _install(
    requirements: Sequence[Requirement],
    work: str,
    wheels: str,
    site: str,
    cancellation: Cancellation,
) -> None:
    """Have pip unpack the wheels that were verified; nothing else is within its sight."""
    lock = os.path.join(work, "lock.txt")
    with open(lock, "x", encoding="ascii") as file:
        file.writelines(f"{one.line}\n" for one in requirements)
    temporary = os.path.join(work, "tmp")
    os.mkdir(temporary)
    process = subprocess.Popen(
        [installation.interpreter(), *_PIP, "--find-links", wheels, "--target", site, "-r", lock],
        cwd=work,
        env={
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": work,
            "TMPDIR": temporary,
            "PIP_CONFIG_FILE": os.devnull,  # no file of this machine has a say
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    cancellation.watch(process.kill)
    try:
        said = process.communicate()[0].decode("utf-8", "backslashreplace")
    finally:
        cancellation.forget(process.kill)
        process.kill()
        process.wait()
    cancellation.check()
    if process.returncode != 0 or not os.path.isdir(site):
        lines = [line for line in said.splitlines() if line.strip()][-_PIP_LINES_SHOWN:]
        fits = "not a supported wheel" not in said and "No matching distribution" not in said
        raise JobFault(
            "env.install" if fits else "env.incompatible",
            "the environment could not be installed: " + show("; ".join(lines), width=600),
        )
    os.unlink(lock)
    shutil.rmtree(temporary)


def _make_durable(work: str) -> None:
    for folder, _, names in os.walk(work):
        for name in names:
            path = os.path.join(folder, name)
            os.chmod(path, 0o644)  # a guest's zygote may be another user
            _sync(path)
        os.chmod(folder, 0o755)  # noqa: S103 - the same; the home above it is its owner's
        _sync(folder)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
