"""The page to clone a voice in: `streamlit run app.py` (packages: requirements/app.txt)."""

from __future__ import annotations

import sys

HINT = "error: this is a page, not a script; start it with: streamlit run app.py"


def main() -> int:
    """Draw the page; run as a plain script, say how to start it and return 2."""
    try:
        from streamlit.runtime.scriptrunner import get_script_run_ctx
    except ImportError:
        print("error: the page needs the package streamlit: pip install -r requirements/app.txt", file=sys.stderr)
        return 2
    if get_script_run_ctx(suppress_warning=True) is None:
        print(HINT, file=sys.stderr)
        return 2
    from web.page import show

    show()
    return 0


if __name__ == "__main__" and (code := main()):
    sys.exit(code)
