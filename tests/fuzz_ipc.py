"""Mutate record batches and give them to the worker's reader, for as long as you like.

    python -m tests.fuzz_ipc --minutes 30 [--seed N]      print what happened; exit 1 when the reader crashed
    python -m tests.fuzz_ipc --count 5000 --seed 7        as many mutants, the same ones each time

Mutants are made in chunks, each in a child process with 4 GiB of address space. A mutant that ends its child by a signal, that
raises anything but `bridge.invalid_batch`, or that is accepted and does not hold what was promised of it, is written to
`fuzz_ipc_<seed>_<number>.bin`, and its seed and number are printed: the same two give the same mutant again.
The property test `tests/property/test_arrow_mutations.py` runs a few thousand; the long form is for a night.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import resource
import signal
import struct
import sys
import time
from pathlib import Path

import pyarrow as pa

from casparian.protocol.guest import BATCH_ROWS_MAX
from casparian.worker.faults import GuestFault
from casparian.worker.ipc import read_batch
from tests.factories.arrow_lies import SCHEMA, SOURCE_BYTES, honest_message, mutant

_CHUNK = 500
_ADDRESS_SPACE_BYTES = 4 << 30
_STATE = struct.Struct("<QQQ")  # number of the mutant under way, accepted, refused


def judge(payload: bytes) -> bool:
    """Whether the reader accepts it; every value of what it accepts is looked at.

    Raises:
        Exception: the reader broke a promise.
    """
    try:
        batch = read_batch(pa.py_buffer(payload), SCHEMA, SOURCE_BYTES)
    except GuestFault as fault:
        if fault.code != "bridge.invalid_batch":
            raise
        return False
    assert batch.schema.equals(SCHEMA)
    assert 0 < batch.num_rows <= BATCH_ROWS_MAX
    assert batch.nbytes <= len(payload)
    plain = pa.Table.from_batches([batch])
    for number, field in enumerate(plain.schema):
        column = plain.column(number)
        if pa.types.is_timestamp(field.type):
            column = column.cast(pa.int64())
        if pa.types.is_date(field.type):
            column = column.cast(pa.int32())
        assert len(column.to_pylist()) == batch.num_rows
    offsets, lengths = (batch.column(n).to_pylist() for n in (0, 1))
    assert all(o + n <= SOURCE_BYTES for o, n in zip(offsets, lengths, strict=True))
    return True


def payload_of(seed: int, number: int) -> bytes:
    """One mutant."""
    chance = random.Random(f"{seed}:{number}")
    return mutant(chance, honest_message(chance.choice((1, 2, 50, 50, 300))))


def _child(seed: int, first: int, count: int, state: mmap.mmap) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
    accepted = refused = 0
    for number in range(first, first + count):
        _STATE.pack_into(state, 0, number, accepted, refused)
        if judge(payload_of(seed, number)):
            accepted += 1
        else:
            refused += 1
    _STATE.pack_into(state, 0, first + count, accepted, refused)


def chunk(seed: int, first: int, count: int) -> tuple[int, int, str | None]:
    """Accepted, refused, and what went wrong with which mutant."""
    state = mmap.mmap(-1, _STATE.size)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _child(seed, first, count, state)
            code = 0
        except BaseException as error:  # noqa: BLE001 - the border of the child: its exit code tells
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    number, accepted, refused = _STATE.unpack_from(state, 0)
    if status == 0:
        return accepted, refused, None
    crashed = os.WIFSIGNALED(status)
    how = signal.Signals(os.WTERMSIG(status)).name if crashed else "raised what it must not"
    path = Path(f"fuzz_ipc_{seed}_{number}.bin")
    path.write_bytes(payload_of(seed, number))
    return accepted, refused, f"mutant {number} of seed {seed}: {how}; kept as {path}"


def main() -> int:
    """Run chunks until the time or the count is used up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**32)
    end = time.monotonic() + 60 * (arguments.minutes or 1)
    done = accepted = refused = 0
    problems: list[str] = []
    while (done < arguments.count) if arguments.count else (time.monotonic() < end):
        count = min(_CHUNK, arguments.count - done) if arguments.count else _CHUNK
        good, bad, problem = chunk(seed, done, count)
        done, accepted, refused = done + count, accepted + good, refused + bad
        if problem is not None:
            problems.append(problem)
            print(problem, flush=True)
    print(
        f"seed {seed}: {done} mutants, {accepted} accepted, {refused} refused, {len(problems)} problems"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
