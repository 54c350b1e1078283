package storm

import (
	"bytes"
	"fmt"
	"time"
)

// The picture's measures, in its own units.
const (
	panelWidth  = 330.0
	panelHeight = 190.0
	panelTop    = 62.0
	firstPanel  = 48.0
	panelGap    = 42.0
	mostLoad    = 7.0
	shownBefore = 20 * time.Second
	shownAfter  = 45 * time.Second
)

const pictureHead = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 770 310" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>Upstream load over time, with a naive retry loop and with retrip</title>
<style>
.paper { fill: #ffffff } text { fill: #1f2328 } .faint { fill: #59636e } .grid { stroke: #d1d9e0 } .bad { fill: #f0d9d9 }
polyline, .key { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.naive { stroke: #cf222e } .one { stroke: #0969da } .each { stroke: #1a7f37; stroke-dasharray: 5 2 }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 } text { fill: #f0f6fc } .faint { fill: #9198a1 } .grid { stroke: #3d444d } .bad { fill: #3a2326 }
.naive { stroke: #ff7b72 } .one { stroke: #58a6ff } .each { stroke: #3fb950 }
}
</style>
<rect class="paper" width="770" height="310" rx="6"/>
`

// lines are the classes of what is drawn.
var lines = map[string]string{naiveName: "naive", sharedName: "one", eachName: "each"}

// draw returns the load on the provider over time, in the outage and the
// collapse, as an SVG image.
func draw(rows []*row) []byte {
	var b bytes.Buffer
	b.WriteString(pictureHead)
	x := firstPanel
	for i, name := range []string{naiveName, sharedName, eachName} {
		at := firstPanel + 185*float64(i)
		fmt.Fprintf(&b, `<line class="key %s" x1="%g" y1="20" x2="%g" y2="20"/><text x="%g" y="24">%s</text>`+"\n",
			lines[name], at, at+24, at+30, [...]string{"naive retry loop", "retrip, one Transport", "retrip, one each"}[i])
	}
	for _, name := range []string{"outage of 60 s", "collapse"} {
		drawPanel(&b, x, name, rows)
		x += panelWidth + panelGap
	}
	fmt.Fprintf(&b, `<text class="faint" transform="translate(14 %g) rotate(-90)" text-anchor="middle">requests upstream, in normal loads</text>`+"\n", panelTop+panelHeight/2)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func drawPanel(b *bytes.Buffer, left float64, name string, rows []*row) {
	bottom := panelTop + panelHeight
	framed := false
	for _, r := range rows {
		class := lines[r.name]
		if r.incident.name != name || class == "" {
			continue
		}
		in := r.incident
		shown := shownBefore + in.lasts + shownAfter
		across := func(since time.Duration) float64 {
			return left + panelWidth*float64(since+shownBefore)/float64(shown)
		}
		if !framed {
			drawFrame(b, left, in, across)
			framed = true
		}
		fmt.Fprintf(b, `<polyline class="%s" points="`, class)
		for i, load := range r.figures.load {
			since := time.Duration(i)*time.Second - in.from
			if since >= -shownBefore && since < in.lasts+shownAfter {
				fmt.Fprintf(b, "%.1f,%.1f ", across(since+time.Second/2), bottom-panelHeight*min(load, mostLoad)/mostLoad)
			}
		}
		fmt.Fprintln(b, `"/>`)
	}
}

func drawFrame(b *bytes.Buffer, left float64, in incident, across func(time.Duration) float64) {
	bottom := panelTop + panelHeight
	from, until := across(0), across(in.lasts)
	fmt.Fprintf(b, `<rect class="bad" x="%.1f" y="%g" width="%.1f" height="%g"/>`+"\n", from, panelTop, until-from, panelHeight)
	for load := 0.0; load <= mostLoad; load++ {
		y := bottom - panelHeight*load/mostLoad
		fmt.Fprintf(b, `<line class="grid" x1="%g" y1="%.1f" x2="%g" y2="%.1f"/><text class="faint" x="%g" y="%.1f" text-anchor="end">%g</text>`+"\n",
			left, y, left+panelWidth, y, left-6, y+4, load)
	}
	for since := -shownBefore; since <= in.lasts+shownAfter; since += 20 * time.Second {
		fmt.Fprintf(b, `<text class="faint" x="%.1f" y="%g" text-anchor="middle">%g</text>`+"\n", across(since), bottom+18, since.Seconds())
	}
	fmt.Fprintf(b, `<text x="%g" y="%g" font-weight="600">%s</text>`+"\n", left, panelTop-10, captions[in.name])
	fmt.Fprintf(b, `<text class="faint" x="%.1f" y="%g" text-anchor="middle">seconds since it began</text>`+"\n", left+panelWidth/2, bottom+38)
}

var captions = map[string]string{
	"outage of 60 s": "Nobody listens for 60 s",
	"collapse":       "Half the capacity for 20 s, then collapse",
}
