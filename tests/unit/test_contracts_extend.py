"""An amendment from drifted files keeps all that was said, and adds what is new."""

from __future__ import annotations

from typing import Any

import pytest

from casparian.contracts import amend, extend
from casparian.domain.datasets import Effect
from casparian.errors import ContractError
from tests.factories.datasets import EVENTS, dataset, with_user

USER: dict[str, Any] = {"name": "user", "source": "user", "type": "utf8", "nullable": False}
HEADER = ["time", "src", "n", "user"]


def test_a_new_header_and_its_column_are_added_and_nothing_else_changes() -> None:
    after = extend.extended(dataset(), [HEADER], [USER])
    assert after == dataset(with_user)
    assert amend.compare(dataset(), after).effect is Effect.NONE


def test_a_header_that_only_moves_cells_needs_no_column() -> None:
    after = extend.extended(dataset(), [["n", "time", "src"]], [])
    assert after.columns == dataset().columns
    assert amend.compare(dataset(), after).effect is Effect.NONE


def test_a_column_that_the_new_header_lacks_may_be_null() -> None:
    def required(values: dict[str, Any]) -> None:
        values["columns"][2]["nullable"] = False

    after = extend.extended(dataset(required), [["time", "src"]], [])
    assert after.columns[2].nullable
    assert amend.compare(dataset(required), after).effect is Effect.RELAXES


def test_a_name_that_is_taken_gets_a_number() -> None:
    after = extend.extended(
        dataset(), [["time", "src", "n", "N"]], [{**USER, "name": "N", "source": "N"}]
    )
    assert [column.name for column in after.columns] == ["time", "src", "n", "N_2"]


def test_files_that_have_not_drifted_are_no_amendment() -> None:
    with pytest.raises(ContractError) as caught:
        extend.extended(dataset(), [["time", "src", "n"]], [])
    assert caught.value.code == "contract.unchanged"


def test_only_new_columns_of_delimited_text_are_asked_about() -> None:
    found = {"columns": [{"source": s} for s in HEADER], "headers": [HEADER, ["time"]], "rows": 3}
    narrowed = extend.of_new_columns(dataset(), found)
    assert narrowed == {"columns": [{"source": "user"}], "headers": [["user"]], "rows": 3}
    assert extend.of_new_columns(dataset(with_user), found) is None


def test_fields_of_what_is_kept_as_one_value_are_not_new() -> None:
    sources = [["id"], ["id", "low"], ["user", "name"], ["user", "id"], ["host"]]
    found = {"columns": [{"source": source} for source in sources]}
    narrowed = extend.of_new_columns(dataset(base=EVENTS), found)
    assert narrowed == {"columns": [{"source": ["user", "id"]}, {"source": ["host"]}]}
    proposed = [{"name": "host", "source": ["host"], "type": "utf8"}]
    after = extend.extended(dataset(base=EVENTS), (), proposed)
    assert amend.compare(dataset(base=EVENTS), after).effect is Effect.NONE
