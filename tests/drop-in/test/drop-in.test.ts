// Runs against a real portal-worker: tests/system/test_drop_in.py starts it, makes the teams, and tells of them in TEAMS.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { redirect } from 'next/navigation';
import { POST } from '@/app/api/billing/portal/route';
import { signIn } from '@/lib/db/queries';
import { createCustomerPortalSession } from '@/lib/payments/portal';

type Team = { id: number; stripeCustomerId: string | null; stripeProductId: string | null };
const teams: Record<string, Team> = JSON.parse(process.env.TEAMS!);
const BASE_URL = process.env.BASE_URL!;

// The connection to RabbitMQ stays open, as in a server.
after(() => setImmediate(() => process.exit()));

test('a session has what the reference documents', async () => {
  const session = await createCustomerPortalSession(teams.good);
  assert.deepEqual(Object.keys(session).sort(), ['configuration', 'created', 'customer', 'id', 'return_url', 'url']);
  assert.match(session.id, /^bps_/);
  assert.match(session.url, /^https?:\/\//);
  assert.equal(session.customer, teams.good.stripeCustomerId);
  assert.equal(session.return_url, `${BASE_URL}/dashboard`);
  assert.match(session.configuration as string, /^bpc_/);
});

// What Next.js's own redirect('/pricing') throws.
function redirected() {
  try {
    return redirect('/pricing');
  } catch (error) {
    return error as Error & { digest: string };
  }
}

for (const name of ['withoutCustomer', 'withoutProduct'])
  test(`a team ${name} is redirected to /pricing as the starter redirects`, async () => {
    const { message, digest } = redirected();
    await assert.rejects(createCustomerPortalSession(teams[name]), { message, digest });
  });

test("an inactive product throws the reference's error", async () => {
  await assert.rejects(createCustomerPortalSession(teams.inactive), (error) => {
    assert.ok(error instanceof Error && error.message.includes('not active'));
    return true;
  });
});

test("a product without prices throws the reference's error", async () => {
  await assert.rejects(createCustomerPortalSession(teams.withoutPrices), (error) => {
    assert.ok(error instanceof Error && error.message.includes('No active prices'));
    return true;
  });
});

test('many at once each get their own', async () => {
  const many = Object.keys(teams).filter((name) => name.startsWith('many'));
  const sessions = await Promise.all(many.map((name) => createCustomerPortalSession(teams[name])));
  assert.deepEqual(sessions.map((session) => session.customer), many.map((name) => teams[name].stripeCustomerId));
});

test('the route answers with the URL', async () => {
  signIn(teams.good);
  const response = await POST();
  assert.equal(response.status, 200);
  assert.match((await response.json()).url, /^https?:\/\//);
});

test('the route answers 404 without a team', async () => {
  signIn(null);
  const response = await POST();
  assert.equal(response.status, 404);
  assert.deepEqual(await response.json(), { error: 'Team not found' });
});

test('the route answers 500 where no session can be made', async (context) => {
  context.mock.method(console, 'error', () => {});
  signIn(teams.inactive);
  const response = await POST();
  assert.equal(response.status, 500);
  assert.deepEqual(await response.json(), { error: 'Failed to create portal session' });
});
