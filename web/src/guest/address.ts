/** The addresses of pages that need no account: `<base>sharing?c=<cookie>`, `<base>messenger?id=meshmessenger/<cookie>`. */

/** What the link of a share carries; null when the page is another one. `base` is the path of the app's root. */
export function shareOf(base: string, location: { pathname: string; search: string }): string | null {
  if (location.pathname !== `${base}sharing`) return null;
  return new URLSearchParams(location.search).get('c') ?? '';
}

/** What the link of a conversation names; null when the page is another one. */
export function conversationOf(base: string, location: { pathname: string; search: string }): string | null {
  if (location.pathname !== `${base}messenger`) return null;
  return new URLSearchParams(location.search).get('id') ?? '';
}
