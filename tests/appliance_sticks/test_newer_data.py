"""A rollback to a version that does not know the home's schema: the copy goes back, or it is refused with the reason."""

from __future__ import annotations

import pytest

from casparian.appliance.stick.home_side import HomeCopy
from casparian.control import autostart, backups
from casparian.errors import CasparianError
from tests.factories.laboratory import Laboratory, import_trust
from tests.factories.sticks import make_stick

NEWEST = 7


class NewerHome:
    """A real home, whose database looks as if the newer version had brought it to the next schema."""

    def __init__(self, side, migrated=True):
        self._side = side
        self.migrated = migrated

    def __getattr__(self, name):
        return getattr(self._side, name)

    def state(self):
        found = self._side.state()
        if found is None or not self.migrated:
            return found
        return HomeCopy(
            file=found.file,
            schema=found.schema + 1,
            tape_seq=found.tape_seq,
            tape_hash=found.tape_hash,
        )


@pytest.fixture
def updated(place, tmp_path):
    """Version 2 is in use, of a newer schema; the update has copied the home's database."""
    place.apply(make_stick(tmp_path / "one", release=1))
    begin(place.home)
    done = place.apply(make_stick(tmp_path / "two", release=2, database_schema=NEWEST + 1))
    assert done.copy is not None
    assert done.copy.schema == NEWEST
    place.side = NewerHome(place.side)
    yield place
    autostart.stop(place.home)


def begin(home):
    """A home with a control database."""
    autostart.connect(home).close()
    autostart.stop(home)


def record_something(place, tmp_path):
    (tmp_path / "lab").mkdir()
    laboratory = Laboratory(tmp_path / "lab")
    with autostart.connect(place.home) as client:
        import_trust(client, laboratory.root, fingerprint=laboratory.fingerprint)
    autostart.stop(place.home)


def test_the_copy_goes_back_when_nothing_was_recorded_since(updated):
    done = updated.roll_back()
    assert done.restored is not None
    assert done.lost == 0
    assert (updated.home.root / done.aside).is_dir()
    assert updated.store.current == "1.0.0-1"
    assert updated.side._side.state().schema == NEWEST


def test_work_that_was_recorded_since_is_not_lost_silently(updated, tmp_path):
    record_something(updated, tmp_path)
    before = updated.side._side.state()
    with pytest.raises(CasparianError, match="entries were recorded since") as caught:
        updated.roll_back()
    assert caught.value.code == "stick.newer_data"
    assert "--discard-newer" in caught.value.hint
    assert updated.store.current == "1.0.0-2"
    after = updated.side._side.state()
    assert (after.tape_seq, after.tape_hash) == (before.tape_seq, before.tape_hash)
    # … and goes where a person says that it may
    asked = updated.roll_back(discard_newer=True, dry_run=True)
    assert updated.store.current == "1.0.0-2"
    done = updated.roll_back(discard_newer=True)
    assert done.lost == asked.lost >= 1
    assert updated.store.current == "1.0.0-1"
    assert (updated.home.root / done.aside / updated.home.control_database.name).is_file()
    # the restore itself is on the tape of what came back
    assert updated.side._side.state().tape_seq == updated.side._side.copies()[0].tape_seq + 1


@pytest.mark.slow
def test_a_database_that_the_older_version_knows_stays(updated):
    updated.side.migrated = False
    done = updated.roll_back()
    assert (done.restored, done.aside) == (None, None)


@pytest.mark.slow
def test_without_a_copy_it_is_refused(updated):
    for path in updated.home.backups.iterdir():
        path.unlink()
    assert backups.backups(updated.home) == []
    with pytest.raises(CasparianError, match="no copy") as caught:
        updated.roll_back(discard_newer=True)
    assert caught.value.code == "stick.newer_data"
    assert updated.store.current == "1.0.0-2"


@pytest.mark.slow
def test_killed_between_restore_and_switch_it_goes_on(updated):
    class Cut(Exception):
        pass

    def cut(name):
        if name == "restored":
            raise Cut

    with pytest.raises(Cut):
        updated.roll_back(step=cut)
    assert updated.store.current == "1.0.0-2"
    updated.side.migrated = False  # what came back is the older schema
    done = updated.roll_back()
    assert done.restored is None
    assert updated.store.current == "1.0.0-1"
