export { headsFigure, type HeadsFigure } from "./heads-figure.ts";
export { lineFigure, type LineFigure, type LineSeries } from "./line-figure.ts";
export { methodFigure } from "./method-figure.ts";
export { HOUSE_STYLE, INK, MUTED, renderSvg } from "./svg.ts";
