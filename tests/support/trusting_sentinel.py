"""A sentinel that lets every parser run, so that hostile ones can be tried.

    python trusting_sentinel.py --home DIR [--workers N]

Only the verdict about the artifact is replaced; everything else is the product. A program of the tests, never installed.
"""

from __future__ import annotations

import argparse
import sys

from casparian.paths import Home
from casparian.sentinel.main import serve
from casparian.trust import verdict


def _anything(artifact: object) -> None:
    del artifact


def main() -> None:
    """Serve a home until told to stop."""
    options = argparse.ArgumentParser()
    options.add_argument("--home", required=True)
    options.add_argument("--workers", type=int, default=2)
    chosen = options.parse_args()
    verdict.verify = _anything
    serve(Home.at(chosen.home), on_demand=False, workers=chosen.workers)


if __name__ == "__main__":
    sys.exit(main())
