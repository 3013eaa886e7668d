"""nbval compares a cell's standard output where a cell asks for it, but never its warnings."""


def pytest_collectstart(collector):
    """Called by pytest for every notebook."""
    if getattr(collector, "skip_compare", None) is not None:
        collector.skip_compare += ("stderr",)
