"""Stripe over HTTPS: its certificate is checked against the authorities that are trusted, and its name too."""

import pytest

from bed.emulator import Emulator
from bed.tls import authority, certificate_for


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
