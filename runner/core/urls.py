"""URLs of files, by fsspec: `s3://`, `webhdfs://`, `gs://`, `https://`, `memory://` and all others that it knows."""

import re
from typing import Any

from runner.core.errors import InputError, UsageError, describe
from runner.core.imports import import_extra

WEB = ("http://", "https://")


def is_url(path: str) -> bool:
    """Return whether a path is a URL, which fsspec reaches."""
    return "://" in path


def without_query(path: str) -> str:
    """Return a path as it is; for a URL of a web server, without its query, which may be a signature or a token."""
    return re.split(r"[?#]", path, maxsplit=1)[0] if path.startswith(WEB) else path


def local_name(path: str) -> str:
    """Return a path as it is; for a URL, the last part of its path: the file of that name in the current folder."""
    return re.split(r"[?#]", path)[0].rpartition("/")[2] if is_url(path) else path


def storage_of(url: str, option: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises:
        UsageError: fsspec, or the library it needs for this kind of URL, is missing.
        InputError: the storage cannot be reached.
    """
    fsspec = import_extra("fsspec", f"{option} {url}", "url")
    # what is encoded already is not to be encoded anew: a signature may be of the very characters
    options = {"encoded": True} if url.startswith(WEB) and "%" in url else {}
    try:
        storage, name = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = " (pip install 'horovod-inference-runner[url]' brings s3fs and aiohttp)"
        raise UsageError(f"{option} {url}: {describe(error)}{extra}") from error
    except Exception as error:  # the kind of exception depends on the kind of URL
        raise InputError(f"{option} {url}: {describe(error).splitlines()[0]}") from error
    return storage, name
