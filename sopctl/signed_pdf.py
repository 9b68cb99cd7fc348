# SPDX-License-Identifier: Apache-2.0
"""PDFs that officials sign: a paper made ready for it, and whether what comes back is that paper, signed, and nothing else.

The only importer of pyHanko. Except for :func:`with_answers` nothing here reaches the network: what the CA said of a
certificate lies inside the file (PAdES's document security store) once a paper was accepted, so it can be judged years later.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from sopctl import clock, fsio

if TYPE_CHECKING:
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.diff_analysis import StandardDiffPolicy
    from pyhanko.sign.validation import EmbeddedPdfSignature, PdfSignatureStatus
    from pyhanko_certvalidator import ValidationContext

MAX_BYTES = 8 * 1024 * 1024
MARK = b"%PDF-"
FIELD = "TandaTangan"
#: where the field is on the last page of A4: left, bottom, right, top, in points
BOX = (311, 48, 555, 130)
#: where those who sign a record's form stand: in the margin of its last page, beside each other
MARGIN_FIELDS = ("Tte1", "Tte2", "Tte3")
#: levels of PAdES: with what the CA says and a time stamp inside, and without the time
WITH_TIME, WITHOUT_TIME = "B-LT", "B-B"
MOST_ENDS = 500
REVOKED = "the certificate was revoked"
UNKNOWN = "whether the certificate is revoked could not be found out (no answer of the CA that holds for that time)"
FETCH_SECONDS = 10
CLOCKS = timedelta(minutes=2)  # by how much the CA's clock may differ from ours
_END = re.compile(rb"%%EOF(?:\r\n|\r|\n)?")


class BadPdf(Exception):
    """The bytes are no PDF that can be read; the text says why."""


@dataclass(frozen=True)
class Judgement:
    """``reasons``: why the PDF is not a good signature on the paper (empty when it is); ``certificate``: of its signer
    (``sha256:<hex>``, empty when it has none), ``subject``: what it calls them, ``level``: of PAdES, of a form."""

    reasons: tuple[str, ...]
    certificate: str = ""
    subject: str = ""
    level: str = ""


def is_pdf(data: bytes) -> bool:
    """Whether the bytes say that they are a PDF."""
    return data.startswith(MARK)


# --- the paper -------------------------------------------------------------------------------------------------------


def ready_to_sign(pdf: bytes) -> bytes:
    """``pdf`` with an empty signature field in :data:`BOX` of its last page, and the flags that signing would set: so nothing
    but the field changes when somebody signs."""
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign.fields import SigFieldSpec, append_signature_field, ensure_sig_flags

    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    append_signature_field(writer, SigFieldSpec(FIELD, on_page=-1, box=BOX, readable_field_name="Tanda tangan"))
    ensure_sig_flags(writer, lock_sig_flags=True)
    out = io.BytesIO()
    writer.write(out)  # type: ignore[no-untyped-call]
    return out.getvalue()


def paper_size(pdf: bytes, papers: Collection[str]) -> int | None:
    """How many bytes of ``pdf``, from its first on, are one of ``papers`` (``sha256:<hex>``); None when it is none of them."""
    taken, at = hashlib.sha256(), 0
    for number, match in enumerate(_END.finditer(pdf)):
        if number >= MOST_ENDS:
            break
        for end in dict.fromkeys((match.start() + len(b"%%EOF"), match.end())):
            taken.update(pdf[at:end])
            at = end
            if f"sha256:{taken.copy().hexdigest()}" in papers:
                return end
    return None


def attached(pdf: bytes) -> dict[str, bytes]:
    """The files that lie in the PDF, by their names. BadPdf when it cannot be read."""
    found: dict[str, bytes] = _reading(lambda: _attached(_reader(pdf, strict=False)))
    return found


def _reading(look: Any) -> Any:
    """Whatever a hostile file makes the library raise is the file's fault."""
    try:
        return look()
    except BadPdf:
        raise
    except Exception as error:
        raise BadPdf(" ".join(str(error).split())[:160] or type(error).__name__) from error


def _reader(pdf: bytes, *, strict: bool = True) -> PdfFileReader:
    from pyhanko.pdf_utils.reader import PdfFileReader

    logging.getLogger("pyhanko").setLevel(logging.CRITICAL + 1)  # what it finds is told as a reason
    logging.getLogger("pyhanko_certvalidator").setLevel(logging.CRITICAL + 1)
    return PdfFileReader(io.BytesIO(pdf), strict=strict)


def _attached(reader: PdfFileReader) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    names = reader.root.get("/Names", {})
    waiting = [names["/EmbeddedFiles"]] if "/EmbeddedFiles" in names else []
    for _ in range(200):
        if not waiting:
            break
        node = waiting.pop()
        waiting += [kid.get_object() for kid in node.get("/Kids", ())]
        entries = list(node.get("/Names", ()))
        for one in entries[1::2]:
            entry = one.get_object()
            name = str(entry.get("/UF") or entry.get("/F"))
            found[name] = found.get(name, b"") + bytes(entry["/EF"]["/F"].data)
    return found


# --- judging ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)  # the gate asks again for each changing task
def judge(
    pdf: bytes, size: int, name: str, document: bytes, anchors: tuple[bytes, ...], at: str, soft: bool = False
) -> Judgement:
    """Whether ``pdf`` is the paper in its first ``size`` bytes, holding ``document`` under ``name``, signed once and otherwise
    unchanged, by a certificate that leads to ``anchors`` (DER) and was not revoked ``at`` (UTC), by what lies in the file.

    Whose the certificate is, is the trust's business.
    """
    try:
        found: Judgement = _reading(lambda: _judge(pdf, size, name, document, anchors, at, soft))
        return found
    except BadPdf as error:
        return Judgement((f"the PDF cannot be judged ({error})",))


def judge_form(pdf: bytes, before: bytes, anchors: tuple[bytes, ...], at: str, soft: bool = False) -> Judgement:
    """Whether ``pdf`` is the form ``before`` with one more signature and nothing else, by a certificate that leads to
    ``anchors`` (DER) and was not revoked ``at`` (UTC), by what lies in the file. Signatures that ``before`` bears were judged
    when they came."""
    try:
        found: Judgement = _reading(lambda: _judge_form(pdf, before, anchors, at, soft))
        return found
    except BadPdf as error:
        return Judgement((f"the PDF cannot be judged ({error})",))


def _judge_form(pdf: bytes, before: bytes, anchors: tuple[bytes, ...], at: str, soft: bool) -> Judgement:
    reader, form = _reader(pdf), _reader(before)
    if not pdf.startswith(before) or not _on_top(reader, form, len(before)):
        return Judgement(("it is not the form with something added behind it",))
    if _attached(reader) != _attached(form):
        return Judgement(("the data inside it is not the form's",))
    if not set(MARGIN_FIELDS) <= _fields(form):
        return Judgement(("it has no places for signatures",))
    signatures = list(reader.embedded_regular_signatures)
    if len(signatures) != len(list(form.embedded_regular_signatures)) + 1:
        return Judgement(("there is not one more signature on it than on the form",))
    signature = signatures[-1]
    if signature.signer_cert.self_signed != "no":
        wrong = "the certificate is signed by itself, by no CA"
    elif outside := _visible_elsewhere(reader, MARGIN_FIELDS):
        wrong = f"a visible field ({outside}) was added outside the places for signatures"
    elif not _permits(reader):
        wrong = "its first signature does not say what may come after it, or something else does"
    elif _altered(reader, form.xrefs.total_revisions - 1, signature.signed_revision, certified=True):
        wrong = "the form was altered before it was signed"
    else:
        wrong = _held(reader, signature, anchors, at, soft)
    one = signature.signer_cert
    level = WITH_TIME if "/DSS" in reader.root and _stamped(signature) else WITHOUT_TIME
    return Judgement((wrong,) if wrong else (), fsio.sha256_bytes(one.dump()), str(one.subject.human_friendly), level)


def _stamped(signature: EmbeddedPdfSignature) -> bool:
    """Whether a time stamp lies in the signature."""
    more = signature.signer_info["unsigned_attrs"]
    return any(one["type"].native == "signature_time_stamp_token" for one in more or ())


def _held(
    reader: PdfFileReader, signature: EmbeddedPdfSignature, anchors: tuple[bytes, ...], at: str, soft: bool
) -> str:
    """What is wrong with a signature at that time, by what the CA said in the file; empty when nothing is."""
    from pyhanko.sign.validation.dss import DocumentSecurityStore
    from pyhanko.sign.validation.errors import NoDSSFoundError

    try:
        store = DocumentSecurityStore.read_dss(reader)
        certs, ocsps, crls = list(store.load_certs()), _streams(store.ocsps), _streams(store.crls)
    except NoDSSFoundError:
        certs, ocsps, crls = [], [], []
    context = _context(anchors, soft, moment=clock.parse(at), other_certs=certs, ocsps=ocsps, crls=crls)
    return _wrong(_status(signature, context), signature, context)


def _judge(
    pdf: bytes, size: int, name: str, document: bytes, anchors: tuple[bytes, ...], at: str, soft: bool
) -> Judgement:
    reader, paper = _reader(pdf), _reader(pdf[:size])
    if not _on_top(reader, paper, size):
        return Judgement(("it begins with the paper, but shows something else",))
    if _attached(reader) != {name: document}:
        return Judgement(("the data inside it is not the document that it was printed for",))
    signatures = list(reader.embedded_regular_signatures)
    if len(signatures) != 1:
        said = "is not signed" if not signatures else f"bears {len(signatures)} signatures; one person signs it"
        return Judgement((f"the paper {said}",))
    signature = signatures[0]
    one = signature.signer_cert
    wrong = _around(reader, paper.xrefs.total_revisions - 1, signature)
    wrong = wrong or _held(reader, signature, anchors, at, soft)
    return Judgement((wrong,) if wrong else (), fsio.sha256_bytes(one.dump()), str(one.subject.human_friendly))


def _around(reader: PdfFileReader, printed: int, signature: EmbeddedPdfSignature) -> str:
    """What is wrong with a signed paper besides its signature; empty when nothing is."""
    if signature.signer_cert.self_signed != "no":
        return "the certificate is signed by itself, by no CA"
    if outside := _visible_elsewhere(reader, (FIELD,)):
        return f"a visible field ({outside}) was added outside the place for the signature"
    if _altered(reader, printed, signature.signed_revision):
        return "the paper was altered between printing and signing"
    return ""


def _on_top(reader: PdfFileReader, paper: PdfFileReader, size: int) -> bool:
    """Whether the file's revisions are the paper's own and then others behind it: a file may begin with our bytes, and show
    something that never refers to them."""
    ours, all_ = paper.xrefs.total_revisions, reader.xrefs.total_revisions

    def place(of: PdfFileReader, number: int) -> tuple[int, int]:
        info = of.xrefs.get_xref_container_info(number)
        return info.start_location, info.end_location

    same = ours <= all_ and all(place(reader, number) == place(paper, number) for number in range(ours))
    return same and all(place(reader, number)[0] >= size for number in range(ours, all_))


def _altered(reader: PdfFileReader, printed: int, signed: int, certified: bool = False) -> bool:
    """Whether a revision after the paper's, up to the signed one, does more than to put a signature on it. What comes behind the
    signature is asked when that is validated."""
    from pyhanko.sign.diff_analysis import ModificationLevel, SuspiciousModification

    old = reader.get_historical_resolver(printed)
    try:
        return signed <= printed or any(
            _policy(certified).apply(old, reader.get_historical_resolver(number)).modification_level
            > ModificationLevel.FORM_FILLING
            for number in range(printed + 1, signed + 1)
        )
    except SuspiciousModification:
        return True


def _visible_elsewhere(reader: PdfFileReader, ours: Collection[str]) -> str:
    """The name of a signature field with a face of its own besides ours; empty when there is none."""
    from pyhanko.sign.fields import enumerate_sig_fields

    for name, _, reference in enumerate_sig_fields(reader):
        field = reference.get_object()
        faces = [field, *(kid.get_object() for kid in field.get("/Kids", ()))]
        if name not in ours and any(_area(face.get("/Rect")) for face in faces):
            return str(name)
    return ""


def _fields(reader: PdfFileReader) -> set[str]:
    from pyhanko.sign.fields import enumerate_sig_fields

    return {str(name) for name, _, _ in enumerate_sig_fields(reader)}


def _area(rectangle: Any) -> float:
    if rectangle is None:
        return 0
    left, bottom, right, top = (float(one) for one in rectangle)
    return abs((right - left) * (top - bottom))


@cache
def _policy(certified: bool = False) -> StandardDiffPolicy:
    """pyHanko's own rules, without the filling of other fields: a paper has none. ``certified``: a signature may say what may
    come after it, which stands in the catalog."""
    from pyhanko.sign.diff_analysis import DEFAULT_DIFF_POLICY, FormUpdatingRule, StandardDiffPolicy
    from pyhanko.sign.diff_analysis.constants import ROOT_EXEMPT_STRICT_COMPARISON
    from pyhanko.sign.diff_analysis.rules.file_structure_rules import CatalogModificationRule
    from pyhanko.sign.diff_analysis.rules.form_field_rules import SigFieldCreationRule, SigFieldModificationRule

    assert isinstance(DEFAULT_DIFF_POLICY, StandardDiffPolicy)  # noqa: S101  # what it is is documented
    rules = FormUpdatingRule(field_rules=[SigFieldCreationRule(), SigFieldModificationRule()])  # type: ignore[no-untyped-call]
    of_the_whole = list(DEFAULT_DIFF_POLICY.global_rules)
    if certified:
        more = CatalogModificationRule(ROOT_EXEMPT_STRICT_COMPARISON | {"/Perms"})  # type: ignore[no-untyped-call]
        of_the_whole = [more if isinstance(one, CatalogModificationRule) else one for one in of_the_whole]
    return StandardDiffPolicy(global_rules=of_the_whole, form_rule=rules)


def _permits(reader: PdfFileReader) -> bool:
    """Whether the catalog says that the form's first signature says what may come after it, and no more."""
    permissions = reader.root.get("/Perms", {})
    said = permissions.raw_get("/DocMDP") if set(permissions) == {"/DocMDP"} else None
    first = next(iter(reader.embedded_regular_signatures))
    return said is not None and said == first.sig_field.raw_get("/V")


def _streams(found: Any) -> list[bytes]:
    return [bytes(one.get_object().data) for one in found]


def _context(anchors: tuple[bytes, ...], soft: bool, **more: Any) -> ValidationContext:
    from asn1crypto import x509
    from pyhanko_certvalidator import ValidationContext

    return ValidationContext(
        trust_roots=[x509.Certificate.load(one) for one in anchors],
        revocation_mode="soft-fail" if soft else "require",
        time_tolerance=CLOCKS,
        **more,
    )


def _status(signature: EmbeddedPdfSignature, context: ValidationContext) -> PdfSignatureStatus:
    from pyhanko.sign.validation import validate_pdf_signature
    from pyhanko.sign.validation.settings import KeyUsageConstraints

    usage = KeyUsageConstraints(key_usage={"non_repudiation", "digital_signature"}, match_all_key_usages=False)
    return validate_pdf_signature(
        signature, signer_validation_context=context, diff_policy=_policy(), key_usage_settings=usage
    )


def _wrong(status: PdfSignatureStatus, signature: EmbeddedPdfSignature, context: ValidationContext) -> str:
    from pyhanko.sign.diff_analysis import ModificationLevel
    from pyhanko.sign.validation import SignatureCoverageLevel

    if not status.intact or not status.valid:
        return "the signature does not fit the bytes: they were altered after it was signed"
    if status.coverage not in {SignatureCoverageLevel.ENTIRE_FILE, SignatureCoverageLevel.ENTIRE_REVISION}:
        return "the signature does not cover the whole document"
    if status.modification_level is None or status.modification_level > ModificationLevel.LTA_UPDATES:
        return "the paper was altered after it was signed"
    return "" if status.trusted else _untrusted(signature, context)


def _untrusted(signature: EmbeddedPdfSignature, context: ValidationContext) -> str:
    """Why the certificate is not believed: asked again, for the library's own words tell these apart and its status does not."""
    import asyncio

    from pyhanko_certvalidator import CertificateValidator

    chain = CertificateValidator(
        signature.signer_cert, intermediate_certs=signature.other_embedded_certs, validation_context=context
    )
    try:
        asyncio.run(chain.async_validate_usage(key_usage=set()))  # type: ignore[no-untyped-call]
    except Exception as error:
        known = why_not(error)
        return known or f"the certificate cannot be believed ({' '.join(str(error).split())[:160]})"
    return "the certificate is not for signing"


def why_not(error: BaseException) -> str:
    """What the library's error says of a certificate, for people; empty when it is another error."""
    from pyhanko_certvalidator import errors

    words: dict[type[Exception], str] = {
        errors.RevokedError: REVOKED,
        errors.InsufficientRevinfoError: UNKNOWN,
        errors.ExpiredError: "the certificate, or one above it, had expired at that time",
        errors.NotYetValidError: "the certificate, or one above it, did not hold yet at that time",
        errors.PathBuildingError: "the certificate leads to no CA that the trust names",
        errors.DisallowedAlgorithmError: "the certificate, or one above it, is signed by an algorithm that is too weak",
    }
    return next((word for kind, word in words.items() if isinstance(error, kind)), "")


# --- the CA's answers ------------------------------------------------------------------------------------------------


def with_answers(pdf: bytes, anchors: tuple[bytes, ...], soft: bool) -> tuple[bytes, str]:
    """The same PDF with what the CA says now about its signer's certificate (OCSP, CRLs, certificates between) behind it, and
    what went wrong while asking; then the PDF is as it was. Asks over HTTP what the certificates name."""
    import asyncio

    try:
        made: bytes = asyncio.run(_asked(pdf, anchors, soft))
        return made, ""
    except Exception as error:  # of three libraries and a network; judging the file says what matters
        from pyhanko_certvalidator.errors import RevokedError

        if isinstance(error, RevokedError):
            return pdf, REVOKED
        return pdf, " ".join(str(error).split())[:200] or type(error).__name__


async def _asked(pdf: bytes, anchors: tuple[bytes, ...], soft: bool) -> bytes:
    import aiohttp
    from pyhanko.sign.validation.dss import async_add_validation_info
    from pyhanko_certvalidator.fetchers.aiohttp_fetchers import AIOHttpFetcherBackend

    signature = next(iter(_reader(pdf).embedded_regular_signatures))
    async with (
        aiohttp.ClientSession(trust_env=True) as session,  # the account's http_proxy, as for time stamps
        AIOHttpFetcherBackend(session, FETCH_SECONDS) as fetchers,
    ):
        context = _context(anchors, soft, allow_fetching=True, fetchers=fetchers)
        out = await async_add_validation_info(signature, context, skip_timestamp=True, output=io.BytesIO())
    return bytes(out.getvalue())
