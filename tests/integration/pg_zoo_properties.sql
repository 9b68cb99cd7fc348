-- What stands on the database zoo itself.
ALTER DATABASE zoo CONNECTION LIMIT 33;
COMMENT ON DATABASE zoo IS 'Kebun ''binatang'' \';
REVOKE TEMPORARY, CONNECT ON DATABASE zoo FROM PUBLIC;
GRANT CONNECT ON DATABASE zoo TO zoo_dinas WITH GRANT OPTION;
SET ROLE zoo_dinas; GRANT CONNECT ON DATABASE zoo TO zoo_baca; RESET ROLE;
GRANT CREATE, CONNECT ON DATABASE zoo TO "Zoo Pengawas";
ALTER DATABASE zoo SET search_path = data, public, "Arsip Lama";
ALTER DATABASE zoo SET default_text_search_config = 'data.indonesia';
ALTER DATABASE zoo SET "zoo.tahun" = 'dua ''ribu'' \';
ALTER ROLE zoo_app IN DATABASE zoo SET search_path = '';
ALTER ROLE zoo_app IN DATABASE zoo SET timezone = 'Asia/Jakarta';
ALTER ROLE zoo_baca IN DATABASE zoo SET default_transaction_isolation = 'serializable';
