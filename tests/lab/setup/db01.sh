# The database server of the personnel system: the application comes over the network with scram, nobody else.
echo "host simpeg simpeg_app $SOPLAB_SUBNET scram-sha-256" >>/etc/postgresql/15/main/pg_hba.conf
systemctl -q enable --now postgresql.service
for _ in $(seq 100); do
    runuser -u postgres -- pg_isready -q && break
    sleep 0.1
done
{
    echo "CREATE ROLE simpeg_owner NOLOGIN;"
    printf "CREATE ROLE simpeg_app LOGIN PASSWORD '%s';\n" "$(cat /etc/soplab/simpeg_app)"
} | runuser -u postgres -- psql -q -X -v ON_ERROR_STOP=1
rm /etc/soplab/simpeg_app
