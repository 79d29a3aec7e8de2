"""Fetch the tests that transformers ships in its source distribution, for the installed version, with pip.

Run by `make conformance`; what it fetches lies in `.transformers_tests/` at the top of the repository, once a version.
"""

import logging
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import transformers


FETCHED = Path(__file__).parents[2] / ".transformers_tests" / transformers.__version__


def fetch() -> Path:
    """The folder of transformers' test modules, downloaded unless it is there.

    Raises:
        subprocess.CalledProcessError: pip found no source distribution of this version.
    """
    if FETCHED.exists():
        return FETCHED
    logging.info("Fetching the tests of transformers %s.", transformers.__version__)
    FETCHED.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FETCHED.parent) as unpacked:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
        subprocess.run([*pip, "--dest", unpacked, f"transformers=={transformers.__version__}"], check=True)
        with tarfile.open(next(Path(unpacked).glob("transformers-*.tar.gz"))) as archive:
            tests = [member for member in archive.getmembers() if member.name.split("/")[1:2] == ["tests"]]
            archive.extractall(unpacked, members=tests, filter="data")
        tests_folder = next(Path(unpacked).glob("transformers-*/tests"))
        (tests_folder / "__init__.py").touch()  # left out of the distribution, and read by one of the modules
        # Renamed into place, so that a fetch that was cut off is not taken for a whole one.
        tests_folder.rename(FETCHED)
    return FETCHED


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(message)s")
    fetch()
