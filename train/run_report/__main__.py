"""Make `report.html` of a run folder from its files: of a run that is training, has ended, or was killed.

python -m train.run_report runs/demo
"""

import logging
import sys

from train.run_files import REPORT_FILE, command_parser, leave_out_damaged, user_path
from train.run_report.page import render_page, write_page
from train.run_report.run_record import FILES_OF_PARTS, find_run, read_run


logger = logging.getLogger("train.run_report")


def main(argv: list[str]) -> int:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = command_parser("train.run_report", __doc__)
    parser.add_argument("run", type=user_path, help="a run's --output_dir")
    parser.add_argument("--output", type=user_path, help=f"where to write the page (default: RUN/{REPORT_FILE})")
    arguments = parser.parse_args(argv)
    try:
        folder = find_run(arguments.run)
        run, damaged = leave_out_damaged(read_run(folder), render_page, FILES_OF_PARTS)
        run.damaged.update(
            {file: f"{file} holds something else than a run writes, and is left out." for file in damaged}
        )
        page = arguments.output or folder / REPORT_FILE
        if page.is_dir() or not page.parent.is_dir():
            raise ValueError(f"--output {page}: name a file, in a folder that is there.")
        write_page(run, page)
    except (ValueError, OSError) as error:
        logger.error("run_report: %s", " ".join(str(error).split()))
        return 1
    for message in run.damaged.values():
        logger.warning("run_report: %s", message)
    logger.info("%s", page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
