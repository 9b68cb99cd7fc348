# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A private MariaDB that lives for one proof: its own directory, a socket only its user reaches, no network, no events."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

from ansible_collections.diskominfo.sop.plugins.module_utils.checks import LIMIT_S, results
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_accounts import quote_account
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import MyClient, MySession, quote_name
from ansible_collections.diskominfo.sop.plugins.module_utils.my_load import (
    LoadAccount,
    Loader,
    quote_pattern,
    undone_by_signals,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_objects import digest, make_all, read_objects
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import (
    create_schema,
    require_server,
    schema_facts,
    version_of,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_stage import globals_of
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import Stderr
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_scratch import clean_stale
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_stage import SPACE_RESERVE, SpaceGuard

_PARENT = "/var/tmp"  # noqa: S108 (mkdtemp makes a 0700 directory in it; /tmp is often memory)
_START_S = 60.0
_SETTINGS = (
    "--skip-networking", "--event-scheduler=OFF", "--skip-log-bin", "--performance-schema=OFF", "--local-infile=0",
    "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=48M", "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0", "--key-buffer-size=1M", "--max-connections=10", "--max-allowed-packet=1G",
    "--character-set-server=utf8mb4", "--skip-name-resolve", "--log-warnings=0", "--skip-slow-query-log",
    "--skip-general-log", "--skip-symbolic-links",
)  # fmt: skip


def _account(label: str, os_user: str | None) -> str:
    """Who runs the server: MariaDB refuses root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    for name in (os_user, "mysql", "nobody"):
        if name is None:
            continue
        with contextlib.suppress(KeyError):
            if pwd.getpwnam(name).pw_uid != 0:
                return name
    raise SopError(f"{label}: no unprivileged OS user for the scratch server; set connection.os_user")


@contextlib.contextmanager
def _directory(label: str, parent: str, account: str) -> Iterator[str]:
    """A 0700 directory of the account's own, gone afterwards."""
    clean_stale(parent)
    try:
        path = tempfile.mkdtemp(prefix=f"sop-scratch-{os.getpid()}-", dir=parent)
    except OSError as error:
        raise SopError(f"{label}: no scratch directory in {parent} ({error.strerror}); set scratch_dir") from None
    try:
        if os.geteuid() == 0:
            entry = pwd.getpwnam(account)
            os.chown(path, entry.pw_uid, entry.pw_gid)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if os.path.exists(path):  # a file that the dying server wrote meanwhile
            shutil.rmtree(path, ignore_errors=True)


def _basedir(client: MyClient) -> list[str]:
    """Where the programs look for their own files, when they do not lie where they were built for."""
    return [] if client.bin_dir in ("/usr/bin", "/bin") else [f"--basedir={os.path.dirname(client.bin_dir)}"]


def _install(client: MyClient, path: str, data: str, account: str) -> None:
    errors = Stderr()
    try:
        child = client.spawn(
            "mariadb-install-db",
            [
                "--no-defaults",
                *_basedir(client),
                f"--datadir={data}",
                # by default it is /tmp, and a server that starts removes all temporary tables there, the live one's too
                f"--tmpdir={path}",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={account}",
                "--skip-test-db",
                "--skip-name-resolve",
                "--innodb-log-file-size=48M",
            ],
            stderr=errors.fd,
            client=False,
        )
        try:
            code = child.wait()
        finally:
            child.kill()
            child.wait()
        if code != 0:
            raise SopError(f"{client.label}: mariadb-install-db for the scratch server exited {code} ({errors.line()})")
    finally:
        errors.close()


@contextlib.contextmanager
def _server(client: MyClient, path: str, data: str, facts: Json) -> Iterator[None]:
    """The running server; killed at the end, or when our process dies in any way: nothing in it is to be kept."""
    errors = Stderr()
    child = client.spawn(
        "mariadbd",
        [
            "--no-defaults",
            *_basedir(client),
            *_SETTINGS,
            f"--datadir={data}",
            f"--socket={path}/s",
            f"--pid-file={path}/pid",
            f"--tmpdir={path}",
            f"--secure-file-priv={path}",
            f"--lower-case-table-names={int(facts['lower_case_names'])}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=errors.fd,
        client=False,
    )
    try:
        deadline = time.monotonic() + _START_S
        while True:
            if os.path.exists(f"{path}/s"):
                with contextlib.suppress(SopError):
                    client.query("SELECT 1")
                    break
            if child.poll() is not None or time.monotonic() > deadline:
                raise SopError(f"{client.label}: the scratch server did not start ({errors.line()})")
            time.sleep(0.1)
        yield
    finally:
        child.kill()
        child.wait()
        errors.close()


def scratch_guard(label: str, dataset: Json) -> SpaceGuard:
    """The guard of the directory that proofs by restore are made in."""
    parent = dataset.get("scratch_dir") or _PARENT
    return SpaceGuard(label, parent, int(dataset.get("reserve_bytes") or SPACE_RESERVE))


def _make_definers(session: MySession, schema: str, facts: Json) -> None:
    """The accounts that objects run as; nobody can log in as one of them.

    Each may do everything in ``schema``: making a view asks whether its definer may call the routines in it. Whom the live
    server grants what is proven with the manifest, not here.
    """
    for definer in facts.get("definers", []):
        user, host = str(definer["user"]), str(definer["host"])
        if definer["role"]:
            who = quote_name(user)
            session.run(f"CREATE ROLE IF NOT EXISTS {who}")
        else:
            who = quote_account(user, host)
            session.run(f"CREATE USER IF NOT EXISTS {who} ACCOUNT LOCK")
        session.run(f"GRANT ALL ON {quote_pattern(schema)}.* TO {who}")


@contextlib.contextmanager
def scratch_content(client: MyClient, dataset: Json, source: DumpSource, manifest: Json) -> Iterator[Json]:
    """Load ``source`` into a private server and yield its content with checksums and its globals."""
    label = client.label
    facts = globals_of(manifest, label)
    name = str(facts["schema"]["name"])
    account = _account(label, client.connection.get("os_user"))
    guard = scratch_guard(label, dataset)
    guard.require(int(manifest.get("bytes") or 0))
    with undone_by_signals(), _directory(label, str(dataset.get("scratch_dir") or _PARENT), account) as path:
        connection = {"socket": f"{path}/s", "user": account, "os_user": account, "bin_dir": client.bin_dir}
        admin = MyClient(connection, None, label)
        data = f"{path}/data"
        _install(admin, path, data, account)
        with _server(admin, path, data, facts), MySession(admin) as session:
            version = require_server(session)["version"]
            if version_of(facts["version"]) > version_of(version):
                raise SopError(
                    f"{label}: the dump was made by MariaDB {facts['version']}, here is {version}; verify it on a server of "
                    "that version or newer"
                )
            create_schema(session, name, facts["schema"]["charset"], facts["schema"]["collation"], "")
            _make_definers(session, name, facts)
            loader = LoadAccount.create(session, name)
            content = Loader(admin, loader, name, source, manifest, guard.check).run()
            make_all(session, name, facts["objects"])
            objects = read_objects(session, name)
            lost = sorted(set(digest(facts["objects"])) ^ set(digest(objects)))
            if lost:
                raise SopError(f"{label}: the backup does not give back {', '.join(lost[:5])}; make a new backup")
            reader = admin.as_account(loader.name, loader.password)
            asked = results(dataset, lambda query: _answer(reader, name, query))
            globals_ = {**facts, "schema": schema_facts(session, name), "objects": objects}
            yield {**content, "globals": globals_, "checks": asked}


def _answer(client: MyClient, schema: str, query: str) -> str:
    """A check's first value as text, asked as the account that loaded, which may do nothing outside its schema."""
    with MySession(client) as session:
        session.run(f"USE {quote_name(schema)}")
        session.run(f"SET SESSION max_statement_time = {LIMIT_S}, tx_read_only = 1")
        # a comment at the query's end ends with its line
        answers = session.column(f"SELECT * FROM ({query}\n) AS asked LIMIT 1")  # noqa: S608  # it is the register's
    return answers[0] if answers else ""
