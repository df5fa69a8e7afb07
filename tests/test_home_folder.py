"""``~`` is the home folder in every path that a user passes."""

from __future__ import annotations

from petri_scvi import io, pages, tl


def test_paths_may_begin_with_the_home_folder(trained_model, screen, described, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # Windows
    trained_model.write_latent_representation("~/embedding.h5mu", screen)
    cells = io.open_screen("~/embedding.h5mu")
    tl.center_scale(cells, folder="~", key_added="X_scaled")
    pages.dimension_report(described, "~/report.html", dimensions=[0], progress=False)
    (tmp_path / "sets.gmt").write_text("A\tdescription\t" + "\t".join(described["rna"].var_names[:20]) + "\n")
    tl.dimension_gene_sets(described, "~/sets.gmt")
    assert {"embedding.h5mu", "X_scaled.npy", "report.html"} <= {path.name for path in tmp_path.iterdir()}
