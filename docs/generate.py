"""Write the generated pages of `docs/reference` from the program itself.

python docs/generate.py            write them
python docs/generate.py --check    exit with 1 when one is stale, and name it
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

FOLDER = Path(__file__).resolve().parent / "reference"
_NOTE = "<!-- written by docs/generate.py -->\n\n"
_WIDTH = 100


def cli_page() -> str:
    """Every command with its help text."""
    from casparian.cli.main import root

    parts = [
        _NOTE,
        "# The command line\n\n",
        "Data goes to stdout, everything else to stderr. `--json` gives one document on stdout, with\n"
        "`schema_version`, also when the command fails (`error` with `code`, `message`, `hint`). The\n"
        "[exit codes](exit-codes.md) mean the same everywhere. Global options may stand before or after\n"
        "the command.\n",
    ]
    for path, text in _commands(root, ("casparian",)):
        level = "#" * min(len(path) + 1, 4)
        parts.append(f"\n{level} `{' '.join(path)}`\n\n```\n{text}\n```\n")
    return "".join(parts)


def settings_page() -> str:
    """Every setting with its default and meaning."""
    from casparian import config

    defaults = config.Settings()
    rows = [
        f"| `{name}` | `{_toml(getattr(defaults, name))}` | `CASPARIAN_{name.upper()}` |"
        f" {config.describe(name)} |"
        for name in config.SCALARS
    ]
    return (
        f"{_NOTE}# Settings\n\n"
        "`HOME/config.toml`, over it variables, over them flags. `casparian config show --origin` says\n"
        "where each value comes from; an unknown key is an error.\n\n"
        "| key | default | variable | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        'Settings of a parser stand in its own table, `[parsers."linux.syslog"]`; `casparian parser show\n'
        "NAME` lists them. They are part of what makes work equal: changing one plans that parser's files\n"
        "again.\n"
    )


def faults_page() -> str:
    """Every reason a source or a job can end with, from the table that decides what happens next."""
    from casparian.domain import faults

    rows = [
        f"| `{code}` | {fault.kind} | {'yes' if faults.is_remembered(code) else 'no'} |"
        f" {fault.meaning} |"
        for code, fault in sorted(faults.FAULTS.items())
    ]
    return (
        f"{_NOTE}# Why a source or a job ended\n\n"
        "`casparian jobs show ID` names the code. What happens next follows from its kind alone:\n\n"
        "- **transient**: the same work may succeed; it is tried again with back-off, three times in all.\n"
        "- **permanent**: the same work fails again, so it is not tried again.\n"
        "- **poison**: what the guest did before may be to blame; the source is tried once more, alone in a\n"
        "  fresh guest, and is permanent when that fails too. A limit that is met by a guest's first source is\n"
        "  permanent at once.\n\n"
        "A source whose failure is *remembered* is skipped under the same key until `--retry-failed`; the\n"
        "others are planned again by the next run. Codes of a parser's own (`parser.*`, `source.*`) that are not\n"
        "listed are permanent.\n\n"
        "| code | kind | remembered | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def wide_tables_page() -> str:
    """Every wide table of event logs with its columns, from the list that is compiled in."""
    from casparian import _native

    head, tail = _native.evtx_wide_common()
    common = [f"| `{name}` | {kind} | {doc} |" for name, kind, doc in (*head, *tail)]
    parts = [
        f"{_NOTE}# Wide tables of event logs\n\n",
        "What they are and how to get them: [how-to](../how-to/wide-tables.md). Columns come from the events'\n"
        "templates in real logs; tables marked *published* from the vendor's description of the event.\n\n"
        "## Columns of every table\n\nThe first ones stand before the event's own, the last four behind them.\n\n"
        "| column | type | meaning |\n|---|---|---|\n" + "\n".join(common) + "\n",
    ]
    for table, provider, event_id, origin, columns in _native.evtx_wide_tables():
        marked = " (*published*)" if origin == "published" else ""
        own = ", ".join(
            f"`{name}`" if kind == "utf8" else f"`{name}` {kind}" for name, kind, *_ in columns
        )
        parts.append(f"\n## `{table}`\n\n{provider}, event {event_id}{marked}. {own}.\n")
    parts.append("\nA column without a type is text (utf8).\n")
    return "".join(parts)


def trust_page() -> str:
    """Every reason for which trust says no, from the table that the errors are made of."""
    from casparian.trust import artifact, documents, package, refusals, root, verify

    rows = [
        f"| `{code}` | {reason.meaning} | {reason.hint} |"
        for code, reason in sorted(refusals.REASONS.items())
    ]
    limits = [
        ("a root, a policy, a statement, a decision", f"{documents.DOCUMENT_BYTES_MAX} bytes"),
        ("files of a parser", f"{artifact.FILES_MAX}, together {artifact.BYTES_MAX} bytes"),
        ("a path in a parser", f"{documents.PATH_CHARACTERS_MAX} characters"),
        ("a package", f"{package.PACKAGE_BYTES_MAX} bytes"),
        ("keys of a root or a policy", f"{root.ROOT_KEYS_MAX}"),
    ]
    checks = (verify.__doc__ or "").split("\n\n")[2]
    return (
        f"{_NOTE}# Trust: checks, refusals, limits\n\n"
        "A parser is `valid`, or `unsigned`, or bad; a bad signature is never taken for none. The checks, in their\n"
        "order, as `casparian parser verify --explain` shows them:\n\n"
        f"```\n{checks}\n```\n\n"
        "## Refusals\n\nThe first check that fails is the reason; each has the exit code 4.\n\n"
        "| code | meaning | what to do |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "## Limits\n\n| of | at most |\n|---|---|\n"
        + "\n".join(f"| {what} | {limit} |" for what, limit in limits)
        + "\n"
    )


def stick_page() -> str:
    """What is on a stick and in an installation, and every reason for which one is refused."""
    from casparian.appliance.stick import apply, archive, documents, layout, names, refusals

    head = (layout.__doc__ or "").split("\n\n", 1)[1]
    steps = (apply.__doc__ or "").split("\n\n")[1]
    spelling = (archive.__doc__ or "").split("\n\n", 1)[1].strip()
    rows = [
        f"| `{code}` | {reason.kind.exit_code} | {reason.meaning} | {reason.hint} |"
        for code, reason in sorted(refusals.REASONS.items())
    ]
    limits = [
        ("`SHA256SUMS`", f"{documents.SUMS_BYTES_MAX} bytes"),
        ("`stick.json`", f"{documents.MANIFEST_BYTES_MAX} bytes"),
        ("`NAME.files.json`", f"{documents.FILES_BYTES_MAX} bytes, {documents.FILES_MAX} files"),
        ("a version, unpacked", f"{documents.VERSION_BYTES_MAX} bytes"),
        ("a path", f"{names.PATH_CHARACTERS_MAX} characters"),
    ]
    return (
        f"{_NOTE}# Sticks and installations: formats, steps, refusals\n\n"
        "How to use them: [from a stick to the first table](../how-to/airgap.md),\n"
        "[update and roll back](../how-to/update-and-roll-back.md); why in this order:\n"
        "[the appliance](../explanation/appliance.md).\n\n"
        f"```\n{head.strip()}\n```\n\n"
        "All JSON is read strictly: an unknown field, a key that stands twice or a number with a fraction refuses the\n"
        f"document. The signature is SSHSIG by an Ed25519 key, namespace `{layout.NAMESPACE}`, principal\n"
        f"`{layout.IDENTITY}`.\n\n"
        f"## The archive\n\n{spelling}\n\n"
        f"## What `casparian bundle apply` does\n\n```\n{steps}\n```\n\n"
        "## Refusals\n\nThe first thing that is wrong is the reason.\n\n"
        "| code | exit | meaning | what to do |\n|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "## Limits\n\n| of | at most |\n|---|---|\n"
        + "\n".join(f"| {what} | {limit} |" for what, limit in limits)
        + "\n"
    )


PAGES = {
    "cli.md": cli_page,
    "faults.md": faults_page,
    "settings.md": settings_page,
    "stick.md": stick_page,
    "trust.md": trust_page,
    "wide-tables.md": wide_tables_page,
}


def main(arguments: list[str]) -> int:
    """Write or check the pages."""
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run `make docs`\n")
    return 1 if stale else 0


def _commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    ctx = click.Context(
        command, info_name=" ".join(path), max_content_width=_WIDTH, terminal_width=_WIDTH
    )
    yield path, click.unstyle(command.get_help(ctx)).rstrip()
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            if found is not None:
                yield from _commands(found, (*path, name))


def _toml(value: object) -> str:
    return "unset" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
