"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // ---- charts: drawn when they come near the screen, so that a page of many opens at once
  const drawChart = (place) => {
    if (place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    if (!window.Plotly) {
      const library = document.createElement("script");
      library.textContent = byId("plotly").textContent; // reading 5 MB of code can wait until a chart is near
      document.head.append(library);
    }
    const figure = JSON.parse(place.querySelector("script").textContent);
    const options = { responsive: true, displaylogo: false, displayModeBar: false };
    Plotly.newPlot(place.querySelector(".plot"), figure.data, figure.layout, options);
  };
  const charts = document.querySelectorAll(".chart");
  const watcher = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => drawChart(entry.target)),
    { rootMargin: "400px" },
  );
  charts.forEach((place) => watcher.observe(place));
  window.addEventListener("beforeprint", () => charts.forEach(drawChart));

  // ---- the viewer
  const viewer = byId("viewer");
  if (!viewer) return;
  const maps = JSON.parse(byId("maps").textContent);
  const chosen = { case: byId("case"), region: byId("region"), model: byId("model"), channel: byId("channel"), map: byId("map") };
  const slider = byId("slice");
  const canvases = { image: byId("image"), probability: byId("probability"), raters: byId("raters") };
  let shown = null; // the case, with its arrays inflated
  let wanted = 0; // the latest case that was asked for: an older one that loads later is dropped

  const inflated = async (text) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  const pictureOf = async (text) => {
    const picture = new Image();
    picture.src = "data:image/jpeg;base64," + text;
    await picture.decode();
    return picture;
  };

  const inflatedValues = async (content) => {
    const found = {};
    for (const [name, text] of Object.entries(content)) found[name] = await inflated(text);
    return found;
  };

  const setOptions = (select, values) => {
    const before = select.value;
    select.replaceChildren(...values.map(([value, text]) => new Option(text, value)));
    if (values.some(([value]) => value === before)) select.value = before;
    select.closest("label").hidden = values.length < 2;
  };

  const openCase = async () => {
    const ticket = ++wanted;
    const content = JSON.parse(byId("case-" + chosen.case.value).textContent);
    const slices = content.slices;
    const loaded = { ...content, ...slices, percent: {}, marked: new Map() };
    loaded.pictures = await Promise.all(slices.images.map(pictureOf));
    loaded.bits = await inflatedValues(slices.marks);
    for (const region of Object.keys(slices.probabilities)) loaded.percent[region] = await inflatedValues(slices.probabilities[region]);
    if (ticket !== wanted) return;
    shown = loaded;
    setOptions(chosen.region, Object.keys(slices.marks).map((name) => [name, name]));
    setOptions(chosen.model, slices.models.map((name) => [name, name]));
    setOptions(chosen.channel, slices.images.map((_, number) => [String(number), slices.channels[number]]));
    slider.max = String(slices.numbers.length - 1);
    slider.value = String(slices.open);
    byId("slices").hidden = slices.numbers.length < 2;
    byId("notes").textContent = [slices.plane, ...slices.notes].filter(Boolean).join("; ");
    showLegend();
    draw();
    viewer.dataset.open = content.name; // the case is on the screen
  };

  const showLegend = () => {
    const entries = [...shown.raters.map((rater) => ({ ...rater, dice: null })), { name: "prediction", color: "#fff", width: 2, dash: [] }];
    const hidden = new Set([...byId("marks").querySelectorAll("input:not(:checked)")].map((box) => box.value));
    byId("marks").replaceChildren(
      ...entries.map((entry, number) => {
        const label = document.createElement("label");
        const box = document.createElement("input");
        const line = document.createElement("span");
        box.type = "checkbox";
        box.value = String(number === shown.raters.length ? "prediction" : number);
        box.checked = !hidden.has(box.value);
        box.addEventListener("change", draw);
        line.className = "line";
        line.style.borderTopColor = entry.color;
        line.style.borderTopStyle = entry.dash.length ? "dashed" : "solid";
        label.append(box, line, document.createTextNode(entry.name));
        return label;
      }),
    );
    showScores();
  };

  const showScores = () => {
    const scores = (shown.scores[chosen.region.value] || {})[chosen.model.value] || [];
    byId("scores").replaceChildren(
      ...scores.map(([label, value]) => {
        const row = document.createElement("tr");
        for (const text of [label, value === null ? "\u2013" : typeof value === "number" ? value.toFixed(3) : value]) {
          const cell = document.createElement("td");
          cell.textContent = text;
          row.append(cell);
        }
        row.lastChild.className = "number";
        return row;
      }),
    );
  };

  const prepared = (canvas) => {
    const [rows, columns] = shown.size;
    const ratio = (columns * shown.pixel[1]) / (rows * shown.pixel[0]);
    canvas.style.width = "min(100%, " + (byId("large").checked ? 85 : 60) * ratio + "vh)";
    canvas.style.aspectRatio = String(ratio);
    const sharp = window.devicePixelRatio || 1;
    canvas.width = Math.max(Math.round(canvas.clientWidth * sharp), 1);
    canvas.height = Math.max(Math.round(canvas.width / ratio), 1);
    const pen = canvas.getContext("2d");
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    return pen;
  };

  // What a rater or model marked in a slice, with a rim of zeros, and its outline. Both are kept: a picture is drawn often.
  const markedBy = (bit, index) => {
    const key = [chosen.region.value, bit, index].join();
    if (!shown.marked.has(key)) {
      const [rows, columns] = shown.size;
      const wide = columns + 2;
      const planes = shown.bits[chosen.region.value];
      let from = ((bit >> 3) * shown.numbers.length + index) * rows * columns;
      const inside = new Uint8Array((rows + 2) * wide);
      for (let row = 1; row <= rows; row++) {
        for (let column = 1; column <= columns; column++) inside[row * wide + column] = (planes[from++] >> (bit & 7)) & 1;
      }
      shown.marked.set(key, { inside, path: outline(inside, rows, columns) });
    }
    return shown.marked.get(key);
  };

  // An outline runs along the edges of voxels: it shows exactly what was marked. Edges in one line are one stroke.
  const outline = (inside, rows, columns) => {
    const path = new Path2D();
    const wide = columns + 2;
    const trace = (lines, length, along, beside, stroke) => {
      for (let line = 0; line <= lines; line++) {
        let start = -1;
        for (let place = 0; place <= length; place++) {
          const here = line * beside + (place + 1) * along;
          const edge = inside[here] !== inside[here + beside];
          if (edge && start < 0) start = place;
          if (!edge && start >= 0) {
            stroke(line, start, place);
            start = -1;
          }
        }
      }
    };
    trace(rows, columns, 1, wide, (row, from, to) => (path.moveTo(from, row), path.lineTo(to, row)));
    trace(columns, rows, wide, 1, (column, from, to) => (path.moveTo(column, from), path.lineTo(column, to)));
    return path;
  };

  const contour = (pen, mark, style) => {
    const [rows, columns] = shown.size;
    const [high, wide] = [pen.canvas.height / rows, pen.canvas.width / columns];
    const path = new Path2D();
    path.addPath(mark.path, new DOMMatrix([wide, 0, 0, high, 0, 0]));
    // thin lines where a voxel is smaller than a pixel of the screen: the structures are thin there as well
    const sharp = (window.devicePixelRatio || 1) * Math.min(Math.max(wide / (window.devicePixelRatio || 1), 0.45), 1);
    pen.lineCap = style.dash.length ? "butt" : "round";
    pen.setLineDash(style.dash.map((length) => length * sharp));
    if (style.rim) {
      pen.strokeStyle = "#000";
      pen.lineWidth = (style.width + 1.5) * sharp;
      pen.stroke(path);
    }
    pen.strokeStyle = style.color;
    pen.lineWidth = style.width * sharp;
    pen.stroke(path);
    pen.setLineDash([]);
  };

  const coloured = (pen, valueAt, colours) => {
    const [rows, columns] = shown.size;
    const small = new OffscreenCanvas(columns, rows);
    const brush = small.getContext("2d");
    const pixels = brush.createImageData(columns, rows);
    for (let place = 0, at = 0; place < rows * columns; place++, at += 4) {
      const colour = colours[valueAt(place)];
      pixels.data[at] = colour[0];
      pixels.data[at + 1] = colour[1];
      pixels.data[at + 2] = colour[2];
      pixels.data[at + 3] = 255;
    }
    brush.putImageData(pixels, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, pen.canvas.width, pen.canvas.height);
  };

  const drawImage = (pen, index) => {
    const [rows, columns] = shown.size;
    const picture = shown.pictures[Number(chosen.channel.value) || 0];
    if (!picture) return;
    const [across, high, wide] = shown.tiles;
    const [left, top] = [(index % across) * wide, Math.floor(index / across) * high];
    pen.imageSmoothingEnabled = true;
    pen.drawImage(picture, left, top, columns, rows, 0, 0, pen.canvas.width, pen.canvas.height);
  };

  const drawLetters = (pen) => {
    const [wide, high, size] = [pen.canvas.width, pen.canvas.height, 13 * (window.devicePixelRatio || 1)];
    const places = [[size, high / 2], [wide - size, high / 2], [wide / 2, size], [wide / 2, high - size]];
    pen.font = "bold " + size + "px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    [...shown.letters].forEach((letter, number) => {
      pen.lineWidth = 3;
      pen.strokeStyle = "#000";
      pen.strokeText(letter, ...places[number]);
      pen.fillStyle = "#fff";
      pen.fillText(letter, ...places[number]);
    });
  };

  const sharesAt = (index) => {
    const [rows, columns] = shown.size;
    const shares = new Float32Array(rows * columns);
    for (let bit = 0; bit < shown.raters.length; bit++) {
      const inside = markedBy(bit, index).inside;
      for (let row = 0, place = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) shares[place++] += inside[(row + 1) * (columns + 2) + column + 1];
      }
    }
    return shares.map((sum) => sum / shown.raters.length);
  };

  const draw = () => {
    const index = Number(slider.value);
    const [rows, columns] = shown.size;
    const wantedMarks = new Set([...byId("marks").querySelectorAll("input:checked")].map((box) => box.value));
    const model = shown.models.indexOf(chosen.model.value);
    const prediction = model < 0 ? null : markedBy(shown.raters.length + model, index);
    const rim = { color: "#fff", width: 1.5, dash: [], rim: true };

    const image = prepared(canvases.image);
    drawImage(image, index);
    shown.raters.forEach((style, bit) => wantedMarks.has(String(bit)) && contour(image, markedBy(bit, index), style));
    if (prediction && wantedMarks.has("prediction")) contour(image, prediction, rim);
    drawLetters(image);

    const percent = (shown.percent[chosen.region.value] || {})[chosen.model.value];
    const start = index * rows * columns;
    const pen = prepared(canvases.probability);
    if (percent) coloured(pen, (place) => percent[start + place], maps.probability);
    if (prediction && wantedMarks.has("prediction")) contour(pen, prediction, rim);

    const share = sharesAt(index);
    const right = prepared(canvases.raters);
    const kinds = {
      disagreement: [(place) => Math.round(400 * share[place] * (1 - share[place])), maps.disagreement],
      share: [(place) => Math.round(100 * share[place]), maps.probability],
      difference: [(place) => Math.round(100 + (percent ? percent[start + place] : 0) - 100 * share[place]), maps.difference],
    };
    coloured(right, ...kinds[chosen.map.value]);
    byId("at").textContent = "slice " + shown.numbers[index] + " of " + shown.of;
    byId("bar").dataset.kind = chosen.map.value;
    byId("low").textContent = chosen.map.value === "difference" ? "\u22121" : "0";
    byId("high").textContent = chosen.map.value === "disagreement" ? "split in half" : "1";
  };

  const step = (by) => {
    const number = chosen.case.selectedIndex + by;
    if (number >= 0 && number < chosen.case.length) {
      chosen.case.selectedIndex = number;
      openCase();
    }
  };

  chosen.case.addEventListener("change", openCase);
  [chosen.region, chosen.model].forEach((select) => select.addEventListener("change", () => (showScores(), draw())));
  [chosen.channel, chosen.map].forEach((select) => select.addEventListener("change", draw));
  slider.addEventListener("input", draw);
  byId("large").addEventListener("change", () => (viewer.classList.toggle("large", byId("large").checked), draw()));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  document.querySelectorAll("a[data-case]").forEach((link) =>
    link.addEventListener("click", () => {
      chosen.case.value = link.dataset.case;
      openCase();
    }),
  );
  window.addEventListener("resize", () => shown && draw());
  openCase();
})();
