"""What the README shows works as it stands there."""

import re
import subprocess
import sys

import pytest

from bed.process import ROOT, environment
from bed.service import EXCHANGE
from bed.worker import run

README = (ROOT / "README.md").read_text()
TEAM = 17


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def serving(service):
    service.emulator.product()
    service.team(id=TEAM)
    service.start_worker()
    service.declare()
    return service


def settings(service):
    url = service.bed.rabbitmq.url(service.name, "sender", service.bed.sender_password)
    return environment(AMQP_URL=url)


def test_the_python_example_prints_a_url(serving):
    [example] = [block for block in blocks("python") if EXCHANGE in block]
    done = subprocess.run([sys.executable, "-c", example], env=settings(serving), text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == serving.sessions()[0]["url"]


def test_the_shell_example_prints_the_reply(serving):
    [example] = [block for block in blocks("sh") if "amqp-publish" in block]
    done = subprocess.run(["bash", "-euc", example], env=settings(serving), text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert serving.sessions()[0]["url"] in done.stdout


def test_every_setting_is_in_the_readme_and_in_the_help():
    _, output, _ = run({}, "--help")
    table = README.partition("| setting |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([A-Z_]+)`", table, re.MULTILINE)) | {"STRIPE_SECRET_KEY_FILE"} == \
        set(re.findall(r"^  ([A-Z][A-Z_]+) ", output, re.MULTILINE))
