"""`python -I -B -m casparian.worker --home DIR (--channel-fd N --worker-id W | --once [--progress-fd N])`."""

from __future__ import annotations

import argparse
import sys

from casparian.errors import CasparianError
from casparian.paths import Home


def main() -> int:
    """Work until there is no more; errors go to stderr, where the starter looks for them."""
    parser = argparse.ArgumentParser(prog="casparian.worker", allow_abbrev=False)
    parser.add_argument("--home", required=True, help="the home it works for")
    parser.add_argument("--channel-fd", type=int, help="stream socket to the sentinel")
    parser.add_argument("--worker-id", default="0", help="how the sentinel calls it")
    parser.add_argument("--once", action="store_true", help="one job from stdin to stdout")
    parser.add_argument(
        "--progress-fd", type=int, help="with --once: bytes that are done, in lines"
    )
    arguments = parser.parse_args()
    if arguments.once == (arguments.channel_fd is not None):
        parser.error("give either --once or --channel-fd")
    from casparian.worker import main as work  # loads pyarrow: only when the arguments make sense

    home = Home.at(arguments.home)
    try:
        if arguments.once:
            return work.once(home, arguments.progress_fd)
        return work.serve(home, arguments.channel_fd, arguments.worker_id)
    except CasparianError as error:
        sys.stderr.write(f"casparian.worker: {error.message}\n")
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
