"""The lab's one image: Debian with systemd, built from packages, kept in podman under the hash of its recipe."""

from __future__ import annotations

import hashlib
import shlex
import time
from pathlib import Path

from tests.lab.system import LabError, inspect, podman, run

HERE = Path(__file__).resolve().parent
REPOSITORY = "localhost/soplab"
SUITE = "bookworm"
INDEX_FORMAT = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(COMPONENT)"

# Runs inside the new root: every host starts from an idle system and wakes only what it serves. Debian's own cluster
# is made in the builder's locale, so it is made anew, and MariaDB's data (100 MB of log) where it is wanted; keys and
# identity must not be shared between hosts.
CUSTOMIZE = """
set -eu
for unit in postgresql mariadb nginx ssh; do systemctl -q disable "$unit.service"; done
systemctl -q mask systemd-udevd.service systemd-networkd.service systemd-resolved.service \
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \
    getty@.service console-getty.service getty.target systemd-logind.service
pg_dropcluster 15 main
LC_ALL=C.UTF-8 pg_createcluster --locale C.UTF-8 15 main >/dev/null
find /var/lib/mysql -mindepth 1 -delete
rm -f /etc/ssh/ssh_host_* /etc/nginx/sites-enabled/default
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id
apt-get clean
rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/*
"""


def packages() -> list[str]:
    """The package names of packages.txt, without its comments."""
    lines = (HERE / "packages.txt").read_text(encoding="utf-8").splitlines()
    return sorted({line.strip() for line in lines if line.strip() and not line.startswith("#")})


def image_name() -> str:
    """The image's name; its tag is the hash of everything that goes into it, so clones share it safely."""
    recipe = "\n".join([SUITE, *packages(), CUSTOMIZE])
    return f"{REPOSITORY}:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def sources() -> list[str]:
    """One-line apt sources of the suite, as this machine is set up to reach them; empty: mmdebstrap's own default."""
    done = run(["apt-get", "indextargets", "--format", INDEX_FORMAT, "Created-By: Packages"], check=False)
    lines = []
    for row in done.stdout.decode().splitlines():
        origin, codename, uri, component = row.split("|")
        # A machine of another release has its mirror all the same, but not this suite: then the default serves.
        if origin == "Debian" and component == "main" and codename in {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}:
            lines.append(f"deb {uri} {codename} main")
    return lines if any(line.split()[2] == SUITE for line in lines) else []


def proxies() -> list[str]:
    """This machine's apt proxy settings, as mmdebstrap takes them."""
    done = run(["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"], check=False)
    return [f"--aptopt={line}" for line in done.stdout.decode().splitlines() if "::proxy" in line.split()[0].lower()]


def ensure_image(cache: Path) -> str:
    """Build and import the image unless podman holds it; returns its name. About 50 s when it must be built."""
    name = image_name()
    if inspect("image", name) is not None:
        print(f"lab: image {name} is cached", flush=True)
        return name
    tar = cache / "image.tar"
    started = time.monotonic()
    print(f"lab: building image {name} from {len(packages())} Debian packages (about a minute)", flush=True)
    script = cache / "customize.sh"
    script.write_text(CUSTOMIZE, encoding="utf-8")
    hooks = [f'--customize-hook=chroot "$1" sh < {shlex.quote(str(script))}']
    base = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages())}"]
    try:
        run([*base, *proxies(), *hooks, SUITE, str(tar), *sources()], root=True, timeout=900)
        built = time.monotonic() - started
        print(f"lab: built in {built:.0f} s, importing", flush=True)
        podman("import", "--quiet", "--change", "CMD=/sbin/init", str(tar), name, timeout=300)
    finally:
        script.unlink(missing_ok=True)
        run(["rm", "-f", str(tar)], root=True)
    print(f"lab: image ready after {time.monotonic() - started:.0f} s", flush=True)
    return name


def forget_images() -> None:
    """Remove every image of the lab that no container uses."""
    listed = podman("images", "--quiet", "--filter", f"reference={REPOSITORY}")
    for image in sorted(set(listed.split())):
        try:
            podman("rmi", image)
        except LabError as error:
            print(f"{error} (kept)", flush=True)
