"""Nugen's embeddings, as its API page "Create embeddings" has them."""
