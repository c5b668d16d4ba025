"""What doctor says of an installation."""

from __future__ import annotations

from pathlib import Path

from casparian.appliance import doctor_installation
from tests.factories.sticks import make_stick


def test_a_good_installation_names_its_version_key_and_floor(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    place.apply(stick)
    for verify in (False, True):
        found = doctor_installation.check(place.store, verify=verify)
        assert found.status == "ok", found
        assert stick.name in found.message
        assert "SHA256:" in found.message
        assert "no version before it" in found.message


def test_a_changed_file_is_found_when_files_are_verified(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    place.apply(stick)
    program = Path(place.store.version_path(stick.name)) / "bin" / "casparian"
    program.write_bytes(program.read_bytes() + b"#")
    assert doctor_installation.check(place.store, verify=False).status == "ok"
    found = doctor_installation.check(place.store, verify=True)
    assert found.status == "fail"
    assert "bin/casparian" in found.message


def test_a_link_that_leads_nowhere_and_a_changed_document_are_found(place, tmp_path):
    stick = make_stick(tmp_path / "stick")
    place.apply(stick)
    document = Path(place.store.version_path(stick.name)) / "stick" / "stick.json"
    document.write_bytes(document.read_bytes().replace(b"appliance", b"Appliance"))
    assert doctor_installation.check(place.store, verify=False).status == "fail"
    (Path(place.store.path) / "current").unlink()
    found = doctor_installation.check(place.store, verify=False)
    assert found.status == "fail"
    assert "`current`" in found.message
    assert found.hint


def test_a_program_that_no_stick_installed_is_not_asked():
    assert doctor_installation.check_own(verify=False) == []
