"""An installation that runs without having been built: links and folders, an interpreter of its own, the package as files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import casparian
from casparian.appliance.stick.installation_store import InstallationStore

OLD, NEW = "1.0.0-1", "1.0.0-2"
PACKAGE = Path(casparian.__file__).parent


def fake_installation(place: Path, *names: str) -> InstallationStore:
    """Folders and links as an installation has them; nothing in it runs."""
    for name in names:
        (place / "versions" / name / "bin").mkdir(parents=True)
        (place / "versions" / name / "bin" / "casparian").write_text("#!/bin/sh\n")
    (place / "bin").mkdir()
    (place / "bin" / "casparian").symlink_to("../current/bin/casparian")
    (place / "current").symlink_to(f"versions/{names[-1]}")
    if len(names) > 1:
        (place / "previous").symlink_to(f"versions/{names[-2]}")
    (place / "installation.json").write_text('{"schema_version":1,"floor":2}')
    return InstallationStore(place)


class Appliance:
    """An installation that runs: an interpreter of its own, and the package as files in it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.store = fake_installation(place, OLD, NEW)
        version = place / "versions" / NEW
        runtime = version / "runtime"
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", "--copies", str(runtime)], check=True
        )
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = runtime / "lib" / name / "site-packages"
        shutil.copytree(PACKAGE, site / "casparian", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(PACKAGE.parent / "parsers", site / "parsers")
        for found in Path(sysconfig.get_path("purelib")).glob("casparian*.dist-info"):
            shutil.copytree(found, site / found.name)
        (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
        program = version / "bin" / "casparian"
        program.write_text(
            '#!/bin/sh\nhere=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd -P)\n'
            'exec "$here/runtime/bin/python3" -I -B -m casparian "$@"\n'
        )
        program.chmod(0o755)
        self.program = place / "bin" / "casparian"
