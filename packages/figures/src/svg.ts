import { parse, resetSVGDefIds, View } from "vega";
import { compile, type Config, type TopLevelSpec } from "vega-lite";

export const INK = "#1b1b1f";
export const MUTED = "#5f6068";
export const FAINT = "#d5d6dc";

/** One of several pictures side by side. */
export type Panel = Extract<TopLevelSpec, { hconcat: unknown }>["hconcat"][number];

/** What all figures of the project have in common; the white ground reads on light and dark pages. */
export const HOUSE_STYLE: Config = {
  font: "Inter, Helvetica, Arial, sans-serif",
  view: { stroke: null },
  axis: {
    domain: false,
    ticks: false,
    grid: false,
    labelColor: MUTED,
    titleColor: MUTED,
    titleFontWeight: "normal",
    labelFontSize: 11,
    titleFontSize: 11,
    labelPadding: 6,
  },
  scale: { bandPaddingInner: 0, bandPaddingOuter: 0 },
  title: { fontSize: 16, subtitleFontSize: 12, color: INK, subtitleColor: MUTED, subtitlePadding: 6 },
  legend: { labelColor: MUTED, titleColor: MUTED, titleFontWeight: "normal", labelLimit: 0, titleLimit: 0 },
};

/** The title of one of several panels; `raised` where the labels of a neighbour's axis stand above its frame. */
export function panelTitle(text: string, raised = 0): NonNullable<Panel["title"]> {
  return { text, anchor: "start", frame: "group", fontSize: 13, fontWeight: "bold", offset: 12 + raised };
}

/** A Vega-Lite 5 description as SVG. The same description gives the same bytes. */
export async function renderSvg(specification: TopLevelSpec): Promise<string> {
  resetSVGDefIds();
  const { spec } = compile({ background: "white", padding: 16, ...specification });
  const view = new View(parse(spec), { renderer: "none" });
  try {
    return `${await view.toSVG()}\n`;
  } finally {
    view.finalize();
  }
}
