"""Downloads, archives and pickles, read with care."""
