// lib/payments/portal.ts: createCustomerPortalSession(team) of lib/payments/stripe.ts, but made by portal-worker.
// Needs the package amqplib, and in the environment AMQP_URL.
import { randomUUID } from 'node:crypto';
import { connect, type ConfirmChannel } from 'amqplib';
import { redirect } from 'next/navigation';
import type Stripe from 'stripe';

const SECONDS = 30; // how long a caller waits

type PortalSession = Pick<
  Stripe.BillingPortal.Session,
  'id' | 'url' | 'customer' | 'return_url' | 'configuration' | 'created'
>;

type Reply = {
  session: (PortalSession & { expires_at: number }) | null;
  redirect: { path: string; url: string; code: string } | null;
  error: { code: string; message: string; retryable: boolean; stripe_request_id: string | null } | null;
};

type Caller = { resolve: (reply: Reply) => void; reject: (error: Error) => void };
type Link = { channel: ConfirmChannel; callers: Map<string, Caller> };

let link: Promise<Link> | undefined;

async function open(): Promise<Link> {
  const callers = new Map<string, Caller>();
  const connection = await connect(process.env.AMQP_URL!);
  let gone = false;
  const lost = (error?: Error) => {
    if (gone) return;
    gone = true;
    link = undefined;
    for (const caller of callers.values()) caller.reject(error ?? new Error('The connection to RabbitMQ was lost'));
    connection.close().catch(() => {});
  };
  connection.on('error', () => {}).on('close', () => lost());
  const channel = await connection.createConfirmChannel();
  channel.on('error', lost).on('return', (message) =>
    callers.get(message.properties.correlationId)?.reject(new Error('Nobody takes requests for a portal session'))
  );
  await channel.consume(
    'amq.rabbitmq.reply-to',
    (message) => message && callers.get(message.properties.correlationId)?.resolve(JSON.parse(message.content.toString())),
    { noAck: true }
  );
  return { channel, callers };
}

async function ask(request: object): Promise<Reply> {
  const id = randomUUID();
  const body = { request_id: id, deadline: new Date(Date.now() + SECONDS * 1000), ...request };
  const userId = decodeURIComponent(new URL(process.env.AMQP_URL!).username) || 'guest'; // for PORTAL_TEAM_SENDERS
  const properties = { replyTo: 'amq.rabbitmq.reply-to', correlationId: id, userId, persistent: true, mandatory: true };
  link ??= open().catch((error) => {
    link = undefined;
    throw error;
  });
  const { channel, callers } = await link;
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<Reply>((resolve, reject) => {
      callers.set(id, { resolve, reject });
      timer = setTimeout(() => reject(new Error(`No answer within ${SECONDS} seconds`)), SECONDS * 1000);
      channel.publish('portal', 'request', Buffer.from(JSON.stringify(body)), properties, (error) => error && reject(error));
    });
  } finally {
    clearTimeout(timer);
    callers.delete(id);
  }
}

export async function createCustomerPortalSession(team: { id: number }): Promise<PortalSession> {
  const reply = await ask({ team_id: team.id });
  if (reply.redirect) redirect(reply.redirect.path);
  if (!reply.session) throw Object.assign(new Error(reply.error!.message), { ...reply.error });
  const { expires_at, ...session } = reply.session;
  return session;
}
