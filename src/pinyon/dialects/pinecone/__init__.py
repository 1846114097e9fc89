"""Pinecone: `versions` and `errors` for all of its planes, then one folder a plane."""
