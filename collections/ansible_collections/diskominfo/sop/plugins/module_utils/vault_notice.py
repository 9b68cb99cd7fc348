# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Ask a vault over REST whether it is full for this server: its server says 500, whatever hindered it."""

from __future__ import annotations

import base64
import re
import ssl
import urllib.request
from urllib.parse import unquote, urlsplit, urlunsplit

#: the file that the vault's keeper puts into the folder of a server that is over its quota, beside its repositories
NOTICE = "vault-full"
#: seconds; the vault has just answered
PATIENCE = 5.0


def full_notice(repository: str, ca_pem: str | None) -> tuple[int, int] | None:
    """(bytes used, quota) when the vault's keeper says so; None when it does not, or nobody can be asked."""
    if not repository.startswith("rest:https://"):
        return None
    try:
        parts = urlsplit(repository[len("rest:") :])
        place = parts.netloc.rpartition("@")[2]
        url = urlunsplit(("https", place, f"/{parts.path.strip('/').split('/')[0]}/{NOTICE}", "", ""))
        request = urllib.request.Request(url)  # noqa: S310  (https, by the line above)
        if parts.username is not None:
            known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            request.add_header("Authorization", "Basic " + base64.b64encode(known.encode()).decode())
        trusted = ssl.create_default_context(cadata=ca_pem)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        )
        with opener.open(request, timeout=PATIENCE) as answer:
            found = re.fullmatch(rb"(\d{1,18}) (\d{1,18})\n", answer.read(64))
    except (OSError, ValueError):
        return None
    return (int(found[1]), int(found[2])) if found else None
