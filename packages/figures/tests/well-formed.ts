import { expect } from "vitest";

/** One svg element, every tag closed in its order, no stray < or & in texts and attributes. */
export function expectWellFormed(svg: string): void {
  const open: string[] = [];
  let rest = svg.trim();
  let roots = 0;
  while (rest !== "") {
    const tag = /^<(\/?)([a-zA-Z][\w:]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/.exec(rest);
    if (tag) {
      const [whole, closing, name, attributes, empty] = tag;
      expect(attributes.replace(/&(amp|lt|gt|quot|apos|#\d+);/g, "")).not.toContain("&");
      if (closing) expect(open.pop()).toBe(name);
      else {
        if (open.length === 0) roots += 1;
        if (!empty) open.push(name);
      }
      rest = rest.slice(whole.length);
    } else {
      const [text] = /^[^<]+/.exec(rest) ?? [""];
      expect(text, `at ${rest.slice(0, 60)}`).not.toBe("");
      expect(text.replace(/&(amp|lt|gt|quot|apos|#\d+);/g, "")).not.toContain("&");
      rest = rest.slice(text.length);
    }
  }
  expect(open).toEqual([]);
  expect(roots).toBe(1);
  expect(svg).toMatch(/^<svg /);
}

/** What can be read in a picture. */
export function textsOf(svg: string): string[] {
  return Array.from(svg.matchAll(/>([^<>]+)</g), ([, text]) => text);
}
