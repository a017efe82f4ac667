"""How the page of ``--benchmark`` looks, in light and in dark; see charts for the classes there."""

from __future__ import annotations

STYLE = """
:root {
  --ink: #1c2127; --quiet: #5d6670; --paper: #ffffff; --line: #d9dee4; --tile: #f4f6f8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ec; --quiet: #9aa5b1; --paper: #15191e; --line: #343b44; --tile: #1e242b;
  }
  .s0 { color: #6cb4ff } .s1 { color: #ff9a62 } .s2 { color: #6fd08c }
  .s3 { color: #cf9bff } .s4 { color: #e3c04a } .s5 { color: #ff85ad }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 2rem auto; max-width: 1320px; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 0 1rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem }
p { max-width: 75ch; margin: .2rem 0 .8rem; color: var(--quiet) }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1.5rem; margin: .8rem 0 }
dt { color: var(--quiet) } dd { margin: 0 } h1, dt, dd { overflow-wrap: anywhere }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; list-style: none; padding: 0; margin: 0 }
.tiles li { background: var(--tile); border-radius: 8px; padding: .6rem 1rem; min-width: 9rem }
.tiles span { display: block; color: var(--quiet); font-size: .85rem }
.tiles b { font-size: 1.3rem; font-weight: 600 }
figure { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr));
  gap: 1rem; margin: 0 }
svg { width: 100%; height: auto; fill: var(--ink); border: 1px solid var(--line);
  border-radius: 8px }
.paper { fill: var(--paper) } .grid { stroke: var(--line) } .axis { stroke: var(--ink) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .4rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap }
th { color: var(--quiet); font-weight: 500; white-space: normal; vertical-align: bottom }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
@media (max-width: 600px) { dl { grid-template-columns: auto } dd { margin-bottom: .4rem } }
"""
