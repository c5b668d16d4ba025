"""An installation to be, a home that holds nothing yet, and one way to apply a stick."""

from __future__ import annotations

from pathlib import Path

import pytest

from casparian.appliance.stick.apply import Applied, Applying, Options
from casparian.appliance.stick.checklist import Checklist
from casparian.appliance.stick.installation_store import InstallationStore
from casparian.appliance.stick.rollback import RolledBack, roll_back
from casparian.control.stick_home import StickHome
from casparian.errors import CasparianError
from casparian.paths import Home
from tests.factories.sticks import MadeStick


class Place:
    """One installation and one home."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = InstallationStore(directory / "opt" / "casparian")
        self.home = Home.at(directory / "home")
        self.side = StickHome(self.home)
        self.checklist = Checklist()

    def applying(self, stick: MadeStick | Path, **named: object) -> Applying:
        path = stick.path if isinstance(stick, MadeStick) else stick
        step = named.pop("step", lambda _name: None)
        machine = named.pop("machine", None)
        store = named.pop("store", self.store)
        side = named.pop("side", self.side)
        self.checklist = Checklist()
        options = Options(**named)  # type: ignore[arg-type]
        return Applying(
            str(path),
            store,
            side,
            options,
            self.checklist,
            step=step,
            machine=machine,  # type: ignore[arg-type]
        )

    def apply(self, stick: MadeStick | Path, **named: object) -> Applied:
        return self.applying(stick, **named).apply()

    def refusal(self, stick: MadeStick | Path, **named: object) -> str:
        """The code with which a stick is refused."""
        with pytest.raises(CasparianError) as caught:
            self.apply(stick, **named)
        assert caught.value.hint
        return caught.value.code

    def checked(self, stick: MadeStick | Path, **named: object) -> str | None:
        """The code of the first check that fails without anything being changed."""
        try:
            self.applying(stick, **named).check()
        except CasparianError as error:
            return error.code
        return next((item.code for item in self.checklist.items if not item.passed), None)

    def roll_back(self, **named: object) -> RolledBack:
        self.checklist = Checklist()
        return roll_back(self.store, self.side, self.checklist, **named)  # type: ignore[arg-type]

    def tree(self) -> dict[str, str]:
        """Everything at the installation, as path and kind, size or target."""
        found = {}
        for path in sorted(Path(self.store.path).rglob("*")):
            name = str(path.relative_to(self.store.path))
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = path.read_bytes().hex() if name != ".lock" else ""
            else:
                found[name] = "folder"
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
