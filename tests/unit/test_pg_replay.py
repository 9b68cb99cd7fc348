"""What the superuser may run from a dump, how settings are written back, and secrets in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import case_name
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_properties import setting_sql
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_replay import (
    OBJECT_STATEMENTS,
    PRIVILEGE_STATEMENTS,
    checked_statements,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.secretfile import SecretFile


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER ROLE app SUPERUSER;",
        'GRANT "x ON TABLE " TO app;',
        "GRANT pg_read_all_data TO app;",
        "GRANT SET ON PARAMETER work_mem TO app;",
        "GRANT ALL ON DATABASE simpeg TO app;",
        "GRANT ALL ON TABLE x TO app; DROP DATABASE simpeg;",
        "GRANT ALL ON TABLE x TO app /* ' */; DROP DATABASE simpeg; --'",
        "GRANT ALL ON TABLE x TO app $$'$$; DROP DATABASE simpeg; --'",
        "GRANT ALL ON TABLE x TO app\n\\! rm -rf /\n;",
        "GRANT ALL ON TABLE x TO :evil;",
        "GRANT ALL ON TABLE x TO app",
        "SECURITY LABEL FOR x ON ROLE app IS 'y';",
        "CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION f();",
        "SELECT pg_catalog.set_config('search_path', '', true);",
        "-- note\rDROP DATABASE simpeg;",
    ],
)
def test_superuser_runs_only_grants_of_a_dump(statement: str) -> None:
    with pytest.raises(SopError):
        checked_statements(statement, PRIVILEGE_STATEMENTS, "simpeg")


def test_grants_of_a_dump_are_understood() -> None:
    script = """\\restrict abc
    SET statement_timeout = 0; SET client_encoding = 'UTF8';
    SELECT pg_catalog.set_config('search_path', '', false);
    -- Name: x; Type: ACL
    SET SESSION AUTHORIZATION "a;b";
    GRANT SELECT("k ; l"),UPDATE(n) ON TABLE public."t'" TO "P";
    RESET SESSION AUTHORIZATION;
    REVOKE GRANT OPTION FOR ALL ON FUNCTION public.f(a integer[]) FROM PUBLIC;
    GRANT ALL ON LARGE OBJECT 5 TO x WITH GRANT OPTION;
    ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES TO x;
    \\unrestrict abc
    """
    statements = checked_statements(script, PRIVILEGE_STATEMENTS, "simpeg")
    assert [statement.split(" ")[0] for statement in statements] == [
        "SET",
        "GRANT",
        "RESET",
        "REVOKE",
        "GRANT",
        "ALTER",
    ]
    assert statements[1] == """GRANT SELECT("k ; l"),UPDATE(n) ON TABLE public."t'" TO "P\""""
    assert checked_statements("CREATE PUBLICATION p FOR TABLE a WHERE ((x)::text = ':b');", OBJECT_STATEMENTS, "x")


def test_secret_file_is_only_in_memory() -> None:
    with SecretFile(b"rahasia") as secret:
        look = "import os, sys; s = os.stat(sys.argv[1]); print(open(sys.argv[1]).read(), oct(s.st_mode), s.st_uid)"
        for _ in range(2):
            out = subprocess.run(
                [sys.executable, "-c", look, secret.path], pass_fds=[secret.fd], capture_output=True, check=True
            ).stdout
            assert out.decode().split() == ["rahasia", "0o100600", str(os.geteuid())]
        assert "memfd" in str(Path(f"/proc/self/fd/{secret.fd}").readlink())
        hidden = subprocess.run([sys.executable, "-c", look, secret.path], capture_output=True, check=False)
        assert hidden.returncode != 0
    assert secret.fd == -1


def test_names_of_copies_fit() -> None:
    assert case_name("simpeg", "before", "RST-2026-0001") == "simpeg__before_rst20260001"
    one, other = (case_name("a" * 60 + end, "shadow", "RST-2026-0001") for end in "xy")
    assert len(one) == 63 and one != other and one.endswith("__shadow_rst20260001")
    assert len(case_name("é" * 31, "shadow", "RST-2026-0001").encode()) <= 63


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ('search_path="$user", public, "a ""b"", c"', """"search_path" TO '$user', 'public', 'a "b", c'"""),
        ('search_path=""', "\"search_path\" TO ''"),
        ("work_mem=4MB", "\"work_mem\" TO '4MB'"),
        ("app.x=a, 'b' \\", "\"app\".\"x\" TO  E'a, ''b'' \\\\'"),
    ],
)
def test_settings_are_written_back(setting: str, wanted: str) -> None:
    assert setting_sql(setting) == wanted
