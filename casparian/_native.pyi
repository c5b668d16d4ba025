# ruff: noqa: PYI021 -- the stub is where the surface is documented
"""The native engine: hashing, walking, accounting and decoding, in Rust.

Offsets, sizes and lengths are in bytes. Every call that reads or computes releases the GIL. A
descriptor that is passed in stays the caller's: it is read with `pread`, its position is neither
used nor moved. A bug in the engine (a panic) raises `RuntimeError`.
"""

from collections.abc import Sequence
from typing import Final, Literal, Self, final

from typing_extensions import Buffer

FLAG_NAMES: Final[dict[int, str]]
"""The bits of `@flags`, each with the name that users see in `_cf_flags`."""

class SourceError(Exception):
    """The engine could not read a source, or reached one of its limits.

    Codes: `source.missing`, `source.unreadable`, `source.changed` (bytes went missing),
    `source.not_a_file`, `engine.limit`, `engine.arrow`.
    """

    code: str
    message: str
    offset: int | None
    errno: int | None

def build_info() -> dict[str, str]:
    """What the module was built from: version, profile, features, rustc, engine_sources_hash, source_date.

    `source_date` is the second since 1970 that the build says it was made at; 0: it says nothing.
    """

def engine_sources_hash() -> str:
    """Identity of the engine's sources, computed when the module was built.

    `tree_hash("casparian.engine.v1", ...)` over `native/**/*.rs`, `Cargo.lock`,
    `casparian/guest/**/*.py` and `casparian/sdk/**/*.py`; caches and hidden files are left out.
    """

def first_party_parsers() -> dict[str, str]:
    """Name and artifact hash of each folder of `parsers/` when the module was built.

    The hash is `tree_hash("casparian.artifact.v1", ...)` over the folder's files, with paths
    relative to it.
    """

def first_party_statements() -> dict[str, str]:
    """Name and signed statement (a DSSE envelope, as JSON text) of each of these parsers."""

def release_key() -> tuple[str, bool]:
    """The Ed25519 public key that signed them (64 hexadecimal digits), and whether it is the development key.

    A build signs with the PKCS#8 PEM file that `CASPARIAN_RELEASE_KEY_FILE` names, else with a key that is no secret.
    """

def tree_hash(domain: str, files: Sequence[tuple[str, bytes]]) -> str:
    """Identity of files: `identity` over path and BLAKE3 hex digest of each, in path order."""

def identity(domain: str, fields: Sequence[bytes]) -> str:
    """H(domain, fields...): BLAKE3 over domain and fields, each behind its length (u64 LE)."""

@final
class Entry:
    """One name in the evidence."""

    @property
    def path(self) -> bytes:
        """Relative to the root; for a root that is not a directory its own last name."""

    @property
    def kind(
        self,
    ) -> Literal[
        "file",
        "directory",
        "symlink",
        "fifo",
        "socket",
        "char_device",
        "block_device",
        "unreadable",
    ]:
        """What the name stands for; `unreadable` has `error` and `errno`."""

    @property
    def size(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def device(self) -> int: ...
    @property
    def inode(self) -> int: ...
    @property
    def links(self) -> int:
        """How many names the inode has."""

    @property
    def link_target(self) -> bytes | None:
        """Where a symbolic link points, as written; it was not followed."""

    @property
    def error(self) -> str | None: ...
    @property
    def errno(self) -> int | None: ...

def walk(root: bytes) -> list[Entry]:
    """Every name below `root` in byte order of the relative paths, the root itself not included.

    Links are not followed (a root that is a link to a directory is). Whatever cannot be read is
    an entry of kind `unreadable`; nothing raises.
    """

@final
class FileDigest:
    """Hashes, size and beginning of one file, or why there are none."""

    @property
    def blake3(self) -> str | None:
        """Hex digest; None when `error` is set."""

    @property
    def sha256(self) -> str | None:
        """Hex digest; None when `error` is set or it was not asked for."""

    @property
    def size(self) -> int: ...
    @property
    def head(self) -> bytes:
        """The first 8192 bytes, or fewer when the file is shorter."""

    @property
    def changed(self) -> bool:
        """Whether size or modification time changed in the pass, or bytes went missing."""

    @property
    def error(
        self,
    ) -> (
        Literal["source.missing", "source.unreadable", "source.changed", "source.not_a_file"] | None
    ): ...
    @property
    def message(self) -> str | None: ...

def digest_files(
    paths: Sequence[bytes], *, threads: int = 2, sha256: bool = True
) -> list[FileDigest]:
    """Whether size or modification time changed in the pass, or bytes went missing."""

def digest_fd(fd: int, *, sha256: bool = False) -> FileDigest:
    """Hash an open regular file from its first byte.

    Raises:
        OSError: the descriptor is not open.
    """

def digest_fds(fds: list[int], *, sha256: bool = False) -> list[FileDigest]:
    """Hash open regular files one after the other, in one call without the GIL; see `digest_fd`."""

@final
class Account:
    """What an independent walk found in one source: how many units there are, and where."""

    @property
    def unit(self) -> Literal["record", "line", "cell"]: ...
    @property
    def declared(self) -> int | None:
        """Units that the source's own headers claim."""

    @property
    def present(self) -> int:
        """Units in the bytes: damaged regions included, slack and blank lines not."""

    @property
    def damaged(self) -> int:
        """How many of `present` are damaged regions."""

    @property
    def slack_records(self) -> int: ...
    @property
    def window_origin(self) -> int: ...
    @property
    def window_bytes(self) -> int: ...
    @property
    def blank_units(self) -> int: ...
    @property
    def blank_bytes(self) -> int: ...
    @property
    def findings(self) -> list[tuple[str, int, int, str]]:
        """(code, offset, length, message), at most 10,001."""

    def to_bytes(self) -> bytes:
        """The account in its stored form."""

    @staticmethod
    def from_bytes(data: bytes) -> Account:
        """Read an account that another process wrote.

        Raises:
            ValueError: it is not whole, out of bounds, or its figures contradict each other.
        """

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

def account_evtx(fd: int, size: int) -> Account:
    """Find the records of an event log. Bad content makes findings, never an error.

    Raises:
        SourceError: a read failed, or fewer than `size` bytes are there.
    """

def account_evtx_carved(fd: int, size: int) -> Account:
    """Count the event records that carving must find in a source of any kind, as `slack_records`; nothing is `present`.

    Raises:
        SourceError: a read failed, or fewer than `size` bytes are there.
    """

def account_hive(fd: int, size: int, logs: Sequence[tuple[str, int, int]] = []) -> Account:
    """Find the keys, values and damaged regions of a registry hive. Bad content makes findings, never an error.

    Args:
        fd: an open file.
        size: how many of its bytes to read.
        logs: (role, open file, size) of its transaction logs; a role is `LOG`, `LOG1` or `LOG2`.

    Raises:
        SourceError: a read failed, fewer bytes are there than said, or there are more than 2 GiB.
        ValueError: a role is unknown.
    """

def account_lines(fd: int, size: int, *, encoding: str | None = None) -> Account:
    """Find the lines of a text.

    Args:
        fd: an open file.
        size: how many of its bytes to read.
        encoding: what the text is when it has no byte-order mark: `utf-8`, `utf-8-sig` or
            `bytes` (all the same here), `utf-16-le`, `utf-16-be`. By default the place of NUL
            bytes tells.

    Raises:
        SourceError: a read failed, or fewer than `size` bytes are there.
        ValueError: the encoding is unknown.
    """

@final
class WindowDifference:
    """A window of the source in which walk and decoder do not agree."""

    @property
    def index(self) -> int:
        """Number of the window; 2,097,152 stands for everything outside of the windows."""

    @property
    def offset(self) -> int: ...
    @property
    def present(self) -> int:
        """Units that the walk found."""

    @property
    def accounted(self) -> int:
        """Units that were added to the tally."""

    @property
    def same_units(self) -> bool:
        """Whether the sums over the spans are equal."""

@final
class Tally:
    """What came out of a decoder, by window of the source; to be compared with an `Account`."""

    def __new__(cls, window_origin: int, window_bytes: int) -> Tally: ...
    @property
    def total(self) -> int:
        """How many units were added."""

    def add(self, offsets: Buffer, lengths: Buffer) -> None:
        """Add units: two contiguous buffers of u64, or of bytes that are u64 little-endian.

        Raises:
            ValueError: the buffers hold something else, or different numbers of values.
        """

    def add_rows(self, offsets: Buffer, lengths: Buffer, flags: Buffer) -> tuple[int, int, int]:
        """Add rows, but those in slack or carved: buffers of u64, u64 and u32, little-endian.

        Returns how many were added, how many of these are flagged as recovered, how many were left out.

        Raises:
            ValueError: the buffers hold something else, or different numbers of values.
        """

    def compare(self, account: Account) -> list[WindowDifference]:
        """The windows that differ; none when every unit came out once and nothing else did.

        Raises:
            ValueError: the account has windows of another origin or width.
        """

@final
class Batch:
    """A record batch that any Arrow library can import without a copy."""

    @property
    def num_rows(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_array__(
        self, requested_schema: object | None = None
    ) -> tuple[object, object]: ...

@final
class EvtxReader:
    """Decode an event log, batch by batch: `evtx_events`, `evtx_chunks`, `@quarantine`, and wide tables.

    Every batch begins with `@offset`, `@length` (uint64) and `@flags` (uint32).

    Args:
        fd: an open file; the reader keeps a duplicate of its own.
        size: how many of its bytes to read.
        batch_rows: rows after which a batch is given, at least 1.
        batch_bytes: bytes of values after which a batch is given, at least 1.
        fault: rows to lose on purpose, `drop-record:N` or `drop-chunk:I`; only in a build with
            the feature `sabotage`, for tests of the ledger.
        plans: compiled templates to begin with, and where they go at the end.
        threads: how many decode at once; the batches are the same for any number.
        wide: which wide tables to make beside `evtx_events`: `none`, `curated` (all), or tables
            (`evtx_security_4624`) and events (`Microsoft-Windows-Sysmon/1`) separated by commas.

    Raises:
        ValueError: an argument is out of range, or a fault in a build that has none.
        SourceError: from `__next__`, when a read fails; from then on it raises `RuntimeError`.
    """

    def __new__(
        cls,
        fd: int,
        size: int,
        *,
        batch_rows: int = 65536,
        batch_bytes: int = 8388608,
        fault: str | None = None,
        plans: EvtxPlans | None = None,
        threads: int = 1,
        wide: str = "none",
    ) -> EvtxReader: ...
    def __iter__(self) -> EvtxReader: ...
    def __next__(self) -> tuple[str, Batch]: ...

@final
class EvtxPlans:
    """Compiled templates, for the logs that are decoded after the one that had them. Never changes what is decoded."""

    def __new__(cls) -> EvtxPlans: ...

@final
class EvtxGroupReader:
    """Decode several small event logs into the same batches: one behind the other, each as if it were alone.

    A log is decoded whole before a batch is given, so memory is bounded by the largest of them.

    Args:
        sources: open file and size in bytes of each; the files must stay open. At least one.
        batch_rows, batch_bytes, fault, plans: as `EvtxReader` has them.

    Raises:
        As `EvtxReader`.
    """

    def __new__(
        cls,
        sources: list[tuple[int, int]],
        *,
        batch_rows: int = 65536,
        batch_bytes: int = 8388608,
        fault: str | None = None,
        plans: EvtxPlans | None = None,
    ) -> EvtxGroupReader: ...
    def __iter__(self) -> EvtxGroupReader: ...
    def __next__(self) -> tuple[str, Batch]: ...
    @property
    def rows(self) -> list[dict[str, int]]:
        """Rows by output of each log that is decoded, in order; without outputs that have none."""

@final
class EvtxCarveReader:
    """Find event records and chunks by their signatures, at any offset of any file; as `EvtxReader` otherwise.

    Raises:
        ValueError: an argument is out of range.
        SourceError: from `__next__`, when a read fails; from then on it raises `RuntimeError`.
    """

    def __new__(
        cls,
        fd: int,
        size: int,
        *,
        batch_rows: int = 65536,
        batch_bytes: int = 8388608,
    ) -> EvtxCarveReader: ...
    def __iter__(self) -> EvtxCarveReader: ...
    def __next__(self) -> tuple[str, Batch]: ...

def render_evtx(
    fd: int, size: int, offset: int, length: int, *, carved: bool = False
) -> tuple[str, str, int]:
    """Render the event record at a place of a file: as XML, as JSON, and how many characters XML could not hold.

    Args:
        fd: an open file.
        size: of the file, in bytes.
        offset: where the record begins, in bytes.
        length: of the record, in bytes.
        carved: its chunk may begin anywhere, not only where a log has one.

    Raises:
        ValueError: no record is there, or its event cannot be read.
        SourceError: a read failed.
    """

@final
class HiveReader:
    """Decode a registry hive, batch by batch.

    The outputs are `registry_keys`, `registry_values`, `registry_hives`, `registry_changes` and `@quarantine`.
    Every batch begins with `@offset`, `@length` (uint64) and `@flags` (uint32). Transaction logs are
    applied in memory when the hive is dirty; nothing is written.

    Args:
        fd: an open file; the reader keeps a duplicate of its own.
        size: how many of its bytes to read, at most 2 GiB.
        logs: role (`LOG`, `LOG1` or `LOG2`), open file and size of each transaction log.
        batch_rows: rows after which a batch is given, at least 1.
        batch_bytes: bytes of values after which a batch is given, at least 1.

    Raises:
        ValueError: an argument is out of range.
        SourceError: a file is too large, or, from `__next__`, a read fails; from then on it raises
            `RuntimeError`.
    """

    def __new__(
        cls,
        fd: int,
        size: int,
        *,
        logs: Sequence[tuple[str, int, int]] = [],
        batch_rows: int = 65536,
        batch_bytes: int = 8388608,
    ) -> HiveReader: ...
    def __iter__(self) -> HiveReader: ...
    def __next__(self) -> tuple[str, Batch]: ...

@final
class TextReader:
    """Decode delimited text or JSON Lines as a dataset's contract says, batch by batch.

    The outputs are the dataset's table and `@quarantine`. Every batch begins with `@offset`, `@length` (uint64) and
    `@flags` (uint32).

    Args:
        fd: an open file; the reader keeps a duplicate of its own.
        size: how many of its bytes to read.
        dataset: the contract's document.
        batch_rows: rows after which a batch is given, at least 1.
        batch_bytes: bytes of values after which a batch is given, at least 1.

    Raises:
        ValueError: an argument is out of range.
        SourceError: `contract.document`: the document cannot be followed. From `__next__`: `contract.drift`: the text has
            other cells or keys than the contract knows, and the message says which; or a read fails. From then on it
            raises `RuntimeError`.
    """

    def __new__(
        cls,
        fd: int,
        size: int,
        dataset: str,
        *,
        batch_rows: int = 65536,
        batch_bytes: int = 8388608,
    ) -> TextReader: ...
    def __iter__(self) -> TextReader: ...
    def __next__(self) -> tuple[str, Batch]: ...

def account_delimited(fd: int, size: int, dataset: str) -> Account:
    """Find the records of a delimited text that is laid out as a dataset's contract says.

    Raises:
        SourceError: the document cannot be followed, or a read fails.
    """

def evtx_wide_tables() -> list[tuple[str, str, int, str, list[tuple[str, str, str | None, int]]]]:
    """The wide tables, in the order of their numbers: name, provider, event id, origin, columns.

    A column of the payload is its name, its type, the value's name in the event (None for values
    without one), and which value of that name it holds, from 1.
    """

def evtx_wide_common() -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """Name, type and meaning of the columns that each wide table begins with, and ends with."""

def evtx_wide_selection(setting: str) -> list[int]:
    """Numbers of the tables that `EvtxReader(wide=setting)` makes.

    Raises:
        ValueError: a table or event that is not in the list.
    """

def promote_noreplace(src: bytes, dst: bytes) -> Literal["rename", "link"]:
    """Rename `src` to `dst`, which must not exist; tells which way was used.

    `link` means that the file system has no atomic way: `dst` was linked, then `src` unlinked.

    Raises:
        FileExistsError: `dst` exists.
        OSError: whatever else the operating system says.
    """

def confinement_support() -> dict[str, str]:
    """What this kernel offers to confine a guest, found out by trying; nothing is changed.

    Keys: `system`, `architecture`, `user`, `seccomp`, `landlock`, `namespaces`, `close_range`,
    `pidfd`. A value begins with `yes` or with `no: ` and the kernel's answer, but for `system` and
    `user` (`root` or `ordinary`). Elsewhere than on Linux there is only `system`.
    """

def prepare_confinement() -> None:
    """Compile the filters once, so that the guests forked from this process need not.

    Raises:
        RuntimeError: there is no profile for this system or architecture.
    """

def isolate_zygote(*, parent_pid: int, user: tuple[int, int] | None) -> dict[str, str]:
    """Give up in a zygote what no guest may have; for a process with one thread, once.

    Enters namespaces of its own where the host allows it, becomes `user` for good, drops every
    capability, and is killed when its parent ends. The record has `namespaces`, `capabilities` and
    `user`, and is part of the record of each guest.

    Args:
        parent_pid: the worker.
        user: uid and gid to become, neither of them 0; for root, and only for root.

    Raises:
        OSError: the kernel refused an essential step, which the message names.
        RuntimeError: an essential step is impossible here, for the reason in the message.
    """

def prepare_programs() -> None:
    """Compile the filters of guests that become a program, so that those forked from this process need not.

    Raises:
        RuntimeError: there is no profile for this system or architecture.
    """

def wall_imports(readable: list[str]) -> dict[str, str]:
    """Give up in a zygote what importing packages does not need: network, programs, every change to a file.

    For a process with one thread, after `isolate_zygote`. The record has `imports`.

    Args:
        readable: files and folders; where the kernel has Landlock, nothing else can be read from then on.

    Raises:
        OSError: the kernel refused it; the process must end.
        RuntimeError: it is impossible here.
    """

def allow_program(listener_fd: int, pid: int) -> None:
    """In a zygote: let the one `execveat` of a guest pass. The caller closes the listener, whatever comes of it.

    Raises:
        OSError: the guest is gone.
        RuntimeError: it asked for something else.
    """

def run_program() -> None:
    """In a guest that `lock_down` was given a program for: become it.

    Raises:
        OSError: always; when it works, this process does not return.
    """

def lock_down(
    *,
    parent_pid: int,
    bridge_fd: int,
    log_fd: int,
    memory_bytes: int,
    cpu_seconds: int,
    supervisor_fd: int | None = None,
    program_fd: int | None = None,
) -> dict[str, str]:
    """Lock this process down for good; for a process with one thread that was just forked.

    From then on it has three descriptors beside standard input (1 and 2 are the log, 3 is the
    bridge), can open nothing, start nothing and signal nobody.

    Args:
        parent_pid: the zygote; its death ends this process.
        bridge_fd: an open descriptor, which becomes 3.
        log_fd: an open descriptor, which becomes 1 and 2.
        memory_bytes: private writable memory (heap, anonymous maps), inherited pages included.
        cpu_seconds: processor time of the process; one second later the kernel kills it.
        supervisor_fd: a socket to the zygote, which becomes 4; it is sent the listener of a filter. With it the process may
            become one program, once, when the zygote lets it.
        program_fd: the sealed program, which becomes 5.

    Returns:
        What is in force: `session`, `parent_death_signal`, `descriptors`, `oom_score_adj`,
        `rlimits`, `no_new_privs`, `dumpable`, `capabilities`, `landlock`, `seccomp`, `namespaces`
        and `user`. A second wall that this kernel does not have says so in its value.

    Raises:
        OSError: the kernel refused an essential step, which the message names. The process is
            half locked down and must end.
        RuntimeError: an essential step is impossible here: this is root, or the parent is gone.
    """

def check_format(
    type_name: str,
    format: str | None = None,
    zone: str | None = None,
    group: str | None = None,
    meaning: str | None = None,
) -> None:
    """Refuse words of a contract about a column that make no format.

    Raises:
        ValueError: says why.
    """

def read_value(
    text: bytes,
    type_name: str,
    format: str | None = None,
    zone: str | None = None,
    group: str | None = None,
    meaning: str | None = None,
) -> bool | int | float | str | None:
    """What a text says in a format, as inference and the decoders of text read it; `None` when it does not fit.

    Decimals are unscaled; dates are days and timestamps counts, in the unit of the type, since 1970.

    Raises:
        ValueError: the words are no format.
    """

@final
class DelimitedInference:
    """Infers the columns of delimited text by elimination, file after file in the order of their names."""

    def __new__(
        cls,
        *,
        delimiter: str,
        quote: str | None,
        escape: str | None,
        header: bool,
        skip_lines: int,
        comment: str | None,
        encoding: str,
    ) -> DelimitedInference: ...
    def add(self, fd: int, size: int, *, threads: int = 1) -> None:
        """Take a file into account; the answer is the same for any number of threads."""

    def report(self) -> str:
        """What was found so far, as a JSON document: headers, and by column its readings, facts and evidence."""

@final
class JsonlInference:
    """Infers the columns of JSON Lines by elimination, file after file in the order of their names."""

    def __new__(cls) -> JsonlInference: ...
    def add(self, fd: int, size: int, *, threads: int = 1) -> None:
        """Take a file into account; the answer does not depend on the number of threads."""

    def report(self) -> str:
        """What was found so far, as a JSON document: by path its kinds, readings, facts and evidence."""

def text_dialect(
    fd: int,
    size: int,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    quote: str | None = None,
    escape: str | None = None,
    header: bool | None = None,
    skip_lines: int | None = None,
    comment: str | None = None,
    strict: bool = False,
) -> str:
    """Which layouts a text can have, as a JSON document with the evidence against the others. An empty quote or comment is none.

    What stands above the table is looked for when neither `skip_lines` nor `comment` is given. `delimiter` and `quote`, both
    given, are ruled out by records that contradict them only when it is `strict`.
    """

@final
class Repeats:
    """All values of some columns that were seen so far: which come a second time."""

    def __new__(cls, values_max: int) -> Self:
        """Nothing was seen yet; at most so many different values may be."""

    def repeated(self, column: int, offsets: bytes, data: bytes) -> list[int]:
        """See values of a column, and give the positions of those that it had before.

        Args:
            column: its number.
            offsets: 32 bits each, little-endian: a value lies from one of them to the next.
            data: the values.

        Raises:
            OverflowError: there are too many different values.
            ValueError: the offsets lie outside of the data.
        """
