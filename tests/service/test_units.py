"""The unit's text, the files of a manager, and what `casparian service` says where no systemd runs."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian.appliance.service import manager as managing
from casparian.appliance.service.manager import Manager, unit_for
from casparian.appliance.service.unit import Scope, Unit, check_path, read_unit, unit_name
from casparian.errors import CasparianError, Conflict, UsageError
from casparian.paths import Home
from tests.service import unit_sandbox
from tests.support.world import World

EXPOSURE_MAX = {"system": 2.5, "user": 7.5}  # 0 is closed, 10 is open; measured: 2.2 and 7.1
letters = st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc"])
printable = st.text(letters, min_size=1)
paths = st.lists(printable.filter(lambda t: "/" not in t and t not in ("..", ".")), min_size=1).map(
    lambda parts: "/" + " ".join(parts)
)
needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed"
)


def unit(home: str, scope: Scope = "system", **changes: object) -> Unit:
    fields: dict[str, object] = {"program": ("/bin/true",), "account": "root", **changes}
    return Unit(scope=scope, home=home, **fields)  # type: ignore[arg-type]


@settings(deadline=None)
@given(home=paths, installation=paths)
def test_whatever_a_path_holds_it_is_read_back_and_is_one_word(
    home: str, installation: str
) -> None:
    home, installation = check_path(home), check_path(installation)
    made = unit(home, installation=installation, writable=(installation,))
    found = read_unit(made.text, "system")
    assert found is not None
    assert (found.home, found.installation) == (home, installation)
    assert found.name == made.name
    service = unit_sandbox.directives(made.text)
    start = unit_sandbox.words(service["ExecStart"][0])
    assert start == ["/bin/true", "--home", home, "sentinel", "serve"]
    assert len(made.name.encode()) < 256
    assert "/" not in made.name


@pytest.mark.parametrize("path", ["relative", "/a\nb", "/a ", "/\x00", "/\udcff", "/\x1b[2J"])
def test_a_path_that_a_unit_cannot_hold_is_refused(path: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_path(path)
    assert caught.value.code == "service.path"


def test_homes_have_units_of_their_own() -> None:
    homes = ["/a/b", "/a-b", "/a_b", "/x" * 200, "/x" * 199 + "/y", "/é", "/è"]
    assert len({unit_name(home) for home in homes}) == len(homes)


@needs_systemd
@pytest.mark.parametrize("scope", ["system", "user"])
def test_systemd_understands_the_unit_and_finds_it_closed(scope: Scope, tmp_path: Path) -> None:
    made = unit('/srv/case 100% "x"$y', scope, account="daemon", writable=("/data/out put",))
    path = tmp_path / made.name
    path.write_text(made.text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    own = [line for line in checked.stderr.splitlines() if made.name in line]
    # Landlock's calls are younger than some systemd: it says so and leaves them out.
    assert [line for line in own if "landlock" not in line] == []
    assert checked.returncode == 0
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--json=short", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    worst = sum(float(row["exposure"] or 0) for row in json.loads(judged.stdout))
    assert worst > 0
    limit = EXPOSURE_MAX[scope] * 10
    subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={limit:.0f}", str(path)],
        capture_output=True,
        check=True,
    )


def test_installing_twice_changes_nothing_and_removing_twice_either(tmp_path: Path) -> None:
    folder, home = tmp_path / "units", Home.at(tmp_path / "home")
    manager = Manager("system", folder=str(folder))
    made = unit_for(home, "system", account="root")
    first = manager.install(made)
    assert first.changed
    assert first.todo == ("systemctl daemon-reload", f"systemctl enable --now {made.name}")
    assert stat.S_IMODE(os.stat(first.path).st_mode) == 0o644
    assert home.root.is_dir(), "a unit cannot start without the folder that it writes to"
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert not manager.install(made).changed
    assert [found.home for found in manager.units()] == [str(home.root)]
    assert manager.standing(made).same
    assert manager.remove(made.name).changed
    assert not manager.remove(made.name).changed
    assert not os.listdir(folder)
    assert home.root.is_dir()


def test_a_file_of_somebody_else_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    manager = Manager("system", folder=str(tmp_path))
    made = unit(str(tmp_path / "home"))
    (tmp_path / made.name).write_text("[Service]\nExecStart=/bin/false\n")
    with pytest.raises(Conflict) as caught:
        manager.install(made)
    assert caught.value.code == "service.foreign"
    with pytest.raises(Conflict) as caught:
        manager.remove(made.name)
    assert caught.value.code == "service.foreign"
    assert "/bin/false" in (tmp_path / made.name).read_text()
    assert manager.units() == []


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    manager = Manager("user", folder=str(tmp_path / "units"))
    made = unit(str(tmp_path / "home"), "user")
    assert manager.install(made, dry_run=True).changed
    assert not list(tmp_path.iterdir())


FAKE = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *Version*) echo Version=252;; *ActiveState*) echo ActiveState=active;; esac
case "$*" in *"{fails}"*) echo "it went wrong" >&2; exit 1;; esac
"""


def fake(tmp_path: Path, fails: str = "never-") -> tuple[Manager, Path]:
    """A manager whose `systemctl` only writes down what it is told."""
    log, program = tmp_path / "log", tmp_path / "systemctl"
    program.write_text(FAKE.format(log=log, fails=fails))
    program.chmod(0o755)
    return Manager("user", folder=str(tmp_path / "units"), systemctl=str(program)), log


def test_a_manager_that_answers_is_told_in_order(tmp_path: Path) -> None:
    manager, log = fake(tmp_path)
    made = unit(str(tmp_path / "home"), "user")
    assert not manager.install(made).todo
    assert manager.start(made.name)
    assert manager.standing(made).state == {"ActiveState": "active"}
    manager.remove(made.name)
    told = [line.removeprefix("--user --no-pager ") for line in log.read_text().splitlines()]
    told = [line for line in told if not line.startswith("show")]
    assert told == [
        "daemon-reload",
        f"enable --now {made.name}",
        f"start --no-ask-password {made.name}",
        f"disable --now {made.name}",
        "daemon-reload",
    ]


def test_a_manager_that_refuses_is_an_error_with_its_words(tmp_path: Path) -> None:
    manager, _ = fake(tmp_path, fails="enable --now")
    made = unit(str(tmp_path / "home"), "user")
    with pytest.raises(CasparianError) as caught:
        manager.install(made)
    assert caught.value.code == "service.failed"
    assert "it went wrong" in caught.value.message


def test_after_an_update_the_service_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, log = fake(tmp_path)
    home = Home.at(tmp_path / "home")
    monkeypatch.setattr(managing, "managers", lambda: (manager,))
    assert not managing.restart_after(home)
    manager.install(unit(str(home.root), "user"), start=False)
    assert managing.restart_after(home)
    assert (
        log.read_text()
        .splitlines()[-1]
        .endswith(f"start --no-ask-password {unit_name(str(home.root))}")
    )


def test_an_unknown_account_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        unit_for(Home.at(tmp_path), "system", account="nobody-of-that-name")
    assert caught.value.code == "service.account"


def test_a_sink_beside_the_home_is_writable(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    made = unit_for(home, "system", account="root", default_sink=f"duckdb:{tmp_path}/o/t.duckdb")
    assert made.writable == (f"{tmp_path}/o",)


def test_the_command_tells_what_is_left_to_do(tmp_path: Path) -> None:
    world = World(tmp_path)
    folder = ("--system", "--folder", str(tmp_path / "units"))
    shown = world.json("service", "show", *folder)
    assert sys.executable in shown["unit"]
    dry = world.json("service", "install", "--dry-run", *folder)
    assert dry["unit"] == shown["unit"]
    assert not world.home.exists()
    done = world.call("service", "install", *folder)
    assert done.returncode == 0, done.stderr
    assert "systemctl enable --now" in done.stdout
    assert "sentinel start" in done.stdout
    (found,) = world.json("service", "status", *folder)["units"]
    assert found["installed"]
    assert not found["manager"]
    assert world.json("service", "uninstall", *folder)["changed"]
    assert world.json("service", "status", *folder, code=3)["units"] == []
