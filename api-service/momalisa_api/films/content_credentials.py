"""Signs films with the operator's key: C2PA manifests ("content credentials") that say how a film was made.

An optional part: import this module only if a key is set. The library reads no network and no clock of others.
Source: C2PA technical specification 2.2, sections 14 (trust model) and 18.15 (actions).
"""

import io
from pathlib import Path
from threading import Lock
from typing import Any, Final

import c2pa
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from PIL import Image

from momalisa_api import __version__
from momalisa_api.films.kinds import FILM_KINDS, FilmName
from momalisa_api.films.provenance import DigitalSource

# A signed film is a copy, for which a worker's container must have room on its disk beside all films.
MAX_SIGNED_BYTES: Final = 64 * 1024 * 1024
_CURVES: Final = {256: c2pa.C2paSigningAlg.ES256, 384: c2pa.C2paSigningAlg.ES384, 521: c2pa.C2paSigningAlg.ES512}
_SETTINGS: Final = {"builder": {"thumbnail": {"enabled": False}}}

log = structlog.get_logger()


class Signer:
    """Signs films, one at a time."""

    def __init__(self, key: bytes, certificates: bytes) -> None:
        """key: PEM of the private key, without a password; certificates: PEM of its certificate and the chain.

        Raises ValueError if they cannot be used.
        """
        self._lock = Lock()
        try:
            algorithm = _algorithm_of(load_pem_private_key(key, password=None))
            self._context = c2pa.Context.from_dict(_SETTINGS)
            self._signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm, certificates, key, None))
            # The certificate is checked only when something is signed.
            with io.BytesIO() as picture, io.BytesIO() as signed:
                Image.new("RGB", (1, 1)).save(picture, "PNG")
                picture.seek(0)
                self._sign(picture, signed, "image/png", DigitalSource.TRAINED)
        except (c2pa.C2paError, TypeError) as error:
            raise ValueError(str(error)) from error

    def sign(self, film: Path, source: DigitalSource) -> None:
        """Put a signed manifest into a film. One that is too large, or that cannot be signed any more, stays as it is.

        film: its name is one of `FilmName`; source: where its pictures come from.
        """
        if film.stat().st_size > MAX_SIGNED_BYTES:
            log.warning("film is too large to be signed", film=film.name)
            return
        target = film.with_name(f"{film.name}.signed")
        try:
            with self._lock, film.open("rb") as content, target.open("w+b") as signed:
                self._sign(content, signed, FILM_KINDS[FilmName(film.name)].media_type, source)
            target.replace(film)
        except c2pa.C2paError as error:
            log.error("film cannot be signed", film=film.name, reason=str(error))
        finally:
            target.unlink(missing_ok=True)

    def _sign(self, content: Any, signed: Any, media_type: str, source: DigitalSource) -> None:
        builder = c2pa.Builder(_manifest(source), context=self._context)
        builder.sign(self._signer, media_type, content, signed)


def _manifest(source: DigitalSource) -> dict[str, Any]:
    program = {"name": "MoMALisa", "version": __version__}
    created = {"action": "c2pa.created", "digitalSourceType": source.value, "softwareAgent": program}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
    return {"claim_generator_info": [program], "assertions": [actions]}


def _algorithm_of(key: object) -> c2pa.C2paSigningAlg:
    """What C2PA signs with such a key. Raises ValueError."""
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.key_size in _CURVES:
        return _CURVES[key.curve.key_size]
    if isinstance(key, Ed25519PrivateKey):
        return c2pa.C2paSigningAlg.ED25519
    if isinstance(key, RSAPrivateKey):
        return c2pa.C2paSigningAlg.PS256
    raise ValueError("C2PA has no algorithm for such a key; use P-256, P-384, P-521, Ed25519 or RSA")
