"""A parser's effective settings: its defaults, and what a person set instead.

They are part of the materialization key.
"""

from __future__ import annotations

from collections.abc import Mapping

from casparian.contracts.document import closest, quoted
from casparian.contracts.load import is_of_type
from casparian.display import show
from casparian.domain.parsers import ConfigValue, ParserManifest
from casparian.errors import UsageError


def effective_config(
    manifest: ParserManifest, given: Mapping[str, ConfigValue]
) -> dict[str, ConfigValue]:
    """Every setting of a parser with its value, in the manifest's order.

    A whole number is accepted where a number is expected, and becomes one, so that `1` and `1.0`
    are the same setting.

    Raises:
        UsageError: `parser.setting`: unknown name, wrong type, or a value that is no choice.
    """
    for name in given:
        if name not in manifest.config:
            raise UsageError(
                f"the parser `{manifest.name}` has no setting `{show(name, width=60)}`",
                hint=closest(name, manifest.config)
                or (
                    f"its settings are {quoted(manifest.config)}"
                    if manifest.config
                    else "it has none"
                ),
                code="parser.setting",
                parser=manifest.name,
            )
    values: dict[str, ConfigValue] = {}
    for name, option in manifest.config.items():
        value = given.get(name, option.default)
        if not is_of_type(option.type, value):
            raise _wrong(manifest, name, value, f"a value of type `{option.type}`")
        if option.choices is not None and value not in option.choices:
            raise _wrong(manifest, name, value, f"one of {quoted(map(str, option.choices))}")
        values[name] = float(value) if option.type == "number" else value
    return values


def _wrong(manifest: ParserManifest, name: str, value: object, expected: str) -> UsageError:
    return UsageError(
        f"the setting `{manifest.name}.{name}` is `{show(repr(value), width=60)}`,"
        f" expected {expected}",
        code="parser.setting",
        parser=manifest.name,
        setting=name,
    )
