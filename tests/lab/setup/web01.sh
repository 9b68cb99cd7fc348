# The web server: nginx in front of the personnel application, which keeps its password in a pgpass file of its own, and of
# the licensing application, which keeps its password in a plain one.
useradd --system --home-dir /etc/simpeg-web --shell /usr/sbin/nologin simpeg-web
install -d -m 0750 -o root -g simpeg-web /etc/simpeg-web
printf 'db01:5432:simpeg:simpeg_app:%s\n' "$(cat /etc/soplab/simpeg_app)" >/etc/simpeg-web/pgpass
chown simpeg-web: /etc/simpeg-web/pgpass
chmod 0600 /etc/simpeg-web/pgpass
rm /etc/soplab/simpeg_app
useradd --system --home-dir /etc/perizinan-web --shell /usr/sbin/nologin perizinan-web
install -d -m 0750 -o root -g perizinan-web /etc/perizinan-web
install -m 0600 -o perizinan-web -g perizinan-web /etc/soplab/perizinan_app /etc/perizinan-web/password
rm /etc/soplab/perizinan_app
systemctl -q enable --now simpeg-web.service perizinan-web.service nginx.service
