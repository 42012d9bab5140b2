"""Where a study is stored: a journal in its result folder, or a PostgreSQL database.

If the study is in a database, the folder has a file ``storage.url`` with the URL, without its
password, and the study's name. The folder may be somebody else's, and the PostgreSQL client sends
the password of ``PGPASSWORD`` or ``~/.pgpass`` to any server that it connects to. So a command
connects only to the server that its ``--storage`` names. SQLite is rejected, since a journal file
does the same and is many times faster.
"""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from simreg_core.errors import ConfigError, one_line
from simreg_core.storage.atomic import write_text
from simreg_core.storage.location import local_path, open_inside, read_text_inside, to_path
from simreg_core.storage.opening import UnusableFile
from tuner.study.file_journal import FileJournalBackend, repair_journal
from tuner.study.object_journal import ObjectJournalBackend

STUDY_FILE = "study.journal"
URL_FILE = "storage.url"
_DIALECT = "postgresql+psycopg"
_SECRETS = ("password", "sslpassword")  # may also be in a URL's query
_CONNECT_SECONDS = 10
_AUTH_LIBPQ = 160000  # version of libpq that has require_auth


class StudyLocation(NamedTuple):
    """The location of a study, which may not exist yet."""

    storage: BaseStorage
    name: str
    where: str
    """For messages; without a password."""
    in_database: bool

    def name_taken(self) -> ConfigError:
        """The error for a name that another study in the database has."""
        return ConfigError(
            f"--storage: {self.where} already has a study {self.name}; choose another --name"
        )


def database_url(text: str) -> str:
    """An argparse type: the URL of a PostgreSQL database, in SQLAlchemy's form."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    expected = "expected postgresql://USER@HOST/DATABASE"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as err:  # do not show the text: it may hold a password
        raise argparse.ArgumentTypeError(f"{expected}, found no URL") from err
    if url.drivername.startswith("sqlite"):
        raise argparse.ArgumentTypeError(
            f"{expected}, found SQLite: leave --storage out; the study is then a journal file, "
            "which optuna-dashboard opens too and which is many times faster"
        )
    if url.drivername not in ("postgres", "postgresql", _DIALECT):
        raise argparse.ArgumentTypeError(f"{expected}, found {url.drivername}://")
    return url.set(drivername=_DIALECT).render_as_string(hide_password=False)


def add_storage_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--storage``; every later command on such a study needs it again."""
    parser.add_argument(
        "--storage",
        type=database_url,
        metavar="URL",
        help="store the study in a PostgreSQL database: postgresql://USER@HOST/DATABASE "
        "(default: a journal in the result folder); a search in a database needs it to be resumed, "
        "too",
    )


def study_location(folder: Path, name: str, url: str | None, *, writes: bool) -> StudyLocation:
    """The location of a result folder's study.

    ``storage.url``, if it exists, takes the place of ``name`` and requires a ``url``. With
    ``writes``, this process must hold the folder's lock and may repair the journal.

    Raises:
        ConfigError: the database cannot be reached, the study is in a database and ``url`` is None,
            or the study is not in a database, or its journal is a link or no regular file.
        OSError: the journal cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stored = _stored_url(folder)
    if stored is not None:
        if url is None:
            shown = without_passwords(stored[0])
            raise ConfigError(
                f"{folder}: its study is in the database {shown}; if you trust this server with "
                f"your password, add --storage {shlex.quote(shown)}"
            )
        return _in_database(url, stored[1])
    if url is not None:
        raise ConfigError(f"--storage: the study of {folder} is in its {STUDY_FILE}; leave it out")
    path = folder / STUDY_FILE
    local = local_path(path)
    if local is not None:
        _require_own_journal(local)
    if local is not None and writes:
        repair_journal(local)
    try:
        backend = FileJournalBackend(local) if local else ObjectJournalBackend(path)
        storage = JournalStorage(backend)
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError(f"{path}: damaged: {one_line(err)}") from err
    return StudyLocation(storage, name, str(path), in_database=False)


def has_study(folder: str | Path) -> bool:
    """Whether a result folder has a journal or the URL of a database."""
    folder = to_path(folder)
    return (folder / URL_FILE).exists() or (folder / STUDY_FILE).exists()


def require_free(url: str, name: str) -> None:
    """Raise ConfigError if a study in the database has the name."""
    location = _in_database(url, name)
    if name in (study.study_name for study in location.storage.get_all_studies()):
        raise location.name_taken()


def database_problem(err: BaseException) -> str | None:
    """The problem with the study's database in one line; None for any other exception."""
    from sqlalchemy.exc import SQLAlchemyError

    if not isinstance(err, SQLAlchemyError | StorageInternalError):
        return None
    return f"the study's database: {_first_line(err)}"


def store_url(folder: Path, url: str, name: str) -> None:
    """Write the URL of the study, without passwords, and its name to the result folder."""
    write_text(folder / URL_FILE, f"{without_passwords(url)}\n{name}\n")


def _stored_url(folder: Path) -> tuple[str, str] | None:
    try:
        url, name = read_text_inside(folder / URL_FILE, folder).split()
        return database_url(url), name
    except FileNotFoundError:
        return None
    except (ValueError, argparse.ArgumentTypeError) as err:
        raise ConfigError(f"{folder / URL_FILE}: damaged: {err}") from err


def _in_database(url: str, name: str) -> StudyLocation:
    from sqlalchemy.exc import SQLAlchemyError

    shown = without_passwords(url)
    try:
        options = {"connect_args": _connect_args(url), "pool_pre_ping": True}
        storage = RDBStorage(url, engine_kwargs=options)
    except ImportError as err:
        raise ConfigError(
            "--storage needs the extra postgresql: pip install 'simreg-tune[postgresql]'"
        ) from err
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as err:
        # RuntimeError: the tables belong to another version of Optuna
        raise ConfigError(f"--storage {shown}: cannot be used: {_first_line(err)}") from err
    return StudyLocation(storage, name, shown, in_database=True)


def _connect_args(url: str) -> dict[str, Any]:
    """What libpq gets beside the URL: the server must not ask for the password itself.

    With SCRAM, a server that does not know the password learns nothing that it can use. A URL with
    another ``require_auth``, or the environment's ``PGREQUIREAUTH``, takes its place.
    """
    from psycopg import pq
    from sqlalchemy.engine import make_url

    arguments: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS}
    if "require_auth" in make_url(url).query or "PGREQUIREAUTH" in os.environ:
        return arguments
    if pq.version() < _AUTH_LIBPQ:
        raise ConfigError(
            f"--storage needs libpq 16 or newer, found {pq.version() // 10000}: "
            "pip install 'psycopg[binary]'"
        )
    return {**arguments, "require_auth": "scram-sha-256"}


def _first_line(err: BaseException) -> str:
    """First line of the database's message, which Optuna and SQLAlchemy wrap."""
    wrapped = err.__cause__ if isinstance(err, StorageInternalError) else None
    cause = wrapped or err
    return str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]


def without_passwords(url: str) -> str:
    """The URL of a database as users write it, without its passwords."""
    from sqlalchemy.engine import make_url

    bare = make_url(url).set(drivername="postgresql")._replace(password=None)
    return bare.difference_update_query(_SECRETS).render_as_string(hide_password=False)


def _require_own_journal(path: Path) -> None:
    """Refuse a link, through which a repair would change another file, and a pipe."""
    if not os.path.lexists(path):
        return
    try:
        if path.is_symlink():
            raise UnusableFile(path, "a link")
        open_inside(path, path.parent).close()
    except UnusableFile as err:
        raise ConfigError(f"{path}: {err.strerror}; expected the journal of a study") from err
