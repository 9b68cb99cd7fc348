# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The systemd units of a vault: the server without any right but its folder, and the keeper beside it."""

from __future__ import annotations

from dataclasses import dataclass

MARK = "# Written by diskominfo.sop.vault_server; it is written again, so change the role's variables instead.\n"
#: what server and keeper share
SANDBOX = """\
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={root}
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
PrivateTmp=yes
PrivateIPC=yes
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
"""


@dataclass
class Instance:
    """One vault on one host; ``private_users``: whether this host's systemd can make user namespaces."""

    name: str
    user: str
    root: str
    listen: str
    rclone: str
    private_users: bool = True
    #: whether an account may let users in and out
    door: bool = False

    @property
    def etc(self) -> str:
        """Folder of its settings."""
        return f"/etc/{self.name}"

    @property
    def keeper(self) -> str:
        """The keeper's program."""
        return f"/usr/local/lib/{self.name}/vault_keeper.py"

    @property
    def door_user(self) -> str:
        """The account of the door."""
        return f"{self.name}-door"

    @property
    def door_home(self) -> str:
        """Its home, root's, with the door's configuration."""
        return f"/var/lib/{self.name}-door"

    @property
    def door_state(self) -> str:
        """The one folder that it may write to. A folder and not a file: the file of users is replaced whole."""
        return f"{self.door_home}/state"

    @property
    def door_command(self) -> str:
        """What answers a caller."""
        return f"/usr/bin/python3 -I /usr/local/lib/{self.name}/vault_door.py {self.door_home}/door.json"

    @property
    def htpasswd(self) -> str:
        """The users, as the server reads them anew whenever they change."""
        return f"{self.door_state}/users" if self.door else f"{self.etc}/htpasswd"


def server_unit(it: Instance) -> str:
    """The unit that serves the repositories."""
    users = "PrivateUsers=yes\n" if it.private_users else ""
    return f"""{MARK}[Unit]
Description=Backup vault {it.name}: restic repositories over TLS, append-only
After=network-online.target
Wants=network-online.target
RequiresMountsFor={it.root}

[Service]
Type=exec
User={it.user}
Group={it.user}
ExecStart={it.rclone} serve restic --config {it.etc}/rclone.conf --cache-dir /nonexistent --append-only --private-repos \\
    --htpasswd {it.htpasswd} --cert {it.etc}/server.pem --key {it.etc}/server.key --min-tls-version tls1.2 \\
    --addr {it.listen} {it.root}
Restart=always
RestartSec=2
LimitCORE=0
CapabilityBoundingSet=
AmbientCapabilities=
{users}RestrictAddressFamilies=AF_INET AF_INET6
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
{SANDBOX.format(root=it.root)}
[Install]
WantedBy=multi-user.target
"""


def keeper_unit(it: Instance) -> str:
    """The unit that seals and measures: root, but with the right to change owners and nothing else."""
    return f"""{MARK}[Unit]
Description=Seals repositories of vault {it.name} and closes what is over its quota
RequiresMountsFor={it.root}

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I {it.keeper} {it.etc}/keeper.json
Nice=10
IOSchedulingClass=idle
CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
SystemCallFilter=@system-service
{SANDBOX.format(root=it.root)}"""


def keeper_timer(it: Instance) -> str:
    """A minute after it ended it begins again, so that a slow disk never has two of them."""
    return f"""{MARK}[Unit]
Description=Each minute: the keeper of vault {it.name}

[Timer]
OnActiveSec=5s
OnUnitInactiveSec=1min
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def door_unit(it: Instance) -> str:
    """The unit that ends leases and mends the file of users: the door's own account, so that root enters no folder of it."""
    return f"""{MARK}[Unit]
Description=Ends what has run out at the door of vault {it.name}

[Service]
Type=oneshot
User={it.door_user}
Group={it.door_user}
ExecStart={it.door_command} keep
CapabilityBoundingSet=
AmbientCapabilities=
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
{SANDBOX.format(root=it.door_state)}"""


def door_timer(it: Instance) -> str:
    """Each half minute, and when the host starts."""
    return f"""{MARK}[Unit]
Description=Each half minute: the door of vault {it.name}

[Timer]
OnActiveSec=1s
OnUnitInactiveSec=30s
AccuracySec=1s

[Install]
WantedBy=timers.target
"""
