"""Search for settings of PETRI with scvi-tools' autotune: ``python examples/ray_tune.py``.

Needs the extra ``autotune``. Each trial is a process that reads the screen from a file which autotune writes first, so
take a subset of a large screen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import petri_scvi as ps


def main() -> None:
    """Try a few settings and print the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default="petri_tune", help="where trials go")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--max-epochs", type=int, default=4)
    arguments = parser.parse_args()
    try:
        from ray import tune
        from scvi.autotune import run_autotune
    except ImportError as error:
        parser.error(f'{error.name or error} is missing; run pip install "petri-scvi[autotune]"')
    mdata = ps.datasets.synthetic_screen(n_cells=240, n_pathways=2, n_control_guides=2, n_genes=40, image_size=16)
    ps.PETRI.setup_mudata(mdata)
    experiment = run_autotune(
        ps.PETRI,
        mdata,
        metrics="validation_loss",
        mode="min",
        search_space={
            "model_params": {
                "embed_dim": tune.choice([16, 32]),
                "n_heads": 2,
                "set_transformer_depth": tune.choice([0, 1, 2]),
                "image_encoder_depth": 1,
                "expression_encoder_depth": 1,
            },
            "train_params": {
                "max_epochs": arguments.max_epochs,
                "accelerator": "auto",
                "plan_kwargs": {"lr": tune.loguniform(1e-4, 3e-3)},
            },
        },
        num_samples=arguments.trials,
        searcher="random",
        scheduler="asha",
        seed=0,
        resources={"cpu": 1},
        logging_dir=str(Path(arguments.folder).resolve()),
        ignore_reinit_error=True,
    )
    best = experiment.result_grid.get_best_result("validation_loss", "min")
    print("best:", best.config, best.metrics["validation_loss"])


if __name__ == "__main__":
    main()
