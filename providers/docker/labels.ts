/** The labels of our containers. */
export const SESSION_LABEL = 'manyhost.session'
export const INSTANCE_LABEL = 'manyhost.instance'
export const SERVICE_LABEL = 'manyhost.service'
export const OWNER_LABEL = 'manyhost.owner'
