# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A staged copy beside the live database: made closed, loaded by an ordinary role, complete or gone."""

from __future__ import annotations

import contextlib
import hashlib
import os

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, Place, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    PgClient,
    PsqlSession,
    quote_ident,
    quote_literal,
    sigterm_raises,
    sql,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_content import read_globals
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_load import Loader, LoadRole, drop_role
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_properties import carry_over_sql, read_properties

_NAME_BYTES = 63
#: space wanted for a load: rows, indexes and WAL, as a multiple of the dump's bytes
SPACE_FACTOR = 2.2
#: bytes that must stay free while loading, unless the dataset says ``reserve_bytes``
SPACE_RESERVE = 256 << 20


def case_name(base: str, word: str, case: str) -> str:
    """``<base>__<word>_<case>``; PostgreSQL would cut a name over 63 bytes silently, so we shorten with a hash."""
    suffix = f"__{word}_{case.lower().replace('-', '')}"
    if len((base + suffix).encode()) <= _NAME_BYTES:
        return base + suffix
    digest = hashlib.sha256(base.encode()).hexdigest()[:8]
    head = base.encode()[: _NAME_BYTES - len(suffix.encode()) - len(digest) - 1].decode("utf-8", "ignore")
    return f"{head}_{digest}{suffix}"


def complete_mark(case: str) -> str:
    """The comment that a wholly loaded copy carries; a copy without it is a rest of a killed run."""
    return f"sop: staged for {case}, complete"


def database_facts(client: PgClient, name: str) -> Json | None:
    """What pg_database says of one database, or None."""
    facts: Json | None = client.query(
        client.maintenance_db,
        sql(
            """SELECT to_jsonb(d) || jsonb_build_object(
                'owner', pg_get_userbyid(datdba), 'encoding_name', pg_encoding_to_char(encoding),
                'tablespace', (SELECT spcname FROM pg_tablespace WHERE oid = dattablespace),
                'comment', shobj_description(d.oid, 'pg_database'), 'oid', d.oid::bigint)
            FROM pg_database d WHERE datname = {name};""",
            name=name,
        ),
    )
    return facts


def create_database(client: PgClient, name: str, owner: str, facts: Json, tablespace: str | None) -> None:
    """An empty database with the encoding and locale of ``facts`` ("database" of a manifest's globals)."""
    options = [
        "TEMPLATE template0",
        f"ENCODING {quote_literal(facts['encoding'])}",
        f"LC_COLLATE {quote_literal(facts['collate'])}",
        f"LC_CTYPE {quote_literal(facts['ctype'])}",
        "ALLOW_CONNECTIONS false",
        f"OWNER {quote_ident(owner)}",
    ]
    provider = {"i": "icu", "b": "builtin"}.get(facts["provider"])
    if provider is not None:
        options += [f"LOCALE_PROVIDER {provider}", f"{provider}_LOCALE {quote_literal(facts['locale'])}"]
    if facts.get("icu_rules"):
        options.append(f"ICU_RULES {quote_literal(facts['icu_rules'])}")
    if tablespace is not None:
        options.append(f"TABLESPACE {quote_ident(tablespace)}")
    database = quote_ident(name)
    # closed first, so that nobody slips in before the REVOKE
    client.execute(
        client.maintenance_db,
        f"CREATE DATABASE {database} {' '.join(options)};\n"
        f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;\nALTER DATABASE {database} ALLOW_CONNECTIONS true;",
    )


def drop_database(client: PgClient, name: str) -> None:
    """Drop one of our own copies, if it is there; sessions in it are ended."""
    if database_facts(client, name) is None:
        return
    database = quote_ident(name)
    client.execute(
        client.maintenance_db,
        f"ALTER DATABASE {database} ALLOW_CONNECTIONS false IS_TEMPLATE false;\n"
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {quote_literal(name)};\n"
        # waits up to five seconds for the ended sessions
        f"DROP DATABASE IF EXISTS {database};",
    )


class SpaceGuard:
    """Watches the file system of a directory that we can see; a directory that we cannot see is not watched."""

    def __init__(self, label: str, path: str | None, reserve: int) -> None:
        self._label = label
        self._path = path
        self._reserve = reserve

    def _free(self) -> int | None:
        if self._path is None:
            return None
        try:
            state = os.statvfs(self._path)
        except OSError:
            return None
        return state.f_bavail * state.f_frsize

    def place(self, dump_bytes: int) -> Place:
        """What a load of ``dump_bytes`` asks of this directory."""
        return Place(self._path, int(dump_bytes * SPACE_FACTOR), self._reserve)

    def require(self, dump_bytes: int) -> None:
        """SopError when the load would not fit."""
        need = self.place(dump_bytes).needs + self._reserve
        free = self._free()
        if free is not None and free < need:
            raise SopError(
                f"{self._label}: {self._path} has {free >> 20} MiB free, the restore needs {need >> 20} MiB "
                f"({SPACE_FACTOR} times the dump, and a reserve); make room and stage again"
            )

    def check(self) -> None:
        """SopError when less than the reserve is left."""
        free = self._free()
        if free is not None and free < self._reserve:
            raise SopError(
                f"{self._label}: only {free >> 20} MiB are free under {self._path}, below the reserve of "
                f"{self._reserve >> 20} MiB; the load was stopped and its copy dropped. Make room and stage again"
            )


def server_guard(client: PgClient, dataset: Json) -> SpaceGuard:
    """The guard of the server's data directory, when the server is on this host."""
    host = str(client.connection.get("host") or "/")
    path = None
    if host.startswith("/") or host in ("localhost", "127.0.0.1", "::1"):
        path = client.execute(client.maintenance_db, "SHOW data_directory;").strip()
    return SpaceGuard(client.label, path, int(dataset.get("reserve_bytes") or SPACE_RESERVE))


class Stage:
    """Staging of one case beside one live database."""

    def __init__(self, client: PgClient, dataset: Json, case: str) -> None:
        self.client = client
        self.dataset = dataset
        self.case = case
        self.live: str = dataset["database"]
        self.shadow = case_name(self.live, "shadow", case)
        self.role = case_name("sop", "stage", case)

    def discard(self) -> None:
        """Drop the copy and its role. An incomplete copy goes the same way."""
        facts = database_facts(self.client, self.shadow)
        inside = self.shadow if facts is not None and facts["datallowconn"] else None
        with contextlib.suppress(SopError):
            drop_role(self.client, self.role, inside)
        drop_database(self.client, self.shadow)
        drop_role(self.client, self.role, None)

    def run(self, source: DumpSource, manifest: Json) -> Json:
        """Make the copy; its content with checksums, and its globals."""
        live, known = self._preflight(manifest)
        gone = database_facts(self.client, self.live) is None
        guard = server_guard(self.client, self.dataset)
        guard.require(int(manifest.get("bytes") or 0))
        with sigterm_raises():
            try:
                self.discard()
                if gone:
                    self._placeholder(manifest["content"]["globals"])
                role = LoadRole.create(self.client, self.role)
                create_database(self.client, self.shadow, self.role, live, live["tablespace"])
                loader = Loader(self.client, role, self.shadow, source, manifest, True, guard.check, known)
                content = loader.run()
                return self._close(live, content)
            except BaseException:
                with contextlib.suppress(SopError):
                    self.discard()
                    if gone:
                        drop_database(self.client, self.live)
                raise

    def _placeholder(self, facts: Json) -> None:
        """An empty, closed live database where it was dropped, with what the dump knows of it: the swap needs one."""
        create_database(self.client, self.live, self.client.user, facts["database"], None)
        with PsqlSession(self.client, self.client.maintenance_db) as session:
            session.execute("BEGIN;")
            for step in carry_over_sql(self.live, facts["properties"], read_properties(session, self.live)):
                session.execute(step)
            session.execute(f"ALTER DATABASE {quote_ident(self.live)} ALLOW_CONNECTIONS false; COMMIT;")

    def _preflight(self, manifest: Json) -> tuple[Json, frozenset[str]]:
        """The live database's globals, after everything that would refuse the dump was asked."""
        label = self.client.label
        try:
            facts: Json = manifest["content"]["globals"]
            wanted = facts["database"]
            needed = [role["name"] for role in facts["roles"] if role["needed"]]
            extensions = {extension["name"]: extension["version"] for extension in facts["extensions"]}
        except (KeyError, TypeError):
            raise SopError(f"{label}: the manifest of this dump has no globals of a PostgreSQL database") from None
        gone = database_facts(self.client, self.live) is None
        with PsqlSession(self.client, self.client.maintenance_db if gone else self.live) as session:
            globals_ = read_globals(session)
            names = session.query("SELECT coalesce(json_agg(evtname), '[]') FROM pg_event_trigger;")
            roles = set(session.query("SELECT json_agg(rolname) FROM pg_roles;"))
            available = session.query(
                "SELECT json_object_agg(name, json_build_object('trusted', t, 'versions', v)) FROM (SELECT name, "
                "bool_or(trusted) t, json_agg(version) v FROM pg_available_extension_versions GROUP BY name) e;"
            )
        live: Json = {**wanted, "tablespace": "pg_default"} if gone else globals_["database"]
        if live["encoding"] != wanted["encoding"]:
            raise SopError(
                f"{label}: the dump is {wanted['encoding']}, database {self.live} is {live['encoding']}; "
                "restore it into a database with the same encoding"
            )
        missing = sorted(set(needed) - roles)
        if missing:
            hint = " ".join(f"CREATE ROLE {quote_ident(name)};" for name in missing)
            raise SopError(f"{label}: roles that the dump needs are not on this server; as superuser run: {hint}")
        # installed already, allowed by the signed dataset record, or trusted by PostgreSQL itself
        allowed = set(self.dataset.get("extensions") or [])
        allowed |= set() if gone else {extension["name"] for extension in globals_["extensions"]}
        for name, version in extensions.items():
            if name not in available or version not in available[name]["versions"]:
                raise SopError(
                    f"{label}: the dump needs extension {name} {version}; install its package on this server"
                )
            if name not in allowed and not available[name]["trusted"]:
                raise SopError(
                    f"{label}: the dump needs extension {name}, which is not trusted and not in {self.live}; "
                    "if it is wanted, list it in the dataset's extensions and stage again"
                )
        return live, frozenset(names)

    def _close(self, live: Json, content: Json) -> Json:
        with PsqlSession(self.client, self.shadow) as session:
            globals_ = read_globals(session)
        shadow = quote_ident(self.shadow)
        drop_role(self.client, self.role, None)
        self.client.execute(
            self.client.maintenance_db,
            f"""BEGIN;
            ALTER DATABASE {shadow} OWNER TO {quote_ident(live["owner"])};
            ALTER DATABASE {shadow} ALLOW_CONNECTIONS false;
            COMMENT ON DATABASE {shadow} IS {quote_literal(complete_mark(self.case))};
            COMMIT;""",
        )
        return {**content, "globals": globals_}
