"""Everything that a folder can hold survives backup, swap, revert and swap, by what independent tools say."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.compare import mismatches
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.files import FilesEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import Entry, TreeSource
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import Vault

from tests.integration.sop_fixtures import dataset_for, vault_at

CASE = "RST-2026-0001"
TAGS = {"sop-kind": "dump", "sop-dataset": "berkas"}
TOOLS = ("setfacl", "getfacl", "setfattr", "getfattr", "setcap", "chattr", "lsattr", "rsync")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and attributes need root"),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in TOOLS),
        reason="needs the packages acl attr e2fsprogs libcap2-bin rsync",
    ),
]


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([*map(str, argv)], cwd=cwd, capture_output=True, check=False)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout.decode("utf-8", "surrogateescape")


def fill(root: Path) -> None:
    """One of everything."""
    root.mkdir()
    plain = root / "biasa"
    plain.write_text("isi")
    for name, mode in (("suid", 0o4755), ("sgid", 0o2755), ("tertutup", 0), ("rahasia", 0o600)):
        (root / name).write_bytes(b"#!" + name.encode())
        os.chown(root / name, 1001, 1002)
        (root / name).chmod(mode)
    (root / "lengket").mkdir()
    (root / "lengket").chmod(0o1777)
    (root / "kosong").mkdir()
    (root / "terkunci").mkdir()
    (root / "terkunci" / "isi").write_text("x")
    (root / "terkunci").chmod(0)
    shared = root / "bersama"
    shared.mkdir()
    run("setfacl", "-d", "-m", "g:44:rx,u:33:rwx", shared)
    (shared / "warisan").write_text("acl dari folder")
    run("setfacl", "-m", "u:33:r,g:44:rw", plain)
    for target in (plain, shared):
        os.setxattr(target, "user.catatan", bytes(range(256)))
        os.setxattr(target, "user.kosong", b"")
    os.setxattr(plain, "trusted.sop", b"t")
    shutil.copy("/bin/true", root / "ping")
    run("setcap", "cap_net_raw+ep", root / "ping")
    with (root / "jarang").open("wb") as sparse:
        sparse.truncate(48 << 20)
        sparse.seek(7 << 20)
        sparse.write(os.urandom(5000))
        sparse.seek(30 << 20)
        sparse.write(b"x" * (1 << 20))
    with (root / "hanya lubang").open("wb") as sparse:
        sparse.truncate((1 << 20) + 17)
    (root / "nol sungguhan").write_bytes(bytes(1 << 20))
    below = root / "dalam" / "sekali"
    below.mkdir(parents=True)
    os.link(plain, below / "kaitan")
    os.link(plain, shared / "kaitan")
    os.link(below / "kaitan", root / "kaitan")
    (root / "tautan putus").symlink_to("tidak ada")
    (root / "tautan mutlak").symlink_to("/etc/passwd")
    (root / "tautan folder").symlink_to("dalam")
    os.setxattr(root / "tautan putus", "trusted.tautan", b"l", follow_symlinks=False)
    os.lchown(root / "tautan putus", 1001, 1002)
    os.mkfifo(root / "pipa", 0o640)
    os.mknod(root / "nol", 0o20666, os.makedev(1, 3))
    os.mknod(root / "blok", 0o60600, os.makedev(7, 77))
    (root / "baris\nbaru\t é ☃").write_text("x")
    Path(os.fsdecode(os.fsencode(root) + b"/bukan-utf8-\xff\xe2\x82")).write_bytes(b"y")
    (root / ("n" * 255)).write_text("nama panjang")
    deep = root
    for _each in range(40):
        deep = deep / ("d" * 20)
    deep.mkdir(parents=True)
    (deep / "dasar").write_text("dasar")
    for name in ("kekal", "catatan"):
        (root / name).write_text(name)
    (root / "folder kekal").mkdir()
    (root / "folder kekal" / "isi").write_text("isi")
    for number, path in enumerate(sorted(root.rglob("*"), key=os.fsencode, reverse=True)):
        os.utime(path, ns=(10**18, 10**18 + number * 1_000_003), follow_symlinks=False)
    run("chattr", "+i", root / "kekal", root / "folder kekal")
    run("chattr", "+a", root / "catatan")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "srv"
    folder.mkdir()
    fill(folder / "berkas")
    yield folder / "berkas"
    free(tmp_path)


def free(root: Path) -> None:
    """Take chattr's attributes away, so that the folder can be removed (chattr complains about links)."""
    subprocess.run(["chattr", "-R", "-f", "-ia", str(root)], check=False)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    folder = tmp_path_factory.mktemp("vault")
    made = Vault(vault_at(folder), str(folder / "state"))
    made.ensure_repository()
    return made


def engine_for(root: Path) -> FilesEngine:
    return FilesEngine(dataset_for(root, root.parent, "files"), {})


def take(vault: Vault, engine: FilesEngine, between: Callable[[], object] = lambda: None) -> tuple[TreeSource, Json]:
    stored = vault.backup_tree(engine.tree_path(), TAGS)
    between()
    content = engine.content_of_entries(vault.entries(stored.snapshot, engine.path))
    return vault.tree_source(stored.snapshot, engine.path), {"content": content}


def listing(root: Path) -> list[str]:
    """What getfacl, getfattr, lsattr, find and sha256sum say."""
    attributes = [
        line
        for line in run("lsattr", "-R", "-a", ".", cwd=root).splitlines()
        if {"i", "a"} & set(line.split(" ")[0]) and not line.startswith(".")
    ]
    found = run("find", ".", "-mindepth", "1", "-printf", r"%p|%y|%m|%U|%G|%T@|%n|%l\0", cwd=root).split("\0")
    sizes = run("find", ".", "-type", "f", "-printf", r"%p|%s\0", cwd=root).split("\0")
    sums = run("find", ".", "-type", "f", "-exec", "sha256sum", "--zero", "{}", "+", cwd=root).split("\0")
    return [
        run("getfacl", "-R", "-n", "-p", ".", cwd=root),
        run("getfattr", "-R", "-h", "-d", "-m", "-", "-e", "hex", ".", cwd=root),
        *sorted(attributes),
        *sorted(found),
        *sorted(sizes),
        *sorted(sums),
    ]


def rsync_differences(one: Path, two: Path) -> str:
    """What rsync would change to make ``two`` like ``one``."""
    options = ("-aHAXn", "--devices", "--specials", "--checksum", "--itemize-changes", "--delete", "--numeric-ids")
    return run("rsync", *options, f"{one}/", f"{two}/")


def blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_everything_survives_swap_revert_swap(vault: Vault, root: Path, tmp_path: Path) -> None:
    engine = engine_for(root)
    reference = tmp_path / "asli"
    run("cp", "-a", "--sparse=always", root, reference)
    good = listing(root)
    source, manifest = take(vault, engine)
    assert manifest["content"]["globals"]["unmeasured"] == []
    assert manifest["content"]["globals"]["flags"] == {"kekal": "i", "folder kekal": "i", "catatan": "a"}
    assert {"attribute security.capability", "hard links", "link targets"} <= manifest["content"]["tables"].keys()
    with engine.scratch(source, manifest) as proven:
        assert mismatches(manifest["content"], proven) == []
    (root / "biasa").write_text("rusak")
    run("setfacl", "-b", root / "biasa")
    (root / "tambahan").write_text("sesudah backup")
    (root / "suid").unlink()
    run("setfacl", "-m", "u:33:rx", root)
    os.setxattr(root, "user.akar", b"milik nama")
    bad, own = listing(root), run("getfacl", "-n", "-p", root)
    staged = engine.stage(CASE, source, manifest)
    assert mismatches(manifest["content"], staged) == []
    assert mismatches(proven, staged) == []
    for _round in (1, 2):
        engine.swap(CASE)
        assert [line for line in rsync_differences(reference, root).splitlines() if not line.endswith(" ./")] == []
        assert without_root(listing(root)) == without_root(good)
        assert run("getfacl", "-n", "-p", root) == own
        assert os.getxattr(root, "user.akar") == b"milik nama"
        assert blocks(root / "jarang") < 2 << 20
        assert blocks(root / "hanya lubang") == 0
        assert blocks(root / "nol sungguhan") >= 1 << 20
        engine.revert(CASE)
        assert without_root(listing(root)) == without_root(bad)
        assert run("getfacl", "-n", "-p", root) == own
    engine.swap(CASE)
    assert engine.kept_bytes(CASE) > 1 << 20
    engine.drop_kept(CASE)
    assert engine.kept_bytes(CASE) == 0
    assert [each.name for each in root.parent.iterdir()] == ["berkas"]


def without_root(listed: list[str]) -> list[str]:
    """Access list and attributes of the root belong to the live name."""
    blocks = [[block for block in text.split("\n\n") if not block.startswith("# file: .\n")] for text in listed[:2]]
    return [str(blocks), *listed[2:]]


def test_a_place_beside(vault: Vault, root: Path, tmp_path: Path) -> None:
    engine = engine_for(root)
    source, manifest = take(vault, engine)
    good = listing(root)
    root_itself = run("getfacl", "-n", "-c", root)
    target = tmp_path / "lain" / "salinan"
    with pytest.raises(SopError, match="no such folder"):
        engine.place(str(target), CASE, source, manifest)
    target.parent.mkdir()
    run("setfacl", "-d", "-m", "u:77:rwx", target.parent)  # what is made there must not get it
    assert not engine.placed(str(target), CASE)
    assert mismatches(manifest["content"], engine.place(str(target), CASE, source, manifest)) == []
    assert engine.placed(str(target), CASE)
    assert not engine.placed(str(target), "RST-2026-0002")
    assert without_root(listing(target)) == without_root(good)
    assert run("getfacl", "-n", "-c", target) == root_itself
    assert [each.name for each in target.parent.iterdir()] == ["salinan"]
    for case, words in ((CASE, "already"), ("RST-2026-0002", "exists already and is not this case's copy")):
        with pytest.raises(SopError, match=words):
            engine.place(str(target), case, source, manifest)
    free(root)
    shutil.rmtree(root)  # the source may be gone
    engine.place(str(root), CASE, source, manifest)
    assert without_root(listing(root)) == without_root(good)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{root}/dalam/salinan", "within the live data"),
        ("{root}", "exists already"),
        ("relatif", "not a plain absolute path"),
        ("{folder}/../x", "not a plain absolute path"),
        ("{folder}/link/x", "goes through a link"),
        ("/", "not a plain absolute path"),
    ],
)
def test_a_place_that_will_not_do_is_refused(root: Path, target: str, words: str) -> None:
    (root.parent / "link").symlink_to("/tmp")
    left = sorted(each.name for each in root.parent.iterdir())
    with pytest.raises(SopError, match=words):
        engine_for(root).place(
            target.format(root=root, folder=root.parent), CASE, TreeSource(), {"content": {"bytes": 0}}
        )
    assert sorted(each.name for each in root.parent.iterdir()) == left


class Losing(TreeSource):
    """A vault that loses something on the way back."""

    def __init__(self, source: TreeSource, lose: Callable[[Path], object]) -> None:
        self.source = source
        self.lose = lose

    def entries(self) -> Iterator[Entry]:
        return self.source.entries()

    def restore(self, target: str) -> None:
        self.source.restore(target)
        self.path = self.source.path
        self.lose(Path(self.path))


def _unlink_hard(root: Path) -> None:
    (root / "kaitan").unlink()
    run("cp", "-a", "--no-preserve=links", root / "biasa", root / "kaitan")


def _repoint(root: Path) -> None:
    kept = os.lstat(root / "tautan mutlak").st_mtime_ns
    (root / "tautan mutlak").unlink()
    (root / "tautan mutlak").symlink_to("/etc/shadow")
    os.utime(root / "tautan mutlak", ns=(kept, kept), follow_symlinks=False)


def _fill_holes(root: Path) -> None:
    kept = (root / "jarang").stat().st_mtime_ns
    run("cp", "--sparse=never", root / "jarang", root / "penuh")
    (root / "penuh").rename(root / "jarang")
    os.utime(root / "jarang", ns=(kept, kept))


LOSSES: dict[str, Callable[[Path], object]] = {
    "attribute user.catatan": lambda root: os.removexattr(root / "biasa", "user.catatan"),
    "attribute user.kosong": lambda root: os.setxattr(root / "biasa", "user.kosong", b"x"),
    "attribute system.posix_acl_access": lambda root: run("setfacl", "-n", "-x", "u:33", root / "biasa"),
    "attribute system.posix_acl_default": lambda root: run("setfacl", "-k", root / "bersama"),
    "attribute security.capability": lambda root: run("setcap", "-r", root / "ping"),
    "hard links": _unlink_hard,
    "link targets": _repoint,
}


@pytest.mark.parametrize("lost", LOSSES)
def test_what_a_listing_cannot_say_is_missed_when_it_is_lost(vault: Vault, root: Path, lost: str) -> None:
    engine = engine_for(root)
    source, manifest = take(vault, engine)

    def lose(restored: Path) -> None:
        times = restored.stat()
        LOSSES[lost](restored)
        os.utime(restored, ns=(times.st_atime_ns, times.st_mtime_ns))

    with engine.scratch(Losing(source, lose), manifest) as content:
        named = mismatches(manifest["content"], content)
    assert [each.split(":")[0] for each in named] == [lost]


def test_holes_are_made_again_and_missed_where_they_cannot_be(vault: Vault, root: Path) -> None:
    engine = engine_for(root)
    source, manifest = take(vault, engine)
    engine.stage(CASE, Losing(source, _fill_holes), manifest)
    assert blocks(Path(engine.shadow_name(CASE)) / "jarang") < 2 << 20
    engine.discard(CASE)
    manifest["content"]["globals"]["sparse"]["jarang"] = 0  # as if all of it had been a hole
    with pytest.raises(SopError, match="its holes were lost"):
        engine.stage(CASE, source, manifest)
    assert [each.name for each in root.parent.iterdir()] == ["berkas"]


def test_what_changes_while_it_is_read_is_named_and_left_out(vault: Vault, root: Path) -> None:
    engine = engine_for(root)

    def meanwhile() -> None:
        os.setxattr(root / "rahasia", "user.baru", b"1")
        os.removexattr(root / "biasa", "user.catatan")  # all its four names
        (root / "suid").unlink()
        (root / "sesudah").write_text("x")

    source, manifest = take(vault, engine, meanwhile)
    kaitan = ["bersama/kaitan", "biasa", "dalam/sekali/kaitan", "kaitan"]
    assert manifest["content"]["globals"]["unmeasured"] == sorted([*kaitan, "rahasia", "suid"])
    with engine.scratch(source, manifest) as content:
        assert mismatches(manifest["content"], content) == []


def test_backup_of_an_earlier_release_is_compared_by_what_it_has(vault: Vault, root: Path) -> None:
    engine = engine_for(root)
    source, manifest = take(vault, engine)
    content = manifest["content"]
    content["tables"] = {key: content["tables"][key] for key in ("files", "directories", "links", "special")}
    for key in ("unmeasured", "sparse", "flags"):
        del content["globals"][key]
    del content["globals"]["owner"]["attributes"]
    staged = engine.stage(CASE, source, manifest)
    assert mismatches(content, staged) == []
    assert blocks(Path(engine.shadow_name(CASE)) / "jarang") < 2 << 20


def test_in_place(vault: Vault, root: Path) -> None:
    engine = engine_for(root)
    source, manifest = take(vault, engine)
    good = listing(root)
    run("setfacl", "-m", "u:33:rx", root)
    root.chmod(0o2751)
    own = run("getfacl", "-n", "-p", root)
    engine.empty(CASE)
    engine.empty(CASE)
    assert list(root.iterdir()) == []
    assert run("getfacl", "-n", "-p", root) == own
    assert [each.name for each in root.parent.iterdir()] == ["berkas"]
    engine.stage(CASE, source, manifest)
    engine.swap(CASE)
    assert run("getfacl", "-n", "-p", root) == own
    assert without_root(listing(root)) == without_root(good)


def test_socket_is_left_out_as_the_vault_leaves_it_out(vault: Vault, root: Path) -> None:
    engine = engine_for(root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "soket"))
    source, manifest = take(vault, engine)
    with engine.scratch(source, manifest) as content:
        assert mismatches(manifest["content"], content) == []
