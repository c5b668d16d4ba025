"""The parsers that may take files of a run, with everything that goes into their keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from casparian.contracts import overrides, settings, wide
from casparian.contracts.dataset import canonical
from casparian.db.planning import History
from casparian.display import show
from casparian.domain import datasets
from casparian.domain.contracts import Contract, OutputContract
from casparian.domain.datasets import Effect, Revision
from casparian.domain.files import CataloguedFile
from casparian.domain.limits import LaboratoryLimits
from casparian.domain.lineage import LINEAGE_VERSION
from casparian.domain.outputs import Sink, SinkKind
from casparian.domain.parsers import ConfigValue, ParserArtifact, ParserManifest
from casparian.domain.trust import TrustRecord
from casparian.errors import CasparianError, ContractError, UsageError
from casparian.paths import Home
from casparian.protocol import control, identity
from casparian.protocol.worker import ParserTask, parser_task
from casparian.scout import rules
from casparian.scout.selection import selects_parser
from casparian.sentinel.state import JobSpec, OutputSpec, SparseSpec, output_spec
from casparian.sinks.quarantine import QUARANTINE_CONTRACT
from casparian.sinks.uri import default_settings
from casparian.trust import verdict
from casparian.trust.library import ParserLibrary, Standing


class PlanContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan needs besides the request."""

    home: Home
    engine_hash: str
    library: ParserLibrary
    workers: int
    history: Callable[[Sequence[str]], History]
    now_ns: int
    limits: Mapping[str, LaboratoryLimits] = {}  # of this laboratory, by parser
    datasets: tuple[Revision, ...] = ()  # promoted revisions of dataset contracts, oldest first


class OlderRevision(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that all later ones are compatible with: what was recorded under it stands.

    `relaxed` when a later one may accept rows that it set aside.
    """

    revision: int
    parser_config_hash: str
    contract_hash: str
    schema_hash: str
    relaxed: bool


CARVE = "carve"  # the setting of a parser that can carve


class Candidate:
    """A parser that may take files of this run, with everything that goes into its keys.

    With `carves` it takes what no other takes, and searches it by signature. With `revisions` (of one dataset's contract, oldest
    first) its table, and which files it takes, come from the newest of them.
    """

    def __init__(
        self,
        context: PlanContext,
        request: control.Run,
        artifact: ParserArtifact,
        *,
        carves: bool = False,
        revisions: Sequence[Revision] = (),
    ) -> None:
        manifest = artifact.manifest
        self.artifact = artifact
        self.carves = carves
        self.limits = context.limits.get(manifest.name, LaboratoryLimits())
        self.revision = revisions[-1] if revisions else None
        self.refused: CasparianError | None = None
        self.trust: TrustRecord | None = None
        try:
            self.trust = verdict.verify(artifact, context.home)
        except CasparianError as error:
            self.refused = error
        override = overrides.find_override(context.home.contracts, manifest.name)
        if self.revision is None:
            self.contract, tightened = wide.tightened(artifact, override)
            self.origin = "parser" if override is None else "laboratory"
        else:
            _check_no_override(override, self.revision)
            self.contract, tightened = Contract(outputs=(self.revision.dataset.output,)), {}
            self.origin = f"revision {self.revision.revision}"
        given = dict(request.parser_config.get(manifest.name, {}))
        if carves:
            given[CARVE] = True
        if self.revision is not None:
            given[datasets.SETTING] = canonical(self.revision.dataset)
        config = settings.effective_config(manifest, given)
        outputs = tuple(
            output_spec(output, _sink_of(context, request, output.table))
            for output in self.contract.outputs
        )
        sparse = _sparse_spec(context, request, manifest, config, tightened)
        self.spec = JobSpec(
            root="",
            mode=request.mode,
            parser=self._task(artifact, config),
            env_hash=identity.environment_hash(artifact.requirements),
            engine_hash=context.engine_hash,
            parser_config_hash=identity.config_hash(_decided(config, outputs, sparse)),
            lineage_version=LINEAGE_VERSION,
            sources=(),
            outputs=outputs,
            quarantine=output_spec(QUARANTINE_CONTRACT, quarantine_sink(context.home)),
            quarantine_rows_max=request.quarantine_rows_max,
            quarantine_percent_max=request.quarantine_percent_max,
            min_isolation=request.min_isolation,
            sparse=sparse,
            again=request.force,
        )
        self.older = tuple(_older(revisions, config))

    def _task(self, artifact: ParserArtifact, config: Mapping[str, ConfigValue]) -> ParserTask:
        """The parser's task under the limits in force; these are no part of any key (`domain.limits` says why)."""
        declared = artifact.manifest.limits
        return msgspec.structs.replace(
            parser_task(artifact, config, self.trust),
            limits=self.limits.effective(declared),
            raised=self.limits.approvals(declared),
        )

    def takes(self, file: CataloguedFile) -> bool:
        """Whether the file carries one of the parser's tags; what is only carved carries none of them.

        A dataset's contract says with globs what it is about.
        """
        if self.revision is not None:
            path = file.display_path or os.path.basename(file.root)
            return any(rules.matches(glob, path) for glob in self.revision.dataset.match)
        return not self.carves and not set(self.artifact.manifest.tags).isdisjoint(file.tags)


def _older(
    revisions: Sequence[Revision], config: Mapping[str, ConfigValue]
) -> Iterator[OlderRevision]:
    """Revisions under which recorded rows are those that the newest would give, newest first."""
    relaxed = False
    for newer, older in zip(reversed(revisions[1:]), reversed(revisions[:-1]), strict=True):
        if not newer.effect.compatible:
            return
        relaxed = relaxed or newer.effect is Effect.RELAXES
        settings_then = {**config, datasets.SETTING: canonical(older.dataset)}
        yield OlderRevision(
            revision=older.revision,
            parser_config_hash=identity.config_hash(settings_then),
            contract_hash=identity.contract_hash(older.dataset.output),
            schema_hash=identity.schema_hash(older.dataset.output),
            relaxed=relaxed,
        )


def _check_no_override(override: overrides.Override | None, revision: Revision) -> None:
    """A laboratory's stricter contract is about a parser's own tables; this table's contract is the laboratory's anyway."""
    if override is not None:
        raise ContractError(
            f"`{show(override.file)}` would change the contract of `{revision.table}` without an approval",
            hint=f"remove the file, and use `casparian contract amend {revision.table}`",
            code="contract.override",
            file=override.file,
        )


def quarantine_sink(home: Home) -> Sink:
    """Where quarantined rows of a home go, whatever sink the clean rows have."""
    return Sink(
        kind=SinkKind.PARQUET,
        location=str(home.quarantine),
        settings=default_settings(SinkKind.PARQUET),
    )


def default_sink(home: Home) -> Sink:
    """`parquet:<home>/outputs`."""
    return Sink(
        kind=SinkKind.PARQUET,
        location=str(home.outputs),
        settings=default_settings(SinkKind.PARQUET),
    )


def _sink_of(context: PlanContext, request: control.Run, table: str) -> Sink:
    chosen = request.sinks.get(table) or request.sinks.get("")
    return chosen or default_sink(context.home)


def _sparse_spec(
    context: PlanContext,
    request: control.Run,
    manifest: ParserManifest,
    config: Mapping[str, ConfigValue],
    tightened: dict[str, OutputContract],
) -> SparseSpec | None:
    """The outputs that are made only where there are rows of them, if the settings ask for any."""
    numbers = wide.wide_numbers(manifest.kind, manifest.entry, config)
    if not numbers:
        return None
    tables = {wide.wide_contracts()[number].table for number in numbers}
    return SparseSpec(
        sink=_sink_of(context, request, ""),
        sinks={table: sink for table, sink in request.sinks.items() if table in tables},
        tightened={table: output for table, output in tightened.items() if table in tables},
    )


def _decided(
    config: Mapping[str, ConfigValue], outputs: Sequence[OutputSpec], sparse: SparseSpec | None
) -> dict[str, Any]:
    """All that the settings' part of the key covers.

    Sparse outputs have materializations only where they have rows, so that the main output's key must change with what is said
    of them: their sinks, where these are not the main output's, and their stricter contracts.
    """
    if sparse is None:
        return dict(config)
    main = next(output.sink for output in outputs if output.contract.main)
    sinks = {"": sparse.sink, **sparse.sinks}
    places = {
        table: [sink.uri, identity.sink_config_hash(sink)]
        for table, sink in sinks.items()
        if sink != main
    }
    contracts = {table: identity.contract_hash(own) for table, own in sparse.tightened.items()}
    said = {"@sinks": places, "@contracts": contracts}
    return {**config, **{name: value for name, value in said.items() if value}}


def _carvers(
    context: PlanContext, request: control.Run, found: Sequence[Candidate]
) -> list[Candidate]:
    """The parsers that can carve, once more."""
    able = [
        c.artifact
        for c in found
        if CARVE in (options := c.artifact.manifest.config) and options[CARVE].type == "boolean"
    ]
    if not able:
        raise UsageError(
            "no parser of this run can carve",
            code="run.carve",
            hint="`windows.evtx` can: leave out `--parser`, or add `--parser windows.evtx`",
        )
    return [Candidate(context, request, artifact, carves=True) for artifact in able]


def _of_artifact(
    context: PlanContext, request: control.Run, artifact: ParserArtifact
) -> list[Candidate]:
    """The parser itself; or, where its table comes from a contract, the parser once for each promoted one.

    Raises:
        UsageError: `contract.none`: the parser was asked for, and no contract says what it makes; `contract.setting`.
    """
    name = artifact.manifest.name
    if datasets.SETTING not in artifact.manifest.config:
        return [Candidate(context, request, artifact)]
    if datasets.SETTING in request.parser_config.get(name, {}):
        raise UsageError(
            f"`{name}.{datasets.SETTING}` is never given to a run: a table's contract is promoted first",
            hint="casparian contract promote DOCUMENT",
            code="contract.setting",
        )
    tables: dict[str, list[Revision]] = {}
    for revision in context.datasets:
        if revision.dataset.parser == name:
            tables.setdefault(revision.table, []).append(revision)
    if not tables and request.selection.parsers:
        raise UsageError(
            f"no contract says what `{name}` makes of files",
            hint="casparian contract infer FILES --table NAME",
            code="contract.none",
        )
    return [
        Candidate(context, request, artifact, revisions=tables[table]) for table in sorted(tables)
    ]


def candidates(
    context: PlanContext, request: control.Run
) -> tuple[list[Candidate], list[control.FileProblem]]:
    """Parsers of this run, and parser folders that cannot be used.

    Raises:
        CasparianError: a parser that was asked for by name is unknown or unusable, or a setting of it is wrong.
    """
    problems: list[control.FileProblem] = []
    wanted = request.selection.parsers
    artifacts = [context.library.find(name) for name in wanted]
    if not wanted:
        for entry in context.library.list():
            if entry.standing is not Standing.CURRENT:
                continue
            if entry.artifact is not None:
                artifacts.append(entry.artifact)
            elif entry.error is not None:
                problems.append(
                    control.FileProblem(
                        path=entry.directory, code=entry.error.code, message=entry.error.message
                    )
                )
    names = {artifact.manifest.name for artifact in artifacts}
    for name in request.parser_config:
        if name not in names:
            context.library.find(name)  # raises for a name that nobody knows
    found = []
    for artifact in artifacts:
        if selects_parser(
            request.selection,
            name=artifact.manifest.name,
            version=artifact.manifest.version,
            directory=artifact.directory,
        ):
            found += _of_artifact(context, request, artifact)
    if request.carve:
        found += _carvers(context, request, found)
    tables = {output.contract.table for c in found for output in c.spec.outputs}
    tables |= {table for c in found for table in c.spec.sparse_datasets().values()}
    unknown = [table for table in request.sinks if table and table not in tables]
    if unknown:
        raise UsageError(
            f"no output is named `{unknown[0]}`",
            code="sink.table",
            hint=f"outputs here: {', '.join(sorted(tables)) or 'none'}",
            table=unknown[0],
        )
    return found, problems
