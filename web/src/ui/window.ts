/** Which rows of a long list are in sight; pure, so that it can be tested without a page. */

export interface RowWindow {
  /** First row to draw, and the one after the last. */
  start: number;
  end: number;
}

/** Rows drawn beyond either edge, so that a quick scroll meets no blank. */
export const OVERSCAN = 6;

/** Rows `start..end` cover the viewport plus `overscan` rows on either side. Sizes are in CSS pixels. */
export function rowWindow(scrollTop: number, viewport: number, rowHeight: number, count: number, overscan = OVERSCAN): RowWindow {
  const first = Math.floor(Math.max(0, scrollTop) / rowHeight) - overscan;
  const last = Math.ceil((Math.max(0, scrollTop) + viewport) / rowHeight) + overscan;
  const end = Math.min(count, Math.max(0, last));
  return { start: Math.max(0, Math.min(first, end)), end };
}

/** The scroll position that brings row `index` into sight with the least movement; unchanged when it is. */
export function scrollToRow(index: number, scrollTop: number, viewport: number, rowHeight: number): number {
  const top = index * rowHeight;
  if (top < scrollTop) return top;
  if (top + rowHeight > scrollTop + viewport) return top + rowHeight - viewport;
  return scrollTop;
}
