"""OpenAI's embeddings and models, as its API reference has them."""
