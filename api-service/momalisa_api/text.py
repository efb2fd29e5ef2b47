"""What texts from outside can be: Unicode, names of hosts, and mail addresses."""

import re
from typing import Final

LONGEST_MAIL_ADDRESS: Final = 254
# A dot-atom and a domain name (RFC 5321, section 4.1.2), in ASCII: nothing that could end a header or name a route.
_LOCAL: Final = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_MAIL_ADDRESS: Final = re.compile(
    rf"(?=[^@]{{1,64}}@){_LOCAL}(?:\.{_LOCAL})*@(?:{_LABEL}\.)+{_LABEL}", re.IGNORECASE | re.ASCII
)


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can encode a text. Lone surrogates come from JSON, and from arguments that are not UTF-8."""
    return text.encode("utf-8", "ignore").decode() == text


def is_host(name: str) -> bool:
    """Whether a host can be looked up: an address, or a name that has a form in ASCII (IDNA)."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def is_mail_address(text: str) -> bool:
    """Whether a text is one mail address, without a name, comments, quotes or characters beyond ASCII."""
    return len(text) <= LONGEST_MAIL_ADDRESS and _MAIL_ADDRESS.fullmatch(text) is not None
