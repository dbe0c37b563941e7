// What becomes of callers while RabbitMQ cuts their connection: tests/system/test_drop_in.py does so when told to.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { createCustomerPortalSession } from '@/lib/payments/portal';

const team = JSON.parse(process.env.TEAMS!).good;

after(() => setImmediate(() => process.exit()));

test('a lost connection rejects who waits, and the next call opens another', async () => {
  await createCustomerPortalSession(team);
  const waits = createCustomerPortalSession({ id: JSON.parse(process.env.TEAMS!).slow.id });
  waits.catch(() => {});
  process.stderr.write('CUT\n');
  await once(process.stdin, 'data');
  await assert.rejects(waits, { message: 'The connection to RabbitMQ was lost' });
  assert.match((await createCustomerPortalSession(team)).id, /^bps_/);
});
