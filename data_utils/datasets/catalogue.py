"""What is known about each dataset: size, licence, whom to cite. None of them is redistributed by this package."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET_TERMS = "the images are ImageNet's, whose terms allow non-commercial research and education only"
NO_LICENCE = "none stated by its authors"
OMNIGLOT = (
    "B. M. Lake, R. Salakhutdinov and J. B. Tenenbaum: Human-level concept learning through probabilistic program "
    "induction. Science 350 (2015), 1332-1338"
)


@dataclass(frozen=True)
class Dataset:
    """Facts about a dataset.

    Args:
        title: its usual name.
        classes: how many classes train, val and test have; empty if that depends on the user's files.
        images: in all splits together.
        shape: (C, H, W) as converted by default.
        download: bytes to download; None where there is nothing to download or the size is not published.
        licence: its terms.
        citation: whom to cite.
        homepage: where it is described.
    """

    title: str
    classes: tuple[int, ...]
    images: int
    shape: tuple[int, int, int]
    download: int | None
    licence: str
    citation: str
    homepage: str

    @property
    def converted(self) -> int:
        """Bytes of all converted splits."""
        channels, height, width = self.shape
        return self.images * channels * height * width


DATASETS = {
    "glyphs": Dataset(
        "Glyphs",
        (311, 76, 120),
        10_140,
        (1, 28, 28),
        None,
        "shipped with this package; drawn with DejaVu (Bitstream Vera licence) and STIX (SIL Open Font License)",
        "none needed; the images are made by data_utils.rendering.render_glyphs",
        "",
    ),
    "omniglot": Dataset(
        "Omniglot",
        (1028, 172, 423),
        32_460,
        (1, 28, 28),
        15_927_098,
        "MIT, Copyright (c) 2015 Brenden Lake",
        OMNIGLOT,
        "https://github.com/brendenlake/omniglot",
    ),
    "omniglot_small": Dataset(
        "Omniglot, the two small archives",
        (96, 40, 106),
        4_840,
        (1, 28, 28),
        2_899_939,
        "MIT, Copyright (c) 2015 Brenden Lake",
        OMNIGLOT,
        "https://github.com/brendenlake/omniglot",
    ),
    "cifar_fs": Dataset(
        "CIFAR-FS",
        (64, 16, 20),
        60_000,
        (3, 32, 32),
        169_001_437,
        NO_LICENCE,
        "L. Bertinetto, J. F. Henriques, P. H. S. Torr and A. Vedaldi: Meta-learning with differentiable closed-form "
        "solvers. ICLR 2019; images: A. Krizhevsky: Learning multiple layers of features from tiny images. Technical "
        "report, University of Toronto, 2009",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    "mini_imagenet": Dataset(
        "miniImageNet",
        (64, 16, 20),
        60_000,
        (3, 84, 84),
        1_791_769_987,
        IMAGENET_TERMS,
        "O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu and D. Wierstra: Matching networks for one shot "
        "learning. NeurIPS 2016; split: S. Ravi and H. Larochelle: Optimization as a model for few-shot learning. "
        "ICLR 2017; images: O. Russakovsky et al.: ImageNet large scale visual recognition challenge. International "
        "Journal of Computer Vision 115 (2015), 211-252",
        "https://www.image-net.org",
    ),
    "tiered_imagenet": Dataset(
        "tieredImageNet",
        (351, 97, 160),
        779_165,
        (3, 84, 84),
        12_000_000_000,  # "12 GB"; nothing more exact is published
        IMAGENET_TERMS,
        "M. Ren, E. Triantafillou, S. Ravi, J. Snell, K. Swersky, J. B. Tenenbaum, H. Larochelle and R. S. Zemel: "
        "Meta-learning for semi-supervised few-shot classification. ICLR 2018; images: O. Russakovsky et al.: ImageNet "
        "large scale visual recognition challenge. International Journal of Computer Vision 115 (2015), 211-252",
        "https://github.com/renmengye/few-shot-ssl-public",
    ),
    "cub": Dataset(
        "CUB-200-2011",
        (100, 50, 50),
        11_788,
        (3, 84, 84),
        1_150_585_339,
        NO_LICENCE,
        "C. Wah, S. Branson, P. Welinder, P. Perona and S. Belongie: The Caltech-UCSD Birds-200-2011 dataset. "
        "Technical report CNS-TR-2011-001, California Institute of Technology, 2011",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
    ),
}


def terms(dataset: str) -> dict[str, str]:
    """Licence and citation of a dataset, as its manifests keep them."""
    facts = DATASETS[dataset]
    return {"licence": facts.licence, "citation": facts.citation, "homepage": facts.homepage}
