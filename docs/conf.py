"""The documentation site: ``sphinx-build -W -n docs docs/_build/html``. Nothing in it needs a network."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# The kernels of the executed pages inherit this: unoptimised programs compile in two thirds of the time, and compute the
# same to round-off.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(HERE / "_build" / "jax"))  # pages share what they compile
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

import generated  # noqa: E402

import fluidgrad  # noqa: E402

project, author, copyright = "fluidgrad", "the authors of fluidgrad", "the authors of fluidgrad, Apache-2.0"
release = version = fluidgrad.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
root_doc = "index"
html_theme = "furo"
html_title = f"fluidgrad {version}"
html_copy_source = html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
html_static_path: list[str] = []
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings: list[str] = []

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True  # what pages write is no part of the site
nb_execution_timeout = 600
nb_merge_streams = True
nb_render_image_options = {"alt": "the picture that the cell above draws"}

autodoc_typehints = "none"  # shapes and units are in the descriptions
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_param = False  # "lower, upper: two corners" is one entry, for both
napoleon_custom_sections = [("Attributes", "params_style")]
napoleon_use_rtype = False
napoleon_attr_annotations = False
nitpicky = True
smartquotes = False  # --set stays --set


def setup(app):
    app.connect("autodoc-process-signature", generated.signature)
    app.connect("autodoc-process-docstring", generated.docstring, priority=400)
    app.connect("autodoc-process-docstring", generated.plain_properties, priority=900)
