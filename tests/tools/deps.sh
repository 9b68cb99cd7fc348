#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages that `make demo` or `make test` needs and this machine lacks: as root, or by sudo.
# Without either it prints the one line to ask an administrator for and exits 3. Nothing to do: no output, a few ms.
set -eu

python=${PYTHON:-python3}
missing=

need() { # need PROGRAM PACKAGE
    # servers lie in sbin, which an ordinary user's PATH leaves out
    PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null || missing="$missing $2"
}

need_library() { # need_library NAME PACKAGE
    PATH="$PATH:/usr/sbin" ldconfig -p | grep -q "$1" || missing="$missing $2"
}

case ${1:-} in
demo | test)
    need python3 python3
    # A venv that works already needs neither ensurepip nor the system's Python.
    [ -x .venv/bin/python ] || "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    need ssh-keygen openssh-client
    need restic restic
    need_library libpango-1.0.so.0 libpango-1.0-0
    need_library libpangoft2-1.0.so.0 libpangoft2-1.0-0
    need_library libharfbuzz-subset.so.0 libharfbuzz-subset0
    [ -d /usr/share/fonts/truetype/liberation ] || missing="$missing fonts-liberation"
    [ "$1" = demo ] || need mariadbd mariadb-server
    if [ "$1" = test ]; then # what the tests look at data with, apart from us
        need rclone rclone
        need sqlite3 sqlite3
        need getfacl acl
        need getfattr attr
        need rsync rsync
        need sshd openssh-server
        need git git
        need jq jq
        need openssl openssl
        need pdfdetach poppler-utils
        need setcap libcap2-bin
        need mkfs.btrfs btrfs-progs
        need systemd-analyze systemd
        need groovy groovy
        need chromium chromium
        need zsh zsh
        need fish fish
        need mandoc mandoc
        need softhsm2-util softhsm2
    fi
    ;;
*)
    echo "usage: $0 demo|test" >&2
    exit 2
    ;;
esac

if [ "$(id -u)" -eq 0 ]; then
    sudo=
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    sudo=sudo
else
    sudo=none
fi

if [ -n "$missing" ]; then
    install="apt-get install -y --no-install-recommends$missing"
    if [ "$sudo" = none ] || ! command -v apt-get >/dev/null; then
        echo "$1: missing here:$missing. Ask for: apt-get update && $install" >&2
        exit 3
    fi
    echo "$1: installing$missing"
    if ! { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive $install -qq >/dev/null; }; then
        echo "$1: apt-get failed (see above). Try by hand: apt-get update && $install" >&2
        exit 3
    fi
    # Tests start servers of their own; the one that the package brings would only stand about on the default socket.
    case $missing in
    *mariadb-server*)
        if [ -d /run/systemd/system ]; then
            $sudo systemctl disable --now --quiet mariadb || true
        elif [ -x /etc/init.d/mariadb ]; then
            $sudo /etc/init.d/mariadb stop >/dev/null 2>&1 || true
        fi
        ;;
    esac
fi

# A container may lack the identity that every booted machine has, and a server without one is never a target.
if [ ! -s /etc/machine-id ]; then
    write='tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id'
    if [ "$sudo" = none ]; then
        echo "$1: this machine has no /etc/machine-id. Ask for: sh -c '$write'" >&2
        exit 3
    fi
    echo "$1: writing /etc/machine-id, which this machine lacks"
    $sudo sh -c "$write"
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    [ -x .venv/bin/python ] || {
        echo "$1: $python is older than 3.11; name a newer one: make PYTHON=/path/to/python3.11 $1" >&2
        exit 3
    }
fi
