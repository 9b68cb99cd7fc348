# The web server: nginx in front of the personnel application, which keeps its password in a pgpass file of its own.
useradd --system --home-dir /etc/simpeg-web --shell /usr/sbin/nologin simpeg-web
install -d -m 0750 -o root -g simpeg-web /etc/simpeg-web
printf 'db01:5432:simpeg:simpeg_app:%s\n' "$(cat /etc/soplab/simpeg_app)" >/etc/simpeg-web/pgpass
chown simpeg-web: /etc/simpeg-web/pgpass
chmod 0600 /etc/simpeg-web/pgpass
rm /etc/soplab/simpeg_app
systemctl -q enable --now simpeg-web.service nginx.service
