"""Stand-in: the source distribution has no export tests. Ours are `tests/tools/test_onnx.py`."""


class ExportTesterMixin:
    """No tests."""
