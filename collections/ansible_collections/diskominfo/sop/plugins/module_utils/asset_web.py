# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Web servers of a host and the names of their sites, read from their configuration.

``nginx -T`` would tell the same, but makes log files and folders where they are missing; so the files are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ansible_collections.diskominfo.sop.plugins.module_utils.asset_look import Json, Look, clean

NGINX = "/etc/nginx/nginx.conf"
APACHE = {
    "/etc/apache2": ("apache2.conf", "sites-enabled/*.conf"),
    "/etc/httpd": ("conf/httpd.conf", "conf.d/*.conf", "vhosts.d/*.conf"),
}
#: files that one configuration may include, one through the other
MOST_FILES = 500
_TOKEN = re.compile(r"""#[^\n]*|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([{};])|((?:\\.|\$\{[^}]*\}|[^\s{};"'\\])+)""")
_VERSION = re.compile(r"(?:nginx|Apache)/([\w.+~-]+)")


def web_facts(look: Look) -> list[Json]:
    """Each installed web server: ``{server, version, sites: [{names, listen}]}``."""
    found = []
    if look.text(NGINX, "web sites of nginx") is not None:
        version = _version(look, ["nginx"])
        found.append({"server": "nginx", "version": version, "sites": _sites(nginx_sites(look))})
    for folder, patterns in APACHE.items():
        files = [path for pattern in patterns for path in look.find(f"{folder}/{pattern}")]
        if files:
            texts = [look.text(path, "web sites of Apache") or "" for path in files]
            sites = [site for text in texts for site in apache_sites(text)]
            found.append({"server": "apache", "version": _version(look, ["apache2", "httpd"]), "sites": _sites(sites)})
    return found


def _version(look: Look, programs: list[str]) -> str | None:
    for program in programs:
        ran = look.run([program, "-v"])
        if ran.code == 0 and (found := _VERSION.search(ran.out + ran.err)):
            return clean(found.group(1))
    return None


def _sites(sites: list[Json]) -> list[Json]:
    unique = {(tuple(site["names"]), tuple(site["listen"])) for site in sites}
    return [{"names": list(names), "listen": list(listen)} for names, listen in sorted(unique)]


def nginx_sites(look: Look, path: str = NGINX) -> list[Json]:
    """The ``server`` blocks within ``http``, with everything that is included."""
    found: list[Json] = []
    blocks: list[str] = []
    for words, ending in _statements(look, path, set()):
        if ending == "{":
            blocks.append(words[0] if words else "")
            if blocks[-1] == "server" and "stream" not in blocks:
                found.append({"names": [], "listen": []})
        elif ending == "}":
            blocks = blocks[:-1]
        elif blocks and blocks[-1] == "server" and found and words:
            if words[0] == "server_name":
                found[-1]["names"] += [name for word in words[1:] if (name := clean(word)) and name != "_"]
            elif words[0] == "listen" and len(words) > 1:
                found[-1]["listen"].append(clean(words[1]))
    return [{"names": sorted(set(one["names"])), "listen": sorted(set(filter(None, one["listen"])))} for one in found]


def _statements(look: Look, path: str, seen: set[str]) -> Iterator[tuple[list[str], str]]:
    """(words, what ended them) of a configuration, includes in their place. ``seen`` stops a file that includes itself."""
    text = look.text(path, f"configuration of nginx in {path}") if path not in seen and len(seen) < MOST_FILES else None
    seen.add(path)
    words: list[str] = []
    for double, single, mark, plain in _TOKEN.findall(text or ""):
        if not mark:
            if double or single or plain:
                words.append(double or single or plain)
            continue
        if mark == ";" and len(words) == 2 and words[0] == "include":
            for included in look.find(os.path.join(os.path.dirname(NGINX), words[1])):
                yield from _statements(look, included, seen)
        else:
            yield words, mark
        words = []


def apache_sites(text: str) -> list[Json]:
    """The ``VirtualHost`` blocks of one file, and a ``ServerName`` outside of them."""
    found: list[Json] = []
    inside: Json | None = None
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        word, rest = words[0].lower(), [value.strip('"') for value in words[1:]]
        if word == "<virtualhost":
            inside = {"names": [], "listen": sorted({value.rstrip(">").strip('"') for value in rest if value != ">"})}
        elif word == "</virtualhost>" and inside is not None:
            found.append({**inside, "names": sorted(set(inside["names"]))})
            inside = None
        elif word == "servername" and inside is None and rest:
            found.append({"names": [clean(rest[0])], "listen": []})
        elif word in {"servername", "serveralias"} and inside is not None:
            inside["names"] += [name for value in rest if (name := clean(value))]
    return found
