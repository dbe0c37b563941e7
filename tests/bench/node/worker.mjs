// What a team on the Next.js stack would write: amqplib, pg and the official stripe SDK. Its settings are the worker's.
import amqp from 'amqplib';
import pg from 'pg';
import Stripe from 'stripe';

const env = process.env;
const base = new URL(env.STRIPE_API_BASE);
const stripe = new Stripe(env.STRIPE_SECRET_KEY, {
  host: base.hostname, port: base.port, protocol: base.protocol.slice(0, -1), telemetry: false,
});
const pool = new pg.Pool({ connectionString: env.DATABASE_URL, max: 10 });
const connection = await amqp.connect(env.AMQP_URL);
const consuming = await connection.createChannel();
const publishing = await connection.createConfirmChannel();
await consuming.prefetch(Number(env.PORTAL_CONCURRENCY));

let configuration;
function portalConfiguration() {
  configuration ??= stripe.billingPortal.configurations.list({ active: true, limit: 100 }).then(({ data }) => data[0].id);
  return configuration;
}

async function handle(message) {
  const request = JSON.parse(message.content.toString());
  const { rows: [team] } = await pool.query({
    name: 'team', text: 'SELECT id, stripe_customer_id FROM teams WHERE id = $1', values: [request.team_id],
  });
  const session = await stripe.billingPortal.sessions.create({
    customer: team.stripe_customer_id, return_url: `${env.BASE_URL}/dashboard`, configuration: await portalConfiguration(),
  }, { idempotencyKey: request.request_id });
  await pool.query({
    name: 'save', text: 'INSERT INTO floor_sessions (request_id, team_id, session_id, url, configuration) '
      + 'VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING',
    values: [request.request_id, team.id, session.id, session.url, session.configuration],
  });
  await new Promise((resolve, reject) => {
    const reply = { request_id: request.request_id, url: session.url, id: session.id };
    publishing.sendToQueue(message.properties.replyTo, Buffer.from(JSON.stringify(reply)), {
      correlationId: message.properties.correlationId, contentType: 'application/json', persistent: true,
    }, (error) => (error ? reject(error) : resolve()));
  });
  consuming.ack(message);
}

await consuming.consume('portal.requests', handle);
