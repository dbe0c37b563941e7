"""Node.js for the few tests that need it: the packages of tests/drop-in, installed into the build folder."""

import fcntl
import hashlib
import os
import shutil
import subprocess

import pytest

from bed.process import ROOT

SOURCE = ROOT / "tests/drop-in"
DIRECTORY = ROOT / "build/drop-in"  # the same for every kind of build
MAJOR = 20


def _missing(why):
    """Where Node.js is a matter of choice its tests are skipped; CI has to have it."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{why}; needs Node.js {MAJOR} or later with npm")


def environment():
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")
            or name.lower().startswith(("npm_config_", "http", "no_proxy"))}


def node(*arguments, **settings):
    """Runs a script in the folder; returns the finished process."""
    return subprocess.run(["node", *map(str, arguments)], cwd=DIRECTORY, text=True, timeout=120,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=environment() | settings)


def _once(name, made_of, make):
    """Calls make() unless the folder has what it makes, out of the same, already."""
    digest = hashlib.sha256(made_of).hexdigest()
    mark = DIRECTORY / f".{name}"
    if not mark.exists() or mark.read_text() != digest:
        make()
        mark.write_text(digest)


def _install():
    done = subprocess.run(["npm", "ci", "--omit=optional", "--prefer-offline"], cwd=DIRECTORY, text=True, timeout=600,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment())
    if done.returncode != 0:
        _missing(f"npm ci failed:\n{done.stdout}")
    # The starter's own modules are imported as "@/…".
    (DIRECTORY / "node_modules/@").symlink_to("../dist")


def _compile():
    done = node("node_modules/typescript/bin/tsc")
    assert done.returncode == 0, done.stdout


def prepare():
    """Brings the folder up to date, compiled; skips the test where there is no Node.js."""
    if not shutil.which("node") or not shutil.which("npm"):
        _missing("there is no Node.js")
    version = subprocess.run(["node", "--version"], text=True, stdout=subprocess.PIPE, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < MAJOR:
        _missing(f"Node.js is {version.strip()}")
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with open(DIRECTORY / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.copytree(SOURCE, DIRECTORY, dirs_exist_ok=True)
        _once("installed", (SOURCE / "package-lock.json").read_bytes(), _install)
        _once("compiled", b"".join(path.read_bytes() for path in sorted(SOURCE.rglob("*")) if path.is_file()), _compile)
