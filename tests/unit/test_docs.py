# SPDX-License-Identifier: Apache-2.0
"""The documentation: every command and option is in it, its command lines parse, its links lead somewhere, and the tables of
architecture.md and documents.md name what there is."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import pytest

import sopctl
from sopctl import (
    approval,
    beside,
    capacity,
    cleaning,
    destruction,
    letters,
    planning,
    requesting,
    running,
    session,
    targeting,
    workflow,
)
from sopctl.cli import cases, main_group
from sopctl.examination import SPECIFIED
from sopctl.fsio import MAX_BYTES, MAX_DEPTH
from sopctl.ledger import TORN
from sopctl.models import Act, Actor, Document, SideAct
from sopctl.play_gate import RUN_LINES
from sopctl.register import LEDGER_KIND
from sopctl.reviews import LEDGER_KIND as REVIEWED

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("collections/*/*/*/README.md")),
]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
#: options of every command: said once, where they are explained
COMMON = {"--help", "-h", "--json", "--as", "--key"}


def commands(group: click.Group = main_group, name: str = "sopctl") -> Iterator[tuple[str, click.Command]]:
    """Every command with the words that call it."""
    for word, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


COMMANDS = dict(commands())


def fences(text: str) -> tuple[list[tuple[str, str]], str]:
    """The blocks of a page, (language, text), and the page without them."""
    parts = re.split(r"^```(.*)$", text, flags=re.M)  # prose, opening, block, closing, prose …
    return [(parts[at], parts[at + 1]) for at in range(1, len(parts), 4)], "".join(parts[::4])


def command_lines() -> Iterator[tuple[str, str]]:
    """(page, line) of every command line of sopctl, in blocks and in the text."""
    for page, text in TEXTS.items():
        blocks, prose = fences(text)
        shell = "\n".join(block for language, block in blocks if language in {"", "sh", "console"})
        lines = [line.strip().removeprefix("$ ") for line in shell.replace("\\\n", " ").split("\n")]
        lines += [" ".join(code.split()) for code in re.findall(r"`(sopctl [^`]+)`", prose)]
        lines += [
            line[line.index("sopctl -C") :].partition("'")[0] for line in lines if line.startswith("echo '")
        ]  # cron's
        yield from ((page, line) for line in lines if line.startswith("sopctl "))


def words(line: str) -> list[str]:
    """The arguments of a documented command line: without comment, brackets, and what stands for more at its end."""
    found = shlex.split(re.sub(r"[][]", "", line).partition(" | ")[0], comments=True)[1:]
    return found[:-1] if found and found[-1] == "…" else found


def parse(line: str) -> None:
    """UsageError or AssertionError when click could not read the command line. Nothing is executed."""
    rest, command, context = words(line), main_group, click.Context(main_group, info_name="sopctl")
    while True:
        values, rest, _ = command.make_parser(context).parse_args(args=list(rest))
        if not isinstance(command, click.Group) or not rest:
            break
        found = command.get_command(context, rest[0])
        assert found is not None, f"there is no command {rest[0]!r}"
        context, rest = click.Context(found, parent=context, info_name=rest[0]), rest[1:]
        command = found  # type: ignore[assignment]  # the last one need not be a group
    assert isinstance(command, click.Group) or not rest, f"too many words: {rest}"
    for parameter in command.params:
        value = values.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice) and isinstance(value, str) and not value.isupper():
            parameter.type.convert(value, parameter, context)


LINES = sorted(set(command_lines()))


def test_command_lines_are_found() -> None:
    assert len(LINES) > 80


@pytest.mark.parametrize(("page", "line"), LINES, ids=lambda value: str(value)[:70])
def test_every_command_line_parses(page: str, line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "line",
    ["sopctl case decide X --aprove", "sopctl case dizpose X", "sopctl next one", "sopctl case request recover"],
)
def test_a_wrong_command_line_is_found(line: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        parse(line)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_md_has_every_command_with_its_options(name: str) -> None:
    rows = re.findall(rf"^\| `{name}(?: [A-Z ]+)?` \| (.*?) ?\| ", TEXTS["docs/reference/commands.md"], re.M)
    options = {
        max(parameter.opts, key=len)
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option) and not parameter.hidden
    }
    assert len(rows) == 1
    # these belong to every act; where --key is another thing it stands there
    assert set(re.findall(r"`(--[\w-]+)`", rows[0])) - {"--key"} == options - COMMON


def test_commands_md_has_no_other_command() -> None:
    named = re.findall(r"^\| `(sopctl [a-z -]+[a-z])", TEXTS["docs/reference/commands.md"], re.M)
    assert sorted(named) == sorted(COMMANDS)


# --- links -----------------------------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower()).replace(" ", "-")


def links() -> Iterator[tuple[str, str]]:
    """(page, target) of every link to a file of ours."""
    for page, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
            if not re.match(r"[a-z]+:", target):
                yield page, target


@pytest.mark.parametrize(("page", "target"), sorted(set(links())), ids=str)
def test_every_link_leads_somewhere(page: str, target: str) -> None:
    path, _, fragment = target.partition("#")
    found = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    assert found.exists(), f"{page}: {target}"
    if fragment:
        headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.M)
        assert fragment in {anchor(heading) for heading in headings}, f"{page}: {target}"


# --- architecture ----------------------------------------------------------------------------------------------------


def test_architecture_names_every_module_once_and_no_other() -> None:
    text = TEXTS["docs/architecture.md"].split("### sopctl, imports point down")[1].split("### The collection")[0]
    cells = [row.split("|")[2] for row in text.splitlines() if row.startswith("| ")][1:]
    named = [name for cell in cells for name in re.findall(r"`([\w.]+?)/?`", cell)]
    package = Path(sopctl.__file__).parent
    real = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    real |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(named) == sorted(real)


# --- documents -------------------------------------------------------------------------------------------------------

DOCUMENTS = TEXTS["docs/reference/documents.md"]
#: act → the functions whose literals are its body
MAKERS: dict[str, list[Callable[..., Any]]] = {
    "request": [requesting.request, requesting.Specified, letters.keep],
    "dispose": [cases.dispose.callback or cases.dispose],
    "decide": [workflow.decision, targeting.approval_body, approval.approval_target],
    "plan": [planning._plan, planning._window, planning._on_duty, capacity.row],
    "execute": [running.finish],
    "confirm": [workflow.confirmation],
    "inform": [workflow.informing],
    "receive": [workflow.receiving, letters.keep],
    "consent": [beside.consent],
    "attach": [beside.attach, letters.keep],
    "withdraw": [beside.withdraw],
    "emergency": [beside.emergency],
    "ratify": [beside.ratify],
    "takeover": [beside.take_over],
    "clean": [cleaning.order, destruction.drops],
}


def section(act: str) -> str:
    """The page's section of an act."""
    found = re.search(rf"^### {act}\n(.*?)(?=^##)", DOCUMENTS, re.M | re.S)
    assert found, f"documents.md has no section {act}"
    return found.group(1)


def literal_keys(function: Callable[..., Any]) -> set[str]:
    """Keys of the dictionaries that a function writes, as its source says."""
    if isinstance(function, type):
        return {field.encode_name for field in msgspec.structs.fields(function)}
    source = inspect.getsource(inspect.unwrap(function))
    tree = ast.parse(inspect.cleandoc("\n" + source) if source.startswith(" ") else source)
    keys = {
        key.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    keys |= {node.slice.value for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.slice, ast.Constant)}  # fmt: skip
    return {str(key) for key in keys}


def example_keys(value: Any) -> Iterator[str]:
    """Keys of an example, without those that are data (names of datasets and services, words of the register)."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            if key not in {"datasets", "services", "checks", "register"}:
                yield from example_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from example_keys(inner)


def test_every_act_has_its_section() -> None:
    assert set(MAKERS) == {*get_args(Act), *get_args(SideAct)}


@pytest.mark.parametrize("act", MAKERS)
def test_every_key_of_a_body_is_documented(act: str) -> None:
    # an approval's and a plan's targets are one table, in the section of the decision
    text = (
        section(act)
        + (section("decide") if act in {"plan", "emergency"} else "")
        + ("`specification`" if act == "request" else "")
    )
    text += DOCUMENTS.split("## The specification list")[1].split("## The plan")[0] if act == "request" else ""
    written = {key for maker in MAKERS[act] for key in literal_keys(maker)}
    assert written
    assert not sorted(key for key in written if f"`{key}`" not in text)


@pytest.mark.parametrize("act", MAKERS)
def test_examples_hold_what_the_tables_name(act: str) -> None:
    text = section(act)
    examples = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", text, re.M | re.S)]
    assert examples
    makers = MAKERS[act] + (MAKERS["decide"] if act == "plan" else [])
    written = {key for maker in makers for key in literal_keys(maker)}
    for example in examples:
        assert not sorted(set(example_keys(example)) - written)


def test_the_envelope_is_documented() -> None:
    text = DOCUMENTS.split("## The envelope")[1].split("\n## ")[0]
    keys = [field.encode_name for kind in (Document, Actor) for field in msgspec.structs.fields(kind)]
    assert not [key for key in keys if f"`{key}`" not in text]
    example = re.search(r"^```json\n(.*?)^```", text, re.M | re.S)
    assert example
    msgspec.convert(json.loads(example.group(1)), Document, strict=True)


def test_every_kind_of_ledger_line_is_documented() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(sopctl.__file__).parent.glob("*.py"))
    kinds = set(re.findall(r'ledger\.append\(\s*"([a-z-]+)"', sources)) | {LEDGER_KIND, REVIEWED, TORN, *RUN_LINES}
    assert len(kinds) > 6
    assert not [kind for kind in kinds if f"`{kind}`" not in DOCUMENTS and f'"kind":"{kind}"' not in DOCUMENTS]


def test_late_limits_and_specification_are_documented() -> None:
    late = {key for key in literal_keys(session.Session.timed) if key != "late"}
    assert late == {"since", "until", "seconds", "reason"}
    assert not [key for key in late if f"`late.{key}`" not in DOCUMENTS]
    assert not [key for key in SPECIFIED if f"`{key}`" not in DOCUMENTS]
    assert f"at most {MAX_BYTES // 1024 // 1024} MiB" in DOCUMENTS and f"{MAX_DEPTH} levels" in DOCUMENTS
