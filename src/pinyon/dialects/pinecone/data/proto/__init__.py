"""The messages of Pinecone's VectorService: `vector_service.proto`, and what `make proto` generates from it."""
