"""`python -I -B -m casparian.guest --home DIR --channel-fd N`: the zygote."""

from __future__ import annotations

import argparse


def _main() -> None:
    parser = argparse.ArgumentParser(prog="casparian.guest", allow_abbrev=False)
    parser.add_argument(
        "--home", required=True, help="the home it belongs to; not read, only shown to operators"
    )
    parser.add_argument(
        "--channel-fd", required=True, type=int, help="SEQPACKET socket to the worker"
    )
    arguments = parser.parse_args()
    from casparian.guest.zygote import main  # loads pyarrow: only when the arguments make sense

    main(arguments.channel_fd)


if __name__ == "__main__":
    _main()
