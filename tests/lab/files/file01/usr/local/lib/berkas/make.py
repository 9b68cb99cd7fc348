"""Makes the lab's tree of plain files: sizes, names, owners, modes, links, ACLs and attributes that a copy may lose.

The same tree comes out every time: make.py DIRECTORY
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

MOMENT = 1_760_000_000  # one fixed second in October 2025


def content(seed: str, size: int) -> bytes:
    """`size` bytes that do not compress and depend on the seed alone."""
    return hashlib.shake_256(seed.encode()).digest(size)


def main(root: Path) -> None:
    """Fill `root`, which must not exist yet; about 12 MB in some 250 files."""
    root.mkdir(mode=0o755)
    for unit in range(1, 13):
        folder = root / f"unit-{unit:02d}" / "surat masuk"
        folder.mkdir(parents=True)
        for number in range(1, 21):
            (folder / f"surat {number:03d}.pdf").write_bytes(content(f"{unit}/{number}", 1024 * number * 4))
    (root / "masuk").mkdir()
    for number in range(1, 6):
        letter = {"perihal": f"surat ke-{number}", "sha256": hashlib.sha256(f"surat ke-{number}".encode()).hexdigest()}
        (root / "masuk" / f"{number:08d}.json").write_text(json.dumps(letter), encoding="utf-8")
    (root / "kosong").mkdir()
    (root / "berkas-kosong").touch()
    (root / "laporan août – ñandú.txt").write_text("nama dengan huruf di luar ASCII\n", encoding="utf-8")
    (root / "dua\nbaris").write_text("nama dengan ganti baris\n", encoding="utf-8")
    Path(os.fsdecode(os.fsencode(root) + b"/bukan-utf8-\xff")).write_text("nama yang bukan UTF-8\n", encoding="utf-8")
    (root / "tautan").symlink_to("unit-01/surat masuk/surat 001.pdf")
    (root / "tautan-putus").symlink_to("/tidak/ada")
    os.link(root / "unit-01/surat masuk/surat 002.pdf", root / "nama-kedua.pdf")
    with (root / "berlubang.img").open("wb") as sparse:
        sparse.seek(8 * 1024 * 1024)
        sparse.write(b"akhir")
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (MOMENT, MOMENT), follow_symlinks=False)
    subprocess.run(["chown", "-hR", "arsip:arsip", str(root)], check=True)
    (root / "rahasia.txt").write_text("hanya untuk pemiliknya\n", encoding="utf-8")
    (root / "rahasia.txt").chmod(0o400)
    (root / "unit-02").chmod(0o2770)
    subprocess.run(["setfacl", "-m", "u:antrean:r--", str(root / "laporan août – ñandú.txt")], check=True)
    subprocess.run(["setfattr", "-n", "user.klasifikasi", "-v", "terbatas", str(root / "nama-kedua.pdf")], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
