"""Two lines of syslog through a real worker and its guest: does this machine do the job?"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Final

import msgspec

from casparian.appliance import evidence
from casparian.appliance.rederive import Rederived
from casparian.contracts.settings import effective_config
from casparian.domain.isolation import IsolationLevel
from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.trust import verdict
from casparian.trust.library import ParserLibrary

PARSER: Final = "linux.syslog"
LINES: Final = (
    b"<34>1 2024-05-01T10:20:30.123456Z host app 1 - - first\n"
    b"<34>1 2024-05-01T10:20:31.654321Z host app 1 - - second\n"
)


class SampleResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the sample, and what confined the guest."""

    rows: int
    balanced: bool
    isolation: dict[str, str]

    @property
    def as_expected(self) -> bool:
        """Both lines are rows, and the ledger agrees."""
        return self.rows == 2 and self.balanced


def run_sample(home: Home) -> SampleResult:
    """Parse the sample in a worker started as jobs' workers are, without a sentinel.

    The sample lies in a new directory of the system's temporary directory; nothing is recorded.

    Raises:
        CasparianError: the parser may not run, or the worker or its guest failed.
    """
    artifact = ParserLibrary.of(home).find(PARSER)
    trust = verdict.verify(artifact, home)
    directory = tempfile.mkdtemp(prefix="casparian-doctor-")
    try:
        path = os.path.join(directory, "sample.log")
        with open(path, "wb") as file:
            file.write(LINES)
        found = evidence.hashed(os.fsencode(path))
        if found is None:
            raise CasparianError("The sample could not be read back", code="doctor.sample")
        with Rederived(
            # a home that does not exist yet is not made by looking at it
            Home.at(directory) if not home.root.is_dir() else home,
            source=found.task("sample.log"),
            parser=artifact,
            trust=trust,
            config=effective_config(artifact.manifest, {}),
            outputs=artifact.contract.outputs,
            job_id=1,
            min_isolation=IsolationLevel.NONE,  # what stands is asked, not demanded
        ) as rederived:
            receipt = rederived.receipt
            (source,) = receipt.sources
            return SampleResult(
                rows=source.rows.get(artifact.contract.main.table, 0),
                balanced=source.ledger is not None and source.ledger.balanced,
                isolation=receipt.isolation,
            )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
