// Asks for the version of the page shown and reloads it when that has changed. A page that its
// reader has begun to use (a click, a key) gets a button instead.
"use strict";
(() => {
  const own = document.currentScript;
  const { url, version, index } = own.dataset;
  const bar = document.getElementById("served-bar");
  bar.setAttribute("role", "status");
  bar.style.cssText = "position:fixed;right:12px;bottom:12px;z-index:99999;padding:6px 10px;" +
    "font:14px system-ui,sans-serif;background:#222;color:#fff;border-radius:6px";
  addEventListener("beforeprint", () => { bar.style.display = "none"; });
  addEventListener("afterprint", () => { bar.style.display = ""; });
  let isInUse = false;
  for (const kind of ["pointerdown", "keydown", "input"]) {
    document.addEventListener(kind, (event) => {
      if (!bar.contains(event.target)) isInUse = true;
    }, { capture: true, passive: true });
  }
  const status = document.createElement("span");
  bar.append(status);
  if (index) {
    const link = document.createElement("a");
    link.href = index;
    link.textContent = "all studies";
    link.style.color = "#fff";
    bar.append(" ", link);
    bar.hidden = false;
  }
  const say = (text) => {
    if (status.textContent !== text) status.textContent = text;
    bar.hidden = !text && !index;
  };
  const offer = () => {
    if (bar.querySelector("button")) return;
    const button = document.createElement("button");
    button.textContent = "Show new results";
    button.addEventListener("click", () => location.reload());
    bar.prepend(button, " ");
    bar.hidden = false;
  };
  let isAsking = false;
  const ask = async () => {
    if (document.hidden || isAsking) return;
    isAsking = true;
    try {
      const answer = await fetch(url, { cache: "no-cache" });
      if (!answer.ok) throw new Error(answer.statusText);
      say("");
      if ((await answer.text()) !== version) {
        if (isInUse) offer(); else location.reload();
      }
    } catch {
      say("The server does not answer");
    } finally {
      isAsking = false;
    }
  };
  setInterval(ask, 5000);
  document.addEventListener("visibilitychange", ask);
})();
