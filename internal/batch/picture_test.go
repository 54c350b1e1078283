package batch

import (
	"bytes"
	"fmt"
	"time"
)

// The picture's measures, in its own units.
const (
	pictureWidth  = 700.0
	pictureHeight = 170.0
	pictureLeft   = 40.0
	pictureTop    = 40.0
)

const pictureHead = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 770 260" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>Calls admitted a second, over time, behind a rate limit</title>
<style>
.paper { fill: #ffffff } text { fill: #1f2328 } .grid { stroke: #d1d9e0 } .limit { stroke: #cf222e; stroke-dasharray: 5 2 }
polyline { fill: none; stroke: #0969da; stroke-width: 1.5; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 } text { fill: #f0f6fc } .grid { stroke: #3d444d } .limit { stroke: #ff7b72 } polyline { stroke: #58a6ff }
}
</style>
<rect class="paper" width="770" height="260" rx="6"/>
`

// draw returns the rate at which calls were admitted over time, as an SVG image.
func draw(r *row) []byte {
	var b bytes.Buffer
	b.WriteString(pictureHead)
	most := 2 * r.rate
	bottom := pictureTop + pictureHeight
	down := func(rate float64) float64 { return bottom - pictureHeight*min(rate, most)/most }
	across := func(second int) float64 {
		return pictureLeft + pictureWidth*float64(second)/length.Seconds()
	}
	fmt.Fprintf(&b, `<text x="%g" y="24">Calls admitted a second: %d workers behind a limit of %g a second (dashed)</text>`+"\n", pictureLeft, r.workers, r.rate)
	for rate := 0.0; rate <= most; rate += most / 4 {
		fmt.Fprintf(&b, `<line class="grid" x1="%g" y1="%.1f" x2="%g" y2="%.1f"/><text x="%g" y="%.1f" text-anchor="end">%g</text>`+"\n",
			pictureLeft, down(rate), pictureLeft+pictureWidth, down(rate), pictureLeft-6, down(rate)+4, rate)
	}
	fmt.Fprintf(&b, `<line class="limit" x1="%g" y1="%.1f" x2="%g" y2="%.1f"/>`+"\n", pictureLeft, down(r.rate), pictureLeft+pictureWidth, down(r.rate))
	for second := 0; second <= int(length/time.Second); second += 60 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="middle">%d s</text>`+"\n", across(second), bottom+18, second)
	}
	b.WriteString(`<polyline points="`)
	for second, n := range r.figures.perSec {
		if second < int(length/time.Second) {
			fmt.Fprintf(&b, "%.1f,%.1f ", across(second), down(float64(n)))
		}
	}
	b.WriteString("\"/>\n</svg>\n")
	return b.Bytes()
}
