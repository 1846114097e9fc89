"""Inference, asked for by whichever of Pinecone's Python SDKs is imported. Prints the vectors of two texts.

Run as `python -m tests.dialects.pinecone.programs.inference URL`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.dialects.pinecone.programs.client import MAJOR, MODEL, equal, exceptions, pinecone, plain, refused

HOSTED = "llama-text-embed-v2"


def main(url: str) -> list[list[float]]:
    inference = pinecone.Pinecone(api_key="secret", host=url).inference
    embedded = inference.embed(MODEL, ["one", "two words"], {"input_type": "query", "truncate": "END"})
    equal((embedded.model, embedded.vector_type, embedded.usage.total_tokens), (MODEL, "dense", 3))

    documents = [{"id": "1", "text": "one"}, {"id": "2", "text": "two words"}]
    ranked = inference.rerank(f"{MODEL}-rerank", "two words", documents, top_n=1)
    equal([(r.index, plain(r.document)) for r in ranked.data], [(1, documents[1])])
    assert abs(ranked.data[0].score - 1) < 1e-5
    equal(ranked.usage.rerank_units, 1)
    bare = inference.rerank(f"{MODEL}-rerank", "one", ["one", "two words"], return_documents=False)
    equal([r.index for r in bare.data], [0, 1])

    sparse = inference.list_models(type="embed", vector_type="sparse")
    equal([model.model for model in sparse.models], ["bm25-english", "pinecone-sparse-english-v0"])
    assert "cohere-rerank-3.5" in [model.model for model in inference.list_models(type="rerank").models]
    name = "model_name" if MAJOR < 9 else "model"

    def get_model(model: str) -> Any:
        return inference.get_model(**{name: model})

    info = get_model(HOSTED)
    equal(list(info.supported_dimensions), [384, 512, 768, 1024, 2048])
    equal(list(info.supported_metrics), ["cosine", "dotproduct"])

    missing, wrong = exceptions.NotFoundException, exceptions.PineconeApiException
    stranger = pinecone.Pinecone(api_key="wrong", host=url).inference
    refused(exceptions.UnauthorizedException, 401, "Invalid API key", stranger.list_models)
    refused(missing, 404, "'nothing' not found", lambda: get_model("nothing"))
    query = {"input_type": "query"}
    refused(missing, 404, f"pinyon models pull {HOSTED}", lambda: inference.embed(HOSTED, ["a"], query))
    refused(wrong, 400, "parameters.truncate", lambda: inference.embed(MODEL, ["a"], {"truncate": "end"}))
    return [list(item.values) for item in embedded.data]


if __name__ == "__main__":
    print(json.dumps({"vectors": main(sys.argv[1]), "version": pinecone.__version__}))
