# A second database server: a small archive register of its own, reached through the socket alone, and room for other
# servers' proofs by restore.
systemctl -q enable --now postgresql.service
for _ in $(seq 100); do
    runuser -u postgres -- pg_isready -q && break
    sleep 0.1
done
runuser -u postgres -- psql -q -X -v ON_ERROR_STOP=1 <<'SQL'
CREATE ROLE arsip_owner NOLOGIN;
CREATE DATABASE arsip OWNER arsip_owner TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
\connect arsip
SET ROLE arsip_owner;
CREATE TABLE surat (id integer PRIMARY KEY, nomor text NOT NULL UNIQUE, perihal text NOT NULL, diterima date NOT NULL);
INSERT INTO surat SELECT n, format('%s/ARS/2026', n), 'surat masuk ' || n, date '2026-01-01' + n % 365
    FROM generate_series(1, 500) AS n;
SQL
