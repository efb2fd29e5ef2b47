"""What texts from outside can be: Unicode, and names of hosts."""


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
