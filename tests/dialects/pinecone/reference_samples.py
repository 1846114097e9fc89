"""Samples of the vendor's reference at 2025-04 for collections, backups, restore jobs, imports, models and embedding.

They are as they stand there, but that of six texts to embed the first three are here. What a reader puts in (host,
bucket, ids) stands in capitals there, or is 101.

Sources: docs.pinecone.io/reference/api/2025-04/, of the control plane list_collections, list_index_backups,
list_project_backups, list_restore_jobs; of the data plane start_import, describe_import, list_imports, cancel_import;
of inference describe_model, generate-embeddings.
"""

from __future__ import annotations

# By name, in an order in which they can be run: the sample, and a pattern of what it prints.
PYTHON: dict[str, tuple[str, str]] = {
    "list_collections": (
        """
from pinecone.grpc import PineconeGRPC as Pinecone

pc = Pinecone(api_key='YOUR_API_KEY')

active_collections = pc.list_collections()
""",
        "",
    ),
    "list_index_backups": (
        """
from pinecone import Pinecone

pc = Pinecone(api_key="YOUR_API_KEY")

index_backups = pc.list_backups(index_name="docs-example")

print(index_backups)
""",
        "example-backup",
    ),
    "list_project_backups": (
        """
from pinecone import Pinecone

pc = Pinecone(api_key="YOUR_API_KEY")

project_backups = pc.list_backups()

print(project_backups)
""",
        "example-backup",
    ),
    "list_restore_jobs": (
        """
from pinecone import Pinecone

pc = Pinecone(api_key="YOUR_API_KEY")

restore_jobs = pc.list_restore_jobs()

print(restore_jobs)
""",
        "restored-index",
    ),
    "start_import": (
        """
from pinecone import Pinecone, ImportErrorMode

pc = Pinecone(api_key="YOUR_API_KEY")

# To get the unique host for an index,
# see https://docs.pinecone.io/guides/manage-data/target-an-index
index = pc.Index(host="INDEX_HOST")
root = "s3://BUCKET_NAME/PATH/TO/DIR"

index.start_import(
    uri=root,
    error_mode=ImportErrorMode.CONTINUE, # or ImportErrorMode.ABORT
    integration_id="a12b3d4c-47d2-492c-a97a-dd98c8dbefde" # Optional for public buckets
)
""",
        "",
    ),
    "describe_import": (
        """
from pinecone import Pinecone

pc = Pinecone(api_key="YOUR_API_KEY")

# To get the unique host for an index,
# see https://docs.pinecone.io/guides/manage-data/target-an-index
index = pc.Index(host="INDEX_HOST")

index.describe_import(id="101")
""",
        "",
    ),
    "list_imports": (
        """
from pinecone import Pinecone, ImportErrorMode

pc = Pinecone(api_key="YOUR_API_KEY")

# To get the unique host for an index,
# see https://docs.pinecone.io/guides/manage-data/target-an-index
index = pc.Index(host="INDEX_HOST")

# List using a generator that handles pagination
for i in index.list_imports():
    print(f"id: {i.id} status: {i.status}")

# List using a generator that fetches all results at once
operations = list(index.list_imports())
print(operations)
""",
        r"id: \S{36} status: \w+\n.*s3://BUCKET_NAME/PATH/TO/DIR",
    ),
    "cancel_import": (
        """
from pinecone import Pinecone

pc = Pinecone(api_key="YOUR_API_KEY")

# To get the unique host for an index,
# see https://docs.pinecone.io/guides/manage-data/target-an-index
index = pc.Index(host="INDEX_HOST")

index.cancel_import(id="101")
""",
        "",
    ),
    "describe_model": (
        """
from pinecone import Pinecone

pc = Pinecone(api_key="YOUR_API_KEY")

model = pc.inference.get_model(model_name="llama-text-embed-v2")

print(model)
""",
        "llama-text-embed-v2",
    ),
    "generate-embeddings": (
        """
# Import the Pinecone library
from pinecone.grpc import PineconeGRPC as Pinecone
from pinecone import ServerlessSpec
import time

# Initialize a Pinecone client with your API key
pc = Pinecone(api_key="YOUR_API_KEY")

# Define a sample dataset where each item has a unique ID and piece of text
data = [
    {"id": "vec1", "text": "Apple is a popular fruit known for its sweetness and crisp texture."},
    {"id": "vec2", "text": "The tech company Apple is known for its innovative products like the iPhone."},
    {"id": "vec3", "text": "Many people enjoy eating apples as a healthy snack."}
]

# Convert the text into numerical vectors that Pinecone can index
embeddings = pc.inference.embed(
    model="llama-text-embed-v2",
    inputs=[d['text'] for d in data],
    parameters={"input_type": "passage", "truncate": "END"}
)

print(embeddings)
""",
        "llama-text-embed-v2",
    ),
}

CURL: dict[str, tuple[str, str]] = {
    "list_collections": (
        """
PINECONE_API_KEY="YOUR_API_KEY"

curl -X GET "https://api.pinecone.io/collections" \\
     -H "Api-Key: $PINECONE_API_KEY" \\
     -H "X-Pinecone-API-Version: 2025-04"
""",
        r'\{"collections":\[\{"name":"example-collection1".*"status":"Ready"',
    ),
    "list_index_backups": (
        """
PINECONE_API_KEY="YOUR_API_KEY"
INDEX_NAME="docs-example"

curl -X GET "https://api.pinecone.io/indexes/$INDEX_NAME/backups" \\
     -H "Api-Key: $PINECONE_API_KEY" \\
     -H "X-Pinecone-API-Version: 2025-04" \\
     -H "accept: application/json"
""",
        r'"source_index_name":"docs-example".*"status":"Ready"',
    ),
    "list_project_backups": (
        """
PINECONE_API_KEY="YOUR_API_KEY"

curl -X GET "https://api.pinecone.io/backups" \\
     -H "Api-Key: $PINECONE_API_KEY" \\
     -H "X-Pinecone-API-Version: 2025-04" \\
     -H "accept: application/json"
""",
        r'"source_index_name":"docs-example".*"status":"Ready"',
    ),
    "list_restore_jobs": (
        """
PINECONE_API_KEY="YOUR_API_KEY"

curl -X GET "https://api.pinecone.io/restore-jobs" \\
     -H "X-Pinecone-Api-Version: 2025-04" \\
     -H "Api-Key: $PINECONE_API_KEY"
""",
        r'"target_index_name":"restored-index".*"status":"Completed".*"percent_complete":100',
    ),
    "start_import": (
        """
# To get the unique host for an index,
# see https://docs.pinecone.io/guides/manage-data/target-an-index
PINECONE_API_KEY="YOUR_API_KEY"
INDEX_HOST="INDEX_HOST"

curl "https://$INDEX_HOST/bulk/imports" \\
  -H 'Api-Key: $PINECONE_API_KEY' \\
  -H 'Content-Type: application/json' \\
  -H 'X-Pinecone-API-Version: 2025-04' \\
  -d '{
        "integrationId": "a12b3d4c-47d2-492c-a97a-dd98c8dbefde",
        "uri": "s3://BUCKET_NAME/PATH/TO/DIR",
        "errorMode": {
            "onError": "continue"
            }
        }'
""",
        r'\{"id":"\S{36}"\}',
    ),
    "describe_import": (
        """
# To get the unique host for an index,
# see https://docs.pinecone.io/guides/manage-data/target-an-index
PINECONE_API_KEY="YOUR_API_KEY"
INDEX_HOST="INDEX_HOST"

curl -X GET "https://$INDEX_HOST/bulk/imports/101" \\
  -H 'Api-Key: $PINECONE_API_KEY' \\
  -H 'X-Pinecone-API-Version: 2025-04'
""",
        r'"uri":"s3://BUCKET_NAME/PATH/TO/DIR","status":"Completed"',
    ),
    "list_imports": (
        """
# To get the unique host for an index,
# see https://docs.pinecone.io/guides/manage-data/target-an-index
PINECONE_API_KEY="YOUR_API_KEY"
INDEX_HOST="INDEX_HOST"

curl -X GET "https://$INDEX_HOST/bulk/imports?paginationToken==Tm90aGluZyB0byBzZWUgaGVyZQo" \\
  -H 'Api-Key: $PINECONE_API_KEY' \\
  -H 'X-Pinecone-API-Version: 2025-04'
""",
        r'\{"data":\[\{"id":"\S{36}","uri":"s3://BUCKET_NAME/PATH/TO/OTHER"[^]]*\]\}$',
    ),
    "cancel_import": (
        """
# To get the unique host for an index,
# see https://docs.pinecone.io/guides/manage-data/target-an-index
PINECONE_API_KEY="YOUR_API_KEY"
INDEX_HOST="INDEX_HOST"

curl -X DELETE "https://$INDEX_HOST/bulk/imports/101" \\
  -H 'Api-Key: $PINECONE_API_KEY' \\
  -H "X-Pinecone-API-Version: 2025-04"
""",
        r"\{\}",
    ),
    "describe_model": (
        """
PINECONE_API_KEY="YOUR_API_KEY"

curl "https://api.pinecone.io/models/llama-text-embed-v2" \\
    -H "Api-Key: $PINECONE_API_KEY" \\
    -H "X-Pinecone-API-Version: 2025-04"
""",
        '"model":"llama-text-embed-v2"',
    ),
    "generate-embeddings": (
        """
PINECONE_API_KEY="YOUR_API_KEY"

curl https://api.pinecone.io/embed \\
  -H "Api-Key: $PINECONE_API_KEY" \\
  -H "Content-Type: application/json" \\
  -H "X-Pinecone-API-Version: 2025-04" \\
  -d '{
      "model": "llama-text-embed-v2",
      "parameters": {
        "input_type": "passage",
        "truncate": "END"
      },
      "inputs": [
        {"text": "Apple is a popular fruit known for its sweetness and crisp texture."},
        {"text": "The tech company Apple is known for its innovative products like the iPhone."},
        {"text": "Many people enjoy eating apples as a healthy snack."}
      ]
  }'
""",
        r'"data":\[\{"values":\[-?0\.\d+,.*"usage":\{"total_tokens":\d+\}',
    ),
}
