/**
 * xterm draws with <style> elements and style attributes, which the page's content policy forbids. The same
 * rules through the CSS object model are allowed, so xterm gets a document whose elements take that way.
 */

type AnyElement = HTMLElement & { setAttribute: (name: string, value: string) => void };

/** A <style> whose text goes into an adopted sheet of the real document. */
function sheetElement(document: Document): HTMLElement {
  const element = document.createElement('style');
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
  const gone = (): void => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
  };
  element.remove = () => {
    gone();
    Element.prototype.remove.call(element);
  };
  return element;
}

function setAttribute(this: HTMLElement, name: string, value: string): void {
  if (name === 'style') this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

/** The document to hand to xterm as `documentOverride`. */
export function strictDocument(document: Document): Document {
  const createElement = (tag: string, options?: ElementCreationOptions): HTMLElement => {
    if (tag.toLowerCase() === 'style') return sheetElement(document);
    const element = document.createElement(tag, options) as AnyElement;
    if (tag.toLowerCase() === 'span') element.setAttribute = setAttribute;
    return element;
  };
  return new Proxy(document, {
    get(target, property) {
      if (property === 'createElement') return createElement;
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
    set: (target, property, value) => Reflect.set(target, property, value, target),
  });
}
