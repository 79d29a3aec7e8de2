"""The text samples of a run as one table over its steps, in the trackers that `--report_to` names."""

COLUMNS = ("step", "question", "text")


def send_to_trackers(trackers: list[str], samples: list[dict], step: int) -> None:
    """Send the table of all samples so far to those trackers that know tables; the Trainer's callbacks have opened
    their runs."""
    rows = [[sample[column] for column in COLUMNS] for sample in samples]
    if "wandb" in trackers:
        import wandb

        wandb.log({"samples": wandb.Table(columns=list(COLUMNS), data=rows), "train/global_step": step})
    if "trackio" in trackers:
        import pandas
        import trackio

        trackio.log({"samples": trackio.Table(dataframe=pandas.DataFrame(rows, columns=COLUMNS))}, step=step)
    if "mlflow" in trackers:
        import mlflow

        # The form of mlflow.log_table, which would add to the rows that are there already.
        mlflow.log_dict({"columns": list(COLUMNS), "data": rows}, "samples.json")
