"""`make appliance-test`: finished sticks, put into bare machines without a network.

python -m tests.appliance [--rooms bookworm,trixie] [--page FILE] …

For each room: the newcomer's page is walked (install, doctor, the main job, a query, a key, a parser signed and deployed, an
update under a running sentinel, back and forth), then everything is tried that must be refused, and what happens to
people: power cuts, a stick pulled out, a full disk. Exit code 0 when all of it held.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from tests.appliance import accidents, attacks, figures, page, root_file_systems
from tests.appliance.log import Log
from tests.appliance.room import Room, RoomUnavailableError, why_not

_BARE = """
test "$(id -u)" = 1000
test "$(ls /sys/class/net)" = lo
test "$(wc -l < /proc/net/route)" -le 1
! command -v python3
! command -v cc
! command -v gcc
! touch /usr/x 2>/dev/null
"""


def main() -> int:
    """Run everything."""
    arguments = _arguments()
    reason = why_not()
    if reason is not None:
        sys.stderr.write(f"cannot make a room here: {reason}\n")
        return 2
    log = Log()
    work = arguments.work.resolve()
    evidence = _evidence(work)
    if arguments.sticks is None:  # those of another state of the sources are none of these
        arguments.sticks = work / "sticks"
        shutil.rmtree(arguments.sticks, ignore_errors=True)
    try:
        for index, suite in enumerate(arguments.rooms.split(",")):
            log.title(f"a room of {suite}")
            _room(suite, work, evidence, arguments, log, first=index == 0)
    except RoomUnavailableError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    log.note("")
    log.note(f"{log.held} things held")
    figures.show(log, arguments.page, rounds=arguments.rounds)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.appliance", description=__doc__)
    parser.add_argument("--rooms", default=",".join(root_file_systems.SUITES))
    parser.add_argument("--work", type=Path, default=Path("build/appliance"))
    parser.add_argument("--sticks", type=Path, help="sticks that are made already, named 1 and 2")
    parser.add_argument("--cuts", type=int, default=12, help="power cuts in each room")
    parser.add_argument("--every", type=int, default=1, help="flip bytes in each n-th file only")
    parser.add_argument("--rounds", type=int, default=5, help="of what is measured")
    parser.add_argument("--mirror", default=root_file_systems.MIRROR, help="of Debian")
    parser.add_argument("--page", type=Path, help="write the figures to this page")
    return parser.parse_args()


def _room(
    suite: str,
    work: Path,
    evidence: Path,
    arguments: argparse.Namespace,
    log: Log,
    *,
    first: bool,
) -> None:
    folder = work / "rooms" / f"{suite}.run"
    if folder.exists():
        shutil.rmtree(folder)
    with log.check(f"a bare {suite}, without Python and compilers"):
        if suite == "host":
            root = root_file_systems.of_this_machine(folder / "root")
        else:
            archive = root_file_systems.debian(suite, work / "rooms", mirror=arguments.mirror)
            root = root_file_systems.unpack(archive, folder / "root")
    room = Room(root, folder, evidence=evidence)
    sticks = arguments.sticks.resolve()
    with room.powered():
        with log.check("no network, an ordinary user, nothing that can be written but a home"):
            room.sh(_BARE)
        with log.check("the newcomer's page, from the stick to the roll-back and beyond"):
            page.walk(room, folder, log, sticks=sticks)
        # The page ends with the newer version; what follows begins with the older one.
        room.run("casparian/bin/casparian", "bundle", "rollback")
        room.plug(sticks / "2")
        if first:
            figures.measure(room, evidence, arguments.rounds, log)
        attacks.flipped_bytes(room, log, every=arguments.every if first else 10 * arguments.every)
        attacks.other_changes(room, log)
        accidents.full_disk(room, log)
        accidents.power_cuts(room, log, cuts=arguments.cuts)
        accidents.pulled_out(room, log, sticks / "2")
        accidents.older(room, log, sticks / "1")
        accidents.uninstall(room, log)
    shutil.rmtree(folder)


def _evidence(work: Path) -> Path:
    """The event logs of the development corpus, else the evidence of the demonstration."""
    corpus = os.environ.get("CASPARIAN_CORPUS")
    if corpus:
        return Path(corpus, "evtx").resolve()
    from casparian.demo.world import build_evidence

    folder = work / "evidence"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build_evidence(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
