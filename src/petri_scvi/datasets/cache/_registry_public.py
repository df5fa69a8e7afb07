"""Files of public screens. Data, no code; where each number comes from: docs/decisions/public-screens.md."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase

from ._registry import Entry, files_of_folder

_HUB = "https://huggingface.co/datasets/xingjiepan/PerturbMulti/resolve/8aac954eb631b68f6e11171a8313db61cc16c38c/"
_HUB_REASON = "the revision is pinned, but its checksums could not be read without a network"

PERTURB_MULTI_RNA = Entry(
    file_name="perturb_multi/RNA_scaled_crispr_screen_20240615.h5ad",
    url=_HUB + "RNA_scaled_crispr_screen_20240615.h5ad",
    sha256=None,
    n_bytes=14_201_294_683,
    license="CC-BY-4.0",
    why_no_sha256=_HUB_REASON,
)
PERTURB_MULTI_PROTEIN = Entry(
    file_name="perturb_multi/protein_intensities_crispr_screen_20240615.h5ad",
    url=_HUB + "protein_intensities_crispr_screen_20240615.h5ad",
    sha256=None,
    n_bytes=31_430_488,
    license="CC-BY-4.0",
    why_no_sha256=_HUB_REASON,
)
PERTURB_MULTI_CHUNKS = tuple(a + b for a in "ab" for b in ascii_lowercase)[:42]
"""Names of the 42 parts of the images, as the program ``split`` numbers them."""
PERTURB_MULTI_IMAGES = {
    chunk: Entry(
        file_name=f"perturb_multi/crispr_screen_20240615_chunk_{chunk}.tar",
        url=f"{_HUB}crispr_screen_20240615_chunk_{chunk}.tar",
        sha256=None,
        n_bytes=8_930_000_000,  # 375 GB by 42
        license="CC-BY-4.0",
        why_no_sha256=_HUB_REASON,
        is_size_exact=False,
    )
    for chunk in PERTURB_MULTI_CHUNKS
}
PERTURB_MULTI_CHANNELS = (
    *("Alb", "polyT", "rRNA", "M6PR", "CathB", "Perilipin", "Sqstm1", "LC3b", "TOMM20", "Calreticulin", "pS6RP"),
    *("Na/K-ATPase", "SNAP23", "TOM70", "Rab7", "mtRNA", "Vimentin", "Gapdh"),
)

_GEO = "https://ftp.ncbi.nlm.nih.gov/geo/series/GSE264nnn/GSE264667/suppl/"
_GEO_REASON = "GEO publishes no checksums"

NADIG = {
    "hepg2": Entry(
        file_name="nadig/GSE264667_hepg2_raw_singlecell_01.h5ad",
        url=_GEO + "GSE264667_hepg2_raw_singlecell_01.h5ad",
        sha256=None,
        n_bytes=5_614_460_941,
        license="none stated",
        why_no_sha256=_GEO_REASON,
        reported_sha256="e1ad7c3c5a201c861a207a858aa7e59f5e6ac1955674c415f7de0d1dadadb52e",
    ),
    "jurkat": Entry(
        file_name="nadig/GSE264667_jurkat_raw_singlecell_01.h5ad",
        url=_GEO + "GSE264667_jurkat_raw_singlecell_01.h5ad",
        sha256=None,
        n_bytes=9_400_000_000,
        license="none stated",
        why_no_sha256=_GEO_REASON,
        is_size_exact=False,
        reported_sha256="ffbe15f2c8f7ffcfd7b0ba9e6937d4ebc2d03b0179fa8234648a59bcb82c04a3",
    ),
}

_FIGSHARE_REASON = "figshare publishes MD5, which is compared"


def _replogle(file_name: str, number: int, n_bytes: int, md5: str) -> Entry:
    return Entry(
        file_name=f"replogle/{file_name}",
        url=f"https://ndownloader.figshare.com/files/{number}",
        sha256=None,
        n_bytes=n_bytes,
        license="CC-BY-4.0",
        why_no_sha256=_FIGSHARE_REASON,
        md5=md5,
    )


REPLOGLE = {
    "k562_essential": _replogle(
        "K562_essential_raw_singlecell_01.h5ad", 35773219, 10_661_879_995, "4f1122ce1c7f13299a68df6459a266d3"
    ),
    "rpe1": _replogle("rpe1_raw_singlecell_01.h5ad", 35775606, 8_700_873_216, "6a2a9d0d2bf4ec147f4d1104043b268c"),
    "k562_gwps": _replogle(
        "K562_gwps_raw_singlecell_01.h5ad", 35775507, 65_830_941_948, "887e3e6a8c8df6eadf7a3030a53c9546"
    ),
}

GALLERY = "https://cellpainting-gallery.s3.amazonaws.com/cpg0021-periscope/broad/"
"""Readable without signing in."""
GALLERY_REASON = "the gallery publishes no checksums"

PERISCOPE_LIBRARY = Entry(
    file_name="periscope/Barcodes.csv",
    url="https://raw.githubusercontent.com/broadinstitute/2022_PERISCOPE/"
    "17d345046beee46c8fa8601f970b66651232e7ed/common_files/Barcodes.csv",
    sha256=None,
    n_bytes=20_000_000,
    license="not verified",
    why_no_sha256="the commit is pinned, but the file could not be read without a network",
    is_size_exact=False,
    max_bytes=200_000_000,
)
PERISCOPE_CHANNELS = ("DNA", "ER", "Mito", "Phalloidin", "WGA")
PERISCOPE_FIELD_BYTES = 5500 * 5500 * 2
PERISCOPE_TABLE_BYTES, PERISCOPE_MAX_BYTES = 3_000_000, 300_000_000  # assumed
PERISCOPE_CONTROL_GUIDES = (
    *("TCCCTGCATTCATGGTTTTA", "ACCCATGAGTTAAGTTTTCT", "TTATATGGTTTTAAACGGCT", "CAGTCGTTTCTATGGGATCT"),
    *("TTCGCACGATTGCACCTTGG", "ATAAGCCACACTACCCGCCT", "ACTATCATGGCACCCAATTG", "GACTGAAATCCAAGGACTGT"),
    *("ATGTCTAGACCTAATCGTTT", "GTAAACTTTGTCTGGAGTAT"),
)
"""Those that the authors use in their examples, in this order."""

ROSETTA_BASE = "https://cellpainting-gallery.s3.amazonaws.com/cpg0003-rosetta/broad/workspace/preprocessed_data/"
_ROSETTA_REASON = "the gallery publishes ETags; those of small files are MD5, which is compared"
_CELL_PAINTING = "CellPainting/replicate_level_cp_normalized_variable_selected.csv.gz"
_L1000 = "L1000/replicate_level_l1k.csv.gz"


def _rosetta(folder: str, name: str, n_bytes: int, md5: str | None = None) -> Entry:
    return Entry(
        file_name=f"rosetta/{folder}/{name}",
        url=f"{ROSETTA_BASE}{folder}/{name}",
        sha256=None,
        n_bytes=n_bytes,
        license="CC0-1.0",
        why_no_sha256=_ROSETTA_REASON,
        md5=md5,
    )


ROSETTA = {
    "TA-ORF": (
        _rosetta("TA-ORF-BBBC037-Rohban", _CELL_PAINTING, 1_106_334, "1315c2fd175b265d10e929e51d9dfef0"),
        _rosetta("TA-ORF-BBBC037-Rohban", _L1000, 2_022_367, "1e643bb1182555a8e7699230a0ea98d1"),
    ),
    "LUAD": (
        _rosetta("LUAD-BBBC041-Caicedo", _CELL_PAINTING, 16_570_136),
        _rosetta("LUAD-BBBC041-Caicedo", _L1000, 11_448_027),
    ),
    "CDRP-bio": (
        _rosetta("CDRPBIO-BBBC036-Bray", _CELL_PAINTING, 117_242_590),
        _rosetta("CDRPBIO-BBBC036-Bray", _L1000, 26_842_289),
    ),
}
"""Cell Painting and L1000 of each."""

SCGENESCOPE_TERMS = "https://huggingface.co/datasets/altoslabs/scGeneScope"
SCGENESCOPE_LICENSE = "CC-BY-NC-4.0, not for commercial use"
SCGENESCOPE_ROUNDS = {1: (3, 4, 5), 2: (1, 2)}
"""Replicates of each round, as the deposit numbers them."""
_SCGENESCOPE_PLATES = {
    # round: {batch: plates}
    1: {
        1: "MIC1227_CP_Batch1_Plate1A_1 MIC1227_CP_Batch1_Plate1A_2 MIC1227_CP_Batch1_Plate1A_3 "
        "MIC1227_CP_Batch1_Plate1B_1",
        2: "MIC1227_CP_Batch2_Plate2A_1 MIC1227_CP_Batch2_Plate2B_1",
        3: "MIC1227_CP_Batch3_Plate3A_1 MIC1227_CP_Batch3_Plate3B_1 MIC1227_CP_Batch3_Plate3B_2",
        4: "MIC1227_CP_Batch4_4B_1 MIC1227_CP_Batch4_Plate4A_1 MIC1227_CP_Batch4_Plate4B_1",
        5: "MIC1227_CP_Batch5_5A_1 MIC1227_CP_Batch5_5B_1",
        6: "MIC1227_CP_Batch6_6A_1 MIC1227_CP_Batch6_6B_1",
    },
    2: {
        1: "240110_PA_Plate5_CP 240110_PA_Plate6_CP",
        2: "20240117_PA_batch2_Plate11cp 20240117_PA_batch2_Plate11cp_2 20240117_PA_batch2_Plate12cp "
        "20240227_PA_batch2_Plate11cp_B03",
        3: "20240125_PA_batch3_Plate17cp 20240125_PA_batch3_Plate18cp",
        4: "20240306_PA_batch4_Plate23cp 20240306_PA_batch4_Plate24cp",
    },
}
SCGENESCOPE_PLATES = {
    plate: (number, f"measured/imaging/uint8/round_{number}/batch{batch}/{plate}")
    for number, batches in _SCGENESCOPE_PLATES.items()
    for batch, plates in batches.items()
    for plate in plates.split()
}
"""Round and folder of each imaged plate."""


def scgenescope_entry(address: str, n_bytes: int, max_bytes: int | None = None) -> Entry:
    """A file of the deposit, whose length is known approximately."""
    return Entry(
        file_name=f"scgenescope/{address}",
        url=f"{SCGENESCOPE_TERMS}/resolve/main/{address}",
        sha256=None,
        n_bytes=n_bytes,
        license=SCGENESCOPE_LICENSE,
        why_no_sha256="the hub states it while sending, and it is compared then",
        is_size_exact=False,
        max_bytes=max_bytes,
        token_variable="HF_TOKEN",
        terms=SCGENESCOPE_TERMS,
    )


SCGENESCOPE = {
    # what: {round: file}
    "vit-l": {
        1: scgenescope_entry("features/imaging/imagenet/vit-l/round_1.h5ad", 18_506_448_104),
        2: scgenescope_entry("features/imaging/imagenet/vit-l/round_2.h5ad", 11_023_900_503),
    },
    "scvi": {
        1: scgenescope_entry("features/rnaseq/scvi/n200/round_1.h5ad", 4_366_952_116),
        2: scgenescope_entry("features/rnaseq/scvi/n200/round_2.h5ad", 2_565_764_148),
    },
    "log": {  # 80 GB, divided as cells are
        1: scgenescope_entry("measured/rnaseq/round_1.h5ad", 52_000_000_000),
        2: scgenescope_entry("measured/rnaseq/round_2.h5ad", 28_000_000_000),
    },
    "manifest": {
        number: scgenescope_entry(f"measured/imaging/round_{number}.h5", 500_000_000, 5_000_000_000)  # assumed
        for number in SCGENESCOPE_ROUNDS
    },
}
SCGENESCOPE_ZIPS = {
    # 186 GB by 26; the first plate has 0.173 GB
    plate: scgenescope_entry(f"{folder}/plate.zip", 7_200_000_000, 40_000_000_000)
    for plate, (_, folder) in SCGENESCOPE_PLATES.items()
}
SCGENESCOPE_CHANNELS = ("DNA", "RNA", "AGP", "Mito", "ER")


OLFACTORY_BULB_ARCHIVE = Entry(
    file_name="mob.tar.xz",
    url=None,
    sha256="106366f172e88d82cc128015ea1ef513c1904b92170238ae00b657457db383f5",
    n_bytes=3_053_380,
    license="MIT (of the package STUtility; that of the data is not stated)",
)
"""The files of ``OLFACTORY_BULB_FILES`` as one archive, for machines without a network."""
_OLFACTORY_BULB_URL = (
    "https://raw.githubusercontent.com/jbergenstrahle/STUtility/"
    "9a8f421499e58b13340ee386db07b0eba923c88c/inst/extdata/counts/"
)
_OLFACTORY_BULB_HASHES = {
    # name: (SHA-256, bytes)
    "MOB1.jpg": ("c1c292187221bab077ac1b15e95cf665db35684c98d6193af56d2e8b7772fe20", 328839),
    "MOB1.tsv": ("82c0691f800355369fd8a72ff44ba1e3112d4e44a790f490a9fa267876a9352e", 3919144),
    "MOB2.jpg": ("1079fe52f600ec212a6a59cef76b8697fcd776d0cdb10461ad3bb738eaa5c0b6", 399001),
    "MOB2.tsv": ("449dcc351ede5c63f9afe313479dbb830ba32c6e86b56b258276304102d1f7e9", 3919474),
    "MOB3.jpg": ("0ac2c820ca6614e3ebc7fef3004a85c4623093b10741858e5c5328d7310606ca", 297951),
    "MOB3.tsv": ("f0b9601a10d627d372c412cad4a4dde2a1dee9f2433e51f07ca26d534be015ea", 3936527),
    "MOB4.jpg": ("c45a4f559fb560e8b0224085c9a9ed2bf20e17a1128a7e2c1c36050b173acc0b", 310162),
    "MOB4.tsv": ("bc782caf3e990468d579715139db4e9c1f682b7c625978f1073720458f98a509", 3929191),
    "alignment_table_MOB1.tsv": ("91ade06cf93bc0b3cd728846c34e310a8365200d1ad33498e6a0eb6951a92164", 66695),
    "alignment_table_MOB2.tsv": ("6d86b226386b0a08f825b3bff4b5c359f00fd52d3f53d77db0376b0f7e0ec30d", 66742),
    "alignment_table_MOB3.tsv": ("da0ce26ad12b94b6d0784ddc1c0c76e998d3bbd2579bad6aa8c4ac2c4f7f2e33", 67142),
    "alignment_table_MOB4.tsv": ("243fa0518132fbc750cbf05ae17946d66c94be32b48803b27c70fde3d76fd5ff", 67379),
}
OLFACTORY_BULB_FILES = files_of_folder(
    "olfactory_bulb", _OLFACTORY_BULB_URL, _OLFACTORY_BULB_HASHES, OLFACTORY_BULB_ARCHIVE.license
)


@dataclass(frozen=True)
class Announced:
    """A dataset that was announced but has no address yet."""

    name: str
    announcement: str
    url: str


HEPG2_SCREEN = Announced(
    name="the HepG2 screen of the PETRI paper",
    announcement="a blinded, matched optical pooled screen and Perturb-seq dataset in HepG2 cells",
    url="https://openreview.net/forum?id=Vu8YXDooG5",
)
