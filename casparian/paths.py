"""Where a home keeps its things, and how processes of one home find each other.

HOME/home_id                 UUID of this home
HOME/config.toml             settings a person edits (`casparian config`)
HOME/casparian_flow.duckdb   control database: only the sentinel opens it
HOME/backups/                copies of the control database
HOME/catalog.duckdb          views over committed outputs, replaced by rename
HOME/outputs/                default sink
HOME/quarantine/             rows that were set aside, with their bytes
HOME/parsers/                parsers that did not come with the product
HOME/environments/           packages of parsers, one folder an environment; can be made again
HOME/contracts/              stricter contracts of this laboratory
HOME/trust/                  root, policy and floors; written by the sentinel alone
HOME/artifacts/              deployed parsers by artifact hash; written by the sentinel alone
HOME/logs/                   one file a process
HOME/run/                    socket and locks of the running sentinel
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from casparian import installation

HOME_VARIABLE = "CASPARIAN_HOME"


def default_home() -> Path:
    """`CASPARIAN_HOME`, else `~/.casparian_flow`."""
    chosen = os.environ.get(HOME_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".casparian_flow"


@dataclass(frozen=True)
class Home:
    """All paths of one home, as absolute paths."""

    root: Path

    @classmethod
    def at(cls, directory: str | os.PathLike[str]) -> Home:
        """Home at a directory, made absolute; nothing is created."""
        return cls(Path(os.path.abspath(directory)))

    @property
    def home_id_file(self) -> Path:
        """UUID of this home."""
        return self.root / "home_id"

    @property
    def config_file(self) -> Path:
        """Settings a person edits."""
        return self.root / "config.toml"

    @property
    def control_database(self) -> Path:
        """DuckDB file that only the sentinel opens."""
        return self.root / "casparian_flow.duckdb"

    @property
    def control_log(self) -> Path:
        """Write-ahead log of the control database; a copy of the one without the other is stale."""
        return self.root / "casparian_flow.duckdb.wal"

    @property
    def backups(self) -> Path:
        """Copies of the control database."""
        return self.root / "backups"

    @property
    def catalog(self) -> Path:
        """Views-only DuckDB file, replaced by rename."""
        return self.root / "catalog.duckdb"

    @property
    def outputs(self) -> Path:
        """Directory of the default sink."""
        return self.root / "outputs"

    @property
    def quarantine(self) -> Path:
        """Directory of quarantined rows."""
        return self.root / "quarantine"

    @property
    def parsers(self) -> Path:
        """Parsers that did not come with the product."""
        return self.root / "parsers"

    @property
    def contracts(self) -> Path:
        """Stricter contracts of this laboratory, one TOML file a parser."""
        return self.root / "contracts"

    @property
    def environments(self) -> Path:
        """Packages that parsers import, one folder an environment."""
        return self.root / "environments"

    @property
    def trust(self) -> Path:
        """Root, policy and floors of this home."""
        return self.root / "trust"

    @property
    def artifacts(self) -> Path:
        """Deployed parsers, one folder an artifact hash."""
        return self.root / "artifacts"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Socket and locks of the running sentinel."""
        return self.root / "run"

    @property
    def lock_file(self) -> Path:
        """Held with `flock` by the one sentinel of this home."""
        return self.run / "sentinel.lock"

    @property
    def socket(self) -> Path:
        """Control API."""
        return self.run / "control.sock"


def first_party_parsers() -> Path:
    """Folder of the parsers that came with the product: beside the package, in every form of it."""
    return installation.package().parent / "parsers"
