# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A private PostgreSQL that lives for one proof: its own directory, a socket only its user reaches, no network."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator

from ansible_collections.diskominfo.sop.plugins.module_utils.checks import LIMIT_S, results
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    PgClient,
    PsqlSession,
    Stderr,
    quote_ident,
    server_majors,
    server_programs,
    sigterm_raises,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_content import read_globals
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import create_database
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_fitness import globals_of, require_readable
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_load import Loader, LoadRole
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_stage import SPACE_RESERVE, SpaceGuard

_PARENT = "/var/tmp"  # noqa: S108 (mkdtemp makes a 0700 directory in it; /tmp is often memory)
_NAME = re.compile(r"^sop-scratch-(\d+)-")
_STALE_S = 86_400
_START_S = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "max_connections": "10",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "128MB",
    "huge_pages": "off",
    "dynamic_shared_memory_type": "mmap",
    "logging_collector": "off",
    # statements may hold rows
    "log_min_error_statement": "panic",
    "log_min_messages": "fatal",
}


def clean_stale(parent: str) -> None:
    """Remove what a run killed with -9 left more than a day ago (its server ended with it)."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(parent):
            named = _NAME.match(entry.name)
            if named is None or not entry.is_dir(follow_symlinks=False):
                continue
            stat = entry.stat(follow_symlinks=False)
            alive = os.path.exists(f"/proc/{named.group(1)}")
            if not alive and time.time() - stat.st_mtime > _STALE_S and _ours(stat.st_uid):
                shutil.rmtree(entry.path, ignore_errors=True)


def _ours(uid: int) -> bool:
    return os.geteuid() in (0, uid)


def _account(label: str, os_user: str | None) -> str | None:
    """Who runs the server: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in (os_user, "postgres", "nobody"):
        if name is None:
            continue
        with contextlib.suppress(KeyError):
            if pwd.getpwnam(name).pw_uid != 0:
                return name
    raise SopError(f"{label}: no unprivileged OS user for the scratch server; set connection.os_user")


@contextlib.contextmanager
def _directory(label: str, parent: str, account: str | None) -> Iterator[str]:
    """A 0700 directory of the account's own, gone afterwards."""
    clean_stale(parent)
    try:
        path = tempfile.mkdtemp(prefix=f"sop-scratch-{os.getpid()}-", dir=parent)
    except OSError as error:
        raise SopError(f"{label}: no scratch directory in {parent} ({error.strerror}); set scratch_dir") from None
    try:
        if account is not None:
            entry = pwd.getpwnam(account)
            os.chown(path, entry.pw_uid, entry.pw_gid)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if os.path.exists(path):  # a file that the dying server wrote meanwhile
            shutil.rmtree(path, ignore_errors=True)


def _initdb(client: PgClient, data: str, user: str) -> None:
    errors = Stderr()
    try:
        child = client.spawn(
            "initdb",
            ["--pgdata", data, "--username", user, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"],
            stderr=errors.fd,
        )
        try:
            code = child.wait()
        finally:
            child.kill()
            child.wait()
        if code != 0:
            raise SopError(f"{client.label}: initdb for the scratch server exited {code} ({errors.line()})")
    finally:
        errors.close()


@contextlib.contextmanager
def _server(client: PgClient, data: str, socket: str, major: int) -> Iterator[None]:
    """The running server; an immediate stop at the end, or when our process dies in any way."""
    errors = Stderr()
    arguments = ["-D", data, "-k", socket]
    settings = dict(_SETTINGS)
    if major >= 17:
        settings["event_triggers"] = "off"  # one at login would run what the dump's author wrote as the superuser
    for name, value in settings.items():
        arguments += ["-c", f"{name}={value}"]
    child = client.spawn("postgres", arguments, stderr=errors.fd, death=signal.SIGQUIT)
    try:
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(SopError):
                client.query(client.maintenance_db, "SELECT 1;")
                break
            if child.poll() is not None or time.monotonic() > deadline:
                raise SopError(f"{client.label}: the scratch server did not start ({errors.line()})")
            time.sleep(0.1)
        yield
    finally:
        child.send_signal(signal.SIGQUIT)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        errors.close()


def _create_roles(client: PgClient, facts: Json) -> None:
    """The roles that owners and grants name; none can log in."""
    for role in facts["roles"]:
        kind = "SUPERUSER" if role["superuser"] else "NOSUPERUSER"
        client.execute(client.maintenance_db, f"CREATE ROLE {quote_ident(role['name'])} NOLOGIN {kind};")


def _with_programs(client: PgClient, facts: Json) -> PgClient:
    """The client with the programs that a scratch server is made of: those of the dump's version, else of the next newer one.

    No server need run here: a drill host may have the programs alone.
    """
    if client.connection.get("bin_dir"):
        return client
    wanted = max(int(facts.get("major") or 0), int(facts.get("dumped_by") or 0))
    found = server_majors()
    if not found and os.access(os.path.join(client.bin_dir, "postgres"), os.X_OK):
        return PgClient({**client.connection, "bin_dir": client.bin_dir}, None, client.label)
    fitting = [major for major in found if major >= wanted]
    if not fitting:
        there = f"only of {', '.join(map(str, found))}" if found else "none at all"
        raise SopError(
            f"{client.label}: the dump is of PostgreSQL {wanted}, and this host has the server programs (initdb, postgres) "
            f"{there}; install postgresql-{wanted} here, or set connection.bin_dir"
        )
    return PgClient({**client.connection, "bin_dir": server_programs(min(fitting))}, None, client.label)


def scratch_guard(label: str, dataset: Json) -> SpaceGuard:
    """The guard of the directory that proofs by restore are made in."""
    parent = dataset.get("scratch_dir") or _PARENT
    return SpaceGuard(label, parent, int(dataset.get("reserve_bytes") or SPACE_RESERVE))


@contextlib.contextmanager
def scratch_content(client: PgClient, dataset: Json, source: DumpSource, manifest: Json) -> Iterator[Json]:
    """Load ``source`` into a private server and yield its content with checksums and its globals."""
    label = client.label
    facts = globals_of(label, manifest)
    bootstrap, database = facts["bootstrap"], facts["database"]
    client = _with_programs(client, facts)
    require_readable(client, manifest, client.tool_major("postgres"))
    parent = dataset.get("scratch_dir") or _PARENT
    account = _account(label, client.connection.get("os_user"))
    guard = scratch_guard(label, dataset)
    guard.require(int(manifest.get("bytes") or 0))
    with sigterm_raises(), _directory(label, parent, account) as path:
        connection = {"socket": path, "user": bootstrap, "os_user": account, "bin_dir": client.tools_dir()}
        admin = PgClient(connection, None, label)
        data = os.path.join(path, "data")
        _initdb(admin, data, bootstrap)
        with _server(admin, data, path, client.tool_major("postgres")):
            _create_roles(admin, facts)
            role = LoadRole.create(admin, "sop_scratch_load")
            create_database(admin, "scratch", role.name, database, None)
            loader = Loader(admin, role, "scratch", source, manifest, False, guard.check)
            loader.ask = lambda client: results(dataset, lambda query: _answer(client, query))
            content = loader.run()
            with PsqlSession(admin, "scratch") as session:
                globals_ = read_globals(session)
            yield {**content, "globals": globals_}


def _answer(client: PgClient, query: str) -> str:
    """A check's first value as text."""
    with PsqlSession(client, "scratch") as session:
        session.execute(f"BEGIN READ ONLY; SET LOCAL statement_timeout = '{LIMIT_S}s';")
        # a comment at the query's end ends with its line
        asked = f"SELECT answer::text FROM ({query}\n) AS asked(answer) LIMIT 1"  # noqa: S608  # it is the register's
        answer = session.query(f"SELECT to_json(({asked}));")
    return "" if answer is None else str(answer)
