"""Where the study of a search lies: a journal beside its results, or a PostgreSQL database.

A folder whose study is in a database has a file ``storage.url``: the URL without its password, and
the study's name. PostgreSQL's own client finds the password in ``PGPASSWORD`` or ``~/.pgpass``.
SQLite is refused: a journal file does the same and is many times faster.
"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from simreg_core.errors import ConfigError, reason_of
from simreg_core.storage.atomic import write_text
from simreg_core.storage.location import local_path
from tuner.study.object_journal import ObjectJournalBackend

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

STUDY_FILE = "study.journal"
URL_FILE = "storage.url"
_DRIVER = "postgresql+psycopg"
_SECRETS = ("password", "sslpassword")  # keys of a URL's query, too
_CONNECT_SECONDS = 10


class StudyPlace(NamedTuple):
    """A study that may or may not exist."""

    storage: BaseStorage
    name: str
    where: str
    """For people; without a password."""
    in_database: bool


def database_url(text: str) -> str:
    """An argparse type: the URL of a PostgreSQL database, as SQLAlchemy wants it.

    Raises:
        argparse.ArgumentTypeError: it is no such URL.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    expected = "expected postgresql://USER@HOST/DATABASE"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as err:  # the text is not shown: it may hold a password
        raise argparse.ArgumentTypeError(f"{expected}, found no URL") from err
    if url.drivername.startswith("sqlite"):
        raise argparse.ArgumentTypeError(
            f"{expected}, found SQLite: leave --storage out; the study is then a journal file, "
            "which optuna-dashboard opens too and which is many times faster"
        )
    if url.drivername not in ("postgres", "postgresql", _DRIVER):
        raise argparse.ArgumentTypeError(f"{expected}, found {url.drivername}://")
    return url.set(drivername=_DRIVER).render_as_string(hide_password=False)


def add_storage_flag(parser: argparse.ArgumentParser) -> None:
    """``--storage``, which a later command needs only for a password that is nowhere else."""
    parser.add_argument(
        "--storage",
        type=database_url,
        metavar="URL",
        help="keep the study in a PostgreSQL database: postgresql://USER@HOST/DATABASE "
        "(default: a journal beside the results, or what --resume finds there)",
    )


def study_place(folder: Path, name: str, url: str | None, *, writes: bool) -> StudyPlace:
    """The study of a result folder.

    Args:
        folder: ``OUTPUT/NAME``.
        name: Of a study beside the results; one in a database has the name that was remembered.
        url: Of the database, with a password, say; None for what the folder remembers.
        writes: Whether this process holds the folder and may put a journal in order.

    Raises:
        ConfigError: the database is not reached, or the folder's study is in none.
        OSError: the journal cannot be read.
    """
    remembered = _remembered(folder)
    if remembered is not None:
        found, name = remembered
        return _in_database(url or found, name)
    if url is not None:
        raise ConfigError(f"--storage: the study of {folder} is in its {STUDY_FILE}; leave it out")
    path = folder / STUDY_FILE
    local = local_path(path)
    if local is not None and writes:
        _repair(local)
    try:
        backend = JournalFileBackend(str(local)) if local else ObjectJournalBackend(path)
        storage = JournalStorage(backend)
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError(f"{path}: damaged: {reason_of(err)}") from err
    return StudyPlace(storage, name, str(path), in_database=False)


def has_study(folder: Path) -> bool:
    """Whether a result folder has a study, or says where it is."""
    return (folder / URL_FILE).exists() or (folder / STUDY_FILE).exists()


def require_free(url: str, name: str) -> None:
    """Refuse a name that a study in the database has.

    Raises:
        ConfigError: it has one, or the database is not reached.
    """
    place = _in_database(url, name)
    if name in (study.study_name for study in place.storage.get_all_studies()):
        raise name_taken(place)


def database_problem(err: BaseException) -> str | None:
    """What is wrong with the study's database, in one line; None for any other exception."""
    from sqlalchemy.exc import SQLAlchemyError

    if not isinstance(err, SQLAlchemyError | StorageInternalError):
        return None
    return f"the study's database: {_first_line(err)}"


def name_taken(place: StudyPlace) -> ConfigError:
    """What to say of a name that another study has."""
    return ConfigError(
        f"--storage: {place.where} has a study {place.name} already; choose another --name"
    )


def remember(folder: Path, url: str, name: str) -> None:
    """Write into a result folder where its study is, without passwords."""
    write_text(folder / URL_FILE, f"{_public(url)}\n{name}\n")


def _remembered(folder: Path) -> tuple[str, str] | None:
    try:
        url, name = (folder / URL_FILE).read_text(encoding="utf-8").split()
        return database_url(url), name
    except FileNotFoundError:
        return None
    except (ValueError, argparse.ArgumentTypeError) as err:
        raise ConfigError(f"{folder / URL_FILE}: damaged: {err}") from err


def _in_database(url: str, name: str) -> StudyPlace:
    from sqlalchemy.exc import SQLAlchemyError

    shown = _public(url)
    options = {"connect_args": {"connect_timeout": _CONNECT_SECONDS}, "pool_pre_ping": True}
    try:
        storage = RDBStorage(url, engine_kwargs=options)
    except ImportError as err:
        raise ConfigError(
            "--storage needs the extra postgresql: pip install 'simreg-tune[postgresql]'"
        ) from err
    except (SQLAlchemyError, StorageInternalError, RuntimeError) as err:
        # RuntimeError: the tables are of another Optuna
        raise ConfigError(f"--storage {shown}: cannot be used: {_first_line(err)}") from err
    return StudyPlace(storage, name, shown, in_database=True)


def _first_line(err: BaseException) -> str:
    """Of the database's own message, where Optuna and SQLAlchemy wrap it."""
    wrapped = err.__cause__ if isinstance(err, StorageInternalError) else None
    cause = wrapped or err
    return str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]


def _public(url: str) -> str:
    from sqlalchemy.engine import make_url

    full: URL = make_url(url).set(drivername="postgresql")
    bare = full._replace(password=None).difference_update_query(_SECRETS)
    return bare.render_as_string(hide_password=False)


def _repair(path: Path) -> None:
    """Undo what a killed writer leaves: a lock, and at worst a line that is not whole.

    Optuna skips such a line, but appends to it: then the file cannot be read.
    """
    with suppress(FileNotFoundError):
        path.with_name(f"{path.name}.lock").unlink()
    with suppress(FileNotFoundError), path.open("rb+") as stream:
        content = stream.read()
        if not content.endswith(b"\n"):
            stream.truncate(content.rfind(b"\n") + 1)
            os.fsync(stream.fileno())
