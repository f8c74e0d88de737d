// Draws the charts of a page from the JSON beside them, in the colours of the page, and keeps to these when they change.
(() => {
  "use strict";
  const charts = [...document.querySelectorAll(".chart")];
  const config = {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    showSendToCloud: false, plotlyServerURL: "", // nothing of a job leaves its page
  };
  const clear = "rgba(0,0,0,0)";

  // What all charts have in common, in the colours of the page.
  const template = () => {
    const style = getComputedStyle(document.documentElement);
    const [panel, ink, soft, line] = ["panel", "ink", "soft", "line"].map((name) => style.getPropertyValue(`--${name}`).trim());
    const colors = { gridcolor: line, linecolor: line, tickcolor: line };
    const axis = { automargin: true, ticks: "outside", ticklen: 4, title: { standoff: 8 }, ...colors };
    const layout = {
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink },
      showlegend: false, dragmode: "zoom", hovermode: "closest", paper_bgcolor: clear, plot_bgcolor: clear,
      margin: { l: 8, r: 16, t: 28, b: 8 }, xaxis: axis, yaxis: axis,
      hoverlabel: { bgcolor: panel, bordercolor: line, font: { color: ink } },
      modebar: { color: soft, activecolor: ink, bgcolor: clear },
    };
    return { layout, data: { bar: [{ marker: { line: { width: 0 } } }] } };
  };

  // Plotly is in the page compressed, as base64; it is unpacked once, where there is a chart.
  let plotly;
  const unpack = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (byte) => byte.charCodeAt(0));
    const script = document.createElement("script");
    script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(script);
  };

  const draw = async (chart) => {
    const { data, layout } = JSON.parse(document.getElementById(`${chart.id}-figure`).textContent);
    if (chart.clientWidth < 560) Object.assign(layout.xaxis, layout.meta?.narrow); // where labels need more room
    try {
      await (plotly ??= unpack());
      await Plotly.newPlot(chart, data, { template: template(), ...layout }, config);
      for (const drawing of chart.querySelectorAll(".main-svg")) drawing.setAttribute("aria-hidden", "true"); // words: its label
    } catch (error) {
      chart.textContent = `This chart could not be drawn (${error.message}); the table below has its numbers.`;
      console.error(error);
    }
  };
  const repaint = () => charts.filter((chart) => chart.layout).map((chart) => Plotly.relayout(chart, { template: template() }));

  for (const button of document.querySelectorAll("button[data-copies]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copies);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source); // where a page may not write to the clipboard
        button.textContent = "Selected";
      }
    });
  }

  let opened = [];
  const print = (isPrinting) => {
    document.documentElement.classList.toggle("on-paper", isPrinting);
    if (isPrinting) opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = isPrinting;
    repaint();
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

  Promise.all(charts.map(draw)).then(() => document.documentElement.classList.add("drawn"));
})();
