"""The MariaDB engine on a real server: dump, stage, and what it refuses."""

from __future__ import annotations

from tests.integration.my_helpers import BEFORE, CASE, Site, schemas, take

pytest_plugins = ["tests.integration.my_fixtures"]


def test_the_zoo_survives_backup_swap_revert_and_swap(my_zoo: Site) -> None:
    site, engine = my_zoo, my_zoo.engine()
    before = site.server.dump("simpeg")
    grants = _grants(site)
    source, manifest = take(engine)
    assert site.server.dump("simpeg") == before

    live = engine.manifest(checksums=True)
    content = engine.stage(CASE, source, manifest)
    assert content["tables"] == live["tables"]
    assert {name: table["rows"] for name, table in content["tables"].items()} == {
        name: table["rows"] for name, table in manifest["content"]["tables"].items()
    }
    assert content["sequences"] == live["sequences"]
    assert content["auto_increment"] == live["auto_increment"]

    site.sql("INSERT INTO catatan VALUES ('sesudah cadangan', 1); CREATE TABLE baru (x INT); DROP VIEW kelompok")
    later = site.server.dump("simpeg")
    engine.quiesce(10)
    engine.swap(CASE)
    engine.release()
    assert site.server.dump("simpeg") == before
    assert _grants(site) == grants

    engine.quiesce(10)
    engine.revert(CASE)
    engine.release()
    assert site.server.dump("simpeg") == later
    assert _grants(site) == grants
    assert engine.state(CASE) == "staged"

    engine.quiesce(10)
    engine.swap(CASE)
    engine.release()
    assert site.server.dump("simpeg") == before
    assert _grants(site) == grants
    assert schemas(site.server) == ["simpeg", BEFORE]
    # the defaults, keys and objects work, and in the right schema
    site.sql(
        "INSERT INTO anak (id, jumlah) VALUES (1000, NULL); DELETE FROM riwayat WHERE id = 2; INSERT INTO induk (nama) VALUES ('lagi')"
    )
    assert site.sql("SELECT COUNT(*) FROM catatan WHERE apa IN ('tr0', 'é 😀; '' \\\\')") == "2"
    assert site.sql("SELECT induk FROM anak WHERE id = 1000") == "100"
    assert "foreign key constraint fails" in site.server.run("INSERT INTO cucu VALUES (9, 9999)", "simpeg").stderr
    assert "foreign key constraint fails" in site.server.run("DELETE FROM anak WHERE id = 1", "simpeg").stderr


def _grants(site: Site) -> list[str]:
    who = ("app@localhost", "pembaca@'%'", "pemilik@localhost", "petugas")
    return sorted(line for name in who for line in site.server.sql(f"SHOW GRANTS FOR {name}").splitlines())
