"""The server's own pages: index, errors, style and script.

The script asks for the version of the page shown and reloads it when that has changed. A page that
its reader has begun to use (a click, a key) gets a button instead.
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}{% if not message %}: studies{% endif %}</title>
<link rel="stylesheet" href="{{ url_for('style') }}">
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% if message %}
<p class="problem">{{ message }}</p>
<p><a href="{{ url_for('index') }}">all studies</a></p>
{% elif rows %}
<table>
<thead><tr><th scope="col">study</th><th scope="col">state</th><th scope="col">trials</th>
<th scope="col">best trial</th><th scope="col">last change</th>
<th scope="col">report</th></tr></thead>
<tbody>
{% for name, found, problem in rows %}{% set progress = found.progress %}
<tr>
<th scope="row"><a href="{{ url_for('study', name=name) }}">{{ name }}</a>
{% if problem %}<p class="problem">{{ problem }}</p>{% endif %}</th>
<td><span class="{{ progress.state }}">{{ progress.state }}</span>
{%- if progress.phase %}: {{ progress.phase }}{% endif %}</td>
<td>{{ "?" if progress.num_ended is none else progress.num_ended }} of
{{ "?" if progress.num_trials is none else progress.num_trials }}</td>
<td>{{ "-" if progress.best is none else progress.best }}</td>
<td><time datetime="{{ found.changed_at.isoformat() }}">
{{- found.changed_at.strftime("%Y-%m-%d %H:%M:%S UTC") }}</time></td>
<td>{% for split in splits %}
<a href="{{ url_for('study', name=name, split=split) }}">{{ split }}</a>
{% endfor %}</td>
</tr>
{% endfor %}
</tbody>
</table>
<p>Scores are validation scores, which a search selects on.</p>
{% else %}
<p>There is no study here yet. A study is a folder with space.yaml and trials/.</p>
{% endif %}
</main>
</body>
</html>
"""

REFRESHER = """<aside id="served-bar" hidden></aside>
<script src="{{ url_for('script') }}" data-url="{{ url }}" data-version="{{ version }}"
{%- if index %} data-index="{{ index }}"{% endif %}></script>
"""

STYLE = """
:root { color-scheme: light dark; --quiet: #595959; --line: #d0d0d0; --bad: #a33b00; }
@media (prefers-color-scheme: dark) {
  :root { --quiet: #b0b0b0; --line: #4a4a4a; --bad: #ffa366; }
}
body { font: 16px/1.45 system-ui, sans-serif; margin: 0; }
main { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; overflow-x: auto; }
h1 { font-size: 1.4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.4rem 0.8rem 0.4rem 0;
  border-bottom: 1px solid var(--line); font-weight: normal; }
thead th { color: var(--quiet); }
.problem { color: var(--bad); margin: 0.2rem 0; overflow-wrap: anywhere; max-width: 40rem; }
.running { font-weight: bold; }
"""

SCRIPT = """
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
"""
