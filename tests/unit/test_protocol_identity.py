"""Identities never change, and everything that should make a difference does."""

from __future__ import annotations

import blake3
import msgspec
import pytest

from casparian import _native
from casparian.domain.contracts import Column, OutputContract
from casparian.domain.outputs import Sink, SinkKind, SinkMode
from casparian.protocol import identity

OUTPUT = OutputContract(
    table="t",
    main=True,
    columns=(
        Column(name="a", type="int64", nullable=False, doc="first"),
        Column(name="b", type="list<utf8>"),
    ),
)
PARTS = identity.KeyParts(
    dataset_id="d" * 64,
    schema_hash="s" * 64,
    sink_mode=SinkMode.APPEND,
    sink_config_hash="c" * 64,
    source_id="o" * 64,
    artifact_hash="a" * 64,
    env_hash="e" * 64,
    engine_hash="n" * 64,
    parser_config_hash="p" * 64,
    contract_hash="k" * 64,
    lineage_version=1,
)

# Written down once. A change here means that every materialization ever recorded would be made again.
GOLDEN = {
    "derive": (
        identity.derive("d", "a", b"b"),
        "1d09eae8466f2424289777aee5c53c209529e90ffd362db07a7771929ae14c1e",
    ),
    "approval": (
        identity.approval_content_hash(
            "limits.raise",
            "windows.evtx",
            "settings/limits.windows.evtx",
            '{"limits":{"memory_mb":4096},"parser":"windows.evtx"}',
            ["parser windows.evtx", "- memory_mb = 1024", "+ memory_mb = 4096"],
        ),
        "4f4b2257a2d91ca838cbef9208a7a6641e231717f4128b2afe7e7adb99e72b0e",
    ),
    "source_id": (
        identity.source_id("0" * 64),
        "43e0ffd986eebdf294b6befc1290dba3d00f46baf7262c85f73e67dc50580444",
    ),
    "source_id with companions": (
        identity.source_id("0" * 64, ["2", "1"]),
        "3f105287d88599213f73625ca4f78807e8e36bd98bbf28f5a6a30aaac31a2144",
    ),
    "companion": (
        identity.companion_id("LOG1", "0" * 64),
        "ab4f800fdb47225957d0311d8913dd1fe4829334a02637118fe87ac923b635cf",
    ),
    "artifact": (
        identity.artifact_hash([(b"b", "2"), (b"a", "1")]),
        "0849110e1ed75fdadea4cfb376346d082c71affdd71eed0928b1e0b1e9e34e6a",
    ),
    "environment": (
        identity.environment_hash(()),
        "189ef387cf5c8d4e90d13c5abf882f4f7c7af2c431906cfe5649dccf14513b04",
    ),
    "engine": (
        identity.engine_hash("x", "3.11.7", "26.0.1", "2025.2"),
        "1535cab213929edc510e1f0dacce42a99a5ebe9693485f8348163e71ace4d22b",
    ),
    "contract": (
        identity.contract_hash(OUTPUT),
        "a64e6c289de00fd6a715ed347bf4a5fc95a55fd91d588c656465b56a26186e90",
    ),
    "schema": (
        identity.schema_hash(OUTPUT),
        "f3de5977b9fba444767291a11a1b81e45be17ba8cbc33ab48387c861c697b867",
    ),
    "config": (
        identity.config_hash({"b": 1, "a": "x"}),
        "d4280fdb1f26b167b4638c350c288d7caef2901a683d9a8db9590505de58cede",
    ),
    "dataset": (
        identity.dataset_id("parquet:/out", "t"),
        "b9894786067cca2d929514138cce54b6e8726e269a4411326dabc64af7bfa097",
    ),
    "target": (
        PARTS.output_target_key(),
        "c2fa96ec90e118a473038b51d4c6bec6b4e3fdf83283d92746c0d05905365e7f",
    ),
    "materialization": (
        PARTS.materialization_key(),
        "0c9509428cf09caad0187c51340731e4eedf3a58a3dbc8b8ddedcfa473cbf098",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_identities_never_change(name: str) -> None:
    computed, recorded = GOLDEN[name]
    assert computed == recorded


def test_derivation_is_blake3_over_length_prefixed_fields() -> None:
    raw = b"".join(len(f).to_bytes(8, "little") + f for f in (b"d", b"a", b"b"))
    assert identity.derive("d", "a", "b") == blake3.blake3(raw).hexdigest()


def test_fields_cannot_run_into_each_other() -> None:
    assert identity.derive("d", "ab", "c") != identity.derive("d", "a", "bc")


def test_native_and_python_derive_the_same_identity() -> None:
    assert _native.identity("d", [b"a", b"b"]) == identity.derive("d", "a", "b")


@pytest.mark.parametrize("field", identity.KeyParts.__struct_fields__)
def test_every_part_of_the_key_makes_a_difference(field: str) -> None:
    changed = {"sink_mode": SinkMode.REPLACE, "lineage_version": 2}.get(field, "z" * 64)
    other = msgspec.structs.replace(PARTS, **{field: changed})
    assert other.materialization_key() != PARTS.materialization_key()


CONTRACT_CHANGES = {
    "a column's name": {"name": "z"},
    "a column's type": {"type": "int32"},
    "nullability": {"nullable": True},
    "a lower bound": {"minimum": 1},
    "an upper bound": {"maximum": 9},
    "a pattern": {"pattern": "x"},
    "allowed values": {"allowed": ("x",)},
    "the action": {"action": "fail"},
}


@pytest.mark.parametrize("change", CONTRACT_CHANGES)
def test_every_constraint_is_in_the_contract_hash(change: str) -> None:
    column = msgspec.structs.replace(OUTPUT.columns[0], **CONTRACT_CHANGES[change])
    other = msgspec.structs.replace(OUTPUT, columns=(column, OUTPUT.columns[1]))
    assert identity.contract_hash(other) != identity.contract_hash(OUTPUT)


def test_documentation_is_not_in_the_contract_hash() -> None:
    column = msgspec.structs.replace(OUTPUT.columns[0], doc="rewritten")
    other = msgspec.structs.replace(OUTPUT, columns=(column, OUTPUT.columns[1]), doc="too")
    assert identity.contract_hash(other) == identity.contract_hash(OUTPUT)


def test_order_of_columns_is_in_the_schema_hash() -> None:
    other = msgspec.structs.replace(OUTPUT, columns=OUTPUT.columns[::-1])
    assert identity.schema_hash(other) != identity.schema_hash(OUTPUT)


def test_every_sink_setting_is_in_the_sink_config_hash_and_not_in_the_dataset() -> None:
    plain = Sink(kind=SinkKind.PARQUET, location="/out", settings={"level": 3})
    other = Sink(kind=SinkKind.PARQUET, location="/out", settings={"level": 4})
    assert identity.sink_config_hash(plain) != identity.sink_config_hash(other)
    assert identity.dataset_id(plain.uri, "t") == identity.dataset_id(other.uri, "t")


def test_companions_are_a_set() -> None:
    assert identity.source_id("0", ["a", "b"]) == identity.source_id("0", ["b", "a"])
    assert identity.source_id("0", ["a"]) != identity.source_id("0")
