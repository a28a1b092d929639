"""Time of converting datasets that you have, and of opening them again; each in a process and a cache of its own.

    python benchmarks/convert.py DIR [cifar_fs mini_imagenet omniglot ...]

DIR holds the archives or folders in any form that ``load(name, split, path=DIR)`` takes. Converting includes reading
and checking the source; opening again is measured in a new process, without importing torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

CALL = """
import json, resource, sys, time
import torchvision.transforms.v2
from data_utils import load
name, split, path = sys.argv[1:]
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
data = load(name, split, path)
took, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([took, (peak - before) / 1e3, len(data), data.images.shape[-1]]))
"""


def call(name: str, split: str, path: str) -> list[float]:
    """Seconds, megabytes above the imports, images, pixels a side."""
    command = [sys.executable, "-W", "ignore", "-c", CALL, name, split, path]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    path, *names = sys.argv[1:] or sys.exit(__doc__)
    print(f"{'dataset':16s}{'split':7s}{'images':>8s}{'pixels':>8s}{'convert':>10s}{'peak':>9s}{'reopen':>9s}")
    for name in names or ["omniglot_small", "omniglot", "cifar_fs", "mini_imagenet"]:
        for split in ("train", "val", "test"):
            with tempfile.TemporaryDirectory() as cache:
                os.environ["CXGRAD_LITE_DATA"] = cache
                seconds, megabytes, images, pixels = call(name, split, path)
                again = call(name, split, path)[0]
            sizes = f"{images:8,.0f}{pixels:8.0f}"
            print(f"{name:16s}{split:7s}{sizes}{seconds:8.2f} s{megabytes:6.0f} MB{again:7.3f} s", flush=True)


if __name__ == "__main__":
    main()
