"""The paper's comparison: every system on one screen, scored by one protocol.

Run as ``python -m benchmarks.paper_table --screen synthetic --seeds 3``. Each system of each seed is written when it is
done; a second run goes on after what is there. ``--quick`` is a small screen and few steps: does everything run?
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import logging
import platform
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

import petri_scvi
from benchmarks._paper_summary import write_summary
from benchmarks._screens import LIKELIHOOD, SCREENS, edges_of, load_screen, prepare_perturb_multi
from benchmarks._systems import ABLATIONS, SYSTEMS, Job, NotRunnableError, Row
from petri_scvi import PETRI, baselines, datasets, tl
from petri_scvi._constants import CONTEXT_KEY, IMAGE, RNA
from petri_scvi.common import rows_in_mdata, written_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from petri_scvi.tl.profiles._late_fusion import Fusion

METRICS = ("guide_consistency", "edge_tpr_at_5_fpr", "edge_auc")
FUSIONS: tuple[Fusion, ...] = ("mean_embedding", "concatenate", "mean_cosine", "max_cosine")
"""The first, the paper's, needs a space that modalities share."""
SHARES = {CONTEXT_KEY: "context_share", "well": "well_share", "modality": "modality_share"}
"""Metrics by what explains variance."""
BOTH = f"{IMAGE}+{RNA}"
"""How rows of both modalities are named."""
CHECKPOINTS = ("DINOv2", "OpenPhenom", "scGPT")
FAILED = "failed: "
"""How the reason begins of a system that should have run."""
SIMULATED = ("synthetic", "weak")
FIRST_SEED = 100
"""Screens of smaller seeds are for choosing the recipe."""


def defaults_of(call: Any) -> dict[str, Any]:
    """Arguments of a function or class that have a default, as text."""
    parameters = inspect.signature(call).parameters.values()
    return {one.name: repr(one.default) for one in parameters if one.default is not one.empty}


def defaults_of_systems() -> dict[str, dict[str, Any]]:
    """Of each model and of the training that most share."""
    models = {"PETRI": PETRI} | {name: getattr(baselines, name) for name in baselines.__all__}
    return {name: defaults_of(model) for name, model in models.items()} | {"train": defaults_of(PETRI.train)}


@dataclass(frozen=True)
class Settings:
    """Everything that a result depends on."""

    screen: str
    screen_arguments: dict[str, Any]
    n_steps: int
    network: dict[str, Any]
    plan: dict[str, Any]
    defaults: dict[str, Any] = field(default_factory=defaults_of_systems)
    version: str = petri_scvi.__version__

    def load(self, seed: int) -> MuData:
        return load_screen(self.screen, seed, self.screen_arguments)

    def keep(self, folder: Path) -> None:
        """Write them beside the results, and refuse results of others."""
        written = json.dumps(vars(self), indent=1, sort_keys=True)
        path = folder / "settings.json"
        if path.exists() and path.read_text() != written:
            raise SystemExit(
                f"{folder} holds results of other settings ({path}); pass another --out, or delete the folder"
            )
        write_whole(path, lambda place: place.write_text(written))


def score(row: Row, mdata: MuData) -> pd.DataFrame:
    """The protocol's metrics, how well the well is predicted, what explains the variance, and whether modalities align.

    Each modality is whitened by itself, also in a space that modalities share: whitened together, the same embedding
    scores differently, and systems of one space could not be compared with systems of two. The mean embedding alone
    is of both whitened together, since it needs one space.
    """
    key = "X_scored"
    scoring: dict[str, Any] = {"edges": edges_of(mdata), "n_bootstrap": 0, "progress": False}
    for name, embedding in row.embeddings.items():
        mdata[name].obsm[key] = embedding
    # However modalities are joined in one row, they are joined in all: which way is best differs between systems.
    tables = [tl.score_screen(mdata, [key], fusions=FUSIONS[1:], **scoring)]
    others = [wells_of(mdata, key)]
    if row.is_shared:
        joined = np.empty((mdata.n_obs, next(iter(row.embeddings.values())).shape[1]), dtype=np.float32)
        for name, embedding in row.embeddings.items():
            joined[rows_in_mdata(mdata, name)] = embedding
        mdata.obsm[key] = joined
        together = tl.score_screen(mdata, [key], fusions=FUSIONS[0], **scoring)
        tables.insert(1, together[together["fusion"] == FUSIONS[0]])
        if len(row.embeddings) == len(mdata.mod):
            others.append(alignment_of(mdata, key, row.held_out))
    others.append(variance_of(mdata, key))
    for part in (mdata, *mdata.mod.values()):
        part.obsm.pop(key, None)
    found = pd.concat(tables)
    found = pd.concat([found[found["metric"].isin(METRICS)], *others])
    return found.assign(system=row.name)[["system", "modality", "fusion", "metric", "value", "n"]]


def wells_of(mdata: MuData, key: str) -> pd.DataFrame:
    """How well a classifier tells wells apart, by modality."""
    tl.probe(mdata, key, obs_key="well", max_cells=3000)
    folds = mdata.uns["petri_scvi"][f"probe_{key}_well_linear"]["table"]
    wells = folds.groupby("modality", observed=True)["auc"].mean().rename("value").reset_index()
    return wells.assign(fusion="none", metric="well_auc")


def variance_of(mdata: MuData, key: str) -> pd.DataFrame:
    """Shares of the variance within a modality that contexts and wells explain, and of both that the modality does.

    Shares are corrected for the number of groups, so that they are about 0 by chance.
    """
    tl.variance_shares(mdata, key, obs_keys=(CONTEXT_KEY, "well"))
    table = mdata.uns["petri_scvi"][f"variance_shares_{key}"]["table"].sort_values("explained_by", kind="stable")
    is_joint = table["modality"] == "all"
    return pd.DataFrame(
        {
            "modality": table["modality"].where(~is_joint, BOTH),
            "fusion": np.where(is_joint, FUSIONS[0], "none"),
            "metric": table["explained_by"].map(SHARES),
            "value": table["share_adjusted"],
        }
    )


def alignment_of(mdata: MuData, key: str, held_out: Sequence[str]) -> pd.DataFrame:
    """Whether a context's mean in one modality is near its mean in the other, modalities centered."""
    tl.foscttm(mdata, key, pair_key=CONTEXT_KEY, center=True)
    of_pairs = mdata.uns["petri_scvi"][f"foscttm_{key}_{CONTEXT_KEY}"]["pairs"].set_index("pair")
    tl.context_recall(mdata, key, context_key=CONTEXT_KEY, k=(10,), center=True, contexts=held_out or None)
    recall = mdata.uns["petri_scvi"][f"context_recall_{key}_{CONTEXT_KEY}"]["table"]["recall"].mean()
    values = {"foscttm": of_pairs.to_numpy().mean(), "recall_at_10": recall}
    if held_out:
        values["foscttm"] = of_pairs.loc[list(held_out)].to_numpy().mean()
    return pd.DataFrame({"modality": BOTH, "fusion": FUSIONS[0], "metric": [*values], "value": [*values.values()]})


def run_system(
    name: str,
    settings: Settings,
    seed: int,
    checkpoints: dict[str, Path],
    folder: Path,
    *,
    trusts_code: bool = False,
) -> None:
    """Train, embed, score and write one system; what is there is complete.

    A system that fails does not keep others from running: its row says why, and it is tried again next time.
    """
    table_path = folder / f"{name}.csv"
    if table_path.exists():
        print(f"seed {seed}, {name}: done before", flush=True)
        return
    start = time.perf_counter()
    mdata = settings.load(seed)
    network, plan = settings.network, settings.plan
    job = Job(mdata, seed, settings.n_steps, network, checkpoints, folder, plan, trusts_code)
    try:
        rows = list((SYSTEMS | ABLATIONS)[name](job))
        tables = pd.concat([score(row, mdata) for row in rows]).assign(seconds=time.perf_counter() - start)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is of this system alone
        reason = str(error)
        if not isinstance(error, (NotRunnableError, ImportError)):
            traceback.print_exc()
            reason = f"{FAILED}{type(error).__name__}: {error}"
        print(f"seed {seed}, {name}: not run: {reason}", flush=True)
        (folder / f"{name}.not_run").write_text(reason)
        return
    arrays: dict[str, Any] = {
        f"{i} {modality}": e for i, row in enumerate(rows) for modality, e in row.embeddings.items()
    }
    write_whole(folder / f"{name}.npz", lambda path: np.savez(path, **arrays))
    write_whole(table_path, lambda path: tables.to_csv(path, index=False))
    (folder / f"{name}.not_run").unlink(missing_ok=True)
    print(f"seed {seed}, {name}: {time.perf_counter() - start:.0f} s", flush=True)


def write_whole(path: Path, write: Any) -> None:
    """Write with a function of a path; a file under its name is never half of one."""
    with written_whole(path) as unfinished:
        write(unfinished)


def run_given(name: str, path: Path, settings: Settings, seed: int, folder: Path) -> None:
    """Score an embedding that was computed elsewhere."""
    target = folder / f"given_{name}.csv"
    if target.exists():
        print(f"seed {seed}, {target.stem}: done before", flush=True)
        return
    mdata = settings.load(seed)
    with np.load(path) as found:
        unknown = set(found) - {IMAGE, RNA}
        if unknown or not found:
            raise ValueError(f"{path} has the arrays {sorted(found)}; expected 'image', 'rna' or both")
        embeddings = {modality: found[modality] for modality in found}
    for modality, embedding in embeddings.items():
        if len(embedding) != mdata[modality].n_obs:
            raise ValueError(f"{path}: {len(embedding)} rows of {modality!r}, but it has {mdata[modality].n_obs} cells")
    # A system may have the same name.
    table = score(Row(f"{name} (given)", embeddings, is_shared=False), mdata)
    write_whole(target, lambda place: table.to_csv(place, index=False))


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screen", choices=SCREENS, default="synthetic")
    parser.add_argument("--seeds", type=int, default=3, help="number of screens, from seed 100")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--cells", type=int, help="image cells of a synthetic or weak screen; default 8,000")
    parser.add_argument(
        "--screen-argument",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="of datasets.synthetic_screen, for example well_effects=0.5 changes_fractions=True",
    )
    parser.add_argument("--steps", type=int, help="minibatches of 64 cells per modality, for all alike; default 3,000")
    parser.add_argument("--only", nargs="+", choices=[*SYSTEMS, *ABLATIONS], help="run these systems")
    parser.add_argument("--ablations", action="store_true", help="run the ablations too")
    parser.add_argument("--quick", action="store_true", help="2,000 cells, 100 steps")
    parser.add_argument("--chunks", nargs="+", default=["aa"], help="tar files of perturb_multi to use")
    parser.add_argument("--channels", nargs="+", help="image channels of perturb_multi to use; all by default")
    parser.add_argument("--cache", type=Path, help="folder of the files of perturb_multi")
    parser.add_argument("--download", action="store_true", help="download what is missing of perturb_multi")
    parser.add_argument(
        "--checkpoint", nargs="+", default=[], metavar="NAME=FOLDER", help="weights of DINOv2, OpenPhenom, scGPT"
    )
    parser.add_argument("--trust-code", action="store_true", help="run the Python files in the folder of OpenPhenom")
    parser.add_argument(
        "--embedding", nargs="+", default=[], metavar="NAME=FILE", help="an .npz with image, rna or both, of one seed"
    )
    parser.add_argument("--out", type=Path, default=Path("paper_table"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def seeds_of(root: Path) -> list[int]:
    """Screens that there are results of."""
    return sorted(int(folder.name.removeprefix("seed_")) for folder in root.glob("seed_*"))


def refuse_what_cannot_be(arguments: argparse.Namespace) -> None:
    if arguments.quick and arguments.screen != "synthetic":
        raise SystemExit("--quick makes a small synthetic screen; pass --screen synthetic, or --steps 100")
    if (arguments.cells or arguments.screen_argument) and (arguments.quick or arguments.screen not in SIMULATED):
        raise SystemExit(
            "--cells and --screen-argument are of a simulated screen; pass --screen synthetic or weak, without --quick"
        )
    unknown = set(pairs(arguments.checkpoint)) - set(CHECKPOINTS)
    if unknown:
        raise SystemExit(f"--checkpoint {sorted(unknown)} is not known; expected {list(CHECKPOINTS)}")
    if arguments.embedding and arguments.seeds > 1:
        raise SystemExit("--embedding has the cells of one screen; pass --seeds 1 and --first-seed")


def screen_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.screen == "perturb_multi":
        return {"chunks": arguments.chunks, "channels": arguments.channels}
    if arguments.quick:
        return {"n_cells": 2000, "n_pathways": 6}
    try:
        given = {name: ast.literal_eval(str(value)) for name, value in pairs(arguments.screen_argument).items()}
    except (ValueError, SyntaxError) as error:
        raise SystemExit(f"--screen-argument takes numbers, True and False as values: {error}") from error
    if unknown := set(given) - set(inspect.signature(datasets.synthetic_screen).parameters):
        raise SystemExit(f"--screen-argument {sorted(unknown)}: datasets.synthetic_screen has no such argument")
    return given | ({"n_cells": arguments.cells} if arguments.cells else {})


def remember_files(root: Path, files: dict[str, Path]) -> None:
    """Note which published weights or given embeddings results are of, and refuse others beside them."""
    path = root / "weights.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    for name, path_of_file in files.items():
        before, now = known.get(name), str(path_of_file.resolve())
        if path_of_file.is_file():
            now += f", SHA-256 {hashlib.sha256(path_of_file.read_bytes()).hexdigest()}"
        stem = name if name.startswith("given_") else name.lower()
        if before not in (None, now) and any(root.glob(f"seed_*/{stem}.csv")):
            raise SystemExit(
                f"{root} holds results of {name} of {before}, found {now}; pass that, another --out, or delete "
                f"seed_*/{stem}.csv"
            )
        known[name] = now
    write_whole(path, lambda place: place.write_text(json.dumps(known, indent=1, sort_keys=True)))


def pairs(arguments: list[str]) -> dict[str, Path]:
    """Names and paths of ``NAME=PATH``."""
    found = {}
    for argument in arguments:
        name, _, path = argument.partition("=")
        if not name or not path:
            raise SystemExit(f"{argument!r} is not NAME=PATH; pass for example DINOv2=folder_of_weights")
        found[name] = Path(path)
    return found


def main() -> None:
    arguments = read_arguments()
    refuse_what_cannot_be(arguments)
    torch.set_num_threads(arguments.threads)
    likelihood = {"expression_likelihood": LIKELIHOOD[arguments.screen]} if arguments.screen in LIKELIHOOD else {}
    settings = Settings(
        screen=arguments.screen,
        screen_arguments=screen_arguments(arguments),
        n_steps=arguments.steps or (100 if arguments.quick else 3000),
        network=likelihood,
        plan={"lr": 3e-4},
    )
    if arguments.screen == "perturb_multi":
        prepare_perturb_multi(settings.screen_arguments, arguments.cache, may_download=arguments.download)
    root = arguments.out / arguments.screen
    root.mkdir(parents=True, exist_ok=True)
    settings.keep(root)
    given = {f"given_{name}": path for name, path in pairs(arguments.embedding).items()}
    remember_files(root, pairs(arguments.checkpoint) | given)
    versions = f"petri_scvi {petri_scvi.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    print(versions, flush=True)
    names = arguments.only or [*SYSTEMS, *(ABLATIONS if arguments.ablations else [])]
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        folder = root / f"seed_{seed}"
        folder.mkdir(exist_ok=True)
        for name in names:
            torch.set_num_threads(arguments.threads)  # numba in scanpy sets those of OpenMP
            weights = pairs(arguments.checkpoint)
            run_system(name, settings, seed, weights, folder, trusts_code=arguments.trust_code)
        for name, path in pairs(arguments.embedding).items():
            run_given(name, path, settings, seed, folder)
        is_held_out = seed >= FIRST_SEED
        write_summary(
            root, [*SYSTEMS, *ABLATIONS], versions, [n for n in seeds_of(root) if (n >= FIRST_SEED) == is_held_out]
        )
    if failed := [path for path in sorted(root.glob("seed_*/*.not_run")) if path.read_text().startswith(FAILED)]:
        raise SystemExit(f"failed: {', '.join(f'{path.stem} ({path.parent.name})' for path in failed)}; see summary.md")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
