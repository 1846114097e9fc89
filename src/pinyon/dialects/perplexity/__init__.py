"""Perplexity's embeddings, as its OpenAPI document has them."""
