"""Certificates for tests, made with openssl(1)."""

import subprocess

ROOT_NAME, DAYS = "/CN=Test authority", "2"


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def authority(directory, name="authority"):
    """A certificate authority; returns certificate and key."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", DAYS,
            "-subj", ROOT_NAME, "-out", certificate, "-keyout", key)
    return certificate, key


def certificate_for(directory, issuer, subject):
    """A server's certificate that an authority signed; `subject` such as IP:127.0.0.1 or DNS:example.com."""
    certificate, key, request = directory / "server.pem", directory / "server.key", directory / "server.csr"
    extensions = directory / "extensions"
    extensions.write_text(f"subjectAltName={subject}\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=server",
            "-out", request, "-keyout", key)
    openssl("x509", "-req", "-in", request, "-CA", issuer[0], "-CAkey", issuer[1], "-CAcreateserial", "-days", DAYS,
            "-extfile", extensions, "-out", certificate)
    return certificate, key
