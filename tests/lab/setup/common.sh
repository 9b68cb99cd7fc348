# Every host: its own SSH identity, and the ordinary user with sudo that Ansible logs in as.
ssh-keygen -q -t ed25519 -N '' -C "root@$(hostname)" -f /etc/ssh/ssh_host_ed25519_key
useradd --create-home --shell /bin/bash sopop
install -d -m 0700 -o sopop -g sopop /home/sopop/.ssh
install -m 0600 -o sopop -g sopop /etc/soplab/operator.pub /home/sopop/.ssh/authorized_keys
echo 'sopop ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/sopop
chmod 0440 /etc/sudoers.d/sopop
systemctl -q enable --now ssh.service
install -d -m 0755 /var/lib/soplab
systemd-tmpfiles --create --prefix /var/log/journal
journalctl --flush
