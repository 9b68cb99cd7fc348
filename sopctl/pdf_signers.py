# SPDX-License-Identifier: Apache-2.0
"""Signing a form as PAdES: with a PKCS#12 file or a token (PKCS#11), a line in its margin, and inside it what the CA says of
the certificate and an authority of the time.

The first signature certifies the form and allows no more than further signatures. Passphrases and PINs come from the caller
and go nowhere else.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sopctl.signed_pdf import CLOCKS, FETCH_SECONDS, MARGIN_FIELDS, why_not

if TYPE_CHECKING:
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign.signers import Signer

BYTES = 32 * 1024  # kept for a signature with its time stamp


@dataclass(frozen=True)
class Holder:
    """What signs, opened. ``certificate``: DER of the one that it signs by."""

    signer: Signer
    certificate: bytes

    @property
    def elliptic(self) -> bool:
        """Whether its key is one of an elliptic curve."""
        assert self.signer.signing_cert is not None  # noqa: S101  # _holder has looked
        return bool(self.signer.signing_cert.public_key.algorithm == "ec")


class CannotSign(Exception):
    """The text says why, for the person at the terminal."""


def from_pkcs12(data: bytes, passphrase: bytes) -> Holder:
    """The key and certificates in a PKCS#12 file. CannotSign when it does not open."""
    from pyhanko.sign.signers import SimpleSigner

    try:
        return _holder(SimpleSigner.load_pkcs12_data(data, other_certs=[], passphrase=passphrase))
    except Exception as error:  # of two libraries; what they say of a wrong passphrase tells nobody anything
        raise CannotSign("is no PKCS#12 file, or the passphrase is another one") from error


@contextmanager
def from_pkcs11(module: Path, token: str, label: str, pin: str) -> Iterator[Holder]:
    """The key and certificate called ``label`` on a token. CannotSign when the token does not give them."""
    try:
        import pkcs11 as library  # type: ignore[import-not-found,unused-ignore]  # an extra
        from pyhanko.config.pkcs11 import TokenCriteria
        from pyhanko.sign.pkcs11 import PKCS11Signer, open_pkcs11_session
    except ImportError:
        raise CannotSign("python-pkcs11 is not installed (pip install 'sopctl[pkcs11]')") from None
    try:
        session = open_pkcs11_session(str(module), token_criteria=TokenCriteria(label=token), user_pin=pin)
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise CannotSign(f"the token {token!r} does not open ({said[:120]})") from error
    named: dict[str, Any] = {"cert_label": label, "key_label": label, "other_certs_to_pull": None}  # those between too
    try:
        try:
            holder = _holder(PKCS11Signer(session, **named))
        except library.PKCS11Error as error:
            raise CannotSign(f"the token {token!r} has no certificate called {label!r}") from error
        if holder.elliptic:  # by these many tokens sign a digest, and cannot make it
            holder = _holder(PKCS11Signer(session, **named, use_raw_mechanism=True))
        yield holder
    except library.PKCS11Error as error:
        raise CannotSign(f"the token {token!r} does not sign by {label!r} ({_plain(error)})") from error
    finally:
        with suppress(library.PKCS11Error):  # the token was pulled out
            session.close()


def _holder(signer: Signer) -> Holder:
    if signer.signing_cert is None:
        raise CannotSign("holds no certificate")
    return Holder(signer, bytes(signer.signing_cert.dump()))


@dataclass(frozen=True)
class Terms:
    """How it is signed. ``stamp``: the page that is shown in the margin; ``anchors``: DER of the CAs, ``soft``: of revocation;
    ``authority``: address and anchors (DER) of who says when; with one this is PAdES B-LT."""

    stamp: Path
    reason: str
    anchors: tuple[bytes, ...]
    soft: bool
    authority: tuple[str, tuple[bytes, ...]] | None


def sign(pdf: bytes, holder: Holder, terms: Terms) -> bytes:
    """``pdf`` signed in the next free place of its margin. The CA is asked over HTTP. CannotSign says what was wrong."""
    try:
        return asyncio.run(_signed(pdf, holder.signer, terms))
    except CannotSign:
        raise
    except Exception as error:  # of the token, the CA, the authority, and four libraries
        raise CannotSign(_why(error)) from error


def _why(error: BaseException) -> str:
    """What was wrong, by what the library was told itself: its own words say only that something was."""
    causes = [error]
    while (before := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < 10:
        causes.append(before)
    said = next(filter(None, map(why_not, causes)), "")
    return said or f"it could not be signed ({_plain(causes[-1])})"


def _plain(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


async def _signed(pdf: bytes, signer: Signer, terms: Terms) -> bytes:
    import aiohttp
    from asn1crypto import x509
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.pdf_utils.layout import AxisAlignment, Margins, SimpleBoxLayoutRule
    from pyhanko.sign import PdfSignatureMetadata, PdfSigner
    from pyhanko.sign.fields import MDPPerm, SigSeedSubFilter
    from pyhanko.sign.timestamps import HTTPTimeStamper
    from pyhanko.stamp import StaticStampStyle
    from pyhanko_certvalidator import ValidationContext
    from pyhanko_certvalidator.fetchers.aiohttp_fetchers import AIOHttpFetcherBackend

    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    field = _place(writer)
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        AIOHttpFetcherBackend(session, FETCH_SECONDS) as fetchers,
    ):
        url, more = terms.authority or ("", ())
        context = ValidationContext(
            trust_roots=[x509.Certificate.load(one) for one in (*terms.anchors, *more)],
            revocation_mode="soft-fail" if terms.soft else "hard-fail",
            time_tolerance=CLOCKS,
            allow_fetching=True,
            fetchers=fetchers,
        )
        meta = PdfSignatureMetadata(
            field_name=field,
            md_algorithm="sha256",
            reason=terms.reason or None,
            subfilter=SigSeedSubFilter.PADES,
            certify=field == MARGIN_FIELDS[0],
            docmdp_permissions=MDPPerm.FILL_FORMS,
            embed_validation_info=True,
            validation_context=context,
        )
        whole = SimpleBoxLayoutRule(AxisAlignment.ALIGN_MID, AxisAlignment.ALIGN_MID, margins=Margins(0, 0, 0, 0))
        style = StaticStampStyle.from_pdf_file(
            str(terms.stamp), border_width=0, background_opacity=1, background_layout=whole
        )
        asked = HTTPTimeStamper(url, session=session, timeout=FETCH_SECONDS) if url else None
        done = PdfSigner(meta, signer, timestamper=asked, stamp_style=style)
        out = await done.async_sign_pdf(writer, existing_fields_only=True, bytes_reserved=BYTES)
    return bytes(out.getvalue())


def _place(writer: IncrementalPdfFileWriter) -> str:
    """The next free place in the form's margin."""
    from pyhanko.sign.fields import enumerate_sig_fields

    there = {name: value is not None for name, value, _ in enumerate_sig_fields(writer)}
    if not there.keys() >= set(MARGIN_FIELDS):
        raise CannotSign("the form has no places for signatures: it is none of sopctl's, or of an early version")
    free = [name for name in MARGIN_FIELDS if not there[name]]
    if not free:
        raise CannotSign(f"the form bears {len(MARGIN_FIELDS)} signatures, and has no place for another one")
    return free[0]
