-- Roles and their memberships that database zoo needs; they belong to the server.
CREATE ROLE zoo_app LOGIN;
CREATE ROLE zoo_dinas;
CREATE ROLE zoo_baca NOINHERIT CONNECTION LIMIT 7;
CREATE ROLE "Zoo Pengawas" CREATEROLE;
GRANT zoo_dinas TO zoo_app WITH ADMIN OPTION;
GRANT zoo_baca TO zoo_dinas, "Zoo Pengawas";
ALTER ROLE zoo_app SET statement_timeout = '90s';
