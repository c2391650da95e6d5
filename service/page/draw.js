// Drawing: elements, the map as colours, histograms.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const BINS = 36;
const LARGEST_MAP = 1600; // pixels of a side that are drawn of a map

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function shape(tag, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  element.textContent = text;
  return element;
}

function icon(name) {
  const svg = shape("svg", { class: "icon", "aria-hidden": "true" });
  svg.append(shape("use", { href: `#icon-${name}` }));
  return svg;
}

const percent = (value) => `${(value * 100).toPrecision(2).replace(/\.0$/, "")} %`;

// Clear below the threshold, yellow at it (grey 127), red far above it.
function colour(grey) {
  const above = Math.min(Math.max((grey - 127) / 100, 0), 1);
  const alpha = grey < 128 ? 110 * (grey / 127) ** 3 : 150 + 105 * above;
  return [255, grey < 128 ? 214 : 200 * (1 - above) + 20, grey < 128 ? 120 : 30, alpha];
}
const COLOURS = Array.from({ length: 256 }, (_, grey) => colour(grey));

// A map of the service as colours on a canvas.
async function drawMap(canvas, map) {
  const bytes = Uint8Array.from(atob(map.data), (letter) => letter.charCodeAt(0));
  const scale = Math.min(1, LARGEST_MAP / Math.max(map.width, map.height));
  canvas.width = Math.max(1, Math.round(map.width * scale));
  canvas.height = Math.max(1, Math.round(map.height * scale));
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data.set(COLOURS[pixels.data[at]], at);
  context.putImageData(pixels, 0, 0);
}

// Values 0..1 as bars. marks: [{at, text, kind}] as lines; over: where the anomalous side begins.
function drawHistogram(svg, values, marks, over, ends = ["usual", "odd"]) {
  const [width, height, base] = [360, 128, 104];
  const counts = new Array(BINS).fill(0);
  values.forEach((value) => { counts[Math.min(BINS - 1, Math.floor(value * BINS))] += 1; });
  const most = Math.max(...counts, 1);
  const x = (value) => 4 + value * (width - 8);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(
    shape("rect", { class: "over", x: x(over), y: 18, width: x(1) - x(over), height: base - 18 }),
    ...counts.map((count, bin) => {
      const tall = count ? Math.max(2, (count / most) * (base - 34)) : 0;
      return shape("rect", { class: "bin", x: x(bin / BINS) + 0.75, y: base - tall, width: (width - 8) / BINS - 1.5, height: tall, rx: 1 });
    }),
    shape("line", { class: "axis", x1: x(0), x2: x(1), y1: base, y2: base }),
    shape("text", { x: x(0), y: height - 10 }, ends[0]),
    shape("text", { x: x(1), y: height - 10, "text-anchor": "end" }, ends[1]),
    ...marks.flatMap(({ at, text, kind }) => {
      const anchor = at > 0.75 ? "end" : at < 0.25 ? "start" : "middle";
      const label = kind === "picture" ? 12 : height - 10;
      return [
        shape("line", { class: kind, x1: x(at), x2: x(at), y1: 18, y2: base }),
        ...(kind === "picture" ? [shape("path", { class: kind, d: `M${x(at) - 5} 17h10l-5 8z` })] : []),
        shape("text", { class: kind, x: x(at), y: label, "text-anchor": anchor }, text),
      ];
    }),
  );
}

// A share 0..1 as a bar, with a mark at the threshold.
function meter(score, isOver) {
  const fill = make("i", { className: isOver ? "fill over" : "fill" });
  fill.style.width = `${Math.min(score, 1) * 100}%`;
  return make("span", { className: "meter", ariaHidden: "true" }, fill);
}
