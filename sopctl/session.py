# SPDX-License-Identifier: Apache-2.0
"""One command's view of a site: trust, ledger, profile and clock, read once; and the way documents are filed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from sopctl import access, attachments, clock, content, fsio, locks, places, register, reviews, signing
from sopctl import case as cases
from sopctl.case import BESIDE, RATIFY, Case, Filed
from sopctl.context import Context, deadline, document_ref
from sopctl.door import Doors, doors_of, ending_in_order
from sopctl.errors import ConfigError, EvidenceError, GateRefused, SopctlError, UsageError
from sopctl.examination import examine
from sopctl.ledger import Ledger, LedgerLine
from sopctl.models import Act, Actor, Document, Json, Person, SideAct, to_json
from sopctl.profile import Step
from sopctl.redact import Redactor
from sopctl.reviews import ReviewDocument, Reviews
from sopctl.settings import Policy
from sopctl.signing import BadSignature, Namespace
from sopctl.site import Site
from sopctl.trust import Trust, load_trust
from sopctl.worktime import WorkTime, work_time

KEY_ENV, KEYS_ENV = "SOPCTL_KEY", "SOPCTL_KEYS"


class RemoteSigner(Protocol):
    """Signs in another process, where the person's key is."""

    def public_keys(self) -> list[str]:
        """``type base64`` of every key it can sign with."""
        ...

    def sign(self, data: bytes, namespace: Namespace, keys: Collection[str] = ()) -> bytes:
        """An armoured SSHSIG signature by one of ``keys`` (any that is at hand, when empty)."""
        ...


@dataclass(frozen=True)
class Signer:
    """A person with the key they sign with, checked against the trust by a signature at the first use.

    ``key`` is None where the key is in another process (control mode).
    """

    person: Person
    key: Path | None


class Session:
    """Everything a command needs of one site. ``say`` takes remarks for the person at the terminal."""

    def __init__(self, site: Site, say: Callable[[str], None] = lambda _: None) -> None:
        self.site = site
        self.say = say
        self.started = clock.now()
        #: set by commands that act on nothing: the trust may have expired since, and nothing is entered into the ledger
        self.reading = False
        #: who holds the person's key in control mode
        self.remote: RemoteSigner | None = None
        #: why an act comes after its time, where the policy wants to know
        self.late_reason = ""
        self._reviewed: dict[str, ReviewDocument] = {}
        self._trust: tuple[tuple[int, ...], Trust] | None = None

    @cached_property
    def ledger(self) -> Ledger:
        """The site's ledger."""
        return Ledger(self.site.archive / "ledger.jsonl")

    @property
    def trust(self) -> Trust:
        """The trust in force, read anew when its files change: a long run sees a revocation."""
        try:
            seen = tuple(
                (self.site.root / "trust" / name).stat().st_mtime_ns for name in ("trust.yml", "trust.yml.sig")
            )
        except OSError:
            seen = ()
        if self._trust is None or self._trust[0] != seen or not seen:
            self._trust = seen, self._load_trust()
            self.__dict__.pop("policy", None)
        return self._trust[1]

    def _load_trust(self) -> Trust:
        """Read and check the trust; a new serial is entered into the ledger. GateRefused when it cannot be believed."""
        known_roots = {line.ref: line.digests["root"] for line in self.ledger.lines() if line.kind == "root"}
        trust = load_trust(
            self.site.root,
            self.site.config.site,
            None if self.reading else clock.now(),
            self.ledger.highest_trust_serial(),
            len(known_roots),
        )
        for root in trust.roots.unseen(known_roots):
            if not self.reading:
                self.ledger.append("root", root.ref, root.digests, unique=True)
        for line in self.ledger.find("trust", f"trust/{trust.file.serial}"):
            if line.digests.get("trust") != trust.digest:
                raise GateRefused(
                    f"this is not the trust of serial {trust.file.serial} that was in force before",
                    where=str(self.site.root / "trust/trust.yml"),
                    hint="Put that one back, or have the root holder sign this one anew: sopctl trust sign.",
                )
        if not self.reading and trust.file.serial > self.ledger.highest_trust_serial():
            digests = {"trust": trust.digest, "signature": fsio.sha256_bytes(trust.signature)}
            self.ledger.append("trust", f"trust/{trust.file.serial}", digests, serial=trust.file.serial, unique=True)
        return trust

    @cached_property
    def code(self) -> str:
        """Digest of the code that would run."""
        return content.code_digest()

    @cached_property
    def work(self) -> WorkTime:
        """The agency's working time."""
        config = self.site.config
        return work_time(config.calendar, self.site.tz, f"{self.site.root / 'sop.yml'}:calendar")

    @cached_property
    def policy(self) -> Policy:
        """What holds: the stricter of trust, SOP and site."""
        return register.effective_policy(self.trust.file.policy, self.site.profile.profile, self.site.config.policy)

    def forget_code(self) -> None:
        """Have the code's digest taken anew when it is asked for next."""
        self.__dict__.pop("code", None)

    def known_cases(self) -> set[str]:
        """Ids of all cases that the ledger has seen; a number is given once, also when its folder was lost."""
        return {line.ref.split("/")[0] for line in self.ledger.lines()}

    def context(self) -> Context:
        """The gate's view, read anew: documents and ledger may have changed since the last question."""
        lines = self.ledger.lines()
        return Context(
            site=self.site.config.site,
            trust=self.trust,
            profile=self.site.profile,
            lines=lines,
            servers=self.site.servers,
            datasets=self.site.datasets,
            policy=self.policy,
            work=self.work,
            register=lambda wanted: self._register_reasons(wanted, lines),
            settings=lambda: register.settings_reasons(self.trust.file, self.site.config),
            code=lambda: self.code,
            now=clock.now(),
            tz_name=self.site.config.timezone,
            reviews=self._reviews(lines),
        )

    def _reviews(self, lines: list[LedgerLine]) -> Reviews:
        """What signed reviews say of the register's servers."""
        roles = reviews.roles(self.site.profile.profile)
        return reviews.load(self.site.root, self.site.config.site, self.trust, roles, lines, self._reviewed)

    def _register_reasons(self, wanted: list[str], lines: list[LedgerLine]) -> list[str]:
        """Why these entries are not what their keeper signed; the bytes are those that were parsed."""
        signed = register.load_register(self.site.root)
        mine = [line for line in lines if signed and (line.kind, line.ref) == (register.LEDGER_KIND, signed.ref)]
        reasons = register.register_reasons(
            signed,
            self.trust,
            self.site.config.site,
            clock.now(),
            self.site.register_bytes,
            wanted,
            register.highest_serial(lines),
            mine[0].digests.get("register") if mine else None,
        )
        if signed and not mine and not reasons and not self.reading:  # signing broke off before its line
            self.ledger.append(register.LEDGER_KIND, signed.ref, signed.digests, unique=True)
        return reasons

    @contextmanager
    def holding(self, case_id: str, who: str) -> Iterator[None]:
        """Hold the case's lock. LockedError when another command works on it, or one died over it."""
        with locks.held(self.site.state, [case_id], who, case=case_id):
            yield

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """What decides and cannot be read is a refusal: could not decide is not yes."""
        try:
            yield
        except (ConfigError, EvidenceError) as error:
            raise GateRefused(error.message, where=error.where, hint=error.hint) from error

    def read_what_decides(self) -> None:
        """Read trust, profile, register and ledger; GateRefused when any of them cannot be read."""
        with self.deciding():
            self.context()

    def case_to_act_on(self, case_id: str) -> Case:
        """The case of that id with all that decides about it read; GateRefused when any of it cannot be."""
        with self.deciding():
            self.context()
            case = self.case(case_id)
        if reasons := attachments.wrong(case, self.ledger.lines()):
            others = examine(self.context(), case)
            raise GateRefused(others + reasons, where=case.id, hint="Put the paper back that was attached.")
        return case

    def case(self, case_id: str) -> Case:
        """The case of that id; a last document whose acceptance was broken off is accepted now if it is good."""
        case = cases.find_case(self.site.cases, case_id, self.site.profile.profile)
        if case.filed and not self.reading:
            context = self.context()
            last = case.filed[-1]
            known = [line for line in context.lines if line.ref == document_ref(case.id, last.document.seq)]
            if not known and not examine(context, case, pending=True):
                self._receive(case.id, last)
                self.say(f"{last.path.name} had been signed but not received when a command broke off; received now")
        return case

    def all_cases(self) -> list[Case]:
        """Every case, oldest first."""
        return [cases.load_case(folder, self.site.profile.profile) for folder in cases.case_folders(self.site.cases)]

    # signing --------------------------------------------------------------------------------------------------

    def signer(self, person_id: str | None, key: str | None) -> Signer:
        """Who acts, with which key. UsageError when no key is found, GateRefused when it is not the person's."""
        if not person_id:
            raise UsageError("who acts?", where="--as", hint="Give --as PERSON or set $SOPCTL_AS.")
        person = self.trust.person(person_id)
        own = {signing.public_line(signing.key_blob(entry.key, "trust")) for entry in person.keys}
        if self.remote:
            if not own & set(self.remote.public_keys()):
                raise GateRefused(f"none of the keys at hand is {person_id}'s", where="--key")
            return Signer(person, None)
        given = key or os.environ.get(KEY_ENV)
        if given:
            path = Path(given).expanduser()
            if not path.exists():
                raise UsageError("the key file does not exist", where=f"--key {path}")
            public = _public_of(path)
            if public not in own:
                holder = self.trust.key_holder(public, clock.now())
                whose = f"it is {holder.id}'s" if holder else "it is nobody's in the trust"
                raise GateRefused(
                    f"the key is not {person_id}'s ({whose})",
                    where=str(path),
                    hint=f"{person_id}'s keys: {', '.join(sorted(map(signing.fingerprint, own))) or 'none'}.",
                )
            return Signer(person, path)
        folders = [Path(os.environ[KEYS_ENV])] if KEYS_ENV in os.environ else []
        candidates = [folder / person_id for folder in folders] + sorted(Path.home().glob(".ssh/id_*"))
        for path in candidates:
            if (
                path.suffix != ".pub"
                and path.is_file()
                and path.with_name(path.name + ".pub").is_file()
                and _public_of(path) in own
            ):
                return Signer(person, path)
        raise UsageError(
            f"no key of {person_id} found",
            where="--key",
            hint="Give --key FILE, set $SOPCTL_KEY, or put it into ~/.ssh.",
        )

    def role(self, person: Person, allowed: list[str], what: str) -> str:
        """The role in which ``person`` may do ``what`` now. GateRefused names who may."""
        for role in allowed:
            if self.trust.has_role(person, role, clock.now()):
                return role
        titles = " or ".join(f"{role} ({self.site.profile.profile.title(role)})" for role in allowed)
        held = ", ".join(sorted({entry.role for entry in person.roles})) or "no role"
        raise GateRefused(
            f"{what} is for {titles}; {person.id} holds {held}", hint="Have them act, or see `sopctl next`."
        )

    def sign(self, data: bytes, namespace: Namespace, signer: Signer) -> bytes:
        """Sign and check that the signature is really that person's. GateRefused when it is not."""
        if self.remote and signer.key is None:
            own = {signing.public_line(signing.key_blob(entry.key, "trust")) for entry in signer.person.keys}
            signature = self.remote.sign(data, namespace, own)
        else:
            assert signer.key is not None  # noqa: S101  # only a remote signer has no key file
            signature = signing.sign(data, namespace, signer.key)
        try:
            key = signing.verify(data, signature, namespace)
        except BadSignature as error:
            raise SopctlError(
                f"the signature that was made does not verify: {error}", where=str(signer.key or "signer")
            ) from None
        holder = self.trust.key_holder(key, clock.now())
        if holder is None or holder.id != signer.person.id:
            raise GateRefused(
                f"the key {signing.fingerprint(key)} is not {signer.person.id}'s now", where=str(signer.key or "signer")
            )
        return signature

    # filing ---------------------------------------------------------------------------------------------------

    def file(self, case: Case, step: Step, signer: Signer, role: str, body: Json) -> Case:
        """Sign the document of a due step, have the gate look at the whole case with it, and only then write and
        receive it. An act after its time says so."""
        if step.id == RATIFY:
            return self.file_beside(case, "ratify", signer, role, body)
        return self._file(case, step.id, step.act, signer, role, self.timed(case, step, body))

    def timed(self, case: Case, step: Step, body: Json) -> Json:
        """The body of a due step, saying so where it comes after its time."""
        limit = deadline(self.context(), case, len(case.filed))
        now = clock.now()
        if limit and now > limit[1]:
            by = self.work.seconds(limit[1], now)
            body = {**body, "late": {"since": limit[0], "until": limit[1], "seconds": by, "reason": self.late_reason}}
            self.say(f"step {step.nomor or step.id} was due by {limit[1]}: written into the case as late")
        return body

    def file_beside(self, case: Case, act: SideAct, signer: Signer, role: str, body: Json) -> Case:
        """Sign a document beside the SOP's steps, looked at and received like any other."""
        return self._file(case, BESIDE, act, signer, role, body)

    def _file(self, case: Case, step: str, act: Act | SideAct, signer: Signer, role: str, body: Json) -> Case:
        document = self.next_document(case, step, act, Actor(signer.person.id, role), body)
        path = case.folder / f"{document.seq:02d}-{document.act}.json"
        data = fsio.canonical_json(to_json(document))
        return self.accept(case, Filed(path, document, data, self.sign(data, "sop-document", signer)))

    def next_document(self, case: Case, step: str, act: Act | SideAct, actor: Actor, body: Json) -> Document:
        """The document that comes next in the case, said now by ``actor``; nobody has signed it yet."""
        document = Document(
            schema="sop/document/v1",
            site=self.site.config.site,
            case=case.id,
            seq=len(case.filed) + 1,
            flow=case.flow_name,
            step=step,
            act=act,
            actor=actor,
            at=clock.now(),
            profile=self.site.profile.reference,
            prev=case.filed[-1].link if case.filed else None,
            body=body,
        )
        if document.seq > cases.MAX_DOCUMENTS:
            raise SopctlError(f"case {case.id} has {len(case.filed)} documents; no more fit")
        return document

    def accept(self, case: Case, filed: Filed) -> Case:
        """Write and receive a signed document when the whole case can be believed with it; GateRefused says why not."""
        extended = case.with_filed([*case.filed, filed])
        reasons = examine(self.context(), extended, pending=True)
        if reasons:
            raise GateRefused(reasons, where=case.id)
        if (
            not filed.path.exists()
        ):  # what a killed command left of another signature of a document that never came to be
            for left in (filed.path.with_suffix(".pdf"), filed.path.with_name(filed.path.name + ".sig")):
                left.unlink(missing_ok=True)
        fsio.write_atomic(filed.signature_path, filed.signature)
        fsio.write_atomic(filed.path, filed.data, exclusive=True)
        self._receive(case.id, filed)
        return extended

    def _receive(self, case_id: str, filed: Filed) -> LedgerLine:
        digests = {"document": filed.digest, "signature": filed.signature_digest}
        return self.ledger.append("document", document_ref(case_id, filed.document.seq), digests, unique=True)

    # secrets --------------------------------------------------------------------------------------------------

    @cached_property
    def doors(self) -> Doors:
        """What this command holds open of the vault."""
        return doors_of(self.site.config.vault, self.site, f"{self.site.root / 'sop.yml'}:vault", self.say)

    @contextmanager
    def vault_open(self) -> Iterator[None]:
        """Whatever is opened of the vault within is closed at the end, also after a failure, Ctrl-C or SIGTERM."""
        with ending_in_order() if self.site.config.vault.door else nullcontext():
            try:
                yield
            finally:
                if "doors" in self.__dict__:
                    self.doors.close()

    def vault_access(self, server: str, *, admin: bool = False) -> Json:
        """As ``access.to_vault``, through the vault's door where it has one."""
        door = self.doors.password if self.site.config.vault.door else None
        return access.to_vault(self.site, server, admin=admin, door=door)

    def database_secrets(self, dataset_id: str) -> Json | None:
        """The dataset's database password, if it has one."""
        connection = self.site.dataset(dataset_id).connection
        password = self.site.secret(connection.password, f"register/datasets/{dataset_id}.yml:connection.password")
        return {"db_password": password} if password else None

    def redactor(self, plan: Json) -> Redactor:
        """Knows every secret that a run of ``plan`` could come to hold."""
        secrets: set[str] = set()
        for item in plan["items"]:
            secrets |= access.secrets(self.vault_access(places.repository(item)))
            secrets |= set((self.database_secrets(item["dataset"]["id"]) or {}).values())
        return Redactor(secrets)


def _public_of(path: Path) -> str:
    """``type base64`` of the key at ``path`` (private with .pub beside it, private alone, or public)."""
    beside = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    if beside.is_file():
        text = fsio.read_strict(beside).decode("utf-8", "replace")
    else:
        done = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(
                "not a private key that ssh-keygen can read",
                where=str(path),
                hint="Put its public half beside it (.pub).",
            )
        text = done.stdout
    return signing.public_line(signing.key_blob(text, str(beside)))
