"""Starts a staged Space without this project: a script of its own, which `verification.py` runs in a child process.

    python -P start_check.py FOLDER

It serves until it is ended, as in a Space: `app.py` is the main program, and its folder is where modules are sought.
"""

import importlib.abc
import os
import runpy
import sys


PROJECT = ("modeling_gpt2scratch", "train", "hub_card")


class RefuseProject(importlib.abc.MetaPathFinder):
    """Makes the project's packages as absent as they are in a Space, installed here or not."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in PROJECT:
            raise ModuleNotFoundError(f"No module named {fullname!r} (a Space has no such package)")
        return None


def main(folder: str) -> None:
    sys.meta_path.insert(0, RefuseProject())
    os.chdir(folder)
    sys.path.insert(0, folder)
    runpy.run_path("app.py", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
