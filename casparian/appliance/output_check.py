"""Check committed outputs on disk against what was recorded, and look for files nobody recorded."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Final, Literal

import msgspec

from casparian.appliance.doctor_truth import Recorded, Truth
from casparian.appliance.evidence import file_blake3
from casparian.domain.outputs import Sink, SinkKind, job_of_output_name
from casparian.paths import Home
from casparian.sinks.staging import stage_root

_REWRITE_STAGE: Final = "rewrite"  # kept between rewrites of CSV files; nothing is in it at rest
_HASHERS_MAX: Final = 4

Progress = Callable[[int, int], None]  # bytes done, bytes in all


class OutputProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded output that is not as it was committed."""

    recorded: Recorded
    problem: Literal["missing", "altered", "unreadable"]
    message: str


def check_outputs(
    recorded: Iterable[Recorded], *, verify: bool, progress: Progress = lambda _done, _total: None
) -> list[OutputProblem]:
    """Compare outputs with their records: existence and size, with `verify` their hashes too.

    A database file holds many jobs and has no recorded size or hash: it must exist, once. Hashing is parallel; BLAKE3 comes from
    a package that shares no code with the module that wrote the record.
    """
    once = {output.path: output for output in recorded}
    problems = []
    whole = []
    for output in once.values():
        problem = _at_a_glance(output)
        if problem is not None:
            problems.append(problem)
        elif verify and output.blake3 and not output.in_database:
            whole.append(output)
    if whole:
        problems += _hash_all(whole, progress)
    return sorted(problems, key=lambda problem: problem.recorded.path)


def _at_a_glance(output: Recorded) -> OutputProblem | None:
    try:
        found = os.lstat(output.path)
    except FileNotFoundError:
        return OutputProblem(recorded=output, problem="missing", message="is missing")
    except OSError as error:
        return _unreadable(output, error)
    if not stat.S_ISREG(found.st_mode):
        message = "is no longer a regular file"
        return OutputProblem(recorded=output, problem="altered", message=message)
    if output.size_bytes and not output.in_database and found.st_size != output.size_bytes:
        message = f"has {found.st_size} bytes, was committed with {output.size_bytes}"
        return OutputProblem(recorded=output, problem="altered", message=message)
    return None


def _hash_all(outputs: list[Recorded], progress: Progress) -> list[OutputProblem]:
    total = sum(output.size_bytes for output in outputs)
    done = 0
    problems = []
    largest_first = sorted(outputs, key=lambda output: -output.size_bytes)
    with ThreadPoolExecutor(min(_HASHERS_MAX, len(os.sched_getaffinity(0)))) as pool:
        for future in as_completed([pool.submit(_hash_one, output) for output in largest_first]):
            output, problem = future.result()
            done += output.size_bytes
            progress(done, total)
            if problem is not None:
                problems.append(problem)
    return problems


def _hash_one(output: Recorded) -> tuple[Recorded, OutputProblem | None]:
    try:
        if file_blake3(output.path) == output.blake3:
            return output, None
    except FileNotFoundError:
        message = "is missing"
        return output, OutputProblem(recorded=output, problem="missing", message=message)
    except OSError as error:
        return output, _unreadable(output, error)
    message = "does not have the hash it was committed with"
    return output, OutputProblem(recorded=output, problem="altered", message=message)


def _unreadable(output: Recorded, error: OSError) -> OutputProblem:
    message = f"cannot be read: {error.strerror}"
    return OutputProblem(recorded=output, problem="unreadable", message=message)


def orphans(home: Home, truth: Truth) -> Iterator[str]:
    """Files in sinks that carry the number of one of our jobs and that nobody recorded; files that promotion set aside.

    Another home's files in a shared sink carry other job numbers. In the home's own directories nobody else writes: there any
    file that is named like an output must be on record.
    """
    known = {output.path for output in truth.outputs if output.live}
    for sink in truth.sinks:
        directory = directory_of(sink)
        if not os.path.isdir(directory):
            continue
        ours = directory in (str(home.outputs), str(home.quarantine))
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            if sink.kind is SinkKind.DUCKDB:
                if name.startswith(os.path.basename(sink.location) + ".publish-"):
                    yield path
                continue
            job = job_of_output_name(name)
            if job is not None and path not in known and (ours or job in truth.jobs):
                yield path


def leftover_stages(truth: Truth) -> Iterator[str]:
    """Stages of this home that are still there."""
    seen = set()
    for sink in truth.sinks:
        root = stage_root(sink, truth.home_id)
        if root in seen or not os.path.isdir(root):
            continue
        seen.add(root)
        for name in sorted(os.listdir(root)):
            path = os.path.join(root, name)
            if name != _REWRITE_STAGE or os.listdir(path):
                yield path


def directory_of(sink: Sink) -> str:
    """The directory in which a sink's files and stages lie."""
    return os.path.dirname(sink.location) if sink.kind is SinkKind.DUCKDB else sink.location
