"""Globs, tagging rules, and which files a run is about."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from casparian.domain.files import Rule
from casparian.errors import UsageError
from casparian.protocol.control import Selection
from casparian.scout import rules
from casparian.scout.selection import selects_parser, why_not_selected

GLOBS = [
    # pattern, paths that match, paths that do not
    ("*.evtx", ["a.evtx", "x/y/A.EVTX", ".evtx"], ["a.evtx.bak", "a.evtx/b"]),
    ("auth.log", ["auth.log", "var/log/AUTH.LOG"], ["auth.log.1", "xauth.log", "authslog"]),
    ("auth.log*", ["auth.log.1"], ["x/auth.lo"]),
    ("/notes.txt", ["notes.txt", "NOTES.TXT"], ["a/notes.txt"]),
    ("a/b", ["a/b", "A/B"], ["x/a/b", "a/b/c", "ab"]),
    ("a/*", ["a/b", "a/"], ["a/b/c", "b/a"]),
    ("a/**", ["a/b", "a/b/c"], ["a", "b/a/c"]),
    ("a/", ["a/b", "a/b/c"], ["a", "ab/c"]),
    ("**/a", ["a", "x/a", "x/y/a"], ["xa", "a/x"]),
    ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "ab"]),
    ("**/**/a/**/**", ["a/x", "x/a/y/z"], ["a", "xa/y"]),
    ("**", ["a", "x/a"], []),
    ("a?c", ["abc", "x/aéc"], ["ac", "abbc"]),
    ("[a-c]x", ["ax", "Bx"], ["dx", "-x"]),
    ("[!a]x", ["bx", "]x"], ["ax", "Ax"]),
    ("[]a]x", ["]x", "ax"], ["bx"]),
    ("[^a]x", ["^x", "ax"], ["bx"]),
    ("[a", ["[a"], ["a"]),
    ("a[+-9]b", ["a+b", "a.b", "a0b", "a9b"], ["a/b", "aab"]),
    ("x/a[!b]c", ["x/aac"], ["x/abc", "x/a/c"]),
    ("a.b+(c)|d$", ["a.b+(c)|d$"], ["aab+(c)", "d"]),
    ("\\xff*", ["\\xffname"], ["ÿname"]),
    ("x\ny", ["x\ny"], ["x", "xy"]),
    ("*a", ["x\na"], ["a\n"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), GLOBS, ids=[glob[0] for glob in GLOBS])
def test_globs(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [path for path in yes if not rules.matches(pattern, path)] == []
    assert [path for path in no if rules.matches(pattern, path)] == []


@given(st.text("ab*?[]!^-/\\.|( +9", max_size=12), st.text("ab/.]\n 09", max_size=8))
@example("[+-9]", "/")
@example("[!a]", "/")
def test_the_database_answers_as_we_do(pattern: str, path: str) -> None:
    try:
        expression, name_only = rules.expression(pattern)
    except UsageError:
        return
    subject = path.rpartition("/")[2] if name_only else path.lstrip("/")
    anchored = rf"(?s)\A(?:{expression})\z"
    (found,) = pc.match_substring_regex(
        pa.array([subject]), anchored, ignore_case=True
    ).to_pylist()  # RE2
    assert found == rules.matches(pattern, path)


@pytest.mark.parametrize("pattern", ["", "/", "//", "[z-a]", "x" * 1001])
def test_a_glob_that_cannot_be_used_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError) as raised:
        rules.check_pattern(pattern)
    assert raised.value.code == "glob.invalid"


@given(st.text("ab*?[]!^-/\\.|(", max_size=12), st.text("ab/.]\n", max_size=8))
def test_no_pattern_fails_in_another_way(pattern: str, path: str) -> None:
    try:
        answer = rules.matches(pattern, path)
    except UsageError:
        return
    assert answer == rules.matches(pattern.upper(), path.upper())


@given(st.text(max_size=20).filter(lambda text: text.strip("/") and not set(text) & set("*?[]!")))
def test_a_plain_path_matches_itself(path: str) -> None:
    assert rules.matches("/" + path.strip("/"), path.strip("/"))


def test_rules_give_each_tag_once_with_the_first_rule_as_reason() -> None:
    given_rules = [
        Rule(rule_id=1, pattern="*.log", tag="text"),
        Rule(rule_id=4, pattern="var/**", tag="linux"),
        Rule(rule_id=7, pattern="*", tag="text"),
        Rule(rule_id=9, pattern="*.evtx", tag="evtx"),
    ]
    assert rules.apply(given_rules, "var/log/a.log") == (
        ("text", "rule 1: `*.log`"),
        ("linux", "rule 4: `var/**`"),
    )
    assert rules.apply(given_rules, "b") == (("text", "rule 7: `*`"),)
    assert rules.apply([], "b") == ()


def why(selection: Selection, path: str = "var/log/auth.log", mtime_ns: int = 5) -> str | None:
    return why_not_selected(selection, display_path=path, tags=("syslog", "x"), mtime_ns=mtime_ns)


SELECTED = {
    "no condition": Selection(),
    "one tag of two": Selection(tags=("evtx", "syslog")),
    "one glob of two": Selection(include=("*.evtx", "var/**")),
    "modified just then": Selection(since_ns=5),
    "all of them": Selection(tags=("x",), include=("*.log",), exclude=("*.gz",), since_ns=1),
}
LEFT_OUT = {
    "tag": (Selection(tags=("evtx", "registry")), "`evtx` or `registry`"),
    "include": (Selection(include=("*.evtx",)), "`*.evtx`"),
    "exclude wins": (Selection(include=("*",), exclude=("a", "var/**")), "`var/**`"),
    "since": (Selection(since_ns=6), "1970-01-01T00:00:00"),
    "one condition of three": (Selection(tags=("x",), include=("*",), since_ns=9), "last modified"),
}


@pytest.mark.parametrize("selection", SELECTED.values(), ids=list(SELECTED))
def test_a_file_is_selected_when_every_condition_holds(selection: Selection) -> None:
    assert why(selection) is None


@pytest.mark.parametrize(("selection", "named"), LEFT_OUT.values(), ids=list(LEFT_OUT))
def test_a_file_that_is_left_out_has_a_reason(selection: Selection, named: str) -> None:
    assert named in (why(selection) or "")


def test_a_parser_is_named_or_pointed_at() -> None:
    def wants(*parsers: str) -> bool:
        return selects_parser(
            Selection(parsers=parsers),
            name="linux.syslog",
            version="1.0.0",
            directory="/p/linux.syslog",
        )

    assert wants()
    assert wants("linux.syslog@1.0.0")
    assert not wants("linux.syslog@1.0.1")
    assert wants("other", "linux.syslog")
    assert wants("/p/x/../linux.syslog")
    assert not wants("windows.evtx")
    assert not wants("/q/linux.syslog")
