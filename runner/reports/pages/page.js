// Draws the charts of a page from the JSON beside them, in the colours of the page, and keeps to these when they change.
(() => {
  "use strict";
  const charts = [...document.querySelectorAll(".chart")];
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    return Object.fromEntries(["paper", "panel", "ink", "soft", "line"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  };

  const axesOf = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));

  // What changes with the colours of the page.
  const painted = (layout) => {
    const page = colours();
    const changes = {
      "font.color": page.ink,
      "hoverlabel.bgcolor": page.panel,
      "hoverlabel.bordercolor": page.line,
      "hoverlabel.font.color": page.ink,
      "modebar.color": page.soft,
      "modebar.activecolor": page.ink,
      "modebar.bgcolor": "rgba(0,0,0,0)",
    };
    for (const axis of axesOf(layout)) {
      changes[`${axis}.gridcolor`] = page.line;
      changes[`${axis}.linecolor`] = page.line;
      changes[`${axis}.tickcolor`] = page.line;
    }
    return changes;
  };

  const draw = async (chart) => {
    const figure = JSON.parse(document.getElementById(`${chart.id}-figure`).textContent);
    const own = figure.layout;
    for (const axis of axesOf(own)) {
      own[axis] = { automargin: true, ticks: "outside", ticklen: 4, ...own[axis] };
      own[axis].title = { standoff: 8, ...own[axis].title };
    }
    // What a chart says of narrow screens, where its labels need more room.
    for (const [axis, changes] of Object.entries((chart.clientWidth < 560 && own.meta?.narrow) || {})) Object.assign(own[axis], changes);
    const layout = {
      showlegend: false,
      dragmode: "zoom",
      margin: { l: 8, r: 16, t: 28, b: 8 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      ...own,
      font: { family: getComputedStyle(document.body).fontFamily, size: 13 },
    };
    try {
      await Plotly.newPlot(chart, figure.data, layout, config);
      await Plotly.relayout(chart, painted(layout));
    } catch (error) {
      chart.textContent = `This chart could not be drawn (${error.message}); the table below has its numbers.`;
      console.error(error);
    }
  };

  const repaint = () => Promise.all(charts.filter((chart) => chart.layout).map((chart) => Plotly.relayout(chart, painted(chart.layout))));

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
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("on-paper");
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
    repaint();
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("on-paper");
    for (const details of opened) details.open = false;
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

  Promise.all(charts.map(draw)).then(() => document.documentElement.classList.add("drawn"));
})();
