# SPDX-License-Identifier: Apache-2.0
"""Where our Ansible collection lies, and the digest of the code that would run."""

from __future__ import annotations

import hashlib
from importlib import metadata, resources
from pathlib import Path

from sopctl.errors import ConfigError, GateRefused

COLLECTION = Path("ansible_collections/diskominfo/sop")


def package() -> Path:
    """Folder of the sopctl package."""
    return Path(str(resources.files("sopctl")))


def collections_root() -> Path:
    """The one collections path: the checkout beside pyproject.toml, else the wheel's data. ConfigError else."""
    checkout = package().parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "collections" / COLLECTION).is_dir():
        return checkout / "collections"
    wheel = package() / "_data" / "collections"
    if (wheel / COLLECTION).is_dir():
        return wheel
    raise ConfigError(
        "the collection diskominfo.sop is missing",
        where=str(wheel),
        hint="Install sopctl again: pip install --force-reinstall sopctl.",
    )


def collection() -> Path:
    """Folder of the collection diskominfo.sop."""
    return collections_root() / COLLECTION


def page(name: str) -> Path:
    """A page of docs/reference that goes with evidence: the checkout's, else the wheel's. ConfigError else."""
    for place in (package().parent / "docs" / "reference" / name, package() / "_data" / "docs" / name):
        if place.is_file():
            return place
    raise ConfigError(
        f"the page {name} is missing",
        where=str(package()),
        hint="Install sopctl again: pip install --force-reinstall sopctl.",
    )


def engines() -> list[str]:
    """Names of the engines that exist: one file each."""
    folder = collection() / "plugins" / "module_utils" / "engines"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def code_files() -> list[tuple[str, Path]]:
    """Every file of collection and sopctl that a run uses, as (name, path), sorted by name."""
    found = []
    for label, root in (("collection", collection()), ("sopctl", package())):
        for path in sorted(root.rglob("*")):
            parts = path.relative_to(root).parts
            if path.is_symlink():  # a folder behind a link is imported, but not walked
                raise GateRefused("a link stands among the code", where=str(path), hint="Install sopctl again.")
            if label == "sopctl" and ("__pycache__" in parts or parts[0] == "_data"):
                continue
            if path.is_file() and "tests" not in parts[:1] and not (label == "collection" and _installers(path)):
                found.append(("/".join((label, *parts)), path))
    return found


def _installers(path: Path) -> bool:
    """Whether pip made this file: it compiles what it installs, beside its source.

    Only in the wheel. No run reads it: Ansible compiles a collection from its source; any other compiled file is refused.
    """
    source = path.parent.with_name(f"{path.name.partition('.')[0]}.py") if path.parent.name == "__pycache__" else path
    return path.is_relative_to(package() / "_data") and path.suffix == ".pyc" and source.is_file() and source != path


def code_digest() -> str:
    """SHA-256 over names and bytes of all code files.

    Raises GateRefused when the collection holds compiled code: a planted ``.pyc`` runs beside honest source.
    """
    digest = hashlib.sha256()
    for name, path in code_files():
        if name.startswith("collection/") and ("__pycache__" in name or name.endswith((".pyc", ".so"))):
            raise GateRefused(
                "compiled code in the collection",
                where=str(path),
                hint="Delete the __pycache__ folders there; sopctl never makes them.",
            )
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return "sha256:" + digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions that a record names."""
    return {name: metadata.version(name) for name in ("sopctl", "ansible-core", "ansible-runner", "jinja2", "bagit")}
