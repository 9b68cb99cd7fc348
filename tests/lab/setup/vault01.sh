# The vault: restic repositories over TLS, append-only, a user a host; and a second one, so small that it fills up.
useradd --system --home-dir /srv/vault --shell /usr/sbin/nologin vault
install -d -m 0700 -o vault -g vault /srv/vault
chown -R vault: /etc/vault
chmod 0600 /etc/vault/htpasswd /etc/vault/server.key
chown vault: /srv/small
systemctl -q enable --now vault@vault.service vault@small.service
