"""What the catalog says: which files hold which rows, and which of those rows are alive.

A dataset is one table in one sink. Its files are listed one by one (never a glob: a directory may
hold files of another home, of an unfinished job or of quarantine). The unit of life is the (job,
source) pair, so a file may hold rows that no longer count:

    retired   in a file, but replaced: in no view
    hidden    alive, but not the newest of its source: in `T__all`, not in `T`
"""

from __future__ import annotations

import msgspec

from casparian.domain.contracts import OutputContract
from casparian.domain.outputs import Sink, SinkKind

Pair = tuple[int, str]  # (job_id, source_id)


class CatalogFile(msgspec.Struct, frozen=True, kw_only=True):
    """One committed file. For a DuckDB sink: the published database file, once for each job.

    `output` and `settings` are the contract and the sink settings the file was written under, when
    they are not the dataset's; `publish` finds them in the `materializations` table when the caller
    leaves them out.
    """

    path: str
    job_id: int
    epoch: int
    rows: int
    output: OutputContract | None = None
    settings: dict[str, str | int | bool] | None = None


class CatalogDataset(msgspec.Struct, frozen=True, kw_only=True):
    """One table in one sink. `output` is the newest contract."""

    table: str
    sink: Sink
    output: OutputContract
    files: tuple[CatalogFile, ...] = ()
    retired: tuple[Pair, ...] = ()
    hidden: tuple[Pair, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Each file that a reader opens, once."""
        if self.sink.kind is SinkKind.DUCKDB:
            return (self.sink.location,) if self.files else ()
        return tuple(dict.fromkeys(file.path for file in self.files))


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """All that a reader needs while no sentinel answers.

    `default_sink` is the canonical URI whose tables carry their bare names when a table lives in
    several sinks.
    """

    home_id: str
    generation: int
    default_sink: str | None
    datasets: tuple[CatalogDataset, ...]
    quarantine: CatalogDataset | None = None

    @property
    def sinks(self) -> tuple[str, ...]:
        """Canonical URIs of all sinks that hold a dataset, sorted."""
        return tuple(sorted({dataset.sink.uri for dataset in self.datasets}))

    def in_sink(self, sink_uri: str) -> tuple[CatalogDataset, ...]:
        """Datasets of one sink."""
        return tuple(dataset for dataset in self.datasets if dataset.sink.uri == sink_uri)

    def resolve(self, table: str) -> CatalogDataset | None:
        """The dataset a bare name means: the default sink's, or the only one; `None` when open."""
        found = [dataset for dataset in self.datasets if dataset.table == table]
        for dataset in found:
            if dataset.sink.uri == self.default_sink:
                return dataset
        return found[0] if len(found) == 1 else None
