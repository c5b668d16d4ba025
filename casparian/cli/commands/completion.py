"""`casparian completion`: the script a shell loads to complete commands and options."""

from __future__ import annotations

import click

from casparian.cli.app import App
from casparian.cli.framework import Command, pass_app

_INSTALL = {
    "bash": 'eval "$(casparian completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(casparian completion zsh)"   in ~/.zshrc',
    "fish": "casparian completion fish > ~/.config/fish/completions/casparian.fish",
}


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(sorted(_INSTALL)))
@pass_app
def command(app: App, *, shell: str) -> None:
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class

    from casparian.cli.main import root

    kind = get_completion_class(shell)
    if kind is None:  # the choice above and click's registry name the same shells
        raise AssertionError(shell)
    script = kind(root, {}, "casparian", "_CASPARIAN_COMPLETE").source()
    app.out.emit({"shell": shell, "script": script}, lambda: app.out.line(script.rstrip()))
    if app.out.terminal:
        app.out.say(f"to keep it: {_INSTALL[shell]}")
