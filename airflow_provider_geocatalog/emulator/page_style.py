"""How the pages look."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root {
  color-scheme: light dark;
  --back: #f6f7f9; --card: #fff; --text: #1b2430; --quiet: #5b6675; --line: #d9dee5; --link: #0b5fb5;
  --good: #1a7f4b; --bad: #c02f2f; --busy: #9a6200; --sea: #eef3f8; --grid: #c9d5e1;
  --c0: #0b5fb5; --c1: #b5490b; --c2: #1a7f4b; --c3: #7a3fb0; --c4: #b0126a; --c5: #6b6b00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #11161d; --card: #1a212b; --text: #e4e9ef; --quiet: #9aa7b6; --line: #313b48; --link: #7db8ff;
    --good: #56c98a; --bad: #ff8a80; --busy: #f0b64a; --sea: #141c26; --grid: #2f3c4b;
    --c0: #7db8ff; --c1: #ffab70; --c2: #56c98a; --c3: #c79bf2; --c4: #ff8ac4; --c5: #d6d65c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; align-items: center; padding: .6rem 1.2rem;
  background: var(--card); border-bottom: 1px solid var(--line); }
header > a:first-child { font-weight: 650; color: var(--text); text-decoration: none; margin-right: auto; }
main { max-width: 78rem; margin: 0 auto; padding: 0 1.2rem 3rem; }
h1 { font-size: 1.5rem; margin: 1.2rem 0 .8rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
a { color: var(--link); }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
p { margin: .4rem 0; overflow-wrap: anywhere; }
.lead { font-size: 1.1rem; }
.quiet, dt { color: var(--quiet); font-size: .9rem; }
.problem { color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; }
.figures a {
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem;
  color: inherit; text-decoration: none;
}
.figures a:hover span { text-decoration: underline; }
.figures strong { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.figures span { color: var(--quiet); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .5rem 1.2rem; margin: .8rem 0; }
dd { margin: 0; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; color: var(--quiet); font-weight: 500; font-size: .85rem; white-space: nowrap; }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; }
td:first-child { min-width: 13rem; }
.step { white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
.badge { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .55rem;
  font-size: .82rem; white-space: nowrap; color: var(--quiet); }
.succeeded, .finished { color: var(--good); }
.failed { color: var(--bad); }
.running, .canceling, .deleting { color: var(--busy); }
.progress { display: inline-flex; align-items: center; gap: .6rem; white-space: nowrap; }
.bar { width: 9rem; height: .55rem; background: var(--line); border-radius: .3rem; flex: none; }
.good { fill: var(--good); }
.bad { fill: var(--bad); }
.map { display: block; width: 100%; height: auto; background: var(--sea); border-radius: .3rem; }
.graticule path { stroke: var(--grid); stroke-width: 1px; vector-effect: non-scaling-stroke; fill: none; }
.graticule text { fill: var(--quiet); }
.footprint { fill-opacity: .12; stroke-width: 1.5px; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.dot { stroke-width: 6px; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.layer0 { fill: var(--c0); stroke: var(--c0); }
.layer1 { fill: var(--c1); stroke: var(--c1); }
.focus .layer1 { fill-opacity: .3; stroke-width: 2.5px; }
.layer2 { fill: var(--c2); stroke: var(--c2); }
.layer3 { fill: var(--c3); stroke: var(--c3); }
.layer4 { fill: var(--c4); stroke: var(--c4); }
.layer5 { fill: var(--c5); stroke: var(--c5); }
pre { overflow: auto; max-height: 36rem; margin: 0; font-size: .85rem; }
nav { display: flex; gap: 1rem; margin-top: .8rem; }
button, input { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line);
  border-radius: .3rem; padding: .3rem .7rem; }
.login { display: grid; gap: .6rem; max-width: 26rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media (max-width: 46rem) {
  .map text { transform: scale(2); transform-box: fill-box; transform-origin: left bottom; }
  thead { display: none; }
  table, tbody, tr, td { display: block; }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  tbody tr:last-child { border-bottom: 0; }
  td { border: 0; padding: .1rem 0; }
  td:empty { display: none; }
  td::before { content: attr(data-label) ": "; color: var(--quiet); font-size: .85rem; }
}
"""
