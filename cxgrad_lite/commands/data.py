"""The command line for data: ``python -m cxgrad_lite data list | get NAME | check NAME | show NAME``."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_utils import LOADERS, ImageClasses, load
from data_utils.datasets.catalogue import DATASETS, Dataset
from data_utils.files.sources import cache_dir
from data_utils.store.convert import fault, manifests, opened_folders
from data_utils.store.own_copies import forget, remember, remembered_path, request
from data_utils.store.reader import Manifest, open_split

from ..plots.figures import show_image
from .errors import CommandFailed
from .options import place, positive

SPLITS = ("train", "val", "test")
ROWS, COLUMNS = 10, 10  # of a contact sheet: classes and images of each


def add_data_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``data`` and its subcommands to a command line; each sets ``run``, a function from options to None.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    about = "list, download, convert, check and look at datasets"
    data = commands.add_parser("data", help=about, description=about)
    actions = data.add_subparsers(dest="action", required=True)
    _add(actions, "list", "sizes, licences and what is in the cache folder").set_defaults(run=_list)

    get = _add(actions, "get", "download and convert a dataset, or convert a copy that you have")
    get.add_argument("name", choices=[name for name in LOADERS if name != "glyphs"], metavar="NAME", help="a dataset")
    where = get.add_mutually_exclusive_group()
    where.add_argument("--from", dest="path", type=place, metavar="PATH", help="your copy, used from now on")
    where.add_argument("--download", action="store_true", help="download it, even if a copy was named before")
    get.add_argument("--split", choices=SPLITS, help="only this one (default: all three)")
    get.add_argument("--size", type=positive, help="height and width in pixels, where the dataset leaves a choice")
    get.set_defaults(run=_get)

    check = _add(actions, "check", "check every byte of a converted dataset")
    check.add_argument("name", choices=list(LOADERS), metavar="NAME", help="a dataset")
    check.set_defaults(run=_check)

    show = _add(actions, "show", "write a contact sheet of a dataset that was converted")
    show.add_argument("name", choices=list(LOADERS), metavar="NAME", help="a dataset")
    show.add_argument("--split", default="train", help="train, val or test (default: train)")
    show.add_argument("--out", type=place, help="PNG file to write (default: NAME-SPLIT.png)")
    show.set_defaults(run=_show)


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, about: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=about, description=about)
    return parser


def _list(options: argparse.Namespace) -> None:
    splits = manifests()
    for name in LOADERS:
        facts = DATASETS.get(name)
        print(
            f"{name}: {_facts(facts) if facts else 'your own images, python -m cxgrad_lite data get folder --from …'}"
        )
        for folder, manifest in splits.items():
            if manifest.get("dataset") == name:
                print(f"  converted: {_line(folder, manifest)}")
        path = remembered_path(name)
        if path is not None:
            print(f"  your copy: {path}")
    for folder in [folder for folder, manifest in splits.items() if not manifest]:
        print(f"damaged: {folder}")
    print(f"\ncache folder: {cache_dir()}")
    for file in sorted(file for file in cache_dir().glob("*") if file.is_file() and file.suffix != ".lock"):
        print(f"  {file.name} {_size(file.stat().st_size)}")


def _facts(facts: Dataset) -> str:
    classes = " + ".join(f"{count}" for count in facts.classes)
    channels, height, width = facts.shape
    if facts.homepage:
        download = f"download {_size(facts.download) if facts.download else 'of unknown size'}"
        sizes = f"{download}, converted {_size(facts.converted)}"
    else:
        sizes = "shipped, no download"
    return (
        f"{facts.title}\n  {classes} classes, {facts.images:,} images of {channels}×{height}×{width}; {sizes}\n"
        f"  licence: {facts.licence}"
    )


def _line(folder: Path, manifest: Manifest) -> str:
    channels, height, width = manifest["shape"]
    part = " (incomplete)" if manifest.get("complete") is False else ""
    return (
        f"{manifest['split']}{part}, {len(manifest['names'])} classes, {sum(manifest['counts']):,} images of "
        f"{channels}×{height}×{width}, {_size(manifest['bytes'])}, from {manifest.get('source')} ({folder.name})"
    )


def _size(count: int) -> str:
    """Bytes in decimal units, as download pages give them."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} bytes"


def _get(options: argparse.Namespace) -> None:
    name = options.name
    path = None if options.path is None else options.path.expanduser().absolute()
    wanted = {} if options.size is None else {"size": options.size}
    if name == "folder" and path is None:
        raise ValueError("a folder of your own images needs --from PATH")
    if options.download:
        forget(name)
    folders = {}
    for split in [options.split] if options.split else SPLITS:
        with opened_folders() as opened:
            data = load(name, split, path, **wanted)
        folders.update({request(split, wanted): folder for folder in opened})
        print(f"{name} {split}: {data}")
    if path is not None:
        remember(name, path, folders)
        print(f'load("{name}", …) uses {path} from now on')


def _check(options: argparse.Namespace) -> None:
    if options.name == "glyphs":
        load("glyphs", "train")  # checks the shipped file
        print("glyphs: sound")
        return
    splits = [folder for folder in manifests() if folder.name.startswith(f"{options.name}-")]
    if not splits:
        raise CommandFailed(
            f"nothing of {options.name} is converted; python -m cxgrad_lite data get {options.name} does it"
        )
    faults = {folder: fault(folder) for folder in splits}
    for folder, wrong in faults.items():
        print(f"{folder.name}: {wrong or 'sound'}")
    damaged = [str(folder) for folder, wrong in faults.items() if wrong]
    if damaged:
        raise CommandFailed(f"damaged: {', '.join(damaged)}; delete it, and the next load makes it anew")


def _show(options: argparse.Namespace) -> None:
    out = options.out or Path(f"{options.name}-{options.split}.png")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png, which is what is written, not {out.name}")
    data = load("glyphs", options.split) if options.name == "glyphs" else _newest(options.name, options.split)
    licence = DATASETS[options.name].licence if options.name in DATASETS else "that of your own images"
    _write_sheet(data, out, f"{options.name}, {options.split}: {data}\nlicence: {licence}")
    print(f"{out} written")


def _newest(name: str, split: str) -> ImageClasses:
    splits = [
        folder for folder, facts in manifests().items() if (facts.get("dataset"), facts.get("split")) == (name, split)
    ]
    if not splits:
        raise CommandFailed(f"{name} {split} is not converted; python -m cxgrad_lite data get {name} does it")
    return open_split(max(splits, key=lambda folder: folder.stat().st_mtime), {})


def _write_sheet(data: ImageClasses, out: Path, title: str) -> None:
    """The first images of classes that are evenly spread over the list, one class a row."""
    from matplotlib.figure import Figure

    step = max(1, len(data.names) // ROWS)
    names = data.names[::step][:ROWS]
    figure = Figure(figsize=(0.9 * COLUMNS + 3, 0.9 * len(names) + 1), layout="constrained")
    axes = figure.subplots(len(names), COLUMNS, squeeze=False)
    figure.suptitle(title, fontsize=9)
    for row, name in zip(axes, names):
        images = data.of_class(name)[:COLUMNS]
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for axis, image in zip(row, images):
            show_image(axis, image.float() / 255)
        for axis in row[len(images) :]:
            axis.set_axis_off()
    figure.savefig(out, format="png", dpi=100)
