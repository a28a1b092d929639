"""Where this copy of the course lives. To move it: ``python -m cxgrad_lite badges --repository OWNER/NAME``."""

from __future__ import annotations

from urllib.parse import quote

REPOSITORY = "cxgrad-lite/cxgrad_lite"  # owner and name on GitHub
BRANCH = "main"


def colab(path: str, repository: str = REPOSITORY, branch: str = BRANCH) -> str:
    """The address that opens a notebook in Colab.

    Args:
        path: from the top of the repository, such as ``notebooks/02_maml.ipynb``.
    """
    return f"https://colab.research.google.com/github/{repository}/blob/{quote(f'{branch}/{path}')}"


def binder(path: str, repository: str = REPOSITORY, branch: str = BRANCH) -> str:
    """The address that opens a notebook in JupyterLab on Binder; ``path`` as for `colab`."""
    return (
        f"https://mybinder.org/v2/gh/{repository}/{quote(branch, safe='')}?urlpath={quote(f'lab/tree/{path}', safe='')}"
    )


def nbviewer(path: str, repository: str = REPOSITORY, branch: str = BRANCH) -> str:
    """The address that shows a notebook, without running it; ``path`` as for `colab`."""
    return f"https://nbviewer.org/github/{repository}/blob/{quote(f'{branch}/{path}')}"


def package(repository: str = REPOSITORY, branch: str = BRANCH) -> str:
    """What pip installs the package from."""
    return f"git+https://github.com/{repository}" + ("" if branch == "main" else f"@{branch}")
