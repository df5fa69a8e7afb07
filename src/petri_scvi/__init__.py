"""PETRI: one embedding space from unpaired imaging and transcriptomics screens."""
