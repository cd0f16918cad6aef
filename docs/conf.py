"""The documentation site: ``make docs`` builds it into ``docs/_build/html``."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

# Before Airflow is imported: a home of its own, so that no file of the user's is read or written.
os.environ["AIRFLOW_HOME"] = _home = tempfile.mkdtemp(prefix="airflow-home-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
sys.path.insert(0, str(Path(__file__).parent))

from airflow_provider_geocatalog import __version__  # noqa: E402

project = "Airflow provider for GeoCatalog"
version = release = __version__
copyright = "the contributors, Apache License 2.0"
language = "en"
smartquotes_action = "D"  # dashes; quotation marks stay as they are written
extensions = ["myst_parser", "sphinx.ext.autodoc", "site_pages"]
exclude_patterns = ["_build"]
nitpicky = True
# Only this package is described here. Types of others, and those that only type checkers import, have no page.
nitpick_ignore_regex = [
    ("py:.*", r"(?!airflow_provider_geocatalog\.).*"),
    # What maintainers read, not users.
    ("py:.*", r".*\.watermarks\.WatermarkStore"),
]

myst_heading_anchors = 4

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_sphinx = False
