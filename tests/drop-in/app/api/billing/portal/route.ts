// app/api/billing/portal/route.ts
import { createCustomerPortalSession } from '@/lib/payments/portal';
import { getTeamForUser } from '@/lib/db/queries';
import { NextResponse } from 'next/server';

export async function POST() {
  try {
    const team = await getTeamForUser();

    if (!team) {
      return NextResponse.json(
        { error: 'Team not found' },
        { status: 404 }
      );
    }

    const session = await createCustomerPortalSession(team);

    return NextResponse.json({ url: session.url });
  } catch (error) {
    console.error('Error creating portal session:', error);
    return NextResponse.json(
      { error: 'Failed to create portal session' },
      { status: 500 }
    );
  }
}
