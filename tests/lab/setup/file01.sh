# The file server: a tree of plain files with everything a restore may lose, the filing service that adds to it, and a
# queue service on SQLite.
useradd --system --home-dir /srv/berkas --shell /usr/sbin/nologin arsip
useradd --system --home-dir /srv/antrean --shell /usr/sbin/nologin antrean
install -d -m 0750 -o antrean -g antrean /srv/antrean
python3 /usr/local/lib/berkas/make.py /srv/berkas
systemctl -q enable --now antrean.service berkas-web.service
