// Stands in for the starter's getTeamForUser(), which reads the session's cookie and the database.
type Team = { id: number; stripeCustomerId: string | null; stripeProductId: string | null };

export let team: Team | null = null;

export function signIn(as: Team | null) {
  team = as;
}

export async function getTeamForUser() {
  return team;
}
