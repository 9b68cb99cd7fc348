# The database server of the licensing system: the application comes over the network with its password, nobody else.
mariadb-install-db --user=mysql --skip-test-db >/dev/null
systemctl -q enable --now mariadb.service
{
    echo "CREATE USER perizinan_owner@localhost ACCOUNT LOCK;"
    printf "CREATE USER perizinan_app@'%%' IDENTIFIED BY '%s';\n" "$(cat /etc/soplab/perizinan_app)"
} | mariadb
rm /etc/soplab/perizinan_app
