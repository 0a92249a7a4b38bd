"""Print the script that lets a shell complete commands, options, environments and migrations.

What can come next is asked of this program at each press of the key, so it is never out of date. It reads
lockstep.toml and the names of files, and connects to nothing.
"""

from __future__ import annotations

import argparse

from lockstep.cli.context import Context
from lockstep.cli.terminal import show, show_json
from lockstep.errors import ExitCode

SHELLS = ("bash", "zsh", "fish")

EXAMPLES = """\
  eval "$(lockstep completion bash)"                                  now; in ~/.bashrc for ever
  lockstep completion zsh > ~/.zfunc/_lockstep                        a folder of $fpath
  lockstep completion fish > ~/.config/fish/completions/lockstep.fish"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


def execute(arguments: argparse.Namespace, context: Context) -> ExitCode:
    from argcomplete.shell_integration import shellcode

    script = shellcode(["lockstep"], use_defaults=False, shell=arguments.shell)
    if context.as_json:
        show_json("completion", {"shell": arguments.shell, "script": script})
    else:
        show(script.rstrip())
    return ExitCode.DONE
