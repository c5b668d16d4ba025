"""`python -I -B -m casparian.guest --home DIR --channel-fd N [--user UID:GID] [--preload MODULE]… [--lean]`: the zygote."""

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
    parser.add_argument(
        "--user", type=_user, metavar="UID:GID", help="whom to become; needed by root"
    )
    parser.add_argument(
        "--preload",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that parsers need",
    )
    parser.add_argument(
        "--environment", default="", metavar="DIR", help="packages that parsers may ask for"
    )
    parser.add_argument("--lean", action="store_true", help="for guests that run no parser")
    arguments = parser.parse_args()
    from casparian.guest.zygote import main  # loads much: only when the arguments make sense

    main(
        arguments.channel_fd,
        arguments.user,
        tuple(arguments.preload),
        environment=arguments.environment,
        lean=arguments.lean,
    )


def _user(text: str) -> tuple[int, int]:
    uid, _, gid = text.partition(":")
    return int(uid), int(gid)


if __name__ == "__main__":
    _main()
