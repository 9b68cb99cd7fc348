# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The table of engines. A new engine is one file beside these and one line here.

(The imports are written out because Ansible packs a module's imports by reading them.)
"""

from __future__ import annotations

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Engine, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.files import FilesEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.mariadb import MariadbEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.postgresql import PostgresqlEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.sqlite import SqliteEngine

ENGINES: dict[str, type[Engine]] = {
    engine.kind: engine for engine in (FilesEngine, MariadbEngine, PostgresqlEngine, SqliteEngine)
}


def load_engine(dataset: Json, secrets: Json) -> Engine:
    """Return the engine of ``dataset``; SopError names the kinds that exist."""
    kind = dataset.get("engine")
    if kind not in ENGINES:
        raise SopError(f"{dataset.get('id')}: engine {kind!r} is unknown; one of {', '.join(sorted(ENGINES))}")
    return ENGINES[kind](dataset, secrets)
