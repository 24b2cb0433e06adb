"""TLS between a cluster's processes (``provider.tls``): who vouches for whom, and Ray's variables.

Ray compares the address it connects to with the names in the server's certificate, and nobody
knows a node's address before Slurm has chosen its host. So `ray up` makes an authority for each
head that it launches, and every node makes a certificate of its own, signed by it, before each
start of Ray. Ray's servers ask their clients for such a certificate, too: who cannot read the
cluster's folder is not let in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from socket import gethostname
from typing import TYPE_CHECKING

from slurm_provider.agent import earlier_ray
from slurm_provider.agent.network import interface_addresses
from slurm_provider.agent.ray_cli import is_of_this_interpreter

if TYPE_CHECKING:  # imported where it is used: most nodes need no certificate
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

_VALID = timedelta(days=3 * 365)  # Ray looks at each new connection; heads end long before
_CLOCK_SKEW = timedelta(days=1)
_NAME = "ray-slurm cluster"
_KEY_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class TlsError(Exception):
    """A node cannot have a certificate; the message is for the user."""


def new_authority() -> bytes:
    """A private key and its certificate (PEM): whoever has both can be a node of the cluster."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    use = dict.fromkeys(_KEY_USES, False) | {"key_cert_sign": True}
    builder = (
        _builder(_NAME, _NAME, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**use), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pem(key) + _signed(builder, key)


def credentials(authority: bytes, names: Sequence[str]) -> dict[str, bytes]:
    """A new key and certificate for a server of these names (host names or IPv4 addresses), and
    the authority's certificate, by file name. Raises ValueError for a damaged authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority_key = serialization.load_pem_private_key(authority, None)
    certificate = x509.load_pem_x509_certificate(authority)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of an elliptic curve")
    key = ec.generate_private_key(ec.SECP256R1())
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = (
        _builder("ray-slurm node", _NAME, key)
        .add_extension(x509.SubjectAlternativeName([_name(n) for n in names]), critical=False)
        .add_extension(signer, critical=False)
    )
    return {
        "ca.crt": certificate.public_bytes(serialization.Encoding.PEM),
        "node.crt": _signed(builder, authority_key),
        "node.key": _pem(key),
    }


def check_environment(ray: str) -> None:
    """Raises TlsError where nodes with this `ray` and this Python cannot use TLS."""
    if not is_of_this_interpreter(ray):  # see ray_cli.py
        raise TlsError(
            f"provider.tls needs `ray` and `python3` of one environment; on {gethostname()} they "
            f"are {ray} and {sys.executable}; check provider.environment"
        )
    if earlier_ray.is_installed():
        raise TlsError(f"provider.tls needs Ray 2.55; {gethostname()} has an earlier one ({ray})")
    try:
        from cryptography import x509  # noqa: F401
    except ImportError as error:
        raise TlsError(
            f"provider.tls needs the Python package cryptography, which {sys.executable} on "
            f"{gethostname()} cannot import ({error}): install it there"
        ) from None


def tls_env(authority_path: str, folder: str, address: str) -> dict[str, str]:
    """Make this node's certificate in ``folder`` (files 0600); the variables that Ray reads.

    Raises TlsError: a node that is to use TLS never runs without.
    """
    names = [address, *interface_addresses().values(), "127.0.0.1", "localhost", gethostname()]
    try:
        with open(authority_path, "rb") as file:
            made = credentials(file.read(), list(dict.fromkeys(names)))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for name, content in made.items():
            _write(os.path.join(folder, name), content)
    except OSError as error:
        words = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise TlsError(
            f"no certificate for this node can be made: {words}; `ray down` and `ray up` make a "
            "cluster with new ones"
        ) from None
    except ValueError as error:
        raise TlsError(
            f"no certificate for this node can be made: {authority_path} is damaged ({error}); "
            "`ray down` and `ray up` make a cluster with a new one"
        ) from None
    return tls_variables(folder)


def tls_variables(folder: str) -> dict[str, str]:
    """What tells Ray to use TLS with the files in ``folder``, as a server and as a client."""
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": os.path.join(folder, "ca.crt"),
        "RAY_TLS_SERVER_CERT": os.path.join(folder, "node.crt"),
        "RAY_TLS_SERVER_KEY": os.path.join(folder, "node.key"),
    }


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    now = datetime.now(timezone.utc)
    subject_name, issuer_name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, issuer)
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
    )


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import hashes, serialization

    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(IPv4Address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: str, content: bytes) -> None:
    """Private from its first moment, and never half a file for a process that reads it."""
    new = f"{path}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.replace(new, path)
