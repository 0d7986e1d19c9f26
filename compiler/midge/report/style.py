# SPDX-License-Identifier: Apache-2.0
"""Style sheet and script of report.html: both stand in the page, nothing is fetched."""

from __future__ import annotations

CSS = """
:root { --paper: #fff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --panel: #f6f8fa; --bar: #0969a8; --good: #116329; --bad: #b3261e; --link: #0550ae;
  --shade: #0005; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #e6e9ec; --soft: #a5adb6; --line: #3a424b; --panel: #1d2329; --bar: #58a6e0; --good: #7ad08f; --bad: #ff938a;
    --link: #8ec1ff; --shade: #fff7; }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main, header, footer { max-width: 74rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 1.2rem 0 0.2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.4rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 0.3rem; }
p { margin: 0.4rem 0; max-width: 60rem; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: 0 1rem; }
nav a { padding: 0.35rem 0; }
code, .name, .mono { font-family: ui-monospace, monospace; font-size: 0.86em; }
code, .name, .mono { overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.good { color: var(--good); }
.bad { color: var(--bad); font-weight: 600; }
.key { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 0.6rem; margin: 0.8rem 0; }
@media (max-width: 44rem) { .key { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
.key div { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 0.5rem 0.7rem; }
.key dt, .key dd { margin: 0; }
.key dt { color: var(--soft); font-size: 0.85rem; }
.key dd { font-size: 1.2rem; font-weight: 600; overflow-wrap: anywhere; }
.key small { display: block; font-weight: 400; font-size: 0.8rem; color: var(--soft); }
.scroll { margin: 0.6rem 0; }
.scroll, .bands { overflow-x: auto; background: linear-gradient(to right, var(--paper) 50%, transparent) left / 2rem 100% local no-repeat,
  linear-gradient(to left, var(--paper) 50%, transparent) right / 2rem 100% local no-repeat,
  linear-gradient(to right, var(--shade), transparent) left / 0.7rem 100% scroll no-repeat,
  linear-gradient(to left, var(--shade), transparent) right / 0.7rem 100% scroll no-repeat; }
table { border-collapse: collapse; font-size: 0.88rem; min-width: 100%; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.3rem; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.7rem 0.25rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.nowrap { white-space: nowrap; }
.wide { min-width: 12rem; }
.some { min-width: 6rem; }
.full { min-width: 16rem; }
.full .name { word-break: break-all; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 0 2rem; }
.charts table { table-layout: fixed; width: 100%; }
.charts td, .charts th { border: 0; font-weight: 400; padding: 0.1rem 0.4rem 0.1rem 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.charts .who { width: 9.5rem; }
.charts .much { width: 6.2rem; }
.track { height: 0.9rem; margin-top: 0.25rem; }
.fill { height: 100%; min-width: 1px; background: var(--bar); border-radius: 2px; }
.bands { display: flex; flex-wrap: wrap; gap: 0.6rem 1.6rem; align-items: flex-start; margin: 0.6rem 0; }
.band { font: 12px system-ui, sans-serif; flex: none; max-width: 100%; height: auto; }
.box { fill: var(--panel); }
.from { fill: var(--soft); font-size: 11px; }
figure { margin: 0; }
.arena { display: block; width: 100%; min-width: 640px; }
.arena .block:hover path, .arena .chosen path { stroke-width: 2; stroke: var(--ink); }
.legend { columns: 17rem; font-size: 0.85rem; list-style: none; padding: 0; }
.legend li { break-inside: avoid; }
.swatch { display: inline-block; width: 0.9em; height: 0.9em; border-radius: 2px; margin-right: 0.4em; vertical-align: -0.1em; }
.pointed { min-height: 1.5em; font-size: 0.88rem; }
details summary { cursor: pointer; padding: 0.2rem 0; }
footer { margin-top: 2.5rem; padding-bottom: 2rem; font-size: 0.85rem; }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --panel: #f4f4f4; --bar: #0969a8; --good: #116329; --bad: #b3261e; --link: #000; }
  html { color-scheme: light; }
  body { font-size: 10pt; }
  nav, .pointed { display: none; }
  main, header, footer { max-width: none; padding: 0; }
  .key { padding-right: 1px; grid-template-columns: repeat(4, minmax(0, 1fr)); }
  .scroll, .bands { overflow: visible; background: none; }
  .bands { gap: 7px; }
  details:not(.long)::details-content { content-visibility: visible; block-size: auto; }
  details:not(.long) > summary { list-style: none; break-after: avoid; }
  .wide, .some { min-width: 5rem; }
  .signals .full { min-width: 0; width: 50%; }
  .signals .some { width: 13%; }
  .signals table { font-size: 7pt; }
  #arena > p { break-inside: avoid; break-after: avoid; }
  .charts { grid-template-columns: 1fr 1fr; }
  .charts > div { break-inside: avoid; }
  .band { min-width: 0 !important; max-height: 24cm; break-inside: avoid; }
  .arena { min-width: 0; }
  h2, h3 { break-after: avoid; }
  tr, .key div, figure { break-inside: avoid; }
  table { font-size: 8pt; }
  th, td { padding-top: 0.1rem; padding-bottom: 0.1rem; }
  .fill, .swatch, .key div { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

SCRIPT = """
(function () {
  "use strict";
  var line = document.getElementById("pointed"), chosen = null;
  function show(event) {
    var group = event.target.closest ? event.target.closest(".block") : null;
    if (!group || group === chosen) { return; }
    if (chosen) { chosen.classList.remove("chosen"); }
    chosen = group;
    chosen.classList.add("chosen");
    line.textContent = group.querySelector("title").textContent;
  }
  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.prototype.filter.call(document.querySelectorAll("details"), function (each) { return !each.open; });
    opened.forEach(function (each) { each.open = true; });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (each) { each.open = false; });
  });
  var picture = document.querySelector("svg.arena");
  if (picture && line) {
    picture.addEventListener("pointerover", show);
    picture.addEventListener("click", show);
    line.textContent = "Point at a block, or tap it, to read what it is.";
  }
})();
"""
