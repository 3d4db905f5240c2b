"""Names of the variants of a default run, in the order of the ablation."""

from landmark_retrieval.retrieval import variants

VARIANTS = tuple(variants.stages_in_words())[:4]
