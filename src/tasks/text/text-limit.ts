/** The limit of texts and lists in templates. */

/** Most characters of a text, and elements of a list, that an expression may make. */
export const MAX_TEXT_LENGTH = 1_048_576
