# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A copy beside the live schema: made closed, loaded by an account of its own, complete or gone."""

from __future__ import annotations

import contextlib

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_accounts import (
    account_list,
    grant_sql,
    missing_definers,
    routine_grants,
    unwelcome_definers,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import MyClient, MySession, quote_name, sql
from ansible_collections.diskominfo.sop.plugins.module_utils.my_keep import store
from ansible_collections.diskominfo.sop.plugins.module_utils.my_load import (
    LoadAccount,
    Loader,
    drop_account,
    undone_by_signals,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_objects import (
    checked,
    digest,
    drop_all,
    make_all,
    naming,
    qualified,
    read_objects,
    standing_alone,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_quiesce import Fence
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import (
    Marks,
    create_schema,
    drop_schema,
    mark_schema,
    require_server,
    schema_facts,
    server_guard,
    version_of,
)


class Stage:
    """Staging of one case beside one live schema."""

    def __init__(self, client: MyClient, dataset: Json, case: str) -> None:
        self.client = client
        self.dataset = dataset
        self.fence = Fence(client, dataset)
        self.live: str = dataset["database"]
        self.marks = Marks(self.live, case)

    def discard(self) -> None:
        """Drop the copy and its account. An incomplete copy goes the same way."""
        with MySession(self.client) as session:
            self._drop(session, self.marks.shadow)

    def _drop(self, session: MySession, name: str) -> None:
        drop_account(session, name)
        drop_schema(session, name)

    def run(self, source: DumpSource, manifest: Json) -> Json:
        """Make the copy; its content with checksums, and its globals."""
        marks, facts = self.marks, globals_of(manifest, self.client.label)
        with MySession(self.client) as session:
            gone = schema_facts(session, self.live) is None
            self._preflight(session, facts, self._known(session))
        guard = server_guard(self.client, self.dataset)
        guard.require(int(manifest.get("bytes") or 0))
        with undone_by_signals(), MySession(self.client) as session:
            try:
                self._drop(session, marks.shadow)
                if gone:  # an empty live schema where it was dropped: the exchange needs one; grants were never gone
                    self._create(session, self.live, facts, "")
                self._create(session, marks.shadow, facts, marks.loading)
                account = LoadAccount.create(session, marks.shadow)
                content = Loader(self.client, account, marks.shadow, source, manifest, guard.check).run()
                drop_account(session, marks.shadow)
                self._prove(session, facts["objects"])
                store(session, marks.shadow, {"objects": facts["objects"], "grants": facts["grants"]["routines"]})
                mark_schema(session, marks.shadow, marks.staged)
            except BaseException:
                self._undo(gone)
                raise
        return {**content, "globals": {**facts, "names_itself": naming(facts["objects"], facts["schema"]["name"])}}

    def _prove(self, session: MySession, objects: list[Json]) -> None:
        """Make the objects once in the copy, and drop them: what this server refuses is said now, not at the exchange.
        A trigger whose head names the live schema would be made there, so that one waits. Definers have their privileges
        on the live schema's name alone."""
        elsewhere = [item for item in objects if item["kind"] == "trigger" and qualified(item)]
        make_all(session, self.marks.shadow, [item for item in objects if item not in elsewhere], ours=True)
        drop_all(session, self.marks.shadow)

    def _undo(self, gone: bool) -> None:
        with contextlib.suppress(SopError):
            self.discard()
            if gone:
                with MySession(self.client) as session:
                    drop_schema(session, self.live)

    def _create(self, session: MySession, name: str, facts: Json, comment: str) -> None:
        create_schema(session, name, facts["schema"]["charset"], facts["schema"]["collation"], comment)

    def _preflight(self, session: MySession, facts: Json, known: list[Json]) -> None:
        """SopError for everything that would refuse the dump."""
        label, wanted = self.client.label, facts["schema"]
        server = require_server(session)
        if version_of(facts["version"]) > version_of(server["version"]):
            raise SopError(
                f"{label}: the dump was made by MariaDB {facts['version']}, this server is {server['version']}; restore it on "
                "a server of that version or newer"
            )
        if facts["lower_case_names"] != server["lower_case_names"]:
            raise SopError(
                f"{label}: the dump is of a server with lower_case_table_names={facts['lower_case_names']}, this one has "
                f"{server['lower_case_names']}; restore it on a server that treats names the same way"
            )
        live = schema_facts(session, self.live)
        if live is not None and (live["charset"], live["collation"]) != (wanted["charset"], wanted["collation"]):
            raise SopError(
                f"{label}: the dump is {wanted['charset']} ({wanted['collation']}), schema {self.live} is {live['charset']} "
                f"({live['collation']}); ALTER DATABASE it to the dump's, or restore into a schema that has it"
            )
        require_definers(session, self.dataset, facts["objects"], known)
        for item in facts["objects"]:
            checked(item, str(wanted["name"]), label)
        if wanted["name"] != self.live and (named := naming(facts["objects"], str(wanted["name"]))):
            raise SopError(
                f"{label}: the dump is of schema {wanted['name']}, which these name: {', '.join(named[:5])}; "
                f"restore it into a schema of that name, in {self.live} they would reach into the other one"
            )

    # -- beside, under a name of its own ---------------------------------------------------------------------------

    def placed(self, target: str) -> bool:
        """Whether ``target`` is the finished copy of this case."""
        with MySession(self.client) as session:
            found = schema_facts(session, target)
        return found is not None and found["comment"] == self.marks.placed

    def unplace(self, target: str) -> None:
        """Drop ``target`` when it is the finished copy of this case."""
        if self.placed(target):
            with MySession(self.client) as session:
                self._drop(session, target)

    def place(self, target: str, source: DumpSource, manifest: Json) -> Json:
        """Restore as ``target``; see :meth:`Engine.place`. Objects that name the source's schema are left out, and
        events stay disabled: a copy must not reach into the original or act beside it."""
        facts, marks = globals_of(manifest, self.client.label), self.marks
        origin = str(facts["schema"]["name"])
        if len(target) > 64 or target in (self.live, marks.shadow, marks.before):
            raise SopError(
                f"{self.client.label}: {target} cannot be the copy's name; choose another of up to 64 characters"
            )
        with MySession(self.client) as session:
            found = schema_facts(session, target)
            if found is not None and found["comment"] == marks.placed:
                raise SopError(f"{self.client.label}: {target} is placed already; drop it before you place it again")
            if found is not None and found["comment"] != marks.loading:
                raise SopError(f"{self.client.label}: schema {target} is there already; choose another name")
            objects, reaching = standing_alone(facts["objects"], origin)
            require_definers(session, self.dataset, objects, self._known(session))
            server = require_server(session)
            if version_of(facts["version"]) > version_of(server["version"]):
                raise SopError(
                    f"{self.client.label}: the dump was made by MariaDB {facts['version']}, this server is "
                    f"{server['version']}; place it on a server of that version or newer"
                )
        guard = server_guard(self.client, self.dataset)
        guard.require(int(manifest.get("bytes") or 0))
        with undone_by_signals(), MySession(self.client) as session:
            try:
                self._drop(session, target)
                self._create(session, target, facts, marks.loading)
                account = LoadAccount.create(session, target)
                content = Loader(self.client, account, target, source, manifest, guard.check).run()
                drop_account(session, target)
                # a view asks for its definer's privileges when it is made; those on routines wait for the routines
                session.each(grant_sql(target, {"schema": facts["grants"]["schema"]}, account_list(session)))
                make_all(session, target, objects)
                left = {item["name"] for item in facts["objects"] if item["kind"] == "routine"}
                left -= {item["name"] for item in objects if item["kind"] == "routine"}
                grants = {
                    **facts["grants"],
                    "routines": [g for g in facts["grants"]["routines"] if g["name"] not in left],
                }
                session.each(grant_sql(target, grants, account_list(session)))
                made = read_objects(session, target)
                mark_schema(session, target, marks.placed)
            except BaseException:
                with contextlib.suppress(SopError), MySession(self.client) as other:
                    self._drop(other, target)
                raise
        return {**content, "left_out": reaching, "globals": {**facts, "objects": made, "digests": digest(made)}}

    def _known(self, session: MySession) -> list[Json]:
        """What the live schema has, or had before it was emptied, of objects with their definers."""
        emptied = [{"definer": definer} for definer in (self.fence.noted() or {}).get("definers", [])]
        return emptied + ([] if schema_facts(session, self.live) is None else read_objects(session, self.live))

    # -- in place --------------------------------------------------------------------------------------------------

    def empty(self) -> None:
        """Drop everything in the live schema but the schema itself. What goes with it and belongs to the name, the fence
        remembers: privileges on routines, and whom objects ran as."""
        with MySession(self.client) as session:
            noted = self.fence.noted() or {}
            definers = [item["definer"] for item in read_objects(session, self.live)]
            grants = routine_grants(session, self.live)
            self.fence.note(
                definers=[*noted.get("definers", []), *definers], grants=[*noted.get("grants", []), *grants], events=[]
            )
            drop_all(session, self.live)
            session.run("SET SESSION foreign_key_checks = 0")
            rows = session.run(
                sql(
                    "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {s}", s=self.live
                )
            )
            for name, kind in sorted(rows, key=lambda row: row[1] == "SEQUENCE"):  # defaults stand on sequences
                word = "SEQUENCE" if kind == "SEQUENCE" else "TABLE"
                session.run(f"DROP {word} IF EXISTS {quote_name(self.live)}.{quote_name(name)}")


def globals_of(manifest: Json, label: str) -> Json:
    """The globals of a MariaDB dump's manifest; SopError when it is something else's."""
    try:
        facts: Json = manifest["content"]["globals"]
        if facts["engine"] != "mariadb":
            raise KeyError
        for key in ("name", "charset", "collation"):
            str(facts["schema"][key])
        list(facts["objects"])
        list(facts["grants"]["routines"])
        str(facts["version"])
        int(facts["lower_case_names"])
    except (KeyError, TypeError, ValueError):
        raise SopError(
            f"{label}: the manifest of this dump has no globals of a MariaDB schema; choose a backup of this dataset"
        ) from None
    return facts


def require_definers(session: MySession, dataset: Json, objects: list[Json], known: list[Json]) -> None:
    """SopError unless everybody whom an object runs as is here, and may be what it runs as."""
    label = session.client.label
    missing = missing_definers(session, objects)
    if missing:
        hint = " ".join(f"CREATE USER {name} ACCOUNT LOCK;" for name in missing)
        raise SopError(f"{label}: accounts that the dump's objects run as are not on this server; as root run: {hint}")
    bad = unwelcome_definers(session, objects, known, dataset.get("definers") or [])
    if bad:
        raise SopError(
            f"{label}: the dump has objects that would run with power over the whole server, and {dataset['database']} has "
            f"none such now: {', '.join(bad[:5])}; if they are wanted, list the account (user@host) in the dataset's definers"
        )
