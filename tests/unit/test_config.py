"""Settings: precedence, origins, unknown keys, and editing a file that a person wrote."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casparian import config, config_file
from casparian.errors import UsageError
from casparian.paths import Home


@pytest.fixture
def home(tmp_path):
    return Home.at(tmp_path)


def write(home, text):
    home.config_file.write_text(text)


def test_defaults_need_no_file_and_make_none(home):
    loaded = config.load(home, environ={})
    assert loaded.settings == config.Settings()
    assert {origin.kind for origin in loaded.origins.values()} == {"default"}
    assert not home.config_file.exists()


def test_flags_win_over_variables_over_file_over_defaults(home):
    write(home, "workers = 1\nhash_threads = 1\nidle_seconds = 1\n")
    loaded = config.load(
        home,
        environ={"CASPARIAN_WORKERS": "2", "CASPARIAN_HASH_THREADS": "2"},
        flags={"workers": 3},
    )
    assert (loaded.settings.workers, loaded.settings.hash_threads) == (3, 2)
    assert loaded.settings.idle_seconds == 1
    assert str(loaded.origins["workers"]) == "flag"
    assert str(loaded.origins["hash_threads"]) == "environment CASPARIAN_HASH_THREADS"
    assert str(loaded.origins["idle_seconds"]) == f"file {home.config_file}"
    assert str(loaded.origins["mode"]) == "default"


WRONG = {
    "misspelt key": ("worker = 3", "config.unknown_key", "`workers`"),
    "unknown table": ("[sentinel]\nworkers = 3", "config.unknown_key", "config show"),
    "wrong type": ('workers = "many"', "config.value", "Worker processes"),
    "out of range": ("workers = -1", "config.value", "Worker processes"),
    "a share above all": ("quarantine_percent_max = 101", "config.value", "percent"),
    "no such mode": ('mode = "overwrite"', "config.value", "Sink mode"),
    "not TOML": ("workers 3", "config.malformed", "defaults"),
    "a setting of no parser": ("[parsers]\nyear = 3", "config.unknown_key", "parsers"),
    "a list as a value": ('[parsers."linux.syslog"]\nyear = [1]', "config.value", None),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_names_the_file_the_key_and_what_is_known(home, case):
    text, code, hint = WRONG[case]
    write(home, text)
    with pytest.raises(UsageError) as caught:
        config.load(home, environ={})
    assert caught.value.code == code
    assert str(home.config_file) in caught.value.message
    if hint is not None:
        assert hint in caught.value.hint


def test_a_variable_of_the_wrong_type_is_named(home):
    with pytest.raises(UsageError, match="variable CASPARIAN_WORKERS"):
        config.load(home, environ={"CASPARIAN_WORKERS": "many"})


def test_a_variable_that_is_no_setting_is_reported_and_ours_are_not(home):
    environ = {
        "CASPARIAN_WORKER": "1",
        "CASPARIAN_HOME": "/x",
        "CASPARIAN_CORPUS": "/y",
        "PATH": "/",
    }
    assert config.load(home, environ=environ).unknown_variables == ("CASPARIAN_WORKER",)


@pytest.mark.parametrize("table", ['[parsers."linux.syslog"]', "[parsers.linux.syslog]"])
def test_a_parsers_table_may_be_quoted_or_not(home, table):
    write(home, f'{table}\nyear = 2015\ntimezone = "+01:00"\n')
    settings = config.load(home, environ={}).settings
    assert settings.parsers == {"linux.syslog": {"year": 2015, "timezone": "+01:00"}}


def test_a_relative_sink_in_the_file_is_below_the_home(home):
    write(home, 'default_sink = "csv:tables"\n')
    assert config.load(home, environ={}).settings.default_sink == f"csv:{home.root}/tables"


def test_every_setting_says_what_it_means():
    assert all(config.describe(name) for name in config.SCALARS)


COMMENTED = """\
# the laboratory's rules
workers = 2   # two is enough

# limits
quarantine_rows_max = 100

[parsers.linux.syslog]  # the gateway
year = 2015
"""


def test_editing_keeps_comments_and_order(home):
    write(home, COMMENTED)
    config_file.set_value(home, "quarantine_rows_max", "50")
    config_file.set_value(home, "mode", "replace")
    config_file.set_value(home, "parsers.linux.syslog.year", "2016")
    config_file.set_value(home, "parsers.linux.syslog.timezone", "Europe/Oslo")
    config_file.set_value(home, "parsers.windows.evtx.depth", "3")
    assert (
        home.config_file.read_text()
        == """\
# the laboratory's rules
workers = 2   # two is enough

# limits
quarantine_rows_max = 50
mode = "replace"

[parsers.linux.syslog]  # the gateway
year = 2016
timezone = "Europe/Oslo"

[parsers."windows.evtx"]
depth = 3
"""
    )


def test_unsetting_removes_one_line(home):
    write(home, COMMENTED)
    assert config_file.unset_value(home, "quarantine_rows_max")
    assert not config_file.unset_value(home, "quarantine_rows_max")
    assert home.config_file.read_text() == COMMENTED.replace("quarantine_rows_max = 100\n", "")


def test_a_layout_that_cannot_be_edited_is_left_alone(home):
    text = 'parsers = { "linux.syslog" = { year = 2015 } }\n'
    write(home, text)
    with pytest.raises(UsageError) as caught:
        config_file.set_value(home, "parsers.linux.syslog.year", "2016")
    assert caught.value.code == "config.layout"
    assert home.config_file.read_text() == text


@pytest.mark.parametrize(
    "name", ["worker", "parsers", "parsers.year", "parsers.", "linux.syslog.year"]
)
def test_an_unknown_name_is_never_written(home, name):
    with pytest.raises(UsageError):
        config_file.set_value(home, name, "1")
    assert not home.config_file.exists()


@settings(deadline=None)  # a busy machine is no failure
@given(value=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_text_survives_being_written(tmp_path_factory, value):
    home = Home.at(tmp_path_factory.mktemp("home"))
    written = config_file.set_value(home, "parsers.some.parser.key", value)
    read = config.load(home, environ={}).settings.parsers["some.parser"]["key"]
    assert (read, type(read)) == (written, type(written)) or read != read
