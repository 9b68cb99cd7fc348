# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Database servers of a host, found by their processes and not by what somebody registered: also the second cluster.

A client is run with the rights of the server it asks (PostgreSQL), or is told to send no file whatever the server asks for
(MariaDB): a local user can start a process of that name, and must gain nothing from being found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.diskominfo.sop.plugins.module_utils.asset_look import Json, Look, clean, said
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_network import (
    sockets_of,
    tcp_listeners,
    unix_listeners,
)

POSTGRES = {"postgres", "postmaster"}
MARIADB = {"mariadbd", "mysqld"}
#: where MariaDB's and MySQL's packages put the socket
MY_SOCKETS = ("/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock")
#: databases that every MariaDB server has
MY_OWN = {"information_schema", "performance_schema", "mysql", "sys"}
PG_SOCKET = re.compile(r"(/.*)/\.s\.PGSQL\.(\d+)")
PG_QUERY = (
    "SELECT json_build_object('version', current_setting('server_version'), 'databases', (SELECT coalesce(json_agg("
    "json_build_object('name', datname, 'owner', pg_get_userbyid(datdba), 'bytes', pg_database_size(oid)) ORDER BY datname), "
    "'[]') FROM pg_database WHERE datallowconn AND NOT datistemplate))"
)
MY_QUERY = (
    "SELECT version(), @@port, @@datadir; SELECT s.schema_name, coalesce(sum(t.data_length + t.index_length), 0) FROM information_schema.schemata s "
    "LEFT JOIN information_schema.tables t ON t.table_schema = s.schema_name GROUP BY s.schema_name"
)
_VERSION = re.compile(r"(\d+(?:\.\d+)+(?:-MariaDB)?|\b\d{2}\b)")
_PG_SETTING = re.compile(r"^\s*(port|data_directory)\s*=?\s*'?([^'#\s]+)'?", re.M)


@dataclass
class Server:
    """One running server process, as far as it can be seen from outside."""

    engine: str
    pid: int
    uid: int
    argv: list[str]
    away: bool  # in another container: its paths are not ours
    ports: list[int] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)
    same_user: list[int] = field(default_factory=list)  # ports of its account, where its own cannot be told

    def option(self, *names: str) -> str | None:
        """Value of the first of these options that its command line has: ``-p 1``, ``--port=1``, ``-c port=1``."""
        for at, word in enumerate(self.argv[1:], 1):
            following = self.argv[at + 1] if at + 1 < len(self.argv) else ""
            for name in names:
                if word == name and following:
                    return following
                if name.startswith("--") and word.replace("_", "-").startswith(f"{name}="):
                    return word.partition("=")[2]
                if word == "-c" and following.startswith(f"{name.lstrip('-')}="):
                    return following.partition("=")[2]
        return None


def database_facts(look: Look) -> list[Json]:
    """Every database server: engine, version, port, where its data lies, and its databases with owner and size in bytes.

    ``databases`` is null where they could not be listed. Clusters that Debian has registered but that do not run are there too.
    """
    servers = list(_servers(look))
    found: list[Json] = []
    for one in servers:
        facts = _postgresql(look, one) if one.engine == "postgresql" else _mariadb(look, one)
        if facts not in found:  # containers of one image look alike
            found.append(facts)
    _guess_ports(look, found)
    running = {one["data_dir"] for one in found}
    found += [one for one in _stopped(look) if one["data_dir"] not in running]
    return sorted(found, key=lambda one: (one["engine"], one["port"] or 0, one["data_dir"] or ""))


def _servers(look: Look) -> Iterator[Server]:
    here = look.link("/proc/self/ns/pid")
    for name in look.names("/proc"):
        if not name.isdigit():
            continue
        comm = (look.text(f"/proc/{name}/comm") or "").strip()
        if comm not in POSTGRES | MARIADB:
            continue
        argv = [word for word in (look.text(f"/proc/{name}/cmdline") or "").split("\0") if word]
        base = argv[0].rpartition("/")[2] if argv else ""
        if base not in POSTGRES | MARIADB:  # a server's helper, which names itself "postgres: checkpointer"
            continue
        owner = re.search(r"^Uid:\s+\d+\s+(\d+)", look.text(f"/proc/{name}/status") or "", re.M)
        namespace = look.link(f"/proc/{name}/ns/pid")
        one = Server(
            engine="postgresql" if base in POSTGRES else "mariadb",
            pid=int(name),
            uid=int(owner.group(1)) if owner else -1,
            argv=argv,
            away=namespace is not None and here is not None and namespace != here,
        )
        inodes = sockets_of(look, one.pid)
        tcp, unix = tcp_listeners(look, name), unix_listeners(look, name)
        one.ports = sorted({tcp[inode][0] for inode in inodes if inode in tcp})
        one.same_user = sorted({port for port, uid in tcp.values() if uid == one.uid})
        one.sockets = sorted({unix[inode] for inode in inodes if inode in unix})
        yield one


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() and 0 < int(text) < 65536 else None


def _facts(
    engine: str,
    name: str | None,
    port: int | None,
    data_dir: str | None,
    *,
    running: bool = True,
    container: bool = False,
) -> Json:
    return {
        "engine": engine,
        "name": clean(name),
        "version": None,
        "port": port,
        "data_dir": clean((data_dir or "").rstrip("/")),
        "running": running,
        "container": container,
        "databases": None,
    }


# PostgreSQL ----------------------------------------------------------------------------------------------------------


def _postgresql(look: Look, one: Server) -> Json:
    config = one.option("config_file")
    settings = dict(_PG_SETTING.findall((look.text(config) if config and not one.away else "") or ""))
    data_dir = one.option("-D") or settings.get("data_directory") or look.link(f"/proc/{one.pid}/cwd")
    sockets = [found for path in one.sockets if (found := PG_SOCKET.fullmatch(path))]
    port = next((int(found.group(2)) for found in sockets), None)
    port = port or next(iter(one.ports), None) or _port(one.option("-p", "port")) or _port(settings.get("port"))
    cluster = re.fullmatch(r"/etc/postgresql/([^/]+)/([^/]+)/postgresql\.conf", config or "")
    facts = _facts("postgresql", "/".join(cluster.groups()) if cluster else None, port, data_dir, container=one.away)
    if not sockets and port:
        sockets = [
            found
            for path in unix_listeners(look).values()
            if (found := PG_SOCKET.fullmatch(path)) and int(found.group(2)) == port
        ]
    return _ask_postgresql(look, one, facts, sockets[0].group(1) if sockets else None)


def _ask_postgresql(look: Look, one: Server, facts: Json, folder: str | None) -> Json:
    what = f"databases of PostgreSQL on port {facts['port'] or '?'}"
    if one.away or folder is None:
        look.could_not(what, "it runs in a container" if one.away else "its socket was not found")
        return {**facts, "version": _told_by_program(look, one)}
    as_user = one.uid if look.root else None
    own = look.user(one.uid) if look.root else None
    command = ["psql", "-XAtqw", "-h", folder, "-p", str(facts["port"]), "-d", "postgres", "-c", PG_QUERY]
    ran = look.run([*command, "-U", own or "postgres"], as_user)
    if ran.code and own not in {None, "postgres"}:
        ran = look.run([*command, "-U", "postgres"], as_user)
    try:
        answer: Json = json.loads(ran.out) if ran.code == 0 else {}
        databases = [
            {"name": clean(entry["name"]), "owner": clean(entry["owner"]), "bytes": int(entry["bytes"])}
            for entry in answer["databases"]
        ]
        return {**facts, "version": clean(str(answer["version"])), "databases": databases}
    except (ValueError, TypeError, KeyError):
        look.could_not(what, said(ran))
        return {**facts, "version": _told_by_program(look, one)}


def _guess_ports(look: Look, found: list[Json]) -> None:
    """Without root a port can be unknown; where exactly one socket is nobody's, it is that server's."""
    unknown = [one for one in found if one["engine"] == "postgresql" and one["port"] is None]
    known = {one["port"] for one in found}
    matches = [PG_SOCKET.fullmatch(path) for path in unix_listeners(look).values()]
    left = sorted({int(match.group(2)) for match in matches if match} - known)
    if len(unknown) == 1 and len(left) == 1:
        unknown[0]["port"] = left[0]


def _stopped(look: Look) -> Iterator[Json]:
    """Clusters of Debian's postgresql-common, running or not."""
    for path in look.find("/etc/postgresql/*/*/postgresql.conf"):
        version, name = path.split("/")[3:5]
        settings = dict(_PG_SETTING.findall(look.text(path) or ""))
        data_dir = settings.get("data_directory", f"/var/lib/postgresql/{version}/{name}")
        facts = _facts("postgresql", f"{version}/{name}", _port(settings.get("port")), data_dir, running=False)
        yield {**facts, "version": version}


# MariaDB and MySQL ---------------------------------------------------------------------------------------------------


def _mariadb(look: Look, one: Server) -> Json:
    told = one.ports or (one.same_user if len(one.same_user) == 1 else [])
    port = _port(one.option("--port", "-P")) or next(iter(told), None)
    sockets = one.sockets or list(filter(None, [one.option("--socket")]))
    data_dir = (one.option("--datadir") or look.link(f"/proc/{one.pid}/cwd") or "").rstrip("/")
    facts = _facts("mariadb", None, port, data_dir, container=one.away)
    if not sockets:  # its descriptors may not be read: not root, or root of a container
        sockets = [path for path in unix_listeners(look).values() if path in MY_SOCKETS]
    socket = next((path for path in sockets if "mysqlx" not in path), None)
    return _ask_mariadb(look, one, facts, socket)


def _ask_mariadb(look: Look, one: Server, facts: Json, socket: str | None) -> Json:
    what = f"databases of MariaDB on port {facts['port'] or '?'}"
    version = _told_by_program(look, one)
    if version and "MariaDB" not in version and one.argv[0].endswith("mysqld"):
        facts["engine"] = "mysql"
    if one.away or not socket:
        look.could_not(what, "it runs in a container" if one.away else "its socket was not found")
        return {**facts, "version": version}
    ask = ["--no-defaults", "--batch", "--skip-column-names", "--local-infile=0", "--connect-timeout=5"]
    ran = look.run(["mariadb", *ask, f"--socket={socket}", "-e", MY_QUERY])
    if ran.code is None:
        ran = look.run(["mysql", *ask, f"--socket={socket}", "-e", MY_QUERY])
    lines = ran.out.splitlines()
    told = lines[0].split("\t") if lines else []
    if ran.code != 0 or len(told) != 3 or (facts["port"] or _port(told[1])) != _port(told[1]):
        look.could_not(what, said(ran))
        return {**facts, "version": version}
    rows = [line.split("\t") for line in lines[1:]]
    databases = [
        {"name": clean(row[0]), "owner": None, "bytes": int(row[1])}
        for row in rows
        if len(row) == 2 and row[1].isdigit() and row[0] not in MY_OWN
    ]
    engine = "mariadb" if "MariaDB" in told[0] else "mysql"
    facts |= {
        "engine": engine,
        "version": clean(told[0]),
        "port": _port(told[1]),
        "data_dir": clean(told[2].rstrip("/")),
    }
    return {**facts, "databases": sorted(databases, key=lambda entry: str(entry["name"]))}


def _told_by_program(look: Look, one: Server) -> str | None:
    """The version that the server's own program tells; it is run with no more rights than that process has."""
    program = look.link(f"/proc/{one.pid}/exe") or one.argv[0]
    if one.away or not program.startswith("/"):
        return None
    ran = look.run([program.removesuffix(" (deleted)"), "--version"], one.uid if look.root else None)
    found = _VERSION.search(ran.out) if ran.code == 0 else None
    return clean(found.group(1)) if found else None
