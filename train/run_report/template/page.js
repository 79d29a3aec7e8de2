// Draws the charts; while the run trains, loads the page again.
"use strict";

const run = JSON.parse(document.getElementById("run-data").textContent);
const isDark = matchMedia("(prefers-color-scheme: dark)");
const isTouched = matchMedia("(pointer: coarse)");
const logX = document.getElementById("log-x");
const drawn = run.charts.filter((chart) => chart.lines.length);

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

function traces(chart) {
  const colors = ["first", "second", "third"];
  return chart.lines.map((line, number) => ({
    type: "scatter",
    mode: line.marks || line.x.length === 1 ? "lines+markers" : "lines",
    name: line.name || chart.title,
    x: line.x,
    y: line.y,
    customdata: line.steps,
    line: { color: color(colors[number]), width: line.marks ? 2.2 : 1.5 },
    marker: { size: 6 },
    hovertemplate: `<b>%{y:${chart.form}}</b>${chart.unit} at step %{customdata:,}`
      + `<extra>${line.name}</extra>`,
  }));
}

// Where there are few decades, 1, 2 and 5 of each in full; by itself the library writes digits without their decade.
function logTicks(values) {
  const positive = values.filter((value) => value > 0);
  const [low, high] = [Math.min(...positive), Math.max(...positive)];
  if (!positive.length || high / low >= 100) return { dtick: 1 };
  const decades = [0, 1, 2, 3].map((number) => Math.floor(Math.log10(low)) + number);
  const ticks = decades.flatMap((decade) => [1, 2, 5].map((digit) => Number(`${digit}e${decade}`)));
  const format = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 1 });
  return { tickmode: "array", tickvals: ticks, ticktext: ticks.map((tick) => format.format(tick).replace("K", "k")) };
}

function layout(chart) {
  const axis = { color: color("quiet"), gridcolor: color("grid"), zeroline: false, linecolor: color("line") };
  const shapes = [], annotations = [];
  const highest = Math.max(...chart.lines.flatMap((line) => line.y.filter((value) => value !== null)));
  if (chart.level && highest > chart.level[0] / 2) {
    const [value, label] = chart.level;
    const dashed = { color: color("second"), width: 1, dash: "dot" };
    shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, line: dashed });
    annotations.push({
      text: label, showarrow: false, xref: "paper", x: 1, xanchor: "right", yanchor: "bottom",
      y: chart.log_y ? Math.log10(value) : value, font: { size: 11, color: color("second") },
    });
  }
  return {
    margin: { l: 56, r: 12, t: chart.lines.length > 1 ? 34 : 10, b: 40 },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("ink") },
    hovermode: "x unified",
    hoverlabel: { bgcolor: color("card"), bordercolor: color("line"), font: { color: color("ink") } },
    dragmode: isTouched.matches ? false : "zoom",
    showlegend: chart.lines.length > 1,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "transparent" },
    xaxis: {
      ...axis, title: { text: run.over, standoff: 8 }, type: logX.checked ? "log" : "linear", hoverformat: ",d",
      nticks: innerWidth < 640 ? 5 : 8, exponentformat: "SI", tickangle: 0,
      ...(logX.checked && logTicks(chart.lines.flatMap((line) => line.x))),
    },
    yaxis: {
      ...axis, type: chart.log_y ? "log" : "linear", tickformat: chart.form.includes("%") ? chart.form : undefined,
      exponentformat: chart.name === "rate" ? "e" : "SI", nticks: 6,
      ...(chart.log_y && logTicks(chart.lines.flatMap((line) => line.y))),
    },
    shapes,
    annotations,
  };
}

function draw() {
  for (const chart of drawn) {
    const options = { responsive: true, displaylogo: false, displayModeBar: false };
    // Not react(): where nothing has changed, it gives a logarithmic axis the range of an empty chart.
    Plotly.newPlot("chart-" + chart.name, traces(chart), layout(chart), options);
  }
}

document.getElementById("log-switch").hidden = !drawn.length;
isDark.addEventListener("change", draw);
logX.addEventListener("change", draw);
draw();
if (run.reload_seconds) setTimeout(() => location.reload(), run.reload_seconds * 1000);
