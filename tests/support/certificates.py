"""A key for signing films, with a chain of certificates: an authority of the tests has issued one for it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Signing:
    """PEM texts. authority: the certificate that a reader has to trust."""

    key: bytes
    certificates: bytes
    authority: bytes


def signing() -> Signing:
    """A new key, its certificate, and the authority's."""
    root, leaf = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = _issued("An authority", root, root, is_authority=True).public_bytes(Encoding.PEM)
    own = _issued("An operator", leaf, root, is_authority=False).public_bytes(Encoding.PEM)
    key = leaf.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Signing(key, own + authority, authority)


def _issued(
    name: str, key: EllipticCurvePrivateKey, issuer: EllipticCurvePrivateKey, *, is_authority: bool
) -> x509.Certificate:
    """A certificate as C2PA's specification requires it, section 14.5."""
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    building = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named("An authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                decipher_only=False,
                **usage,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    if not is_authority:
        building = building.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return building.sign(issuer, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests")]
    )
