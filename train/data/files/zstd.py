"""A file that is compressed by zstd, as Python's standard library reads one of gzip."""

import io
import os
from types import SimpleNamespace
from typing import BinaryIO

import pyarrow as pa


class ZstdError(ValueError):
    """What is read is torn, or no zstd."""


class ZstdFile(io.RawIOBase):
    """The decompressed bytes. To go back, or to find the end, it decompresses what is before."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._restart()

    def _restart(self) -> None:
        self._file.seek(0)
        kept_open = SimpleNamespace(
            read=self._file.read, closed=False, close=lambda: None
        )  # Arrow closes what it reads
        self._stream = pa.CompressedInputStream(pa.PythonFile(kept_open, "r"), "zstd")
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        try:
            content = self._stream.read(len(buffer))
        except OSError as error:
            raise ZstdError(str(error)) from error
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            assert offset == 0
            while self.read(2**20):
                pass
            return self._at
        target = offset + (self._at if whence == os.SEEK_CUR else 0)
        if target < self._at:
            self._restart()
        while self._at < target and self.read(min(target - self._at, 2**20)):
            pass
        return self._at
