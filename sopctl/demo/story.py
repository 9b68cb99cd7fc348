# SPDX-License-Identifier: Apache-2.0
"""The demo's story: a month of the SOP, told with sopctl's public commands."""

from __future__ import annotations

import re
import shutil
import signal
import time
from pathlib import Path

from sopctl import clock
from sopctl.demo import machine as machines
from sopctl.demo import papers, place
from sopctl.demo.machine import Machine, Watch
from sopctl.demo.narrator import Narrator, Unexpected
from sopctl.errors import ConfigError, SopctlError
from sopctl.trust import ROOT_PIN

VICTIM, CULPRIT = "2026-07/akta-0042.txt", "2026-08/akta-0007.txt"
ACCIDENT = "DELETE FROM transaksi WHERE jenis <= 4"


def run(folder: Path, engine: str | None, keep_running: bool) -> int:
    """Tell the story in ``folder``; the exit code. SopctlError when it cannot even begin."""
    if ROOT_PIN.exists():
        raise ConfigError(
            "this machine has pinned a real site's root, and the demo's own root would not be believed",
            where=str(ROOT_PIN),
            hint="Run the demo on another machine.",
        )
    machines.check_tools()
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    machine = machines.make(folder, machines.choose_engine(engine))
    story = Story(machine)
    try:
        code = story.tell()
    finally:
        if not keep_running:
            machine.stop()
    if code == 0:
        story.farewell(keep_running, time.monotonic() - began)
    return code


def _interrupt(*_: object) -> None:
    """End like Ctrl-C, so that nothing is left running."""
    raise KeyboardInterrupt


class Story:
    """One telling."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.place = machine, machine.place
        self.say = Narrator(self.place.root, self.place.environment())
        self.source: dict[str, tuple[int, str]] = {}
        self.moment = ""
        self.case = self.wrong = ""

    def tell(self) -> int:
        """Every scene; a step that ends otherwise than it must ends the demo."""
        try:
            for scene in (
                self.opening, self.people, self.registration, self.schedule, self.again, self.confirmation,
                self.accident, self.rejected, self.approved, self.execution, self.closing, self.unapproved, self.proof,
            ):  # fmt: skip
                scene()
        except Unexpected as error:
            problem, code = str(error), error.code
        except SopctlError as error:
            problem, code = str(error), int(error.exit_code)
        else:
            return 0
        self.say.console.print()
        self.say.remark(f"The demo stops here. {problem}", "bold red")
        self.say.remark(f"What was printed above says why; everything made so far lies in {self.place.root}.")
        return code

    # the site -------------------------------------------------------------------------------------------------

    def opening(self) -> None:
        """What is on this machine."""
        say, where = self.say, self.place
        say.scene("A server, and a new SOP site")
        say.step("Everything happens below one folder, and every command below is run there as it is shown:")
        say.remark(str(where.root))
        with say.console.status("starting a database server and a web service …"):
            self.machine.create()
        kind = "PostgreSQL (its own private server)" if self.machine.postgres else "SQLite (no PostgreSQL build here)"
        say.step(f"The server, as an agency has one: {kind}, a web service that writes to it all the time, and files.")
        say.remark(f"database pelayanan: {self.machine.database.count():,} rows; web service on port {where.port}")
        say.remark(f"server/berkas: {papers.fingerprint(where.files)[0]} files")
        self._health()
        say.step("The site: the folder in which an agency keeps its SOP, people, register, cases and archive.")
        where.write_env()
        say.command([".", "./env"])
        say.remark("(sets SOPCTL_SITE, SOPCTL_ROOT, SOPCTL_KEYS; do the same to look around afterwards)", "dim")
        say.sopctl("init", "site", "--profile", "trenggalek", "--vault", f"{where.root}/vault/{{server}}")

    def people(self) -> None:
        """Keys, roles, the root's signature."""
        say = self.say
        say.scene("People, roles and keys")
        say.step("The root key signs who may do what. In an agency it lies in a safe, with a pass phrase.")
        say.sopctl("trust", "init", "--root-key", "keys/root", "--no-passphrase")
        say.step("Each person makes their own key and hands over the public half only.")
        for person, *_ in papers.PEOPLE:
            say.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", person, "-f", f"keys/{person}"])
        say.step(
            "The SOP's four actors (requester, head of agency, head of division, operator) and the register's keeper."
        )
        for person, name, jabatan, unit, role in papers.PEOPLE:
            say.sopctl(
                "trust", "add", person, "--role", role, "--name", name, "--jabatan", jabatan, "--unit", unit,
                "--key", f"keys/{person}.pub",
            )  # fmt: skip
        say.sopctl("trust", "sign", "--key", "keys/root")
        say.sopctl("trust", "verify")

    def registration(self) -> None:
        """Inventory, servers, datasets."""
        say = self.say
        say.scene("Servers and datasets are registered")
        say.step("Only what stands in the register can be backed up or restored. Four files, written by hand:")
        files = papers.register(self.place, place.machine_id(), self.machine.connection())
        for name, text in files.items():
            (self.place.site / name).write_text(text)
            say.run(["cat", f"site/{name}"])
        say.step(
            "Who owns data and what stops for it decides, so the register's keeper signs it, once for all entries."
        )
        say.sopctl("asset", "sign", "--as", "pengurus")

    def schedule(self) -> None:
        """The standing order, and the backup it orders."""
        say = self.say
        say.scene("The schedule (Jadwal Back Up), and the month's backup")
        say.step("A standing order: once the Kabid has signed it, it alone allows the monthly run.")
        config = (self.place.site / "sop.yml").read_text()
        site, profile = (re.search(rf"^{key}: (\S+)", config, re.M) for key in ("site", "profile"))
        if site is None or profile is None:
            raise Unexpected("sop.yml names no site or profile.", 1)
        (self.place.site / "schedule.yml").write_text(papers.schedule(site.group(1), profile.group(1)))
        say.run(["cat", "site/schedule.yml"])
        say.step("The operator cannot sign it in the Kabid's place:")
        say.sopctl("schedule", "sign", "--as", "pelaksana", exits=10)
        say.step("The Kabid can:")
        say.sopctl("schedule", "sign", "--as", "kabid")
        say.sopctl("doctor")
        self.moment = self.machine.database.moment()
        say.step(
            "Back up, prove it by restoring it into scratch, name it by the rule, secure it, fill the form.",
            "1–5 Melakukan back up sesuai dengan jadwal … Mengisi formulir pelaksanaan back up",
        )
        say.sopctl("schedule", "run", "--due", "--as", "pelaksana", says=["Berhasil", "verified"])

    def again(self) -> None:
        """Nothing twice."""
        say = self.say
        say.step("Again, as cron does it every night: nothing is due, nothing is done.")
        say.sopctl("schedule", "run", "--due", "--as", "pelaksana", says=["changed=0"])
        say.step("And told to run all the same: Ansible goes through every task and finds nothing to change.")
        said = say.sopctl("schedule", "run", "--dataset", papers.DATABASE, "--as", "pelaksana", says=["changed=0"])
        say.expect("already stored" in said, "the stored backup was used again, and proven again")
        say.sopctl("schedule", "status")

    def confirmation(self) -> None:
        """The Kabid checks the forms."""
        say = self.say
        say.scene("The Kabid checks the form")
        say.step("Whose turn is it?")
        waiting = say.sopctl("next", says=["confirm", "kabid"])
        say.step("Checking is the Kabid's: nobody checks their own work.", "6 Menerima dan memeriksa formulir back up")
        cases = sorted(set(re.findall(r"BKP-\d{4}-\d{4}", waiting)))
        say.sopctl("case", "confirm", cases[0], "--approve", "--as", "pelaksana", exits=10)
        for case in cases:
            say.sopctl("case", "confirm", case, "--approve", "--as", "kabid")

    # the accident ---------------------------------------------------------------------------------------------

    def accident(self) -> None:
        """Rows deleted, a file overwritten."""
        say, files, database = self.say, self.place.files, self.machine.database
        say.scene("An accident")
        self.source = {"rows": database.fingerprint(self.moment), "files": papers.fingerprint(files)}
        say.step("Before it, for the comparison at the end: what the source holds of the time of the backup.")
        self._show_source(self.source)
        say.step("An update script forgets half of its condition, and somebody copies over the wrong file.")
        say.remark(f"pelayanan=> {ACCIDENT};", "bold green")
        say.shown(f"DELETE {database.change(ACCIDENT)}")
        say.run(["cp", f"server/berkas/{CULPRIT}", f"server/berkas/{VICTIM}"])
        now = {"rows": database.fingerprint(self.moment), "files": papers.fingerprint(files)}
        say.remark("What is left:")
        self._show_source(now)
        say.expect(all(now[key] != self.source[key] for key in now), "rows and a file are really gone")

    def _request(self, datasets: list[str], number: str, letter: str, reason: str) -> str:
        file = f"letters/surat-{number.split('/')[1]}.txt"
        (self.place.root / file).write_text(papers.letter(number, letter))
        chosen = [word for dataset in datasets for word in ("--dataset", dataset)]
        said = self.say.sopctl(
            "case", "request", "restore", *chosen, "--unit", papers.UNIT, "--letter", file, "--letter-number", number,
            "--letter-date", clock.now()[:10], "--contact", "loket@example.test", "--reason", reason, "--as", "pemohon",
            says=["RST-"],
        )  # fmt: skip
        found = re.search(r"RST-\d{4}-\d{4}", said)
        if found is None:
            raise Unexpected("no case number was printed.", 1)
        return found.group()

    def rejected(self) -> None:
        """A request for the wrong thing."""
        say = self.say
        say.scene("A request is rejected")
        say.step(
            "The unit asks, with its letter: but for the files only.",
            "1 Membuat surat dan mengisi formulir permintaan restore data",
        )
        case = self._request(
            [papers.FILES], "470/101/2026", "Transaksi layanan hilang dari aplikasi sejak pagi ini. Mohon dipulihkan.",
            "Transaksi hilang dari aplikasi",
        )  # fmt: skip
        say.step("The head of agency passes it on.", "2 Mendisposisi permintaan restore data kepada Kabid Aptika")
        say.sopctl("case", "dispose", case, "--as", "kadis")
        say.step(
            "The Kabid sees that letter and request do not fit together.",
            "3 Melakukan verifikasi jenis dan kewenangan data: … Jika tidak, maka permintaan ditolak",
        )
        say.sopctl(
            "case", "decide", case, "--reject", "--reason",
            "Surat menyebut transaksi, yang diminta hanya berkas", "--as", "kabid",
        )  # fmt: skip
        say.step("No server was touched: the ledger knows the case, but no run of it.")
        pattern = f's/.*"kind":"\\([^"]*\\)".*"ref":"\\({case}[^"]*\\)".*/\\2 \\1/p'
        entered = say.run(["sed", "-n", pattern, "site/archive/ledger.jsonl"], says=[f"{case}/03 document"])
        say.expect("run-started" not in entered, f"three documents, and no run-started of {case}")
        self._inform(case)
        self.wrong = case

    def approved(self) -> None:
        """The right request, up to the decision."""
        say = self.say
        say.scene("A second request is approved")
        say.step("Now for what is really lost.", "1 Membuat surat dan mengisi formulir permintaan restore data")
        case = self._request(
            [papers.DATABASE, papers.FILES], "470/102/2026",
            "Transaksi empat jenis layanan terhapus dan satu berkas akta tertimpa. Mohon keduanya dipulihkan ke cadangan "
            "terbaru.", "Transaksi terhapus dan berkas tertimpa",
        )  # fmt: skip
        say.step("It goes the same way.", "2 Mendisposisi permintaan restore data kepada Kabid Aptika")
        say.sopctl("case", "dispose", case, "--as", "kadis")
        say.step(
            "The operator is in a hurry and begins before the approval. The gate refuses; no connection is opened."
        )
        say.sopctl("case", "execute", case, "--as", "pelaksana", exits=10)
        say.step(
            "The Kabid approves. The approval binds backup, target machine and code, byte for byte.",
            "3 Melakukan verifikasi jenis dan kewenangan data: Jika disetujui, maka lanjut tahap selanjutnya",
        )
        say.sopctl(
            "case",
            "decide",
            case,
            "--approve",
            "--reason",
            "Pemohon pemilik data; kehilangan terbukti",
            "--as",
            "kabid",
        )
        self.case = case

    # the restore ----------------------------------------------------------------------------------------------

    def execution(self) -> None:
        """Restore and compare."""
        say, database = self.say, self.machine.database
        say.scene("The restore")
        say.step(
            "Staged beside the live data while the service still runs; stopped only for the swap.",
            "4–6 Mematikan web service … Membuat proses restore data … Mengaktifkan kembali web service",
        )
        watch = Watch(self.machine)
        watch.start()
        try:
            say.sopctl("case", "execute", self.case, "--as", "pelaksana", says=["downtime"])
        finally:
            longest = watch.end()
        say.remark(f"Seen from outside, the web service gave no good answer for {longest:.1f} s at most.")
        status = self._health()
        say.expect(status == 200, "the web service is healthy: it writes and reads again")
        say.step("Compared with the source of before the accident:")
        now = {"rows": database.fingerprint(self.moment), "files": papers.fingerprint(self.place.files)}
        self._show_source(now)
        say.expect(now["rows"] == self.source["rows"], "every row equal")
        say.expect(now["files"] == self.source["files"], "every file equal")
        kept = self.machine.kept()
        say.step("What was live before the swap is not lost but set aside, with all that was written since the backup:")
        say.shown("\n".join(kept))
        say.expect(len(kept) == 2, "old database and old files are kept")

    def closing(self) -> None:
        """Inform, receive, look."""
        self._inform(self.case)
        self.say.sopctl("case", "show", self.case, says=["selesai"])

    def _inform(self, case: str) -> None:
        say = self.say
        say.step("The requester is told, and signs for it.", "6–7 Menginformasikan … Menerima informasi status")
        say.sopctl("case", "inform", case, "--as", "pelaksana")
        say.sopctl("case", "receive", case, "--as", "pemohon")

    # the proof ------------------------------------------------------------------------------------------------

    def unapproved(self) -> None:
        """No way round."""
        say = self.say
        say.scene("No way round the gate")
        say.step("The rejected request cannot be executed,")
        say.sopctl("case", "execute", self.wrong, "--as", "pelaksana", exits=10)
        say.step("and an approval admits one execution, not two:")
        say.sopctl("case", "execute", self.case, "--as", "pelaksana", exits=10)

    def proof(self) -> None:
        """The archive, and one byte."""
        say, root = self.say, self.place.root
        say.scene("The archive proves itself")
        say.sopctl("record", "list")
        say.step("Bytes, signatures, chain of documents and ledger of every record:")
        say.sopctl("record", "verify", says=["hold"])
        say.step("A copy of the archive, and in it one byte of one form changed:")
        say.run(["cp", "-r", "site/archive", "archive-copy"])
        form = sorted((root / "archive-copy").rglob("data/form*.html"))[0]
        data = bytearray(form.read_bytes())
        at = data.find(b"berhasil") if b"berhasil" in data else len(data) // 2
        data[at] ^= 0x20
        form.write_bytes(data)
        say.remark(f"byte {at} of {form.relative_to(root)}: {chr(data[at] ^ 0x20)!r} is now {chr(data[at])!r}")
        say.sopctl("record", "verify", "--archive", "archive-copy", exits=30, says=["BROKEN"])
        shutil.rmtree(root / "archive-copy")

    def farewell(self, keep_running: bool, seconds: float) -> None:
        """Where everything is."""
        say, root = self.say, self.place.root
        say.scene(f"Done in {seconds:.0f} s")
        say.step(
            f"A backup made and proven, a restore done; {say.exits[10]} acts refused (exit 10), one forged byte found "
            f"(exit 30)."
        )
        say.step("The forms, to be opened in a browser:")
        for path in sorted((self.place.site / "archive/records").rglob("data/form*.html")):
            title = re.search(r"<title>(.*?)</title>", path.read_text())
            say.remark(title.group(1) if title else path.stem)
            say.shown(str(path))
        say.step("To look around:")
        for words in (["cd", str(root)], [".", "./env"], ["sopctl", "case", "list"], ["sopctl", "record", "list"]):
            say.command(words)
        say.console.print()
        stop = ["sopctl", "demo", str(root), "--stop"]
        if keep_running:
            say.remark(f"PostgreSQL and the web service still run (http://127.0.0.1:{self.place.port}/). To stop them:")
            say.command(stop)
        else:
            say.remark(
                "Database and web service are stopped; nothing of the demo runs any more. (--keep-running keeps them.)"
            )
        if Path(self.place.home).is_relative_to(root):
            say.remark("`sopctl demo` starts afresh; to be rid of it, remove the folder.")
        else:
            say.remark(f"`sopctl demo` starts afresh; to be rid of it, remove the folder and {self.place.home}.")

    # small things ---------------------------------------------------------------------------------------------

    def _health(self) -> int:
        status, text = self.machine.health()
        self.say.remark(f"GET http://127.0.0.1:{self.place.port}/health → {status} {text}")
        return status

    def _show_source(self, found: dict[str, tuple[int, str]]) -> None:
        names = {"rows": f"rows until {self.moment[:19]}", "files": "files"}
        for key, (count, digest) in found.items():
            self.say.remark(f"{count:>8,} {names[key]:<32} sha256 {digest[:32]}…")
