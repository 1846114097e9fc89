// Backups, restore jobs and collections, driven by Pinecone's TypeScript SDK.
//
//     node backups.mjs URL PACKAGE        PACKAGE: the folder of the SDK, major 8 or 9

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { setTimeout } from 'node:timers/promises';

const [url, folder] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const { version } = require(`${folder}/package.json`);
const { Pinecone } = require(folder);
const major = Number(version.split('.')[0]);
const AWS = { serverless: { cloud: 'aws', region: 'us-east-1' } };

// `call` is refused with the SDK's own error class `name`, in words that hold `text`.
const refused = (name, text, call) =>
  assert.rejects(call, (error) => {
    assert.equal(error.name, name, String(error));
    assert.ok(error.message.includes(text), error.message);
    return true;
  });

async function until(describe, isDone) {
  for (const end = Date.now() + 60_000; ; await setTimeout(10)) {
    const found = await describe();
    if (isDone(found)) return found;
    assert.ok(Date.now() < end, JSON.stringify(found));
  }
}
const ready = (describe) => until(describe, ({ status }) => status === 'Ready');
const indexReady = (name) => until(() => pc.describeIndex(name), ({ status }) => status.ready);

const records = Array.from({ length: 20 }, (_, n) => ({ id: `v${n}`, values: [1, n / 8, 0.5], metadata: { n } }));
async function contents(name) {
  const found = (await pc.index({ name }).namespace('films').fetch({ ids: records.map(({ id }) => id) })).records;
  return Object.values(found).map(({ id, values, metadata }) => ({ id, values, metadata }));
}

async function lifeOfBackups() {
  await pc.createIndex({ name: 'docs-example', dimension: 3, metric: 'cosine', spec: AWS, tags: { team: 'a' } });
  await pc.index({ name: 'docs-example' }).namespace('films').upsert({ records });
  const source = await contents('docs-example');
  assert.equal(source.length, 20);
  assert.deepEqual((await pc.listBackups()).data, []);

  const description = 'Monthly backup of production index';
  const made = await pc.createBackup({ indexName: 'docs-example', name: 'example-backup', description });
  const backup = await ready(() => pc.describeBackup(made.backupId));
  assert.deepEqual([backup.name, backup.description], ['example-backup', description]);
  assert.deepEqual([backup.sourceIndexName, backup.cloud, backup.region], ['docs-example', 'aws', 'us-east-1']);
  assert.deepEqual([backup.recordCount, backup.namespaceCount, backup.tags], [20, 1, { team: 'a' }]);
  assert.ok(backup.sizeBytes > 20 * 12);
  const second = await pc.createBackup({ indexName: 'docs-example', name: 'second' });
  await ready(() => pc.describeBackup(second.backupId));
  let page = await pc.listBackups({ indexName: 'docs-example', limit: 1 });
  assert.deepEqual(page.data.map(({ name }) => name), ['second']);
  const next = page.pagination.next;
  page = await pc.listBackups({ indexName: 'docs-example', paginationToken: next });
  assert.deepEqual(page.data.map(({ name }) => name), ['example-backup']);
  assert.ok(!page.pagination?.next);
  assert.equal((await pc.listBackups()).data.length, 2);

  await pc.deleteIndex('docs-example');
  const { restoreJobId, indexId } = await pc.createIndexFromBackup({
    backupId: backup.backupId, name: 'restored-index', tags: { team: 'b' }, deletionProtection: 'disabled',
  });
  const isDone = ({ status }) => status !== 'Pending';
  const job = await until(() => pc.describeRestoreJob(restoreJobId), isDone);
  assert.deepEqual([job.status, job.percentComplete, job.targetIndexId], ['Completed', 100, indexId]);
  assert.ok(new Date(job.createdAt) <= new Date(job.completedAt));
  assert.deepEqual((await pc.listRestoreJobs()).data.map((each) => each.restoreJobId), [restoreJobId]);
  assert.deepEqual((await indexReady('restored-index')).tags, { team: 'b' });
  assert.deepEqual(await contents('restored-index'), source);

  const again = { backupId: backup.backupId, name: 'restored-index' };
  await refused('PineconeConflictError', 'already exists', () => pc.createIndexFromBackup(again));
  for (const { backupId } of (await pc.listBackups()).data) await pc.deleteBackup(backupId);
  await refused('PineconeNotFoundError', backup.backupId, () => pc.describeBackup(backup.backupId));
  await pc.deleteIndex('restored-index');
}

async function lifeOfCollections() {
  assert.deepEqual((await pc.listCollections()).collections, []);
  if (major >= 9) {
    // NOTE: 2026-07 makes no index of pods, so that there is nothing to make a collection of.
    await pc.createIndex({ name: 'notes', dimension: 3, metric: 'cosine', spec: AWS });
    await refused('PineconeBadRequestError', 'pods', () => pc.createCollection({ name: 'old', source: 'notes' }));
    await pc.deleteIndex('notes');
    return;
  }
  const pod = { environment: 'us-east1-gcp', podType: 'p1.x1', pods: 1 };
  await pc.createIndex({ name: 'pods', dimension: 3, metric: 'cosine', spec: { pod } });
  await pc.index({ name: 'pods' }).namespace('films').upsert({ records });
  await pc.createCollection({ name: 'old', source: 'pods' });
  const found = await ready(() => pc.describeCollection('old'));
  assert.deepEqual([found.name, found.environment, found.vectorCount], ['old', 'us-east1-gcp', 20]);
  assert.deepEqual([found.dimension, found.size > 240], [3, true]);
  assert.equal((await pc.listCollections()).collections.length, 1);
  const spec = { pod: { ...pod, sourceCollection: 'old' } };
  await pc.createIndex({ name: 'again', dimension: 3, metric: 'cosine', spec });
  await indexReady('again');
  assert.deepEqual(await contents('again'), await contents('pods'));
  await pc.deleteCollection('old');
  await refused('PineconeNotFoundError', 'old', () => pc.describeCollection('old'));
  for (const name of ['again', 'pods']) await pc.deleteIndex(name);
}

const pc = new Pinecone({ apiKey: 'secret', controllerHostUrl: url });
await lifeOfBackups();
await lifeOfCollections();
console.log(JSON.stringify({ version }));
