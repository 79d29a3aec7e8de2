"""Prepare the data of a recipe ahead of the run: rows to sequences of tokens on disk.

    python -m train.data --config RECIPE                             # all of it, or what is missing
    python -m train.data --config RECIPE --dataset_num_proc 16       # by 16 processes
    python -m train.data --config RECIPE --shards 3/10               # the fourth of ten parts (0/10 to 9/10)

Parts can be prepared at the same time on machines that share `--data_cache_dir`; the command without `--shards`, or the
run itself, then finds them. Takes all settings of train/pretrain.py; a preparation that was killed goes on.
"""

import logging
import re
import sys

from train.data.files.chunk import Chunk
from train.data.from_settings import to_preparations
from train.data.sequences.prepare import prepare_data, prepare_files
from train.errors import in_one_line
from train.run_files import command_parser
from train.settings.recipe import parse_recipe
from train.tokenizer.opening import open_tokenizer


logger = logging.getLogger("train.data")


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = command_parser("train.data", __doc__)
    parser.add_argument("--shards", help="PART/PARTS: only these files of each dataset, counted from 0")
    own, recipe_argv = parser.parse_known_args(argv)
    try:
        prepare(recipe_argv, own.shards)
    except (ValueError, OSError) as error:
        logger.error("train.data: %s", in_one_line(error))
        return 2
    return 0


def prepare(recipe_argv: list[str], part: str | None) -> None:
    """Prepare all data of a recipe, or a part of the files of each dataset."""
    recipe = parse_recipe(recipe_argv)
    arguments = recipe.data
    if part is not None and (arguments.max_samples is not None or arguments.max_tokens is not None):
        raise ValueError(
            f"--shards {part} with --max_samples or --max_tokens: where they end depends on the files before. "
            "Leave out the one or the others."
        )
    for preparation in to_preparations(arguments, open_tokenizer(recipe.model.tokenizer, recipe.model.init_from)):
        if part is None:
            data = prepare_data(preparation, arguments.dataset_num_proc)
            logger.info("%s\n\n%s", data.statistics.render(), data.folder)
            continue
        name, files = preparation.source.name, len(preparation.source.shards)
        shards = shards_of_part(part, files)
        if not shards:
            logger.info("%s: part %s of %d files is empty: there is nothing to do.", name, part, files)
            continue
        if not preparation.is_whole:
            prepare_files(preparation, arguments.dataset_num_proc, shards)
        place = (shards.start, shards.stop - 1, files, preparation.folder)
        logger.info("%s: files %d to %d of %d are prepared: %s", name, *place)


def shards_of_part(part: str, shards: int) -> range:
    """The files of PART/PARTS, without gap or overlap; a `ValueError` where there is no such part."""
    match = re.fullmatch(r"(\d+)/(\d+)", part)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f"--shards {part}: PART/PARTS is wanted, with PART from 0 to PARTS - 1, as in 3/10.")
    return range(*Chunk(0, int(match[1]), int(match[2])).range_of(shards))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
