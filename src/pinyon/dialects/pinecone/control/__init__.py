"""Pinecone's control plane: indexes, at every version. `convert` for 2025-04 to 2026-04, `convert_v27` for 2026-07."""
