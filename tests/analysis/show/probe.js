// Runs inside a page of the report and writes what it finds into the frame's parent (see test_browser.py).
addEventListener("load", async () => {
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parts = (colour) => {
    const found = colour.match(/[\d.]+/g).map(Number);
    return { rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1 };
  };
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parts(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((under, { rgb, alpha }) => under.map((v, i) => v * (1 - alpha) + rgb[i] * alpha),
      [255, 255, 255]);
  };
  const contrast = (a, b) => {
    const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const page = document.documentElement;
  const faint = new Set();
  let texts = 0;
  const closed = page.scrollHeight;
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("script, style, title, desc")) continue;
    const style = getComputedStyle(element);
    const colour = parts(element instanceof SVGElement ? style.fill : style.color);
    const under = ground(element);
    const seen = under.map((v, i) => v * (1 - colour.alpha) + colour.rgb[i] * colour.alpha);
    texts += 1;
    const value = contrast(seen, under);
    if (value < 4.5) faint.add(`${element.tagName} ${value.toFixed(2)}: ${walker.currentNode.textContent.trim().slice(0, 40)}`);
  }
  const outside = [...document.querySelectorAll("main *")].filter((e) => !e.closest(".scroll, .drawing, .hidden")
    && e.getBoundingClientRect().right > page.clientWidth + 1 && e.getBoundingClientRect().width > 0);
  const sorting = () => {
    const table = document.querySelector("#table-results");
    if (!table) return null;
    const heads = [...table.tHead.rows[0].cells];
    const column = heads.findIndex((head) => head.textContent.trim() === "BLEU");
    const button = heads[column].querySelector("button");
    const values = () => [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[column].textContent));
    const states = [{ order: values(), aria: heads[column].getAttribute("aria-sort") }];
    button.focus();
    const focused = document.activeElement === button && button.tagName === "BUTTON" && button.type === "button";
    for (let i = 0; i < 3; i += 1) {
      button.click();
      states.push({ order: values(), aria: heads[column].getAttribute("aria-sort") });
    }
    return { focused, states };
  };
  const found = {
    width: innerWidth, height: closed,
    sideways: page.scrollWidth - page.clientWidth,
    outside: outside.slice(0, 5).map((e) => `${e.tagName}.${e.className}: ${e.textContent.slice(0, 40)}`),
    ground: ground(document.body),
    texts, faint: [...faint].slice(0, 10),
    headings: [...document.querySelectorAll("h1,h2,h3,h4,h5,h6")].map((e) => Number(e.tagName[1])),
    tables: document.querySelectorAll("table").length,
    uncaptioned: [...document.querySelectorAll("table")].filter((t) => !t.caption || !t.caption.textContent.trim()).length,
    unscoped: document.querySelectorAll("th:not([scope])").length,
    rowless: [...document.querySelectorAll("tbody tr")].filter((r) => r.cells[0].tagName !== "TH").length,
    unscrollable: [...document.querySelectorAll("table, figure svg")].filter((e) => {
      const box = e.closest(".scroll, .drawing");
      return !box || box.tabIndex !== 0 || box.getAttribute("role") !== "region" || !box.getAttribute("aria-label");
    }).length,
    svgs: document.querySelectorAll("svg").length,
    unnamed: [...document.querySelectorAll("svg")].filter((e) => e.getAttribute("role") !== "img"
      || !document.getElementById(e.getAttribute("aria-labelledby"))?.textContent.trim()
      || !document.getElementById(e.getAttribute("aria-describedby"))?.textContent.trim()).length,
    marked: [...document.querySelectorAll(".best")].every((e) => Number(getComputedStyle(e).fontWeight) >= 700
      && getComputedStyle(e).textDecorationLine.includes("underline")),
    best: document.querySelectorAll(".best").length,
    sorted: sorting(), axe: null,
  };
  if (window.axe) {
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    found.axe = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 120))}`);
  }
  parent.document.getElementById(frameElement.name).textContent = JSON.stringify(found);
});
