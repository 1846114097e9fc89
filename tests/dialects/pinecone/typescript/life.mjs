// The whole life of an index, driven by Pinecone's TypeScript SDK.
//
//     node life.mjs URL PACKAGE        PACKAGE: the folder of the SDK, major 8 or 9

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [url, folder] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const { version } = require(`${folder}/package.json`);
const { Pinecone, Errors } = require(folder);
const major = Number(version.split('.')[0]);
const AWS = { serverless: { cloud: 'aws', region: 'us-east-1' } };
const MODEL = 'all-minilm-l6-v2';
const ODD = 'a b/+%25&=#?\'"';

// `call` is refused with the SDK's own error class `name`, in words that hold `text`.
const refused = (name, text, call) =>
  assert.rejects(call, (error) => {
    assert.equal(error.name, name, String(error));
    assert.ok(error.message.includes(text), error.message);
    return true;
  });
const ids = (records) => records.map(({ id }) => id);
const close = (seen, expected) => {
  assert.equal(seen.length, expected.length);
  expected.forEach((value, n) => assert.ok(Math.abs(seen[n] - value) < 1e-5, `${seen} is not ${expected}`));
};

async function lifeOfIndexes(pc) {
  const made = await pc.createIndex({
    name: 'notes', dimension: 3, metric: 'cosine', spec: AWS, tags: { a: '1', b: '2' },
    deletionProtection: 'enabled', waitUntilReady: true,
  });
  const found = await pc.describeIndex('notes');
  assert.equal(found.host, made.host);
  assert.match(found.host, /^http:\/\/127\.0\.0\.1:\d+(\/i\/notes)?$/);
  assert.notEqual(found.host, url);
  assert.deepEqual([found.dimension, found.metric, found.vectorType], [3, 'cosine', 'dense']);
  assert.equal(found.spec.serverless.region, 'us-east-1');
  assert.equal(found.status.ready, true);
  await refused('PineconeBadRequestError', 'Deletion protection', () => pc.deleteIndex('notes'));
  await pc.configureIndex({ name: 'notes', deletionProtection: 'disabled', tags: { b: '', c: '3' } });
  const configured = await pc.describeIndex('notes');
  assert.deepEqual([configured.tags, configured.deletionProtection], [{ a: '1', c: '3' }, 'disabled']);

  await pc.createIndex({ name: 'terms', metric: 'dotproduct', vectorType: 'sparse', spec: AWS });
  const terms = await pc.describeIndex('terms');
  assert.deepEqual([terms.vectorType, terms.metric, terms.dimension], ['sparse', 'dotproduct', undefined]);
  const readCapacity = { mode: 'Dedicated', nodeType: 'b1', manual: { replicas: 1, shards: 1 } };
  const byoc = { environment: 'aws-1', readCapacity };
  await pc.createIndex({ name: 'own', dimension: 4, metric: 'dotproduct', spec: { byoc } });
  const own = (await pc.describeIndex('own')).spec.byoc;
  assert.deepEqual([own.environment, own.readCapacity.mode], ['aws-1', 'Dedicated']);
  const pods = { name: 'pods', dimension: 3, metric: 'euclidean' };
  const pod = { environment: 'us-east1-gcp', podType: 'p1.x1', pods: 2, replicas: 2 };
  if (major < 9) {
    await pc.createIndex({ ...pods, spec: { pod } });
    await pc.configureIndex({ name: 'pods', podReplicas: 3 });
    const { replicas, podType } = (await pc.describeIndex('pods')).spec.pod;
    assert.deepEqual([replicas, podType], [3, 'p1.x1']);
    const index = pc.index({ name: 'pods' });
    await index.upsert({ records: [{ id: 'near', values: [1, 1, 1] }, { id: 'far', values: [4, 5, 1] }] });
    const { matches } = await index.query({ vector: [1, 1, 1], topK: 2 });
    assert.deepEqual(matches.map(({ id, score }) => [id, score]), [['near', 0], ['far', 25]]);
  }
  await refused('PineconeConflictError', 'already exists', () =>
    pc.createIndex({ name: 'notes', dimension: 3, metric: 'cosine', spec: AWS }));
  await pc.createIndex({ name: 'notes', dimension: 3, metric: 'cosine', spec: AWS, suppressConflicts: true });
  await refused('PineconeNotFoundError', 'nothing', () => pc.describeIndex('nothing'));
  await refused('PineconeNotFoundError', 'nothing', () => pc.index({ name: 'nothing' }).describeIndexStats());
  const stranger = new Pinecone({ apiKey: 'wrong', controllerHostUrl: url });
  await refused('PineconeAuthorizationError', '', () => stranger.listIndexes());
}

async function lifeOfVectors(index) {
  const films = index.namespace('films');
  await films.upsert({
    records: [
      { id: 'a', values: [1, 0, 0], metadata: { genre: 'drama', year: 2019, tags: ['x', 'y'] } },
      { id: 'b', values: [0.1, 0.9, 0.2], metadata: { genre: 'comedy', year: 2020, good: true } },
      { id: 'c', values: [0, 0, 1], metadata: { genre: 'drama', year: 2021 } },
      { id: 'd', values: [0.5, 0.5, 0.5] },
    ],
  });
  const many = Array.from({ length: 250 }, (_, n) => ({ id: `n#${String(n).padStart(3, '0')}`, values: [1, 0, n] }));
  await index.upsert({ records: many });

  let found = await films.query({ vector: [1, 0, 0], topK: 3 });
  assert.deepEqual([ids(found.matches), found.namespace], [['a', 'd', 'b'], 'films']);
  close(found.matches.map(({ score }) => score), [1, 3 ** -0.5, 0.1 / 0.86 ** 0.5]);
  assert.ok(found.usage.readUnits >= 1);
  const filter = { $and: [{ genre: { $eq: 'drama' } }, { year: { $gte: 2020 } }] };
  found = await films.query({ vector: [1, 0, 0], topK: 3, filter, includeValues: true, includeMetadata: true });
  assert.deepEqual(ids(found.matches), ['c']);
  assert.deepEqual(found.matches[0].values, [0, 0, 1]);
  assert.deepEqual(found.matches[0].metadata, { genre: 'drama', year: 2021 });
  assert.deepEqual(ids((await films.query({ id: 'c', topK: 1 })).matches), ['c']);
  assert.deepEqual((await index.namespace('nowhere').query({ vector: [1, 0, 0], topK: 1 })).matches, []);

  const { records } = await films.fetch({ ids: ['b', 'nothing'] });
  assert.deepEqual(Object.keys(records), ['b']);
  close(records.b.values, [0.1, 0.9, 0.2]);
  assert.deepEqual(records.b.metadata, { genre: 'comedy', year: 2020, good: true });
  const exists = { filter: { year: { $exists: true } }, limit: 2 };
  let page = await films.fetchByMetadata(exists);
  assert.deepEqual(Object.keys(page.records), ['a', 'b']);
  page = await films.fetchByMetadata({ ...exists, paginationToken: page.pagination.next });
  assert.deepEqual([Object.keys(page.records), page.pagination?.next], [['c'], undefined]);
  const listed = [];
  let paginationToken;
  do {
    page = await index.listPaginated({ prefix: 'n#', paginationToken });
    listed.push(ids(page.vectors));
    paginationToken = page.pagination?.next;
  } while (paginationToken);
  assert.deepEqual(listed.map(({ length }) => length), [100, 100, 50]);
  assert.deepEqual(listed.flat(), ids(many));

  await films.update({ id: 'a', values: [0, 1, 0], metadata: { year: 1999 } });
  const { a } = (await films.fetch({ ids: ['a'] })).records;
  assert.deepEqual([a.values, a.metadata], [[0, 1, 0], { genre: 'drama', year: 1999, tags: ['x', 'y'] }]);
  await films.update({ filter: { genre: 'drama' }, metadata: { seen: true } });
  assert.deepEqual(Object.keys((await films.fetchByMetadata({ filter: { seen: true } })).records), ['a', 'c']);
  const stats = await index.describeIndexStats();
  assert.deepEqual([stats.dimension, stats.totalRecordCount], [3, 254]);
  assert.equal(stats.namespaces.films.recordCount, 4);

  await index.createNamespace({ name: 'made', schema: { fields: { genre: { filterable: true } } } });
  const spaces = async () => (await index.listNamespaces()).namespaces.map(({ name }) => name);
  assert.deepEqual(await spaces(), ['__default__', 'films', 'made']);
  assert.equal(Number((await index.describeNamespace('films')).recordCount), 4);
  await index.deleteNamespace('made');
  await refused('PineconeNotFoundError', '404', () => index.describeNamespace('made'));
  await namesThatNeedEscapes(index.namespace(ODD));
  await refused('PineconeBadRequestError', 'dimension', () => films.upsert({ records: [{ id: 'e', values: [1, 2] }] }));
  await refused('PineconeBadRequestError', '$near', () =>
    films.query({ vector: [1, 0, 0], topK: 1, filter: { a: { $near: 1 } } }));

  await films.deleteOne({ id: 'a' });
  await films.deleteMany({ filter: { genre: 'comedy' } });
  await films.deleteMany({ ids: ['d', 'nothing'] });
  assert.deepEqual(ids((await films.listPaginated()).vectors), ['c']);
  await films.deleteAll();
  await index.deleteAll();
  assert.deepEqual([(await index.describeIndexStats()).totalRecordCount, await spaces()], [0, []]);
}

async function namesThatNeedEscapes(odd) {
  await odd.upsert({ records: [{ id: ODD, values: [1, 2, 3], metadata: { [ODD]: '猫' } }] });
  assert.deepEqual((await odd.fetch({ ids: [ODD] })).records[ODD].metadata, { [ODD]: '猫' });
  assert.deepEqual(ids((await odd.listPaginated({ prefix: ODD })).vectors), [ODD]);
  assert.deepEqual(ids((await odd.query({ id: ODD, topK: 1, filter: { [ODD]: '猫' } })).matches), [ODD]);
  assert.equal(Number((await odd.describeNamespace(ODD)).recordCount), 1);
  await odd.deleteOne({ id: ODD });
  await odd.deleteNamespace(ODD);
}

async function lifeOfSparseVectors(sparse, hybrid) {
  await sparse.upsert({ records: [{ id: 's', sparseValues: { indices: [1, 5], values: [0.5, 1] } }] });
  let { matches } = await sparse.query({
    sparseVector: { indices: [5, 7], values: [2, 3] }, topK: 5, includeValues: true,
  });
  assert.deepEqual([matches[0].id, matches[0].score], ['s', 2]);
  assert.deepEqual(matches[0].sparseValues, { indices: [1, 5], values: [0.5, 1] });
  await hybrid.upsert({
    records: [
      { id: 'both', values: [1, 2, 3, 4], sparseValues: { indices: [3, 7], values: [2, 0.5] } },
      { id: 'dense', values: [1, 1, 1, 1] },
    ],
  });
  ({ matches } = await hybrid.query({
    vector: [1, 1, 1, 1], sparseVector: { indices: [7], values: [10] }, topK: 2,
  }));
  assert.deepEqual(matches.map(({ id, score }) => [id, score]), [['both', 15], ['dense', 4]]);
}

async function lifeOfTexts(pc) {
  await pc.createIndexForModel({
    name: 'faq', cloud: 'aws', region: 'us-east-1', embed: { model: MODEL, fieldMap: { text: 'body' } },
  });
  const { embed } = await pc.describeIndex('faq');
  assert.deepEqual([embed.model, embed.metric, embed.fieldMap], [MODEL, 'cosine', { text: 'body' }]);
  const docs = pc.index({ name: 'faq', namespace: 'docs' });
  const bodies = { bread: 'Bread needs yeast to rise.', pine: 'Pines are conifers.', cat: 'A cat sleeps all day.' };
  await docs.upsertRecords({
    records: Object.entries(bodies).map(([id, body]) => ({ id, body, length: body.length })),
  });
  const query = { inputs: { text: 'Which trees bear cones?' }, topK: 2 };
  let { result, usage } = await docs.searchRecords({ query, fields: ['body'] });
  assert.deepEqual([result.hits[0]._id, result.hits[0].fields], ['pine', { body: bodies.pine }]);
  assert.ok(1 > result.hits[0]._score && result.hits[0]._score > result.hits[1]._score);
  assert.ok(usage.embedTotalTokens >= 5);
  ({ result } = await docs.searchRecords({ query: { ...query, filter: { length: { $gt: 20 } } } }));
  assert.deepEqual(result.hits.map(({ _id }) => _id).sort(), ['bread', 'cat']);
  ({ result, usage } = await docs.searchRecords({
    query: { ...query, topK: 3 },
    rerank: { model: `${MODEL}-rerank`, rankFields: ['body'], query: 'How is dough leavened?', topN: 1 },
  }));
  assert.deepEqual([result.hits.map(({ _id }) => _id), usage.rerankUnits], [['bread'], 1]);
}

const pc = new Pinecone({ apiKey: 'secret', controllerHostUrl: url });
await lifeOfIndexes(pc);
await lifeOfVectors(pc.index('notes'));
await lifeOfSparseVectors(pc.index({ name: 'terms' }), pc.index({ name: 'own' }));
await lifeOfTexts(pc);
const names = (await pc.listIndexes()).indexes.map(({ name }) => name);
assert.deepEqual(names, ['faq', 'notes', 'own', ...(major < 9 ? ['pods'] : []), 'terms']);
await pc.index('notes').upsert({ records: [{ id: 'left', values: [1, 1, 1] }] });
for (const name of names) await pc.deleteIndex(name);
assert.deepEqual((await pc.listIndexes()).indexes, []);
await refused('PineconeNotFoundError', 'notes', () => pc.index({ name: 'notes' }).describeIndexStats());
// A new index of an old name has another host, and nothing of the old one.
await pc.createIndex({ name: 'notes', dimension: 5, metric: 'cosine', spec: AWS });
const stats = await pc.index('notes').describeIndexStats();
assert.deepEqual([stats.dimension, stats.totalRecordCount], [5, 0]);
await pc.deleteIndex('notes');
console.log(JSON.stringify({ version }));
