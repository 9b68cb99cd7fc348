"""A controller in control mode, and a server of its own to act on: containers beside the lab's, for one test module.

They are not the lab's hosts, so that nobody else's run meets an enrolled host.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.containers import JOURNAL, limits, wait_for_systemd
from tests.lab.hosts import Lab
from tests.lab.system import inspect, podman, run

HOME = "/srv/sop"
SITE = f"{HOME}/site"
VENV = "/opt/sopctl"
COMMAND = "/usr/local/bin/sopctl"
CONTROL = f"{{schema: sop-control/v1, user: sop, site: {SITE}, command: {COMMAND}}}\n"
# As docs/how-to/control-mode.md has it.
SUDOERS = f"Defaults env_reset\n%sop-people ALL=(sop) NOPASSWD: {COMMAND}\n"


@dataclass(frozen=True)
class Controller:
    """The running container."""

    name: str

    def run(
        self, user: str, words: Sequence[str] | str, *, env: Sequence[str] = (), stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program (a list) or a shell script (a string) as ``user``, logged in."""
        command = shlex.join(words) if not isinstance(words, str) else words
        options = [word for one in env for word in ("--env", one)]
        full = [
            "podman",
            "exec",
            "-i",
            "--user",
            user,
            "--workdir",
            "/tmp",
            *options,
            "--env",
            f"HOME={self.home(user)}",
        ]
        done = run([*full, self.name, "sh", "-c", command], root=True, check=False, stdin=stdin, timeout=600)
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    @property
    def ip(self) -> str:
        """Its address in the lab's network."""
        found = inspect("container", self.name) or {}
        return str(next(iter(found["NetworkSettings"]["Networks"].values()))["IPAddress"])

    def home(self, user: str) -> str:
        """An account's home."""
        return {"root": "/root", "sop": HOME}.get(user, f"/home/{user}")

    def root(self, script: str, stdin: bytes | None = None) -> str:
        """Run a script as root; a failure is a failure of the test."""
        done = self.run("root", f"set -eu\n{script}", stdin=stdin)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def put(self, source: Path, target: str, owner: str = "root:root") -> None:
        """Copy a file or folder there, as ``owner``'s."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.add(source, arcname=".")
        name, folder = shlex.quote(target), source.is_dir()
        place = name if folder else f"{name}.put"
        self.root(f"mkdir -p {place}; tar -x -C {place} --no-same-owner", stream.getvalue()) if folder else self.root(
            f"cat >{name}", source.read_bytes()
        )
        self.root(f"chown -R {owner} {name}")

    def account(self, name: str, key: Path) -> None:
        """A person of the agency: an account whose own key signs for them."""
        home = f"/home/{name}"
        self.root(
            f"useradd --create-home --shell /bin/bash --groups sop-people {name}; install -d -m 0700 -o {name} {home}/.ssh"
        )
        for suffix in ("", ".pub"):
            self.root(f"umask 077; cat >{home}/.ssh/id_ed25519{suffix}", Path(f"{key}{suffix}").read_bytes())
        self.root(f"chown -R {name}: {home}/.ssh")


@contextmanager
def container(lab: Lab, role: str, command: Sequence[str], *options: str) -> Iterator[Controller]:
    """A container of the lab's image on the lab's network; it is removed afterwards."""
    name = f"{lab.facts['prefix']}-{role}"
    podman("rm", "--force", "--ignore", "--time", "0", name)
    names = [f"--add-host={host.name}:{host.ip}" for host in lab.hosts.values()]
    podman("run", "--detach", "--name", name, "--hostname", role, "--network", lab.facts["network"]["name"], *names, *limits(),
           *options, lab.facts["image"], *command, timeout=120)  # fmt: skip
    try:
        yield Controller(name)
    finally:
        podman("rm", "--force", "--ignore", "--time", "0", name)


@contextmanager
def server(lab: Lab) -> Iterator[Controller]:
    """A server that Ansible reaches as it reaches the lab's: an ordinary user with sudo, and the lab's SSH key."""
    setup = (
        "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key; mkdir -p /run/sshd; "
        "od -An -N16 -tx1 /dev/urandom | tr -d ' \\n' >/etc/machine-id; exec /usr/sbin/sshd -D -e"
    )
    with container(lab, "server", ["sh", "-c", setup]) as made:
        made.root("until test -s /etc/machine-id; do sleep 0.1; done; useradd --create-home --shell /bin/bash sopop")
        made.root("install -d -m 0700 -o sopop -g sopop /home/sopop/.ssh; umask 077; cat >/home/sopop/.ssh/authorized_keys; "
                  "chown sopop: /home/sopop/.ssh/authorized_keys; echo 'sopop ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/sopop",
                  lab.private_key.with_suffix(".pub").read_bytes())  # fmt: skip
        yield made


@contextmanager
def controller(lab: Lab, venv: Path) -> Iterator[Controller]:
    """Start a controller with the sopctl of ``venv`` (made with the system's Python)."""
    with container(lab, "control", ["sleep", "infinity"]) as made:
        _install(made, venv)
        made.root(
            f"groupadd sop-people; useradd --system --create-home --home-dir {HOME} --shell /usr/sbin/nologin sop; chmod 0711 {HOME}; "
            f"install -d -m 0755 /etc/sopctl; printf %s {shlex.quote(SUDOERS)} >/etc/sudoers.d/sop; chmod 0440 /etc/sudoers.d/sop; "
            f"printf %s {shlex.quote(CONTROL)} >/etc/sopctl/control.yml"
        )
        yield made


@contextmanager
def timekeeper(lab: Lab, venv: Path) -> Iterator[Controller]:
    """Start a controller in which systemd runs, and cron, with the sopctl of ``venv``."""
    with container(lab, "timekeeper", ["/sbin/init"], "--systemd=always", *JOURNAL) as made:
        wait_for_systemd(made.name)
        _install(made, venv)
        made.root("install -d -m 0755 /etc/sopctl; systemctl start cron")
        yield made


def _install(made: Controller, venv: Path) -> None:
    made.put(venv, VENV)
    made.root(
        # the scripts name the interpreter of where they were made
        f"for f in {VENV}/bin/*; do head -c2 $f | grep -q '#!' && sed -i '1s|^#!.*python.*|#!{VENV}/bin/python|' $f; done; "
        f"chmod -R go-w {VENV}; ln -s {VENV}/bin/sopctl {COMMAND}"
    )
