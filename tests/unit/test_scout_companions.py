"""Which file belongs to which, by name and directory, and what that does to identities."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casparian.domain.files import CataloguedFile, FileStatus
from casparian.protocol import identity
from casparian.scout.companions import CompanionRule, names_beside, pair, with_companions
from casparian.scout.discover import discover

HIVES = CompanionRule(tags=frozenset({"registry"}), suffixes=(b".LOG", b".LOG1", b".LOG2"))
DATABASES = CompanionRule(tags=frozenset({"sqlite"}), suffixes=(b"-wal", b"-journal"))
RULES = (HIVES, DATABASES)


def file(path: bytes, content: str = "", tag: str = "registry-log") -> CataloguedFile:
    source_hash = identity.derive("content", content or path)
    return CataloguedFile(
        root="/e",
        path=path,
        display_path=path.decode("utf-8", "backslashreplace"),
        status=FileStatus.CATALOGUED,
        size_bytes=len(content),
        source_hash=source_hash,
        sha256="s",
        source_id=identity.source_id(source_hash),
        tags=(tag,),
    )


def hive(path: bytes, content: str = "") -> CataloguedFile:
    return file(path, content, "registry")


def paired(files: Iterable[CataloguedFile]) -> dict[bytes, dict[str, bytes]]:
    found = pair(list(files), RULES)
    return {f.path: {c.role: c.name for c in f.companions} for f in found if f.companions}


def test_companions_lie_in_the_same_directory_whatever_the_case() -> None:
    found = pair(
        [hive(b"a/NTUSER.DAT"), file(b"a/ntuser.dat.LOG1"), file(b"b/NTUSER.DAT.LOG2"), file(b"c")],
        RULES,
    )
    assert [c.name for c in found[0].companions] == [b"ntuser.dat.LOG1"]
    assert [f.companion_of for f in found] == [None, "a/NTUSER.DAT", None, None]
    assert found[2:] == [file(b"b/NTUSER.DAT.LOG2"), file(b"c")]


def test_a_name_that_is_equal_letter_by_letter_comes_first_and_each_log_belongs_to_one_hive() -> (
    None
):
    logs = [file(b"SYSTEM.LOG1"), file(b"SYSTEM.log1"), file(b"system.LOG1")]
    assert paired([hive(b"SYSTEM"), *logs, hive(b"system")]) == {
        b"SYSTEM": {"LOG1": b"SYSTEM.LOG1"},
        b"system": {"LOG1": b"system.LOG1"},
    }
    assert paired([hive(b"SYSTEM"), logs[0], hive(b"system")]) == {
        b"SYSTEM": {"LOG1": b"SYSTEM.LOG1"}
    }


def test_only_files_with_the_tag_have_companions_and_only_readable_files_are_some() -> None:
    unreadable = msgspec.structs.replace(
        file(b"H.LOG1"), status=FileStatus.UNREADABLE, source_hash=None, source_id=None
    )
    link = msgspec.structs.replace(
        file(b"H.LOG2"), status=FileStatus.LINK, source_hash=None, source_id=None
    )
    files = [
        hive(b"H"),
        file(b"H.LOG"),
        unreadable,
        link,
        file(b"text", tag="text"),
        file(b"text-wal"),
    ]
    assert paired(files) == {b"H": {"LOG": b"H.LOG"}}
    assert paired([file(b"db", tag="sqlite"), file(b"db-wal"), file(b"db.LOG1")]) == {
        b"db": {"WAL": b"db-wal"}
    }


def test_without_rules_nothing_changes() -> None:
    files = [hive(b"H"), file(b"H.LOG1")]
    assert pair(files, ()) == files


_NAMES = st.sampled_from([b"H", b"h", b"H.LOG1", b"h.log1", b"H.LOG", b"H.LOG2", b"K", b"K.LOG1"])


@given(
    st.lists(st.tuples(st.sampled_from([b"", b"d/"]), _NAMES), unique=True),
    st.dictionaries(_NAMES, st.sampled_from(["one", "two"])),
)
def test_identities_follow_from_what_was_paired_and_from_nothing_else(
    paths: list[tuple[bytes, bytes]], contents: dict[bytes, str]
) -> None:
    files = [
        (hive if b"." not in name else file)(folder + name, contents.get(name, "same"))
        for folder, name in sorted(paths)
    ]
    found = pair(files, RULES)
    assert [f.path for f in found] == [f.path for f in files]
    owners = [c.display_path for f in found for c in f.companions]
    assert len(owners) == len(set(owners))
    assert set(owners) == {f.display_path for f in found if f.companion_of is not None}
    for before, after in zip(files, found, strict=True):
        assert before.source_hash is not None
        ids = [identity.companion_id(c.role, c.source_hash) for c in after.companions]
        assert after.source_id == identity.source_id(before.source_hash, ids)
        assert (after.source_id == before.source_id) == (not after.companions)
        for companion in after.companions:
            assert (after.path + b"." + companion.role.encode()).lower() == os.path.join(
                os.path.dirname(after.path), companion.name
            ).lower()


@given(st.permutations([("LOG1", "a"), ("LOG2", "b"), ("LOG", "a")]))
def test_the_order_of_companions_does_not_matter_and_their_roles_do(
    companions: list[tuple[str, str]],
) -> None:
    ids = [identity.companion_id(role, content) for role, content in companions]
    expected = [
        identity.companion_id(r, c) for r, c in (("LOG", "a"), ("LOG1", "a"), ("LOG2", "b"))
    ]
    assert identity.source_id("h", ids) == identity.source_id("h", expected)
    swapped = [identity.companion_id(r, c) for r, c in (("LOG", "a"), ("LOG1", "b"), ("LOG2", "a"))]
    assert identity.source_id("h", ids) != identity.source_id("h", swapped)
    assert identity.source_id("h", ids) != identity.source_id("h", ids[1:])
    assert identity.source_id("h", []) == identity.source_id("h")


def test_names_beside_one_file() -> None:
    names = [b"system.log1", b"SYSTEM.LOG2", b"OTHER.LOG1", b"SYSTEM"]
    assert names_beside(b"SYSTEM", HIVES.suffixes, names) == {
        "LOG1": b"system.log1",
        "LOG2": b"SYSTEM.LOG2",
    }


def scan(root: Path) -> dict[bytes, CataloguedFile]:
    files, _ = discover(
        os.fsencode(root),
        tag_rules=(),
        tags_by_hand={},
        threads=1,
        report=lambda *_: None,
        companion_rules=RULES,
    )
    return {f.path: f for f in files}


def test_a_root_that_is_one_file_gives_the_same_source_as_its_directory(tmp_path: Path) -> None:
    (tmp_path / "SYSTEM").write_bytes(b"regf" + bytes(28))
    (tmp_path / "SYSTEM.LOG1").write_bytes(b"log")
    (tmp_path / "SYSTEM.LOG2").symlink_to("SYSTEM.LOG1")
    whole, alone = scan(tmp_path), scan(tmp_path / "SYSTEM")
    assert list(alone) == [b"SYSTEM"]
    assert [c.role for c in alone[b"SYSTEM"].companions] == ["LOG1"]
    assert alone[b"SYSTEM"].source_id == whole[b"SYSTEM"].source_id
    assert alone[b"SYSTEM"].companions == whole[b"SYSTEM"].companions
    assert scan(tmp_path / "SYSTEM.LOG1")[b"SYSTEM.LOG1"].companions == ()


def test_only_what_has_content_has_an_identity() -> None:
    with pytest.raises(AssertionError):
        with_companions(msgspec.structs.replace(hive(b"H"), source_hash=None), ())
