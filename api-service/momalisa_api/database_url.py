"""Reads the URL of a PostgreSQL database, with the parameters of libpq that managed databases print in their URLs.

asyncpg reads most of them itself. What it would ignore or not understand is refused here, in one sentence.
Source: www.postgresql.org/docs/current/libpq-connect.html, sections "Connection URIs" and "Parameter Key Words".
"""

import getpass
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from momalisa_api.text import is_host, is_unicode

CONNECT_S: Final = 5.0
# Without a fragment: a password may contain "#" and "/".
_URL: Final = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<places>[^/?]*)(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_PLACE: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|(?P<name>[^\[\]:,]*))(?::(?P<port>\d{1,5}))?")
_VERIFY_FULL: Final = "verify-full"
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", _VERIFY_FULL)
_TLS_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
# Any value.
_FREE: Final = frozenset(
    {"host", "port", "user", "password", "passfile", "dbname", "application_name", "options", "sslpassword"}
)
_FILES: Final = frozenset({"sslrootcert", "sslcert", "sslkey", "sslcrl"})
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "sslmode": _SSL_MODES,
        "sslnegotiation": ("postgres", "direct"),
        "ssl_min_protocol_version": _TLS_VERSIONS,
        "ssl_max_protocol_version": _TLS_VERSIONS,
        "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    }
)
# What asyncpg does anyway: nothing has to be passed on.
_AS_IT_IS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "channel_binding": ("disable", "prefer"),
        "gssencmode": ("disable", "prefer"),
        "client_encoding": ("auto", "utf8", "UTF8", "utf-8", "UTF-8"),
        "load_balance_hosts": ("disable",),
        "sslcompression": ("0",),
        "sslsni": ("1",),
    }
)
_SUPPORTED: Final = sorted(_FREE | _FILES | _CHOICES.keys() | _AS_IT_IS.keys() | {"connect_timeout"})


def connect_arguments(url: str) -> dict[str, Any]:
    """asyncpg's arguments for a postgresql:// URL.

    Raises ValueError, which names the parameter but no password, for what cannot be fulfilled.
    """
    found = _URL.fullmatch(url)
    if not found or not is_unicode(unquote(url)):
        raise ValueError("must be postgresql://USER@HOST/NAME")
    _check_places(found["places"])
    parameters = dict(parse_qsl(found["query"] or ""))
    _translate(parameters)
    for name, value in parameters.items():
        _check(name, value)
    arguments: dict[str, Any] = {"timeout": float(parameters.pop("connect_timeout", CONNECT_S))}
    if parameters.get("sslrootcert") == "system":
        arguments["ssl"] = _trust_of_this_machine(parameters)
    _check_environment(found, parameters)
    for credential in ("user", "password"):
        if found[credential]:
            arguments[credential] = unquote(found[credential])
    passed = {name: value for name, value in parameters.items() if name not in _AS_IT_IS}
    query = urlencode(passed, quote_via=quote, safe="/")
    database = quote(unquote(found["database"] or ""))
    arguments["dsn"] = f"postgresql://{found['places']}/{database}{'?' if query else ''}{query}"
    return arguments


def _check_environment(found: re.Match[str], parameters: dict[str, str]) -> None:
    """What a URL leaves out comes from libpq's environment variables."""
    if not re.fullmatch(r"(\d{1,5}(,\d{1,5})*)?", os.environ.get("PGPORT", "")):
        raise ValueError("the port comes from PGPORT, which is not a number")
    if not (found["user"] or parameters.get("user") or os.environ.get("PGUSER")):
        try:
            getpass.getuser()
        except (KeyError, OSError):
            raise ValueError("names no user; use postgresql://USER@HOST/NAME") from None


def _check_places(places: str) -> None:
    for place in places.split(","):
        match = _PLACE.fullmatch(place)
        if not match or (match["port"] and not 1 <= int(match["port"]) <= 65_535) or not _is_name(match["name"] or ""):
            raise ValueError("names no valid host and port; use postgresql://USER@HOST:PORT/NAME")


def _is_name(host: str) -> bool:
    """Whether a host can be looked up. The folder of a Unix socket begins with an encoded slash."""
    return host.startswith("%") or is_host(host)


def _translate(parameters: dict[str, str]) -> None:
    """Replace other spellings, as libpq does."""
    if secured := parameters.pop("ssl", ""):
        parameters.setdefault("sslmode", "require" if secured == "true" else secured)
    if fallback := parameters.pop("fallback_application_name", ""):
        parameters.setdefault("application_name", fallback)


def _check(name: str, value: str) -> None:
    """Raises ValueError if a parameter is unknown, or its value cannot be fulfilled."""
    if "\0" in value:
        raise ValueError(f"{name} contains the character NUL")
    choices = {**_CHOICES, **_AS_IT_IS}.get(name)
    if choices and value not in choices:
        hint = f" Use sslmode={_VERIFY_FULL} in its place." if name == "channel_binding" else ""
        raise ValueError(f"{name}={value} is not supported; use {' or '.join(choices)}.{hint}")
    if name == "connect_timeout" and not re.fullmatch(r"[1-9]\d{0,3}", value):
        raise ValueError("connect_timeout must be a whole number of seconds, 1 or more")
    if name in _FILES and value != "system" and not Path(value).is_file():
        raise ValueError(f"{name}: there is no file {value}")
    if name not in _SUPPORTED:
        raise ValueError(f"the parameter {name} is not supported; remove it. Supported are {', '.join(_SUPPORTED)}")


def _trust_of_this_machine(parameters: dict[str, str]) -> ssl.SSLContext:
    """TLS with the certificates that this machine trusts; like libpq, only with a check of the host name."""
    mode = parameters.pop("sslmode", _VERIFY_FULL)
    if mode != _VERIFY_FULL:
        raise ValueError(f"sslrootcert=system requires sslmode={_VERIFY_FULL}")
    if clash := parameters.keys() & {"sslcert", "sslkey", "sslcrl", "sslnegotiation"}:
        raise ValueError(f"sslrootcert=system cannot be combined with {', '.join(sorted(clash))}")
    del parameters["sslrootcert"]
    return ssl.create_default_context()
