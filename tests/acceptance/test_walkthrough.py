"""The walk-through's own commands, from the first key to a proven row of a revoked parser."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def walkthrough() -> ModuleType:
    spec = importlib.util.spec_from_file_location("walkthrough", _DOCS / "walkthrough.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["walkthrough"] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_happens(walkthrough: ModuleType, tmp_path: Path) -> None:
    printed = walkthrough.walk(_DOCS / "tutorial" / "signed-parser.md", tmp_path)
    assert "proven" in printed


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("```sh\nfalse\n```\n", "exit 1"),
        ("```sh\n! true\n```\n", "exit 99"),
        ("```sh\necho two; echo one\n```\n```text\none\ntwo\n```\n", "`two` was not printed"),
        ("no commands\n", "has no commands"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(
    walkthrough: ModuleType, tmp_path: Path, page: str, problem: str
) -> None:
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(walkthrough.WalkthroughError, match=problem):
        walkthrough.walk(tmp_path / "page.md", tmp_path)


def test_what_one_block_exports_holds_in_the_next(walkthrough: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "```sh\nexport A='a b'\n```\n```sh\necho \"$A\"\n! false\n```\n```text\na…b\n```\n"
    )
    walkthrough.walk(tmp_path / "page.md", tmp_path)


def test_a_page_about_two_machines_runs_on_both(walkthrough: ModuleType, tmp_path: Path) -> None:
    here = walkthrough._here(tmp_path)

    def there(script: str) -> object:
        return here("WHERE=there\n" + script)

    (tmp_path / "page.md").write_text(
        "```sh office\nexport A=1; echo here\n```\n```sh field\necho $WHERE ${A:-nothing}\n```\n"
        "```text\nthere nothing\n```\n```sh office\necho $A\n```\n```text\n1\n```\n"
    )
    machines = {
        "office": (here, str(tmp_path / "office.env")),
        "field": (there, str(tmp_path / "field.env")),
    }
    walkthrough.walk(tmp_path / "page.md", tmp_path, machines=machines)
    with pytest.raises(walkthrough.WalkthroughError, match="no machine is called `office`"):
        walkthrough.walk(tmp_path / "page.md", tmp_path)
