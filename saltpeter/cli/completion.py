"""saltpeter completion"""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_VARIABLE = "_SALTPETER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and jobs.

    \b
    saltpeter completion bash >/etc/bash_completion.d/saltpeter
    saltpeter completion zsh >"${fpath[1]}/_saltpeter"
    saltpeter completion fish >~/.config/fish/completions/saltpeter.fish
    """
    complete = _SHELLS[shell](context.find_root().command, {}, "saltpeter", _VARIABLE)
    click.echo(complete.source())
