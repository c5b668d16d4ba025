"""What is trusted in a home: root, policy, and the floors below which nothing is taken back.

    HOME/trust/root/<n>.root.json   every version of the root since the first that was trusted here
    HOME/trust/policy.json          the policy in force
    HOME/trust/state.json           floors, and the approval that allowed unsigned parsers

Rules:
  * Only the sentinel writes; whoever reads verifies everything again, from the first root on.
  * Each file is replaced by rename; roots before the policy, floors last: a crash between leaves newer documents above
    older floors, which is sound.
  * Once a policy was in force, its absence is no return to the time before: nothing runs until there is one.
  * Time never goes back: it is the greatest of the clock, the program's build, the newest signed time and the last
    time that was kept.

The values are frozen; `with_root`, `with_policy` and the others give the next state or raise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from casparian import clock
from casparian.errors import Refused
from casparian.trust import documents
from casparian.trust.policy import Policy, check_policy, read_policy
from casparian.trust.refusals import refused
from casparian.trust.root import Root, check_root, read_root

ROOTS_MAX: Final = 1_000
_ROOT_FILE: Final = re.compile(r"([1-9]\d{0,8})\.root\.json\Z", re.ASCII)
_POLICY_FILE: Final = "policy.json"
_STATE_FILE: Final = "state.json"
_ROOT_FOLDER: Final = "root"


class AllowUnsigned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The decision that lets unsigned Python parsers run here."""

    approval_id: str
    reason: str
    by: tuple[str, ...]  # holders
    at_ns: int


class SerialFloor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The newest release of a parser that was deployed here."""

    serial: int
    artifact_hash: str


class Floors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was reached already; none of it ever sinks."""

    root_version: int = 0
    policy_version: int = 0
    policy_fingerprint: str = ""
    serials: dict[str, SerialFloor] = {}  # by parser name
    time_ns: int = 0


class TrustState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything trust is decided from."""

    roots: tuple[Root, ...] = ()  # consecutive, all verified
    policy: Policy | None = None  # verified against the newest root
    policy_problem: tuple[str, str] | None = (
        None  # code, message: a policy is there and does not hold
    )
    floors: Floors = Floors()
    allow_unsigned: AllowUnsigned | None = None

    @property
    def root(self) -> Root | None:
        """The newest root."""
        return self.roots[-1] if self.roots else None

    @property
    def policy_version(self) -> int | None:
        """Version of the policy in force."""
        return None if self.policy is None else self.policy.version

    @property
    def version(self) -> str:
        """Changes whenever a decision could: a key for caches."""
        newest = self.roots[-1].fingerprint if self.roots else ""
        policy = self.policy.fingerprint if self.policy else str(self.policy_problem)
        unsigned = self.allow_unsigned.approval_id if self.allow_unsigned else ""
        return f"{newest}:{policy}:{self.floors.policy_version}:{unsigned}"


class _StateFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: Literal[1]
    floors: Floors
    allow_unsigned: AllowUnsigned | None


def now(state: TrustState, clock_ns: int | None = None, *, built_ns: int | None = None) -> int:
    """The time that expiry is judged by, in nanoseconds since 1970.

    Args:
        state: what is trusted; its floor is the last time that was kept.
        clock_ns: the system's clock; read when it is not given.
        built_ns: when this program was built; what it says itself when neither time is given.
    """
    signed = [root.issued_ns for root in state.roots]
    if state.policy is not None:
        signed.append(state.policy.issued_ns)
    if clock_ns is None and built_ns is None:
        built_ns = built()
    current = clock.now_ns() if clock_ns is None else clock_ns
    return max(current, built_ns or 0, state.floors.time_ns, *signed)


def built() -> int:
    """When this program says that it was built, in nanoseconds since 1970; 0 when it does not say."""
    from casparian import _native

    return int(_native.build_info()["source_date"]) * 1_000_000_000


def load(directory: str | os.PathLike[str]) -> TrustState:
    """Read and verify what is trusted; an empty state where there is none.

    A policy that does not hold is no error here: it is `policy_problem`, and nothing that needs a policy runs.

    Raises:
        Refused: a root or the state file is malformed, altered, missing in the chain or rolled back.
        OSError: a file cannot be read.
    """
    roots: tuple[Root, ...] = ()
    for raw in _root_files(directory):
        root = read_root(raw)
        check_root(root, roots[-1] if roots else None)
        roots = (*roots, root)
    kept = _state_file(directory)
    if (roots[-1].version if roots else 0) < kept.floors.root_version:
        raise refused(
            "trust.rollback",
            f"version {kept.floors.root_version} of the root was in force here, and is gone",
        )
    state = TrustState(roots=roots, floors=kept.floors, allow_unsigned=kept.allow_unsigned)
    raw_policy = _read(os.path.join(directory, _POLICY_FILE))
    if raw_policy is None:
        return state
    try:
        policy = _checked_policy(state, raw_policy)
    except Refused as error:
        return msgspec.structs.replace(state, policy_problem=(error.code, error.message))
    return msgspec.structs.replace(state, policy=policy)


def save(directory: str | os.PathLike[str], state: TrustState) -> None:
    """Write a state, each file whole or not at all.

    Raises:
        OSError: a file cannot be written.
    """
    root_folder = os.path.join(directory, _ROOT_FOLDER)
    os.makedirs(root_folder, mode=0o700, exist_ok=True)
    for root in state.roots:
        _replace(os.path.join(root_folder, f"{root.version}.root.json"), root.raw)
    if state.policy is not None:
        _replace(os.path.join(directory, _POLICY_FILE), state.policy.raw)
    kept = {
        "schema_version": 1,
        "floors": msgspec.to_builtins(state.floors),
        "allow_unsigned": msgspec.to_builtins(state.allow_unsigned),
    }
    _replace(os.path.join(directory, _STATE_FILE), msgspec.json.encode(kept, order="sorted"))


def with_root(state: TrustState, raw: bytes) -> TrustState:
    """The state after a root was taken over: the first one, or the version after the newest.

    The policy in force stays when the new root's policy role signed it, else there is none until the next import.

    Raises:
        Refused: `trust.root_version`, `trust.rollback`, `trust.fork`, `trust.threshold`, …
    """
    root = read_root(raw)
    check_root(root, state.root)
    if state.root is not None and root.version == state.root.version:
        return state  # the same one again
    floors = msgspec.structs.replace(
        state.floors, root_version=max(root.version, state.floors.root_version)
    )
    after = msgspec.structs.replace(state, roots=(*state.roots, root), floors=floors)
    if state.policy is None:
        return after
    try:
        check_policy(state.policy, root)
    except Refused as error:
        return msgspec.structs.replace(
            after, policy=None, policy_problem=(error.code, error.message)
        )
    return after


def with_policy(state: TrustState, raw: bytes, now_ns: int) -> TrustState:
    """The state after a policy was taken over.

    Args:
        state: what is trusted.
        raw: the policy.
        now_ns: as `now` says.

    Raises:
        Refused: `trust.no_root`, `trust.rollback`, `trust.fork`, `trust.clock`, `trust.expired`, `trust.runtime`,
            `trust.tampered`, `trust.unknown_signer`, `trust.threshold`, …
    """
    policy = _checked_policy(state, raw)
    assert state.root is not None
    # The clock's own word: a policy that was just signed must not be its own witness that it is not from the future.
    if policy.issued_ns > now_ns + documents.DAY_NS:
        raise refused(
            "trust.clock",
            f"the policy was signed on {documents.time_text(policy.issued_ns)}: this machine's clock is behind",
        )
    for what, expires_ns in (("root", state.root.expires_ns), ("policy", policy.expires_ns)):
        if expires_ns <= now_ns:
            raise refused(
                "trust.expired", f"the {what} expired on {documents.time_text(expires_ns)}"
            )
    floors = msgspec.structs.replace(
        state.floors,
        policy_version=policy.version,
        policy_fingerprint=policy.fingerprint,
        time_ns=max(state.floors.time_ns, now_ns, policy.issued_ns),
    )
    return msgspec.structs.replace(state, policy=policy, policy_problem=None, floors=floors)


def with_serial(state: TrustState, parser: str, serial: int, artifact_hash: str) -> TrustState:
    """The state after a parser was deployed: no older serial of it is deployed any more."""
    known = state.floors.serials.get(parser)
    if known is not None and known.serial >= serial:
        return state
    floor = SerialFloor(serial=serial, artifact_hash=artifact_hash)
    floors = msgspec.structs.replace(state.floors, serials={**state.floors.serials, parser: floor})
    return msgspec.structs.replace(state, floors=floors)


def with_time(state: TrustState, now_ns: int) -> TrustState:
    """The state with a time that the clock will not be believed to be before."""
    floors = msgspec.structs.replace(state.floors, time_ns=max(state.floors.time_ns, now_ns))
    return msgspec.structs.replace(state, floors=floors)


def with_allow_unsigned(state: TrustState, allowed: AllowUnsigned | None) -> TrustState:
    """The state after unsigned parsers were allowed, or no longer."""
    return msgspec.structs.replace(state, allow_unsigned=allowed)


def _checked_policy(state: TrustState, raw: bytes) -> Policy:
    if state.root is None:
        raise refused("trust.no_root", "a policy came, and no root of trust is here to check it")
    policy = read_policy(raw)
    check_policy(policy, state.root)
    floors = state.floors
    if policy.version < floors.policy_version:
        raise refused(
            "trust.rollback",
            f"the policy's version {policy.version} is older than version {floors.policy_version}"
            " that was in force here",
        )
    if policy.version == floors.policy_version and policy.fingerprint != floors.policy_fingerprint:
        raise refused("trust.fork", f"there is another version {policy.version} of the policy")
    return policy


def _root_files(directory: str | os.PathLike[str]) -> list[bytes]:
    folder = os.path.join(directory, _ROOT_FOLDER)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    versions = sorted(int(m.group(1)) for m in map(_ROOT_FILE.match, names) if m is not None)
    if len(versions) > ROOTS_MAX:
        raise refused("trust.too_large", f"there are more than {ROOTS_MAX} versions of the root")
    found = []
    for version in versions:
        raw = _read(os.path.join(folder, f"{version}.root.json"))
        if raw is not None:
            found.append(raw)
    return found


def _state_file(directory: str | os.PathLike[str]) -> _StateFile:
    raw = _read(os.path.join(directory, _STATE_FILE))
    if raw is None:
        return _StateFile(schema_version=1, floors=Floors(), allow_unsigned=None)
    document: Mapping[str, Any] = documents.decode(raw, "the trust state", canonical=False)
    return documents.shape(document, _StateFile, "the trust state")


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read(documents.DOCUMENT_BYTES_MAX + 1)
    except FileNotFoundError:
        return None


def _replace(path: str, raw: bytes) -> None:
    """Write a file so that after a crash it is the old or the new one; the same bytes are not written again."""
    if _read(path) == raw:
        return
    beside = f"{path}.new"
    with open(beside, "wb", opener=_private) as stream:
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
