import subprocess
import sys

import pytest

from train.run_files import write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "page"
    write_whole(file, "first")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "second, with half a character: \ud800")
    assert file.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_importing_the_names_loads_no_library():
    code = "import sys, train.run_files; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
