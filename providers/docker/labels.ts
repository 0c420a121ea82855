/** By what the engine is asked for containers of ours. */
export const SESSION = 'manyhost.session'
export const INSTANCE = 'manyhost.instance'
export const SERVICE = 'manyhost.service'
export const OWNER = 'manyhost.owner'
