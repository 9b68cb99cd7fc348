# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What would be in the way of a restore, asked before anything is made."""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import PgClient, quote_ident, sql
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import (
    database_facts,
    is_half_dropped,
    known_of,
    locale_of,
    noted,
)

_NAMED = 5
_SETS_TRANSACTION_TIMEOUT = 17  # a pg_restore of this and newer sets what an older server does not know
_READ_ONLY = """
SELECT json_build_object(
  'recovery', pg_is_in_recovery(),
  'server', coalesce((SELECT lower(setting) = ANY (t.words) FROM pg_file_settings
                       WHERE name = 'default_transaction_read_only' ORDER BY seqno DESC LIMIT 1), false),
  'database', coalesce((SELECT lower(split_part(c, '=', 2)) = ANY (t.words) FROM pg_db_role_setting s, unnest(setconfig) c
                         WHERE setrole = 0 AND c LIKE 'default_transaction_read_only=%%'
                           AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = {name}))
                         ORDER BY setdatabase DESC LIMIT 1), false))
  FROM (SELECT '{{on,true,yes,1,t,y}}'::text[] AS words) t;
""".replace("%%", "%")


class Fit(NamedTuple):
    """What a load needs to know besides the dump."""

    #: "database" of globals: encoding, locale, owner and tablespace that the copy gets
    locale: Json
    #: event triggers that may come back though their function is not a superuser's
    event_triggers: frozenset[str]
    #: whether the server has the tablespaces that the dump names
    tablespaces: bool


def globals_of(label: str, manifest: Json) -> Json:
    """The globals of a manifest; SopError unless it is of a PostgreSQL dump."""
    kind = manifest.get("engine", "postgresql")
    if kind != "postgresql":
        raise SopError(f"{label}: the backup is of engine {kind}, the dataset of postgresql; choose another backup")
    try:
        facts: Json = manifest["content"]["globals"]
        for key in ("bootstrap", "roles", "extensions", "owners"):
            facts[key]  # a manifest of ours has them all
        facts["database"]["encoding"]
    except (KeyError, TypeError):
        raise SopError(
            f"{label}: the manifest of this dump has no globals of a PostgreSQL database; choose another backup"
        ) from None
    return facts


def require_readable(client: PgClient, manifest: Json, server_major: int) -> None:
    """SopError unless a server of ``server_major`` and its client programs can take the dump, by an ordinary role."""
    label, facts = client.label, globals_of(client.label, manifest)
    dump_major = int(facts.get("major") or 0)
    if dump_major > server_major:
        raise SopError(
            f"{label}: the dump is of PostgreSQL {dump_major}, this server is {server_major} and cannot take it; "
            f"restore it onto a server of {dump_major} or newer (--to), or upgrade this one"
        )
    tool, written_by = client.tool_major("pg_restore"), int(facts.get("dumped_by") or dump_major)
    if tool < written_by:
        raise SopError(
            f"{label}: the dump was written by pg_dump {written_by}, pg_restore in {client.tools_dir()} is {tool}; "
            f"install the client programs of {written_by} there or set connection.bin_dir"
        )
    if tool >= _SETS_TRANSACTION_TIMEOUT > server_major:
        raise SopError(
            f"{label}: pg_restore {tool} in {client.tools_dir()} cannot load into a server of {server_major}; set "
            f"connection.bin_dir to the programs of {server_major}"
        )
    only_superuser = facts.get("superuser_objects") or []
    if only_superuser:
        more = f" and {len(only_superuser) - _NAMED} more" if len(only_superuser) > _NAMED else ""
        raise SopError(
            f"{label}: the dump holds what only a superuser can make, and no dump is loaded as one: "
            f"{'; '.join(only_superuser[:_NAMED])}{more}. Have them made by an extension that the dataset's extensions "
            "list, or drop them, and take a new backup"
        )


class Fitness:
    """Whether this server can take a restore of one dataset."""

    def __init__(self, client: PgClient, dataset: Json) -> None:
        self.client = client
        self.dataset = dataset
        self.label = client.label
        self.live: str = dataset["database"]

    def require_writable(self) -> None:
        """SopError when the server is a standby or was set read-only."""
        found: Json = self.client.query(self.client.maintenance_db, sql(_READ_ONLY, name=self.live))
        if found["recovery"]:
            raise SopError(
                f"{self.label}: this server is a standby (in recovery); restore on its primary, and correct the "
                "dataset's server or connection"
            )
        if found["server"]:
            raise self._read_only("the server is")

    def _read_only(self, what: str) -> SopError:
        return SopError(
            f"{self.label}: {what} set read-only (default_transaction_read_only = on); find out who set it and why, "
            "set it off and run again"
        )

    def require_exchangeable(self) -> None:
        """SopError when the live database cannot, or should not, be renamed: it is no application's, half dropped, or frozen."""
        if self.live in ("template0", "template1"):
            raise SopError(f"{self.label}: {self.live} is the server's own template and is not exchanged; use --to")
        facts = database_facts(self.client, self.live)
        if facts is not None and is_half_dropped(facts):
            raise SopError(
                f"{self.label}: {self.live} is the rest of an interrupted DROP DATABASE; drop it by hand, then the "
                "restore makes it anew"
            )
        if self.client.query(self.client.maintenance_db, sql(_READ_ONLY, name=self.live))["database"]:
            raise self._read_only(f"{self.live} is")

    def for_staging(self, manifest: Json) -> Fit:
        """After everything was asked that would refuse the dump beside the live database."""
        self.require_writable()
        wanted = globals_of(self.label, manifest)["database"]
        facts = database_facts(self.client, self.live)
        known = self._known(facts)
        live = {**wanted, "tablespace": "pg_default"} if facts is None else locale_of(facts)
        if live["encoding"] != wanted["encoding"]:
            raise SopError(
                f"{self.label}: the dump is {wanted['encoding']}, database {self.live} is {live['encoding']}; "
                "restore it under another name (--to), or into a database with the same encoding"
            )
        missing = self._require_dump(manifest, known)
        if missing:
            hint = " ".join(f"CREATE TABLESPACE {quote_ident(name)} LOCATION '/…';" for name in missing)
            raise SopError(
                f"{self.label}: tablespaces that the dump needs are not on this server; as superuser run: {hint}"
            )
        return Fit(live, frozenset(known["event_triggers"]), True)

    def for_placing(self, manifest: Json) -> Fit:
        """The same for a copy that needs no live database; without the dump's tablespaces it lies in the default one."""
        self.require_writable()
        facts = database_facts(self.client, self.live)
        nothing: Json = {"extensions": [], "event_triggers": []}
        known = self._known(facts) if facts is None or facts["datallowconn"] else nothing
        missing = self._require_dump(manifest, known)
        wanted = globals_of(self.label, manifest)["database"]
        here = self._names("SELECT json_agg(spcname) FROM pg_tablespace;")
        tablespace = wanted["tablespace"] if wanted.get("tablespace") in here else "pg_default"
        return Fit({**wanted, "tablespace": tablespace}, frozenset(known["event_triggers"]), not missing)

    def _known(self, facts: Json | None) -> Json:
        if facts is None:
            return {"extensions": [], "event_triggers": []}
        if facts["datallowconn"]:
            return known_of(self.client, self.live)
        found: Json | None = noted(self.client, self.live, "known")  # an empty database that stands for it
        if found is None:
            raise SopError(
                f"{self.label}: {self.live} is closed to sessions, so what it holds cannot be seen; lift its fence "
                "(quiesce, state released) and stage again"
            )
        return found

    def _names(self, query: str) -> set[str]:
        return set(self.client.query(self.client.maintenance_db, query))

    def _require_dump(self, manifest: Json, known: Json) -> list[str]:
        """SopError when this server cannot take the dump; the dump's tablespaces that it lacks."""
        facts = globals_of(self.label, manifest)
        require_readable(self.client, manifest, self.client.major())
        missing = sorted(
            {role["name"] for role in facts["roles"] if role["needed"]}
            - self._names("SELECT json_agg(rolname) FROM pg_roles;")
        )
        if missing:
            hint = " ".join(f"CREATE ROLE {quote_ident(name)};" for name in missing)
            raise SopError(f"{self.label}: roles that the dump needs are not on this server; as superuser run: {hint}")
        self._require_extensions(facts["extensions"], set(known["extensions"]))
        here = self._names("SELECT json_agg(spcname) FROM pg_tablespace;")
        return sorted(set(facts.get("tablespaces") or []) - here)

    def _require_extensions(self, extensions: list[Json], present: set[str]) -> None:
        available: Json = self.client.query(
            self.client.maintenance_db,
            "SELECT json_object_agg(name, json_build_object('trusted', t, 'versions', v)) FROM (SELECT name, "
            "bool_or(trusted) t, json_agg(version) v FROM pg_available_extension_versions GROUP BY name) e;",
        )
        # installed already, allowed by the signed dataset record, or trusted by PostgreSQL itself
        allowed = present | set(self.dataset.get("extensions") or [])
        for extension in extensions:
            name, version = extension["name"], extension["version"]
            if name not in available or version not in available[name]["versions"]:
                raise SopError(
                    f"{self.label}: the dump needs extension {name} {version}; install its package on this server"
                )
            if name not in allowed and not available[name]["trusted"]:
                raise SopError(
                    f"{self.label}: the dump needs extension {name}, which is not trusted and not in {self.live}; "
                    "if it is wanted, list it in the dataset's extensions and stage again"
                )
