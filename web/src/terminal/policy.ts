/**
 * xterm draws with <style> elements and style attributes, which the page's content policy forbids. The same
 * rules through the CSS object model are allowed, so both are led that way.
 */
import type { Terminal } from '@xterm/xterm';

/** Stands in for a <style>: its text goes into an adopted sheet of the document. */
function sheetElement(): HTMLElement {
  // A real <style> would be judged, and refused, even while it is empty.
  const element = document.createElementNS('http://www.w3.org/1999/xhtml', 'template') as HTMLElement;
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  let content = '';
  Object.defineProperty(element, 'textContent', {
    get: () => content,
    set: (rules: string) => {
      content = rules;
      sheet.replaceSync(rules);
    },
  });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

/** `terminal.open(host)`, during which xterm makes all its <style> elements. */
export function openStrictly(terminal: Terminal, host: HTMLElement): void {
  styleSpansThroughCssom();
  const original = document.createElement.bind(document);
  document.createElement = ((tag: string, options?: ElementCreationOptions) =>
    tag.toLowerCase() === 'style' ? sheetElement() : original(tag, options)) as typeof document.createElement;
  try {
    terminal.open(host);
  } finally {
    // The method of the prototype shows again.
    Reflect.deleteProperty(document, 'createElement');
  }
}

/**
 * A true colour is written to the style attribute of a row's span. On spans, and nowhere else, that assignment
 * becomes one to `style.cssText`, which means the same.
 */
function styleSpansThroughCssom(): void {
  if (Object.hasOwn(HTMLSpanElement.prototype, 'setAttribute')) return;
  Object.defineProperty(HTMLSpanElement.prototype, 'setAttribute', {
    configurable: true,
    writable: true,
    value(this: HTMLElement, name: string, value: string) {
      if (name === 'style') this.style.cssText = value;
      else Element.prototype.setAttribute.call(this, name, value);
    },
  });
}
