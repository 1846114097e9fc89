// A bulk import, driven by Pinecone's TypeScript SDK.
//
//     node imports.mjs URL PACKAGE        URL: an index's host; PACKAGE: the folder of the SDK, major 8 or 9
//
// PINYON_TEST_URI is a folder of 1,500 good rows and one bad in the namespace `films`.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [host, folder] = process.argv.slice(2);
const uri = process.env.PINYON_TEST_URI;
const require = createRequire(import.meta.url);
const { version } = require(`${folder}/package.json`);
const { Pinecone } = require(folder);

const index = new Pinecone({ apiKey: 'secret' }).index({ host });
const { id } = await index.startImport({ uri, errorMode: 'continue' });
const deadline = Date.now() + 60_000;
let found;
do {
  found = await index.describeImport(id);
  assert.ok(Date.now() < deadline, JSON.stringify(found));
} while (['Pending', 'InProgress'].includes(found.status));
assert.deepEqual([found.status, found.uri, found.recordsImported], ['Completed', uri, 1500]);
assert.equal(found.percentComplete, 100);
assert.ok(found.createdAt <= found.finishedAt);
const listed = await index.listImports(10);
assert.deepEqual([listed.data.map((each) => each.id), listed.pagination], [[id], undefined]);
assert.equal((await index.describeIndexStats()).namespaces.films.recordCount, 1500);
await index.cancelImport(id);
assert.equal((await index.describeImport(id)).status, 'Completed');
await assert.rejects(() => index.startImport({ uri }), /which has records/);
console.log(JSON.stringify({ version }));
