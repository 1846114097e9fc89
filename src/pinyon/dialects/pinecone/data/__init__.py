"""Pinecone's data plane: vectors, namespaces, stats, and records of text."""
