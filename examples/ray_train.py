"""Train PETRI on a Ray cluster: ``python examples/ray_train.py --workers 2``.

Needs the extra ``ray``. Without ``--address`` Ray starts on this machine. On a cluster, ``--folder`` is a place that
all nodes see, and each node reads its own copy of the store.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def train(config: dict[str, Any]) -> None:
    """What every worker runs; Ray tells Lightning which of them it is."""
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    import petri_scvi as ps

    if config["store"]:
        mdata = ps.io.open_screen(config["store"])
    else:
        mdata = ps.datasets.synthetic_screen(n_cells=240, n_pathways=2, n_control_guides=2, n_genes=40, image_size=16)
    ps.PETRI.setup_mudata(mdata)
    model = ps.PETRI(mdata, **config["model"])
    model.train(
        max_epochs=config["max_epochs"],
        strategy=RayDDPStrategy(find_unused_parameters=True),
        plugins=[RayLightningEnvironment()],
        accelerator="gpu" if config["use_gpu"] else "cpu",
        devices="auto",
        enable_progress_bar=False,
        # If a worker is lost, Ray starts all of them again, and they go on from here.
        checkpoint=str(Path(config["folder"], "training.ckpt")),
    )
    model.save(str(Path(config["folder"], "model")), overwrite=True)  # only the first worker does


def main() -> None:
    """Start the workers and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", help="training store (default: a small synthetic screen)")
    parser.add_argument("--folder", default="petri_ray", help="where checkpoint and model go")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="one GPU per worker")
    parser.add_argument("--max-epochs", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--address", help="address of a running cluster")
    arguments = parser.parse_args()
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        parser.error(f'{error.name} is missing; run pip install "petri-scvi[ray]"')
    folder = Path(arguments.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ray.init(address=arguments.address)
    small = {"embed_dim": 16, "n_heads": 2, "image_encoder_depth": 1, "expression_encoder_depth": 1}
    trainer = TorchTrainer(
        train,
        train_loop_config={
            "store": arguments.store and str(Path(arguments.store).resolve()),
            "folder": str(folder),
            "max_epochs": arguments.max_epochs,
            "use_gpu": arguments.gpu,
            "model": small if arguments.small else {},
        },
        scaling_config=ScalingConfig(num_workers=arguments.workers, use_gpu=arguments.gpu),
        run_config=RunConfig(storage_path=str(folder), name="ray", failure_config=FailureConfig(max_failures=3)),
    )
    trainer.fit()
    print("saved:", folder / "model")


if __name__ == "__main__":
    main()
