import { HOUSE_STYLE, INK, renderSvg } from "@longctx/figures";
import type { TopLevelSpec } from "vega-lite";
import { lengthName, taskName } from "./names.ts";
import type { Summary } from "./summary.ts";

const CELL = { width: 46, height: 30 };

/**
 * The run as small multiples, an SVG: a panel a method, length on x, depth on y with the beginning at the top, accuracy
 * as colour and as number. The dashed line is the trained window. The same summary gives the same bytes.
 */
export function svgHeatmap(summary: Summary): Promise<string> {
  return renderSvg(specification(summary));
}

function specification({ run, cells }: Summary): TopLevelSpec {
  const panels = Math.min(
    run.methods.length,
    run.methods.length % 3 === 0 || run.methods.length > 8 ? 3 : run.methods.length > 4 ? 4 : run.methods.length,
  );
  const beyond = run.lengths.find((length) => length > run.trained_window);
  const values = cells.map((cell) => ({
    method: cell.method,
    length: lengthName(cell.length),
    depth: String(cell.depth),
    accuracy: cell.accuracy,
    text: cell.accuracy === null ? "–" : cell.accuracy.toFixed(2),
    dark: cell.accuracy === null || cell.accuracy < 0.6,
    // One rule a panel, not one a row.
    edge: cell.length === beyond && cell.depth === run.depths[0],
  }));
  const x = {
    field: "length",
    type: "nominal",
    sort: run.lengths.map(lengthName),
    title: "tokens",
    axis: { labelAngle: 0 },
  } as const;
  const y = { field: "depth", type: "nominal", sort: run.depths.map(String), title: "needle depth, %" } as const;
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v5.json",
    title: {
      text: `${run.model.name}: ${taskName(run)}`,
      subtitle: [
        `share of right answers, ${run.trials} ${run.trials === 1 ? "trial" : "trials"} a cell; trained window ${run.trained_window} tokens${beyond && run.lengths[0] !== beyond ? " (dashed line)" : ""}; seed ${run.seed}, ${run.device}, ${run.precision}`,
      ],
      anchor: "start",
      offset: 14,
    },
    data: { values },
    facet: {
      field: "method",
      type: "nominal",
      sort: [...run.methods],
      title: null,
      header: { labelAnchor: "start", labelFontSize: 12, labelFontWeight: "bold", labelColor: INK, labelPadding: 6 },
    },
    columns: panels,
    spacing: { row: 26, column: 26 },
    spec: {
      width: { step: CELL.width },
      height: { step: CELL.height },
      layer: [
        {
          mark: { type: "rect", stroke: "white", strokeWidth: 1.5 },
          encoding: {
            x,
            y,
            color: {
              field: "accuracy",
              type: "quantitative",
              scale: { scheme: "viridis", domain: [0, 1] },
              legend: { title: "accuracy", format: ".1f", values: [0, 0.5, 1], gradientLength: 120 },
            },
          },
        },
        {
          mark: { type: "text", fontSize: 11.5 },
          encoding: {
            x,
            y,
            text: { field: "text" },
            color: { condition: { test: "datum.dark", value: "white" }, value: INK },
          },
        },
        ...(beyond !== undefined && run.lengths[0] !== beyond
          ? [
              {
                transform: [{ filter: "datum.edge" }],
                mark: { type: "rule" as const, strokeDash: [3, 3], strokeWidth: 1.5, color: INK },
                encoding: { x: { ...x, bandPosition: 0 } },
              },
            ]
          : []),
      ],
    },
    config: HOUSE_STYLE,
  };
}
