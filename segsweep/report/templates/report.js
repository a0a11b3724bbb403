// Draws every figure with the colours of the style sheet, and again when the scheme changes.
(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => window.innerWidth < 640;

  // colours are written as names of CSS variables; only what is a colour is looked up
  function coloured(node, isColour, style) {
    if (typeof node === "string") {
      return isColour && node.startsWith("--") ? style.getPropertyValue(node).trim() : node;
    }
    if (Array.isArray(node)) return node.map((part) => coloured(part, isColour, style));
    if (node === null || typeof node !== "object") return node;
    const result = {};
    for (const key of Object.keys(node)) {
      result[key] = coloured(node[key], /color/.test(key), style);
    }
    return result;
  }

  function merged(base, over) {
    const result = Object.assign({}, base);
    for (const key of Object.keys(over)) {
      const both = [base[key], over[key]].every((v) => v && typeof v === "object" && !Array.isArray(v));
      result[key] = both ? merged(base[key], over[key]) : over[key];
    }
    return result;
  }

  function layoutOf(own, style) {
    const axis = {
      automargin: true, gridcolor: "--line", linecolor: "--line", zerolinecolor: "--line",
      zeroline: false, ticks: "", tickfont: { size: narrow() ? 11 : 12 }, fixedrange: narrow(),
      title: { standoff: 12, font: { size: 12, color: "--muted" } },
    };
    const base = {
      autosize: true,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "--ink" },
      margin: { l: 8, r: 16, t: 36, b: 44 },
      xaxis: axis, yaxis: axis, hovermode: "closest", dragmode: narrow() ? false : "zoom",
      hoverlabel: { bgcolor: "--wash", bordercolor: "--line", font: { color: "--ink" } },
      legend: { font: { color: "--muted" } },
    };
    return coloured(merged(base, own), false, style);
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = figures[place.dataset.figure];
      Plotly.react(
        place, coloured(figure.data, false, style), layoutOf(figure.layout, style),
        { responsive: true, displayModeBar: false },
      );
    }
  }

  draw();
  scheme.addEventListener("change", draw);
})();
