"""Stripe over HTTPS: its certificate is checked against the authorities that are trusted, and its name too."""

import subprocess

import pytest

from bed.emulator import Emulator

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


def with_https(service, tmp_path, subject="IP:127.0.0.1"):
    issuer = authority(tmp_path)
    service.emulator.kill()
    service.emulator = Emulator(service.directory / "https-emulator.log", certificate_for(tmp_path, issuer, subject))
    service.emulator.product()
    assert service.emulator.https_url.startswith("https://")
    return issuer[0]


def test_a_session_is_made_over_https(service, tmp_path):
    trusted = with_https(service, tmp_path)
    service.start_worker(STRIPE_API_BASE=service.emulator.https_url, STRIPE_CA_FILE=trusted)
    assert service.ask({"team_id": service.team()})["outcome"] == "created"


@pytest.mark.parametrize("trusts, subject", [("nobody", "IP:127.0.0.1"), ("another", "IP:127.0.0.1"),
                                             ("the issuer", "DNS:api.stripe.com")])
def test_a_certificate_that_is_not_trusted_is_not_talked_to(service, tmp_path, trusts, subject):
    issuer = with_https(service, tmp_path, subject)
    trusted = {"nobody": None, "another": authority(tmp_path, "another")[0], "the issuer": issuer}[trusts]
    status, output, errors = service.run_worker("--check", STRIPE_API_BASE=service.emulator.https_url,
                                                STRIPE_CA_FILE=trusted)
    assert status > 0 and "certificate" in (output + errors).lower()
    assert service.emulator.calls() == []
