// Elements without a line of HTML: text from a profile is only ever text.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}

export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined && child !== false));
}

// Says something to those who do not see the page, and shows it where it concerns all.
export function announce(text) {
  byId("live").textContent = text;
}

let toastTimer = 0;
export function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 4000);
}

// One call for each frame that is drawn, however often it is asked for.
export function eachFrame(draw) {
  let asked = 0;
  return () => {
    if (!asked) asked = requestAnimationFrame(() => { asked = 0; draw(); });
  };
}

// Does something bit by bit while the browser has nothing else to do. `work` is told a test for whether there is time left, and answers
// whether it is done.
export function whenIdle(work) {
  askIdle((deadline) => {
    if (!work(() => deadline.timeRemaining() > 1)) whenIdle(work);
  });
}

// Safari does not tell when it is idle.
function askIdle(act) {
  if (window.requestIdleCallback) {
    requestIdleCallback(act);
    return;
  }
  setTimeout(() => {
    const end = performance.now() + 5;
    act({ timeRemaining: () => end - performance.now() });
  }, 50);
}

// A canvas as sharp as the screen. Answers its size in CSS pixels.
export function fitCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h2] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h2) {
    canvas.width = w;
    canvas.height = h2;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
