"""Outputs behind a URL: they are written in the current folder, and copied when they are complete."""

from runner.core.errors import OutputError, describe
from runner.core.urls import storage_of

# a file put there appears at once and complete, or not at all; elsewhere it is put under another name first
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "az", "memory"}


class Remote:
    """The destination of an output file behind a URL.

    Args:
        url: URL of the file.

    Raises:
        UsageError: fsspec, or the package it needs for this kind of URL, is missing.
        OutputError: from every method: the storage cannot be reached, or not written to.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._storage, self._name = storage_of(url, "--output")
        protocols = self._storage.protocol
        self._is_object_store = bool(_OBJECT_STORES & set([protocols] if isinstance(protocols, str) else protocols))

    def exists(self) -> bool:
        """Return whether the destination exists already."""
        try:
            self._storage.invalidate_cache()
            return bool(self._storage.exists(self._name))
        except Exception as error:
            raise OutputError(f"--output {self._url}: {describe(error)}") from error

    def put(self, path: str) -> None:
        """Copy a file to the destination, and replace an existing one."""
        try:
            if self._is_object_store:
                self._storage.put_file(path, self._name)
                return
            self._storage.put_file(path, f"{self._name}.partial")
            if self._storage.exists(self._name):
                self._storage.rm(self._name)
            self._storage.mv(f"{self._name}.partial", self._name)
        except Exception as error:
            raise OutputError(
                f"--output {self._url}: copying {path} there failed: {describe(error)}. The same command tries again"
            ) from error
