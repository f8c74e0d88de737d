"""What URLs name, by fsspec: `s3://`, `webhdfs://`, `gs://`, `https://`, `memory://` and whatever else it knows."""

from typing import Any

from runner.core.errors import InputError, UsageError, describe


def is_url(path: str) -> bool:
    """Whether a path names something that fsspec reaches."""
    return "://" in path


def storage_of(url: str, option: str) -> tuple[Any, str]:
    """The storage, and what the URL is called there.

    Raises:
        UsageError: fsspec, or what it needs for this kind of URL, is missing.
        InputError: it cannot be reached.
    """
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"{option} {url}: URLs need fsspec: pip install 'horovod-inference-runner[url]'") from error
    try:
        storage, name = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = " (pip install 'horovod-inference-runner[url]' brings s3fs and aiohttp)"
        raise UsageError(f"{option} {url}: {describe(error)}{extra}") from error
    except Exception as error:  # of one kind or another by what the URL is of
        raise InputError(f"{option} {url}: {describe(error).splitlines()[0]}") from error
    return storage, name
