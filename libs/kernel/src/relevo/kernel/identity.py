"""Normal forms of what identifies a person: e-mail address, phone number, and the key of a sender on the bus."""

import base64
import hashlib
import re
from typing import Final

import idna
import phonenumbers

from relevo.kernel.text import clean

_MAX_EMAIL: Final = 254
_MAX_LOCAL: Final = 64
_MAX_PHONE: Final = 60
_LOCAL: Final = re.compile(r'[^\s@<>()\[\],;:\\"]+')
# Mexican mobile numbers had a 1 after the country code until 2019; some networks, WhatsApp among them, still send it.
_MEXICO_MOBILE: Final = re.compile(r"\+521([0-9]{10})")
_PHONE: Final = re.compile(r"\+?[^+]*[0-9][^+]*")


class InvalidIdentity(ValueError):
    """An e-mail address, phone number or sender id was refused: which `field`, the `reason`, and how to `mend` it."""

    def __init__(self, field: str, reason: str, mend: str) -> None:
        self.field = field
        self.reason = reason
        self.mend = mend
        super().__init__(f"{field}: {reason} {mend}")


def normal_email(raw: str) -> str:
    """The address in lower case, its domain in ASCII (IDNA 2008, UTS 46). Two spellings of one mailbox are equal.

    Plus-tags and dots are kept: only the provider knows what they mean. Raises InvalidIdentity.
    """
    address = clean(raw).strip()
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        raise InvalidIdentity("email", "This is not an e-mail address.", "Write it as name@example.com.")
    if not _LOCAL.fullmatch(local) or len(local) > _MAX_LOCAL:
        raise InvalidIdentity(
            "email",
            "The part before the @ is too long or has spaces or signs that it cannot have.",
            "Write the bare address, without a name or angle brackets.",
        )
    try:
        ascii_domain = idna.encode(domain.rstrip("."), uts46=True, std3_rules=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        ascii_domain = ""
    if "." not in ascii_domain or ascii_domain.rpartition(".")[2].isdigit():
        raise InvalidIdentity("email", "The part after the @ is not a domain.", "Write it as name@example.com.")
    normal = f"{local.lower()}@{ascii_domain}"
    if len(normal) > _MAX_EMAIL:
        raise InvalidIdentity("email", f"It is longer than {_MAX_EMAIL} characters.", "Check the address.")
    return normal


def email_or_none(raw: str | None) -> str | None:
    """`normal_email`, or None where there is no usable address."""
    try:
        return normal_email(raw) if raw else None
    except InvalidIdentity:
        return None


def normal_phone(raw: str, region: str | None = None) -> str:
    """The number in E.164 (`+573001234567`), without its extension.

    `region` is the country (ISO 3166, two letters) of numbers written without a country code. The number must have a
    length that exists in its country; it need not be in service. Raises InvalidIdentity.
    """
    number = clean(raw).strip().removeprefix("tel:")
    if number.startswith("00") and region is None:
        number = f"+{number[2:]}"
    if len(number) > _MAX_PHONE or not _PHONE.fullmatch(number):
        raise InvalidIdentity("phone", "This is not a phone number.", "Write it as +573001234567.")
    try:
        parsed = phonenumbers.parse(number, region.upper() if region else None)
    except phonenumbers.NumberParseException as error:
        if error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE:
            raise InvalidIdentity(
                "phone",
                "The number has no country code that exists.",
                "Begin with + and the country code, such as +57, or set the default country.",
            ) from None
        raise InvalidIdentity("phone", "This is not a phone number.", "Write it as +573001234567.") from None
    normal = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if old := _MEXICO_MOBILE.fullmatch(normal):
        return f"+52{old[1]}"
    if phonenumbers.is_possible_number_with_reason(parsed) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise InvalidIdentity(
            "phone", "No number of that country has so many digits.", "Check the country code and the digits."
        )
    return normal


def phone_or_none(raw: str | None, region: str | None = None) -> str | None:
    """`normal_phone`, or None where there is no usable number."""
    try:
        return normal_phone(raw, region) if raw else None
    except InvalidIdentity:
        return None


def sender_key(sender: str) -> str:
    """The token of a sender or contact in a bus subject: 26 characters of `a-z2-7`, always the same for one id.

    The rule, for other languages: take the sender's id exactly as the channel gives it, encode it as UTF-8, hash it
    with BLAKE2b (RFC 7693) with a digest of 16 bytes and no key, salt or personalisation, and write the digest in
    base32 (RFC 4648), in lower case, without the padding.

        573001234567     → zearbv4g7amsxh6kweqig7cqbm
        ana@example.com  → rjbxa5j4xj2db6nnill3a4jgxu

    Raises InvalidIdentity for an empty id or one that UTF-8 cannot say (a lone surrogate).
    """
    try:
        data = sender.encode()
    except UnicodeEncodeError:
        data = b""
    if not data:
        raise InvalidIdentity("sender", "The id is empty or not valid Unicode text.", "Send the id of the channel.")
    return base64.b32encode(hashlib.blake2b(data, digest_size=16).digest()).decode().rstrip("=").lower()
