"""How anything is trained: stages, baselines, probes, the detector; one loop for all."""
