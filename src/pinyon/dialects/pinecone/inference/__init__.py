"""Pinecone's inference plane: /embed, /rerank, /models."""
