"""`python -m casparian.sentinel --home DIR [--on-demand] [--workers N]`: the sentinel's process."""

from __future__ import annotations

import argparse
import sys

from casparian.errors import CasparianError
from casparian.paths import Home
from casparian.sentinel.main import serve


def main() -> int:
    """Serve a home; errors go to stderr, where the starter looks for them."""
    parser = argparse.ArgumentParser(prog="casparian.sentinel")
    parser.add_argument("--home", required=True)
    parser.add_argument("--on-demand", action="store_true", help="stop when idle")
    parser.add_argument("--workers", type=int, default=None)
    arguments = parser.parse_args()
    try:
        serve(Home.at(arguments.home), on_demand=arguments.on_demand, workers=arguments.workers)
    except CasparianError as error:
        print(f"{error.code}: {error.message}", file=sys.stderr)  # noqa: T201 - the starter reads it
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201 - the starter reads it
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
