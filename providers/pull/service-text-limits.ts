/** Characters of the texts of a service, at most. */
export const SERVICE_TEXT_LIMITS = { name: 30, description: 1_000, token: 200 } as const
