# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Loading a dump into an empty database as an ordinary role: staging and proof by restore share it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    TOOL_SESSION,
    PgClient,
    PsqlSession,
    Stderr,
    quote_ident,
    quote_literal,
    sql,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_content import read_content
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_replay import (
    OBJECT_STATEMENTS,
    PRIVILEGE_STATEMENTS,
    Toc,
    checked_statements,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.secretfile import SecretFile

_BLOCK = 1 << 20
_TICK_S = 0.25
# What `ALTER <word> … OWNER TO` calls each type of pg_identify_object.
_OWNER_WORDS = {
    "function": "ROUTINE",
    "procedure": "ROUTINE",
    "aggregate": "ROUTINE",
    "foreign-data wrapper": "FOREIGN DATA WRAPPER",
    "statistics object": "STATISTICS",
    "composite type": "TYPE",
    "domain": "DOMAIN",
    **{
        word: word.upper()
        for word in (
            "table", "view", "materialized view", "sequence", "foreign table", "schema", "operator", "operator class",
            "operator family", "collation", "conversion", "type", "language", "server", "text search configuration",
            "text search dictionary", "large object", "publication", "event trigger",
        )
    },
}  # fmt: skip
_LATE = ("publication", "event trigger")

# Tables of extensions take rows from the dump (their configuration), and foreign servers are made by users.
_LOADER_GRANTS = """
SELECT format('GRANT ALL ON TABLE %s TO %I', c.oid::regclass, {role}) FROM pg_class c
  JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
 WHERE c.relkind IN ('r', 'S')
UNION ALL SELECT format('GRANT USAGE ON FOREIGN DATA WRAPPER %I TO %I', fdwname, {role}) FROM pg_foreign_data_wrapper
UNION ALL SELECT format('GRANT CREATE ON TABLESPACE %I TO %I', spcname, {role}) FROM pg_tablespace
           WHERE spcname <> 'pg_global' AND {tablespaces}
\\gexec
"""
_EXTENSION = "CREATE EXTENSION {name:name} SCHEMA {schema:name} VERSION {version};"
# There is no ALTER EXTENSION … OWNER: who owned it makes it, with just the right to do so.
_EXTENSION_OF = f"""
GRANT CREATE ON DATABASE {{database:name}} TO {{owner:name}};
GRANT CREATE, USAGE ON SCHEMA {{schema:name}} TO {{owner:name}};
SET LOCAL ROLE {{owner:name}};
{_EXTENSION}
RESET ROLE;
REVOKE CREATE, USAGE ON SCHEMA {{schema:name}} FROM {{owner:name}};
REVOKE CREATE ON DATABASE {{database:name}} FROM {{owner:name}};
"""
_GIVE_OWNERS = """
SELECT format('ALTER %s %s OWNER TO %I', x.word, i.identity, x.owner)
  FROM json_to_recordset({rows}) AS x(type text, names text[], args text[], owner text, word text),
       LATERAL pg_get_object_address(x.type, x.names, x.args) a,
       LATERAL pg_identify_object(a.classid, a.objid, a.objsubid) i
\\gexec
"""
_EVENT_TRIGGER_GUARD = """
DO $sop$ DECLARE name text; BEGIN
  SELECT evtname INTO name FROM pg_event_trigger t
    JOIN pg_proc p ON p.oid = evtfoid JOIN pg_roles r ON r.oid = p.proowner
   WHERE NOT r.rolsuper AND evtname NOT IN (SELECT json_array_elements_text({known})) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'event trigger % would run a function that no superuser owns', name;
  END IF;
END $sop$;
"""


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores for ``password`` (RFC 5803), so that the password itself is never in a statement."""
    salt, rounds = os.urandom(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{text[0]}${text[1]}:{text[2]}"


@dataclass(frozen=True)
class LoadRole:
    """The ordinary role that loads, for this one database."""

    name: str
    password: str

    @classmethod
    def create(cls, admin: PgClient, name: str) -> LoadRole:
        """Make it, with a password that nothing else knows and that ends after a day."""
        role = cls(name, secrets.token_urlsafe(32))
        until = time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(time.time() + 86400))
        admin.execute(
            admin.maintenance_db,
            # BYPASSRLS: tables that force row security must be read whole; the role owns all it can reach
            f"CREATE ROLE {quote_ident(name)} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS "
            f"PASSWORD {quote_literal(scram_verifier(role.password))} VALID UNTIL {quote_literal(until)};",
        )
        return role

    def connect(self, admin: PgClient, database: str) -> PgClient:
        """A client as this role: through the socket where the server lets it, else 127.0.0.1 with the password."""
        first: SopError | None = None
        for host in (None,) if admin.connection.get("host") else (None, "127.0.0.1"):
            client = admin.as_role(self.name, self.password, host)
            try:
                client.query(database, "SELECT 1;")
            except SopError as error:
                first = first or error
            else:
                return client
        raise SopError(
            f"{admin.label}: the temporary role {self.name} cannot log in by socket or 127.0.0.1 ({first}); "
            "allow 'host all all 127.0.0.1/32 scram-sha-256' in pg_hba.conf and listen on localhost"
        )


def drop_role(admin: PgClient, name: str, database: str | None) -> None:
    """Remove the loading role and what it holds, if it is there."""
    if not admin.query(admin.maintenance_db, sql("SELECT count(*) FROM pg_roles WHERE rolname = {name};", name=name)):
        return
    for place in filter(None, (database, admin.maintenance_db)):
        admin.execute(place, f"DROP OWNED BY {quote_ident(name)};")
    admin.execute(admin.maintenance_db, f"DROP ROLE IF EXISTS {quote_ident(name)};")


@dataclass
class Loader:
    """One load of ``source`` into the existing, empty ``database``."""

    admin: PgClient
    role: LoadRole
    database: str
    source: DumpSource
    manifest: Json
    tablespaces: bool
    #: called a few times a second; raises SopError to stop the load (the disk fills up)
    watch: Callable[[], None]
    #: event triggers of the live database, which may come back though their function is not a superuser's; None in a
    #: throw-away server, where any may
    known_event_triggers: frozenset[str] | None = None
    #: asks the copy the dataset's own checks, as the role that owns all of it and nothing besides
    ask: Callable[[PgClient], list[Json]] | None = None

    def run(self) -> Json:
        """Load, analyse, read the content back, give everything its owner and privileges; the content."""
        facts: Json = self.manifest["content"]["globals"]
        client = self.role.connect(self.admin, self.database)
        made = self._prepare(facts)
        toc = Toc(self._listing(), made)
        self._restore(client, toc)
        # Analysed and read by the loading role: code in the dump (index expressions) must not run as the superuser.
        client.execute(self.database, "ANALYZE;")
        with PsqlSession(client, self.database) as session:
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;")
            content = read_content(session, checksums=True)
        asked = {} if self.ask is None else {"checks": self.ask(client)}
        self._hand_over(facts, toc)
        return {**content, **asked}

    def _prepare(self, facts: Json) -> set[int]:
        """What only the superuser may make: extensions and the schemas they are in. Returns those schemas' ids."""
        role = quote_ident(self.role.name)
        made: set[int] = set()
        steps: list[str] = []
        if facts.get("public_owner") is None:
            steps.append("DROP SCHEMA public;")
        else:
            steps.append(f"ALTER SCHEMA public OWNER TO {role};")
        for extension in facts["extensions"]:
            schema = extension["schema"]
            if schema not in ("public", "pg_catalog"):
                steps.append(f"CREATE SCHEMA IF NOT EXISTS {quote_ident(schema)} AUTHORIZATION {role};")
                made.add(int(extension["schema_oid"]))
            if extension["name"] != "plpgsql":  # in every new database
                own = extension["owner"] != facts["bootstrap"]
                steps.append(sql(_EXTENSION_OF if own else _EXTENSION, database=self.database, **extension))
        steps.append(sql(_LOADER_GRANTS, role=self.role.name, tablespaces=self.tablespaces))
        self.admin.execute(self.database, "BEGIN;\n" + "\n".join(steps) + "\nCOMMIT;")
        return made

    def _listing(self) -> str:
        return self._text(["--list"], self.admin)

    def _text(self, args: list[str], client: PgClient, lines: list[str] | None = None) -> str:
        """What pg_restore prints about the archive; it reads the head of a fresh stream only."""
        output = os.memfd_create("sop-restore")
        try:
            self._pg_restore(client, args, lines, output, whole=False)
            chunks: list[bytes] = []
            os.lseek(output, 0, os.SEEK_SET)
            while True:
                chunk = os.read(output, _BLOCK)
                if not chunk:
                    return b"".join(chunks).decode("utf-8", "surrogateescape")
                chunks.append(chunk)
        finally:
            os.close(output)

    def _restore(self, client: PgClient, toc: Toc) -> None:
        target = "dbname='" + self.database.replace("\\", "\\\\").replace("'", "\\'") + "'"
        args = ["--exit-on-error", "--no-owner", "--no-privileges", "--no-password", "--dbname", target]
        if not self.tablespaces:
            args.append("--no-tablespaces")
        self._pg_restore(client, args, toc.ordinary, subprocess.DEVNULL, whole=True)

    def _pg_restore(self, client: PgClient, args: list[str], lines: list[str] | None, output: int, whole: bool) -> None:
        """Run pg_restore on a fresh stream; with ``whole`` the stream is read to its end and its hash compared."""
        errors = Stderr()
        uid = client.account.pw_uid if client.account is not None else None
        listing = "".join(f"{line}\n" for line in lines or []).encode("utf-8", "surrogateescape")
        stream = self.source.open()
        child: Any = None
        try:
            with SecretFile(listing, uid) as toc_file:
                child = client.spawn(
                    "pg_restore",
                    args if lines is None else [*args, f"--use-list={toc_file.path}"],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=errors.fd,
                    pass_fds=[toc_file.fd],
                    session={**TOOL_SESSION, "synchronous_commit": "off"},
                )
            pump = _Pump(stream, child.stdin, whole)
            self.watch()
            while child.poll() is None:
                pump.join(_TICK_S)
                if not pump.is_alive():
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(_TICK_S)
                self.watch()
            if child.returncode != 0:
                # a stream that broke is the better explanation of what pg_restore says about it
                pump.stop()
                pump.join(2)
                pump.raise_error()
                raise self._refused(child.returncode, errors.line())
            while whole and pump.is_alive():
                pump.join(_TICK_S)
                self.watch()
            if whole:
                pump.raise_error()
                self._compare(pump)
            else:
                pump.stop()
        finally:
            if child is not None:
                child.kill()
                child.wait()
            stream.close()
            errors.close()

    def _refused(self, code: int, line: str) -> SopError:
        return SopError(
            f"{self.admin.label}: pg_restore exited {code} loading into {self.database} as an ordinary role ({line}); "
            "the live data is untouched. Mend the cause (objects only a superuser can make must be in an extension)"
        )

    def _compare(self, pump: _Pump) -> None:
        for name, found in (("bytes", pump.bytes), ("sha256", pump.digest.hexdigest())):
            wanted = self.manifest.get(name)
            if wanted is not None and wanted != found:
                raise SopError(
                    f"{self.admin.label}: the dump from the vault has {name} {found}, its manifest says {wanted}; "
                    "it was refused. Restore another backup and have this one examined"
                )

    def _hand_over(self, facts: Json, toc: Toc) -> None:
        """Owners, privileges, and what only a superuser may own; then the loading role owns nothing."""
        role = quote_ident(self.role.name)
        bootstrap = "(SELECT rolname FROM pg_roles WHERE oid = 10)"
        owners = [entry for entry in facts["owners"] if entry["type"] not in _LATE]
        steps = ["BEGIN;", self._owners(owners)]
        if facts.get("public_owner") is not None:
            owner = facts["public_owner"]
            whose = bootstrap if owner == facts["bootstrap"] else quote_literal(owner)
            steps.append(f"SELECT format('ALTER SCHEMA public OWNER TO %I', {whose})\n\\gexec\n")
        # What the superuser of the source owned is in no owners' list (PostgreSQL keeps no dependency on it).
        whose = f"{quote_literal(self.role.name)}, {bootstrap}"
        steps.append(f"SELECT format('REASSIGN OWNED BY %I TO %I', {whose})\n\\gexec\n")
        steps += self._replay(toc.privileges, PRIVILEGE_STATEMENTS)
        steps += [f"DROP OWNED BY {role};", "COMMIT;"]
        self.admin.execute(self.database, "\n".join(steps))
        # All owners before the first event trigger: its function would run as the superuser at the next change.
        steps = []
        for lines, kind in ((toc.superuser, "publication"), (toc.event_triggers, "event trigger")):
            late = [entry for entry in facts["owners"] if entry["type"] == kind]
            steps += [*self._replay(lines, OBJECT_STATEMENTS), self._owners(late)] if lines else []
        if steps:
            steps = ["BEGIN;", *steps, self._guard(), "COMMIT;"]
            self.admin.execute(self.database, "\n".join(steps))

    def _replay(self, lines: list[str], allowed: Any) -> list[str]:
        if not lines:
            return []
        script = self._text(["--no-owner", "--file=-"], self.admin, lines)
        # names in these statements are qualified; an empty path is what pg_dump itself writes them for
        return [f"{text};" for text in checked_statements(script, allowed, self.admin.label)]

    def _owners(self, entries: list[Json]) -> str:
        """Statements that give objects back; the server itself looks each up and writes its name."""
        for entry in entries:
            if entry["type"] not in _OWNER_WORDS:
                raise SopError(f"{self.admin.label}: the manifest names an owner for a {entry['type']}; it was refused")
        if not entries:
            return ""
        rows = [{**entry, "word": _OWNER_WORDS[entry["type"]]} for entry in entries]
        return sql(_GIVE_OWNERS, rows=json.dumps(rows))

    def _guard(self) -> str:
        """Fail when a new event trigger would run somebody else's function whenever a superuser changes a table."""
        if self.known_event_triggers is None:
            return ""
        return sql(_EVENT_TRIGGER_GUARD, known=json.dumps(sorted(self.known_event_triggers)))


class _Pump(threading.Thread):
    """Copies a stream to a child's stdin. A child that wants no more is no error; the bytes are still counted."""

    def __init__(self, stream: IO[bytes], stdin: IO[bytes], whole: bool) -> None:
        super().__init__(name="sop-pump", daemon=True)
        self.bytes = 0
        self.digest = hashlib.sha256()
        self._stream = stream
        self._stdin = stdin
        self._whole = whole
        self._stopped = False
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        writing = True
        try:
            while not self._stopped and (writing or self._whole):
                block = self._stream.read(_BLOCK)
                if not block:
                    break
                self.bytes += len(block)
                self.digest.update(block)
                if writing:
                    try:
                        self._stdin.write(block)
                    except (BrokenPipeError, ValueError):
                        writing = False
        except BaseException as error:  # raise_error raises it in the caller's thread
            if not self._stopped:
                self._error = error
        finally:
            with contextlib.suppress(OSError, ValueError):
                self._stdin.close()

    def stop(self) -> None:
        self._stopped = True

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error
