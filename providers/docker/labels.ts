/** By what the engine is asked for containers of ours. */
export const SESSION_LABEL = 'manyhost.session'
export const INSTANCE_LABEL = 'manyhost.instance'
export const SERVICE_LABEL = 'manyhost.service'
export const OWNER_LABEL = 'manyhost.owner'
