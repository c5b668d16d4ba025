"""Prove one row: read the bytes again, run the same parser again, compare every column.

A row is *proven* when nothing differs. What is compared, each under the name that `differences`
uses:
  * `output_file.blake3`     the file that holds the row has the hash it was committed with;
  * `_cf_…`                  the row says the source, parser and contract that the catalog recorded;
  * `evidence.path`, `source_hash`, `sha256`   the evidence is there and is the same;
  * `companion.ROLE`         so is each file that was read with it (a hive's logs, a database's journal);
  * `parser.artifact_hash`, `parser.trust`     the parser on disk is the one that ran, and may run;
  * `contract`               the contract in force is the one the row was checked against;
  * every column of the row but the volatile ones, derived again from the bytes as they are now, so
    that a change in the evidence also names the column that it changes.

Another engine (native core, Python or pyarrow of another version) is said, and is not a
difference: that the rows are still equal is the stronger statement. Hashes are computed without
    the native module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import msgspec

from casparian.appliance import evidence
from casparian.appliance.rederive import Rederived
from casparian.contracts import overrides, wide
from casparian.contracts.dataset import read_dataset
from casparian.display import show
from casparian.domain import datasets
from casparian.domain.contracts import OutputContract
from casparian.domain.limits import LIMITS_RAISED
from casparian.domain.lineage import VOLATILE_COLUMNS, RowId
from casparian.domain.outputs import QUARANTINE_TABLE, SinkKind
from casparian.domain.parsers import ConfigValue, ParserArtifact
from casparian.domain.trust import TrustRecord
from casparian.errors import CasparianError, IntegrityError
from casparian.paths import Home, first_party_parsers
from casparian.protocol.engine import current_engine_hash
from casparian.protocol.identity import contract_hash
from casparian.query import lineage
from casparian.query.engine import Query
from casparian.query.lineage import Link
from casparian.query.rows import FoundRow, find_row, materialization, read_row_id
from casparian.trust import library, verdict
from casparian.trust.artifact import hash_artifact, read_artifact

Verify = Callable[[ParserArtifact], TrustRecord]
_SHOWN_CHARACTERS_MAX = 300


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it was.

    `expected` is what was recorded (for a column: what the bytes give now), `found` is what is
    there now (for a column: what the row says). Values are as JSON carries them, long texts cut.
    """

    field: str
    expected: Any
    found: Any


class WhyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was proven about a row, and what was not.

    Each link of `chain` says whether it verified; `notes` say what could not be checked and why.
    """

    row_id: str
    proven: bool
    engine: Literal["same", "different"]
    chain: tuple[Link, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    def to_builtins(self) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "row_id": self.row_id,
            "proven": self.proven,
            "engine": self.engine,
            "chain": [link.to_builtins() for link in self.chain],
            "differences": [msgspec.to_builtins(difference) for difference in self.differences],
            "notes": list(self.notes),
        }


class Shared:
    """What the proofs of several rows share: a source is hashed and derived again once while its rows follow each other.

    A context manager: leaving it removes what was derived last. Not for use by several threads.
    """

    def __init__(self) -> None:
        self._hashes: dict[str, str] = {}
        self._evidence: tuple[list[evidence.Place], evidence.FoundEvidence | None] | None = None
        self._rederived: tuple[Any, Rederived] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def _let_go(self) -> None:
        if self._rederived is not None:
            self._rederived[1].close()
            self._rederived = None

    def file_blake3(self, path: str) -> str:
        """BLAKE3 of a committed file."""
        if path not in self._hashes:
            self._hashes[path] = evidence.file_blake3(path)
        return self._hashes[path]

    def evidence_at(self, places: list[evidence.Place]) -> evidence.FoundEvidence | None:
        """The evidence as it is now."""
        if self._evidence is None or self._evidence[0] != places:
            self._evidence = (places, evidence.find(places))
        return self._evidence[1]

    def rederived(self, **asked: Any) -> Rederived:
        """The source derived again, as `Rederived` does it; closed here."""
        if self._rederived is None or self._rederived[0] != asked:
            self._let_go()
            self._rederived = (asked, Rederived(**asked))
        return self._rederived[1]


def why(home: Home, row: str, *, verify: Verify | None = None) -> WhyReport:
    """Check the whole chain behind a row.

    Args:
        home: where the row was committed.
        row: its `_cf_row_id`; rows of `quarantine` have one too.
        verify: the trust record of a parser that may run, else raises `Refused`; the home's own trust when not given.

    Raises:
        UsageError: `row.malformed` or `row.unknown`.
        CasparianError: `query.no_outputs`.
    """
    with Query(home) as query, Shared() as shared:
        return prove(home, query, read_row_id(row), shared, verify)


def prove(
    home: Home, query: Query, row_id: RowId, shared: Shared, verify: Verify | None = None
) -> WhyReport:
    """As `why`, with what is shared between rows.

    Raises:
        UsageError: `row.unknown`.
    """
    return _Proof(home, query, row_id, shared, verify).report()


class _Proof:
    """The checks of one row, one link after the other."""

    def __init__(
        self, home: Home, query: Query, row_id: RowId, shared: Shared, verify: Verify | None
    ) -> None:
        self._home = home
        self._query = query
        self._row_id = row_id
        self._shared = shared
        self._verify = verify or (lambda artifact: verdict.verify(artifact, home))
        self._trust: TrustRecord | None = None  # the verdict on the parser, for the worker
        self._recorded = materialization(query, row_id)
        self._differences: list[Difference] = []
        self._notes: list[str] = []
        self._row: FoundRow | None = None
        self._verified: dict[str, bool] = {}

    def report(self) -> WhyReport:
        self._find_row()
        evidence_now = self._check_evidence()
        artifact = self._check_parser()
        if self._row is not None:
            self._check_output_file(self._row)
            self._check_lineage(self._row)
            if evidence_now is not None and artifact is not None:
                self._check_values(self._row, evidence_now, artifact)
        engine_is_same = current_engine_hash() == self._recorded["engine_hash"]
        chain = lineage.row_chain(self._query, self._row_id, self._row)
        return WhyReport(
            row_id=str(self._row_id),
            proven=not self._differences,
            engine="same" if engine_is_same else "different",
            chain=tuple(
                msgspec.structs.replace(link, verified=self._verified.get(link.link))
                for link in chain
            ),
            differences=tuple(self._differences),
            notes=tuple(self._notes),
        )

    def _differ(self, field: str, expected: Any, found: Any) -> None:
        self._differences.append(
            Difference(field=field, expected=_shortened(expected), found=_shortened(found))
        )

    def _find_row(self) -> None:
        try:
            self._row = find_row(self._query, self._row_id)
        except IntegrityError as error:
            self._differ("output_file", "readable", error.message)
            return
        if self._row is None:
            self._differ("row", "present", "missing")

    def _check_output_file(self, row: FoundRow) -> None:
        if row.dataset.sink.kind is SinkKind.DUCKDB:
            self._notes.append(
                "a database file changes with every commit: the row is compared, not the file"
            )
            return
        recorded = lineage.output_record(self._query, row.path, self._row_id.table)
        expected = None if recorded is None else recorded["blake3"]
        found = self._shared.file_blake3(row.path)
        self._verified["output_file"] = found == expected
        if found != expected:
            self._differ("output_file.blake3", expected, found)

    def _check_lineage(self, row: FoundRow) -> None:
        """The row's own account of where it comes from against the catalog's."""
        recorded = self._recorded
        expected = {
            "_cf_source_hash": recorded["source_hash"],
            "_cf_source_id": recorded["source_id"],
            "_cf_source_path": recorded["source_path"],
            "_cf_parser": self._label(),
            "_cf_artifact_hash": recorded["artifact_hash"],
        }
        for name, value in expected.items():
            if row.values[name] != value:
                self._differ(name, value, row.values[name])

    def _check_evidence(self) -> evidence.FoundEvidence | None:
        recorded = self._recorded
        sightings = lineage.paths_of(self._query, recorded["source_id"])
        places = evidence.recorded_places(sightings, (recorded["root"], recorded["source_path"]))
        found = self._shared.evidence_at(places)
        if found is None:
            self._verified["source"] = False
            paths = evidence.text(place.path for place in places)
            self._differ("evidence.path", paths or None, "missing")
            return None
        for field, value in (("source_hash", found.source_hash), ("sha256", found.sha256)):
            if value != recorded[field]:
                self._differ(field, recorded[field], value)
        for role, expected in lineage.companions_of(sightings).items():
            beside = found.companions.get(role)
            if beside is None or beside.source_hash != expected:
                now = "missing" if beside is None else beside.source_hash
                self._differ(f"companion.{role}", expected, now)
        self._verified["source"] = found.source_id == recorded["source_id"]
        return found

    def _check_parser(self) -> ParserArtifact | None:
        """The parser to run again; `None` when it is not the one that ran, or may not run."""
        expected = self._recorded["artifact_hash"]
        artifact, found, problem = parser_on_disk(self._recorded, self._home)
        self._verified["parser"] = found == expected
        if found != expected:
            self._differ("parser.artifact_hash", expected, found or problem)
            self._notes.append("the row was not derived again: only the parser that made it can")
        if artifact is None:
            if found == expected:
                self._differ("parser", "usable", problem)
            self._verified["contract"] = False
            return None
        self._check_contract(artifact)
        if found != expected:
            return None
        try:
            self._trust = self._verify(artifact)
        except CasparianError as error:
            then = self._trusted_then()
            if then is not None and error.code in verdict.PROVABLE:
                # Its bytes are those that ran, and it was trusted then: the proof of what it made does not depend on today.
                self._trust = then
                self._notes.append(
                    f"the parser was trusted when it made this row, and is not any more: {error.code}: {error.message}"
                )
                return artifact
            self._verified["parser"] = False
            self._differ("parser.trust", "may run", error.message)
            self._notes.append("the row was not derived again: the parser may not run any more")
            return None
        return artifact

    def _trusted_then(self) -> TrustRecord | None:
        """What was recorded about the parser with the job; `None` for jobs of versions that recorded nothing."""
        if not self._query.has_control("jobs"):
            return None
        found = self._query.fetch(
            f"SELECT * FROM {self._query.control('jobs')} WHERE job_id = ?", [self._row_id.job_id]
        )
        text = found[0].get("trust") if found else None
        return msgspec.json.decode(text, type=TrustRecord) if text else None

    def _label(self) -> str:
        """What the row's parser is called in it."""
        name, version = self._recorded["parser"], self._recorded["parser_version"]
        then = self._trusted_then()
        return f"{name}@{version}" if then is None else then.label(name, version)

    def _check_contract(self, artifact: ParserArtifact) -> None:
        expected = self._contract_hash_of_row()
        try:
            now = self._effective(artifact)
            found = {contract_hash(output) for output in now if self._is_its(output)}
        except CasparianError as error:
            self._verified["contract"] = False
            self._differ("contract", expected, error.message)
            return
        self._verified["contract"] = expected in found
        if expected not in found:
            self._differ("contract", expected, ", ".join(sorted(found)) or "no such table")

    def _effective(self, artifact: ParserArtifact) -> list[OutputContract]:
        """The parser's own contracts in force; of its sparse outputs, that of the row.

        A parser whose table comes from a promoted contract has the one that it was given: later revisions leave old rows alone.
        """
        if datasets.SETTING in artifact.manifest.config:
            config = msgspec.json.decode(self._recorded["parser_config"])
            return [read_dataset(str(config.get(datasets.SETTING, ""))).output]
        override = overrides.find_override(self._home.contracts, artifact.manifest.name)
        contract, tightened = wide.tightened(artifact, override)
        table = self._row_id.table
        if table == QUARANTINE_TABLE and self._row is not None:
            table = self._row.values["table_name"]
        return [*contract.outputs, *(
            tightened.get(table, listed) for listed in wide.of_table(artifact.manifest, table)
        )]  # fmt: skip

    def _contract_hash_of_row(self) -> str:
        """The contract that the row itself names; the recorded one when the row is gone."""
        if self._row is None:
            return str(self._recorded["contract_hash"])
        return str(self._row.values["_cf_contract_hash"])

    def _is_its(self, output: OutputContract) -> bool:
        """Whether it is the contract of the row's table; of a quarantined row, the one it broke."""
        table = self._row_id.table
        if table == QUARANTINE_TABLE:
            return self._row is None or output.table == self._row.values["table_name"]
        return output.table == table

    def _check_values(
        self, row: FoundRow, now: evidence.FoundEvidence, artifact: ParserArtifact
    ) -> None:
        config = msgspec.json.decode(self._recorded["parser_config"], type=dict[str, ConfigValue])
        try:
            rederived = self._shared.rederived(
                home=self._home,
                source=now.task(self._recorded["source_path"], artifact.manifest.companions),
                parser=artifact,
                config=config,
                outputs=self._recorded_contracts(artifact),
                job_id=self._row_id.job_id,
                raised=self._raised(),
                trust=self._trust,
            )
            self._compare(row, rederived, changed=not self._verified["source"])
        except CasparianError as error:
            self._verified["row"] = False
            self._differ("row", "derived again", error.message)

    def _raised(self) -> str:
        """What the job's receipt says of limits above the parser's own."""
        isolation = lineage.job_link(self._query, self._recorded).fields.get("isolation") or {}
        return str(isolation.get(LIMITS_RAISED, ""))

    def _recorded_contracts(self, artifact: ParserArtifact) -> list[OutputContract]:
        """The contract each table had in this job; the one in force where none was recorded."""
        lines = self._query.fetch(
            "SELECT DISTINCT table_name, contract FROM "
            f"{self._query.control('materializations')} WHERE job_id = ? AND source_id = ?",
            [self._row_id.job_id, self._recorded["source_id"]],
        )
        recorded = {
            line["table_name"]: msgspec.json.decode(line["contract"], type=OutputContract)
            for line in lines
        }
        return [recorded.get(output.table, output) for output in self._effective(artifact)]

    def _compare(self, row: FoundRow, rederived: Rederived, *, changed: bool) -> None:
        again = self._again(row, rederived, changed=changed)
        if isinstance(again, str):
            self._verified["row"] = self._verified["bytes"] = False
            self._differ("row", "present", again)
            return
        ignored = set(VOLATILE_COLUMNS)
        if changed:  # said already, as `source_hash`
            ignored |= {"_cf_source_hash", "_cf_source_id"}
        before = len(self._differences)
        for name, value in row.values.items():
            if name in ignored or name == "_cf_row_id":
                continue
            if name not in again:
                if value is not None:  # a database sink has the columns of all versions
                    self._differ(name, "no such column", value)
            elif again[name] != value:
                self._differ(name, again[name], value)
        for name in again.keys() - row.values.keys() - ignored:
            if again[name] is not None:  # a column that a wider contract has added
                self._differ(name, again[name], "no such column")
        self._verified["row"] = len(self._differences) == before
        self._verified["bytes"] = self._verified["row"] and not changed

    def _again(self, row: FoundRow, rederived: Rederived, *, changed: bool) -> dict[str, Any] | str:
        """The row as derived again, or what became of it."""
        table, offset = self._row_id.table, row.values["_cf_offset"]
        if changed:  # positions may have moved: the span is what stays
            again = rederived.row(table, "_cf_offset", offset)
            if again is not None:
                return again
            aside = rederived.row(QUARANTINE_TABLE, "_cf_offset", offset)
            if aside is not None:
                return show(f"quarantined: {aside['reason']}: {aside['message']}")
        return rederived.row(table, "_cf_ordinal", self._row_id.ordinal) or "missing"


def parser_on_disk(
    recorded: dict[str, Any], home: Home
) -> tuple[ParserArtifact | None, str | None, str]:
    """The parser, its hash, and what is wrong: from where it ran, else from where it is now."""
    directories = [recorded["artifact_dir"]]
    directories += [
        str(folder / recorded["parser"]) for folder in (first_party_parsers(), home.parsers)
    ]
    directories.append(str(home.artifacts / recorded["artifact_hash"]))
    first: tuple[ParserArtifact | None, str | None, str] | None = None
    for directory in dict.fromkeys(directories):
        try:
            files = read_artifact(directory)
        except CasparianError as error:
            first = first or (None, None, error.message)
            continue
        found = hash_artifact(files)
        result: tuple[ParserArtifact | None, str | None, str]
        try:
            result = (library.parser_from_files(directory, files), found, "")
        except CasparianError as error:
            result = (None, found, error.message)
        if found == recorded["artifact_hash"]:
            return result
        if first is None or first[1] is None:
            first = result
    assert first is not None
    return first


def _shortened(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS_MAX:
        return value[:_SHOWN_CHARACTERS_MAX] + "…"
    return value
