"""A real PostgreSQL of the tests' own: one cluster for a test run."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest

from mm_orch.storage.postgres_schema import migrate
from tests.available import is_required

if TYPE_CHECKING:
    from collections.abc import Iterator

# Debian puts them where no PATH leads.
_PLACES = "/usr/lib/postgresql"
# It refuses to run as root.
_USERS = ("postgres", "nobody")
_ROLE = "muai"
_TIMEOUT_S = 60
# How often it is asked again; it decides nothing but how soon a test goes on.
_POLL_S = 0.02
_EMPTY = "muai_template"
# What a test stores has no need to outlive the machine.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum": "off",
    "unix_socket_permissions": "0777",
}


class Cluster:
    """Databases of one PostgreSQL server, which listens on a socket in a folder of its own."""

    def __init__(self, directory: Path, programs: Path, user: str | None) -> None:
        self._directory = directory
        self._programs = programs
        self._user = user
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._shared = ""

    def url_of(self, database: str) -> str:
        return f"postgresql://{_ROLE}@/{database}?host={quote(str(self._directory), safe='')}"

    def make(self) -> None:
        """Make the cluster, start it, and make the database that tests get copies of."""
        self._run(
            "initdb",
            "-D",
            str(self._data),
            "-U",
            _ROLE,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )
        self.start()
        self.execute(f"CREATE DATABASE {_EMPTY}")
        with psycopg.connect(self.url_of(_EMPTY), autocommit=True) as connection:
            migrate(connection)
        self._shared = self.make_database()

    def empty_database(self) -> str:
        """Return the URL of the one that tests share: emptied sooner than another could be made."""
        with psycopg.connect(self._shared, autocommit=True) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'muai'"
                " AND tablename != 'schema_version'"
            ).fetchall()
            for [table] in tables:
                connection.execute(f"DELETE FROM muai.{table}".encode())  # noqa: S608 - our own names
        return self._shared

    def make_database(self, *, is_empty: bool = False) -> str:
        """Return the URL of a new database, with the newest schema or with none."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {'template0' if is_empty else _EMPTY}")
        return self.url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop it, whoever is connected to it."""
        name = url.partition("@/")[2].partition("?")[0]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        with (self._directory / "log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(self._programs / "postgres", "-D", self._data),
                    *("-k", self._directory, *settings),
                ],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._directory,
                start_new_session=True,
            )
        end_s = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._directory / "log").read_text()
                assert time.monotonic() < end_s, "PostgreSQL does not answer"
                time.sleep(_POLL_S)
            else:
                return

    def stop(self) -> None:
        """End the server at once; open transactions are undone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_TIMEOUT_S)
            self._process = None

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _run(self, program: str, *arguments: str) -> None:
        made = subprocess.run(
            [self._programs / program, *arguments],
            capture_output=True,
            text=True,
            user=self._user,
            cwd=self._directory,
            check=False,
        )
        assert made.returncode == 0, made.stderr


@contextmanager
def run_cluster() -> Iterator[Cluster]:
    """Start a cluster; the test is skipped, or fails, where there is no PostgreSQL."""
    programs = _find_programs()
    if programs is None:
        reason = "PostgreSQL is not installed"
        if is_required("postgres"):
            pytest.fail(f"{reason}, and MUAI_REQUIRED_PROGRAMS names it")
        pytest.skip(reason)
    user = _find_user()
    directory = Path(tempfile.mkdtemp(prefix="muai-postgres-"))
    try:
        if user is not None:
            account = pwd.getpwnam(user)
            os.chown(directory, account.pw_uid, account.pw_gid)
            directory.chmod(0o755)
        cluster = Cluster(directory, programs, user)
        try:
            cluster.make()
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(directory)


def _find_programs() -> Path | None:
    """Return the folder with the programs, of the newest version where Debian has several."""
    found = shutil.which("initdb")
    if found is not None and shutil.which("postgres") is not None:
        return Path(found).parent
    places = Path(_PLACES).glob("*/bin/initdb")
    return max((one.parent for one in places), key=lambda one: float(one.parent.name), default=None)


def _find_user() -> str | None:
    """Return whom to run it as; None for whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    known = {account.pw_name for account in pwd.getpwall()}
    return next(name for name in _USERS if name in known)
