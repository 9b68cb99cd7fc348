# SPDX-License-Identifier: Apache-2.0
"""What a shell offers after a tab (names of the site's own things), and the manual page: both from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from sopctl import __version__, clock
from sopctl.cli.common import with_json
from sopctl.errors import SopctlError
from sopctl.site import Site, find_site

VARIABLE = "_SOPCTL_COMPLETE"
KINDS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


class Known(click.types.StringParamType):
    """Text, for which a shell is offered what the site knows."""

    def __init__(self, find: Callable[[Site], list[str]]) -> None:
        self._find = find

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002  # click passes it
        incomplete: str,
    ) -> list[CompletionItem]:
        """Names that begin so; nothing where there is no site, or one that cannot be read: a tab complains of nothing."""
        try:
            names = self._find(Site(find_site(ctx.find_root().params.get("site"))))
        except (SopctlError, OSError):
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _stems(site: Site, folder: str) -> list[str]:
    return sorted(path.stem for path in (site.root / "register" / folder).glob("*.yml"))


def _cases(site: Site) -> list[str]:
    """The newest first: most commands are about them."""
    return sorted((path.name for path in site.cases.glob("*/*") if path.is_dir()), reverse=True)


def _records(site: Site) -> list[str]:
    return sorted((path.name for path in site.archive.glob("records/*/*/*") if path.is_dir()), reverse=True)


def _people(site: Site) -> list[str]:
    """Ids as they stand in the trust; whether it holds is asked when somebody acts."""
    path = site.root / "trust/trust.yml"
    return re.findall(r"^ *- id: ([a-z0-9-]{2,32})$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)


OFFERED: dict[str, Callable[[Site], list[str]]] = {
    "case_id": _cases,
    "record_id": _records,
    "record_ids": _records,
    "server": lambda site: _stems(site, "servers"),
    "servers": lambda site: _stems(site, "servers"),
    "dataset": lambda site: _stems(site, "datasets"),
    "datasets": lambda site: _stems(site, "datasets"),
    "only": lambda site: _stems(site, "datasets"),
    "person": _people,
    "person_id": _people,
    "identity": _people,
}


def attach(group: click.Group) -> None:
    """Let every parameter that names something of the site offer it."""
    for _, command in _commands(group, ()):
        for param in command.params:
            if type(param.type) is click.types.StringParamType and param.name in OFFERED:
                param.type = Known(OFFERED[param.name])


def _commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its words, groups before theirs; hidden ones left out."""
    yield words, command
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            if not inner.hidden:
                yield from _commands(inner, (*words, name))


@click.command()
@click.argument("shell", type=click.Choice(list(KINDS)))
@with_json
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what teaches SHELL to complete commands, options, and names of cases, datasets, servers and people.

    bash: sopctl completion bash > ~/.local/share/bash-completion/completions/sopctl;
    zsh: sopctl completion zsh > a folder of $fpath, as _sopctl;
    fish: sopctl completion fish > ~/.config/fish/completions/sopctl.fish
    """
    root: Any = context.find_root()
    script = KINDS[shell](root.command, {}, "sopctl", VARIABLE)
    # source() itself starts the shell to ask for its version, and complains where that shell is not on this machine
    text = script.source_template % script.source_vars()
    context.obj.output.result({"shell": shell, "script": text}, lambda output: output.page(text))


@click.command("man")
@click.option("--to", "folder", metavar="FOLDER", type=click.Path(path_type=Path), help="Write sopctl.1 there instead.")
@with_json
@click.pass_context
def man(context: click.Context, folder: Path | None) -> None:
    """Print the manual page, for man -l."""
    page = manual(context.find_root())
    if folder is None:
        context.obj.output.result({"page": page}, lambda output: output.page(page))
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sopctl.1"
    path.write_text(page, encoding="utf-8")
    context.obj.output.result({"file": str(path)}, lambda output: output.line(str(path)))


def manual(root: click.Context) -> str:
    """All commands with their help, as roff with the man macros."""
    lines = [
        f'.TH SOPCTL 1 "{clock.now()[:10]}" "sopctl {__version__}" "sopctl"',
        ".SH NAME",
        r"sopctl \- run an agency's backup/restore SOP",
    ]
    for words, command in _commands(root.command, ()):
        context = click.Context(command, info_name=" ".join(["sopctl", *words]), parent=None)
        if not words:
            lines += [".SH SYNOPSIS", f".B {_roff(command.get_usage(context).removeprefix('Usage: '))}"]
            lines += [".SH DESCRIPTION", *_paragraphs(command.help or ""), ".SH COMMANDS"]
            lines += _options(command, context)
            continue
        if isinstance(command, click.Group):
            continue
        usage = " ".join(["sopctl", *words, *command.collect_usage_pieces(context)])
        lines += [".SS " + _roff(usage), *_paragraphs(command.help or ""), *_options(command, context)]
    lines += [
        ".SH ENVIRONMENT",
        *(
            line
            for name, text in (
                ("SOPCTL_SITE", "the site, where neither -C nor the folder says it"),
                ("SOPCTL_AS", "who acts, where --as does not say it"),
                ("SOPCTL_KEY", "the person's private key"),
            )
            for line in (".TP", f".B {name}", _roff(text))
        ),
    ]
    return "\n".join(lines) + "\n"


def _options(command: click.Command, context: click.Context) -> list[str]:
    found = []
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record and record[1] and "--help" not in param.opts:
            found += [".TP", f".B {_roff(record[0])}", _roff(record[1])]
    return found


def _paragraphs(text: str) -> list[str]:
    """Help text as click would wrap it: an empty line between paragraphs."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\b", "").strip()):
        found += [".PP"] if found else []
        found.append(_roff(" ".join(paragraph.split())))
    return found


def _roff(text: str) -> str:
    """Text that says nothing to roff."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return rf"\&{text}" if text.startswith(".") else text
