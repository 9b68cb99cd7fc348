"""The files engine on real restic repositories: everything a folder can hold survives."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import space
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import files
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.files import FilesEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import Exchange
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import Entry, TreeSource
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import Vault

from tests.integration.sop_fixtures import dataset_for, tmpfs, vault_at

CASE = "RST-2026-0001"
TAGS = {"sop-kind": "dump", "sop-dataset": "berkas"}


def fill(root: Path) -> None:
    """One of everything."""
    root.mkdir()
    (root / "satu.txt").write_text("satu")
    (root / "satu.txt").chmod(0o640)
    os.link(root / "satu.txt", root / "kaitan keras")
    (root / "baris\nbaru é ☃").write_text("x")
    Path(os.fsdecode(os.fsencode(root) + b"/bukan-utf8-\xff\xe2\x82")).write_bytes(b"y")
    (root / "tautan").symlink_to("tidak ada")
    os.utime(root / "tautan", ns=(10**18, 10**18 + 123456789), follow_symlinks=False)
    below = root / "di [dalam] *"
    below.mkdir(mode=0o750)
    (below / "kosong").touch()
    with (below / "jarang").open("wb") as sparse:
        sparse.truncate(64 << 20)
        sparse.seek(32 << 20)
        sparse.write(b"tengah")
    (below / "program").write_bytes(b"#!")
    (below / "program").chmod(0o4755)
    os.setxattr(below / "program", "user.catatan", b"\0\1")
    os.mkfifo(root / "pipa")
    (root / "--bendera").write_text("z")
    if os.geteuid() == 0:
        os.chown(below, 33, 44)
        os.chown(root / "tautan", 33, 44, follow_symlinks=False)
    os.utime(root / "satu.txt", ns=(10**18, 10**18 + 1))
    os.utime(below, ns=(10**18, 10**18 + 5))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    folder = tmp_path_factory.mktemp("vault")
    made = Vault(vault_at(folder), str(folder / "state"))
    made.ensure_repository()
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "srv é" / "berkas"
    found.parent.mkdir()
    fill(found)
    return found


def engine_for(root: Path) -> FilesEngine:
    return FilesEngine(dataset_for(root, root.parent, "files"), {})


def take(vault: Vault, engine: FilesEngine) -> tuple[TreeSource, Json]:
    stored = vault.backup_tree(engine.tree_path(), TAGS)
    content = engine.content_of_entries(vault.entries(stored.snapshot, engine.path))
    assert stored.bytes == content["bytes"]
    return vault.tree_source(stored.snapshot, engine.path), {"content": content}


def independent_listing(root: Path) -> str:
    """What find(1) and sha256sum(1) say, names and inode groups included."""
    listing = subprocess.run(
        ["find", ".", "-mindepth", "1", "-printf", r"%y %m %U %G %s %T@ %n %l %p\0"],
        cwd=root,
        capture_output=True,
        check=True,
    ).stdout.decode("utf-8", "surrogateescape")
    lines = [
        line if not line.startswith("d") else line.replace(line.split()[4], "dir", 1) for line in listing.split("\0")
    ]
    regular = sorted(each for each in root.rglob("*") if each.is_file() and not each.is_symlink())
    sums = subprocess.run(
        ["sha256sum", "--", *(each.relative_to(root) for each in regular)], cwd=root, capture_output=True, check=True
    ).stdout
    return "\n".join(sorted(lines)) + sums.decode("utf-8", "surrogateescape")


def test_everything_survives(vault: Vault, root: Path) -> None:
    engine = engine_for(root)
    before = independent_listing(root)
    source, manifest = take(vault, engine)
    live = engine.manifest(checksums=True)
    assert live["globals"].items() <= manifest["content"]["globals"].items()
    assert manifest["content"]["globals"]["unmeasured"] == []
    with engine.scratch(source, manifest) as content:
        assert content["tables"] == live["tables"]
        assert content["bytes"] == live["bytes"] == manifest["content"]["bytes"]
    assert sorted(each.name for each in root.parent.iterdir()) == ["berkas"]
    staged = engine.stage(CASE, source, manifest)
    shadow = Path(engine.shadow_name(CASE))
    assert staged["tables"] == live["tables"]
    assert sorted(each.name for each in root.parent.iterdir()) == ["berkas", shadow.name]
    assert stat.S_IMODE(shadow.stat().st_mode) == 0o700
    assert independent_listing(shadow) == before
    assert os.getxattr(shadow / "di [dalam] *" / "program", "user.catatan") == b"\0\1"
    assert (shadow / "di [dalam] *" / "jarang").stat().st_blocks * 512 < 4 << 20
    assert (shadow / "satu.txt").stat().st_ino == (shadow / "kaitan keras").stat().st_ino


def test_swap_revert_and_what_is_kept(vault: Vault, root: Path) -> None:
    engine = engine_for(root)
    source, manifest = take(vault, engine)
    (root / "satu.txt").write_text("rusak")
    root.chmod(0o2751)
    os.setxattr(root, "user.akar", b"1")
    engine.stage(CASE, source, manifest)
    assert engine.quiesce(1)["writers"] == []
    engine.swap(CASE)
    engine.swap(CASE)
    assert engine.state(CASE) == "swapped"
    assert (root / "satu.txt").read_text() == "satu"
    assert (stat.S_IMODE(root.stat().st_mode), os.getxattr(root, "user.akar")) == (0o2751, b"1")
    kept = Path(engine.before_name(CASE))
    assert (kept / "satu.txt").read_text() == "rusak"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    engine.discard(CASE)
    assert kept.exists()
    engine.revert(CASE)
    engine.revert(CASE)
    assert engine.state(CASE) == "staged"
    assert (root / "satu.txt").read_text() == "rusak"
    assert stat.S_IMODE(root.stat().st_mode) == 0o2751
    assert not kept.exists()


@pytest.mark.parametrize("verb", ["swap", "revert"])
def test_crash_between_exchange_and_renaming_is_finished(vault: Vault, root: Path, verb: str) -> None:
    engine = engine_for(root)
    engine.stage(CASE, *take(vault, engine))
    (root / "satu.txt").write_text("rusak")
    if verb == "revert":
        engine.swap(CASE)
    Exchange(str(root), CASE).exchange(verb)
    assert engine_for(root).state(CASE) == ("swapped" if verb == "swap" else "staged")
    engine_for(root).settle(CASE)
    assert (root / "satu.txt").read_text() == ("satu" if verb == "swap" else "rusak")
    assert (Path(engine.before_name(CASE)).exists(), Path(engine.shadow_name(CASE)).exists()) == (
        verb == "swap",
        verb != "swap",
    )


def test_writer_keeps_the_swap_away(vault: Vault, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(root)
    engine.stage(CASE, *take(vault, engine))
    code = "import sys; f = open(sys.argv[1], sys.argv[2]); print('x', flush=True); sys.stdin.read()"
    for mode, refused in (("a", True), ("r", False)):
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(root / "satu.txt"), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        assert engine.is_quiesced() is not refused
        if refused:
            with pytest.raises(SopError, match=r"written by python.*pid"):
                engine.quiesce(0)
            with pytest.raises(SopError, match="is not quiet"):
                engine.swap(CASE)
        holder.communicate()
    answers = iter([[], ["late (pid 1)"]])
    monkeypatch.setattr(files, "writers_below", lambda _root: next(answers))
    inode = root.stat().st_ino
    with pytest.raises(SopError, match=r"opened meanwhile by late"):
        engine.swap(CASE)
    assert root.stat().st_ino == inode
    assert engine.state(CASE) == "staged"


def test_mapped_file_is_a_writer(root: Path) -> None:
    code = (
        "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close();"
        "print('x', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(root / "satu.txt")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert not engine_for(root).is_quiesced()
    holder.communicate()
    assert engine_for(root).is_quiesced()


def test_first_differences_are_named(vault: Vault, root: Path) -> None:
    engine = engine_for(root)
    source, manifest = take(vault, engine)
    (root / "--bendera").chmod(0o600)
    (root / "tambahan").touch()
    (root / "pipa").unlink()
    other, _manifest = take(vault, engine)
    left = sorted(each.name for each in root.parent.iterdir())

    class Mixed(TreeSource):
        """The second dump, said to be the first."""

        def entries(self) -> Iterator[Entry]:
            return source.entries()

        def restore(self, target: str) -> None:
            other.restore(target)
            self.path = other.path

    def scratch() -> None:
        with engine.scratch(Mixed(), manifest):
            pass

    for call in (lambda: engine.stage(CASE, Mixed(), manifest), scratch):
        with pytest.raises(SopError) as caught:
            call()
        for words in ("differs in mode", "'tambahan' is not in the backup", "'pipa' is missing"):
            assert words in str(caught.value)
    assert sorted(each.name for each in root.parent.iterdir()) == left


def test_missing_folder_can_be_restored(vault: Vault, root: Path) -> None:
    root.chmod(0o751)
    engine = engine_for(root)
    source, manifest = take(vault, engine)
    root.rename(root.parent / "hilang")
    with pytest.raises(SopError, match="no such folder"):
        engine.tree_path()
    engine.stage(CASE, source, manifest)
    engine.swap(CASE)
    assert (root / "satu.txt").read_text() == "satu"
    assert stat.S_IMODE(root.stat().st_mode) == 0o751
    assert list(Path(engine.before_name(CASE)).iterdir()) == []


def test_folders_that_cannot_be_exchanged_are_refused(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    with pytest.raises(SopError, match="is a link"):
        engine_for(link)
    with pytest.raises(SopError, match="not a plain absolute path"):
        engine_for(Path("/"))
    monkeypatch.setattr(space, "RESERVE", 1 << 60)
    with pytest.raises(SopError, match="MiB free"):
        engine_for(root).stage(CASE, TreeSource(), {"content": {"bytes": 1}})


def test_mounts_are_refused(vault: Vault, root: Path) -> None:
    source, manifest = take(vault, engine_for(root))
    with tmpfs(root / "di [dalam] *", "1m") as mounted:
        with pytest.raises(SopError, match="below it is mounted") as caught:
            engine_for(root).tree_path()
        assert str(mounted) in str(caught.value)
        with pytest.raises(SopError, match="is a mount point, which cannot be exchanged"):
            engine_for(mounted).stage(CASE, source, manifest)


def test_unreadable_file_fails_the_backup(vault: Vault, root: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (root / "satu.txt").chmod(0)
    with pytest.raises(SopError, match="not everything could be read"):
        take(vault, engine_for(root))
