/** What more than one table of commands has. */
import type { Option } from '../commands.ts'

export const STORE_OPTION: Option = {
  flags: '--store <where>',
  meaning: 'a path, or a postgres:// URL without its password (env MANYHOST_STORE may have it)',
}
