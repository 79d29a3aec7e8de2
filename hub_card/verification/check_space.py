"""Starts the Space in the current folder and asks it a question: a script that `verify.py` runs in a child process."""

import runpy
import sys

from gradio_client import Client


if __name__ == "__main__":
    sys.path.insert(0, "")  # app.py imports from its own folder
    app = runpy.run_path("app.py")
    app["page"].launch(prevent_thread_lock=True, quiet=True, **app["LAUNCH_OPTIONS"])
    client = Client(app["page"].local_url, verbose=False, analytics_enabled=False)
    client.predict("What is this?", max_new_tokens=16, api_name="/answer")
