package main

import (
	"cmp"
	"context"
	"fmt"
	"image/color"
	"image/png"
	"math"
	"os"
	"slices"
	"strconv"
	"time"
)

var (
	paper  = color.RGBA{0xf4, 0xf5, 0xf7, 0xff}
	sheet  = color.RGBA{0xff, 0xff, 0xff, 0xff}
	ink    = color.RGBA{0x1f, 0x23, 0x28, 0xff}
	faint  = color.RGBA{0x59, 0x63, 0x6e, 0xff}
	grid   = color.RGBA{0xe3, 0xe6, 0xea, 0xff}
	states = []color.RGBA{{0x4c, 0xaf, 0x6d, 0xff}, {0xe8, 0xa3, 0x17, 0xff}, {0xcf, 0x22, 0x2e, 0xff}} // closed, half open, open
	inks   = []color.RGBA{                                                                              // of lines
		{0x09, 0x69, 0xda, 0xff},
		{0xcf, 0x22, 0x2e, 0xff},
		{0x1a, 0x7f, 0x37, 0xff},
		{0x82, 0x50, 0xdf, 0xff},
		{0xbf, 0x87, 0x00, 0xff},
		{0x0a, 0x9c, 0xa8, 0xff},
		{0xd0, 0x5a, 0x9b, 0xff},
		{0x6e, 0x54, 0x33, 0xff},
		{0x57, 0x60, 0x6a, 0xff},
		{0x7c, 0xb5, 0x18, 0xff},
	}
)

// Sizes, in units of a canvas.
const (
	columns   = 24 // of Grafana's grid
	narrowest = 700.0
	gap       = 8.0
	rowHeight = 32.0
	plotSize  = 120.0
	lineSize  = 15.0
	maxKeys   = 8 // lines that a legend names
	axis      = 44.0
)

// A graph is a panel with its lines, and where it is drawn.
type graph struct {
	panel      panel
	lines      []line
	x, y, w, h float64
}

// drawBoard draws the dashboard, from what a Prometheus answers to its queries, as
// PNG files of both widths: one for a desk, one for a phone.
func drawBoard(ctx context.Context, server string, over span, name string) error {
	d, err := readDashboard()
	if err != nil {
		return err
	}
	graphs := make([]graph, 0, len(d.Panels))
	for _, p := range d.Panels {
		lines, err := history(ctx, server, p, over)
		if err != nil {
			return err
		}
		graphs = append(graphs, graph{panel: p, lines: lines})
	}
	for file, size := range map[string]struct{ width, scale float64 }{name + ".png": {1200, 1}, name + "-narrow.png": {390, 2}} {
		if err := drawFile(file, graphs, over, size.width, size.scale); err != nil {
			return err
		}
	}
	return nil
}

func drawFile(name string, graphs []graph, over span, width, scale float64) error {
	height := arrange(graphs, width)
	c, err := newCanvas(width, height, scale)
	if err != nil {
		return err
	}
	c.rect(0, 0, width, height, paper)
	for i := range graphs {
		c.graph(&graphs[i], over)
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // after an error, which says more
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(file, c.paletted()); err != nil {
		return err
	}
	return file.Close()
}

// arrange gives each graph its place, those of a line of Grafana's grid one
// height, and returns the height of all. A narrow board has one column.
func arrange(graphs []graph, width float64) float64 {
	y := gap
	for i := 0; i < len(graphs); {
		end := i + 1
		for end < len(graphs) && width >= narrowest && graphs[end].panel.GridPos.Y == graphs[i].panel.GridPos.Y {
			end++
		}
		tallest := 0.0
		for j := i; j < end; j++ {
			g := &graphs[j]
			g.x, g.y, g.w = gap, y, width-2*gap
			if width >= narrowest {
				unit := (width - gap) / columns
				g.x, g.w = gap+unit*float64(g.panel.GridPos.X), unit*float64(g.panel.GridPos.W)-gap
			}
			tallest = max(tallest, g.height())
		}
		for j := i; j < end; j++ {
			graphs[j].h = tallest
		}
		y += tallest + gap
		i = end
	}
	return y
}

func (g *graph) height() float64 {
	switch g.panel.Type {
	case "row":
		return rowHeight
	case "state-timeline":
		return 2*rowHeight + 2*lineSize*float64(max(1, len(g.lines)))
	default:
		return 2*rowHeight + plotSize + lineSize*float64(min(len(g.lines), maxKeys+1))
	}
}

func (c *canvas) graph(g *graph, over span) {
	if g.panel.Type == "row" {
		c.write(point{g.x, g.y + 20}, heading, ink, c.fit(heading, g.panel.Title, g.w))
		return
	}
	c.rect(g.x, g.y, g.w, g.h, sheet)
	c.write(point{g.x + gap, g.y + 20}, title, ink, c.fit(title, g.panel.Title, g.w-2*gap))
	slices.SortStableFunc(g.lines, func(a, b line) int { return cmp.Compare(total(b), total(a)) })
	if g.panel.Type == "state-timeline" {
		slices.SortStableFunc(g.lines, func(a, b line) int { return cmp.Compare(a.name, b.name) })
		c.timeline(g, over)
		return
	}
	p := plot{canvas: c, left: g.x + axis, top: g.y + rowHeight, width: g.w - axis - 2*gap, height: plotSize, steps: over.steps()}
	p.draw(g, over)
	c.keys(g, g.y+rowHeight+plotSize+lineSize+16)
}

func total(l line) (sum float64) {
	for _, v := range l.points {
		if !math.IsNaN(v) {
			sum += v
		}
	}
	return sum
}

// keys names the lines, the largest first.
func (c *canvas) keys(g *graph, y float64) {
	for i, l := range g.lines {
		if i == maxKeys {
			c.write(point{g.x + axis, y + 4}, small, faint, fmt.Sprintf("and %d more", len(g.lines)-maxKeys))
			return
		}
		c.rect(g.x+axis-16, y-1, 10, 3, inks[i%len(inks)])
		c.write(point{g.x + axis, y + 4}, small, ink, c.fit(small, cmp.Or(l.name, "no error"), g.w-axis-gap))
		y += lineSize
	}
	if len(g.lines) == 0 {
		c.write(point{g.x + axis, y + 4}, small, faint, "nothing")
	}
}

// timeline draws each line as a band whose colour is its state.
func (c *canvas) timeline(g *graph, over span) {
	y := g.y + rowHeight
	for i, name := range []string{"closed", "half open", "open"} {
		x := g.x + gap + float64(i)*80
		c.rect(x, y-1, 10, 8, states[i])
		c.write(point{x + 14, y + 7}, small, faint, name)
	}
	y += 12
	width := g.w - 2*gap
	for _, l := range g.lines {
		c.write(point{g.x + gap, y + 11}, small, ink, c.fit(small, l.name, width))
		step := width / float64(over.steps())
		for i, v := range l.points {
			if !math.IsNaN(v) {
				c.rect(g.x+gap+step*float64(i), y+lineSize, step, lineSize-5, states[min(max(int(v), 0), len(states)-1)])
			}
		}
		y += 2 * lineSize
	}
	c.times(g.x+gap, y+10, width, over)
}

// times writes when it was, from the start of the span.
func (c *canvas) times(x, y, width float64, over span) {
	for i := range 4 {
		text := (over.end.Sub(over.start) * time.Duration(i) / 3).Round(time.Second).String()
		c.write(point{x + (width-c.width(small, text))*float64(i)/3, y}, small, faint, text)
	}
}

// A plot is the area of a graph where its lines are drawn.
type plot struct {
	*canvas

	left, top, width, height float64
	steps                    int
	scaleTop                 float64 // the value at the top
}

func (p *plot) at(i int, v float64) point {
	return point{p.left + p.width*float64(i)/float64(max(p.steps-1, 1)), p.top + p.height*(1-min(v/p.scaleTop, 1))}
}

func (p *plot) draw(g *graph, over span) {
	stacked := g.panel.stacked()
	lows, highs := bands(g.lines, p.steps, stacked)
	for _, high := range highs {
		for _, v := range high {
			if !math.IsNaN(v) {
				p.scaleTop = max(p.scaleTop, v)
			}
		}
	}
	if p.scaleTop = nice(p.scaleTop); g.panel.FieldConfig.Defaults.Max > 0 && !stacked {
		p.scaleTop = g.panel.FieldConfig.Defaults.Max
	}
	for i := range 3 {
		v := p.scaleTop * float64(i) / 2
		y := p.at(0, v).y
		p.rect(p.left, y, p.width, 1/p.scale, grid)
		text := amount(v, g.panel.FieldConfig.Defaults.Unit)
		p.write(point{p.left - 6 - p.canvas.width(small, text), y + 4}, small, faint, text)
	}
	for i := range slices.Backward(g.lines) {
		p.band(lows[i], highs[i], inks[i%len(inks)], stacked)
	}
	p.times(p.left, p.top+p.height+14, p.width, over)
}

// bands returns what lies below and above each line's area: the lines themselves,
// or the sums of those before if they are stacked.
func bands(lines []line, steps int, stacked bool) (lows, highs [][]float64) {
	sum := make([]float64, steps)
	for _, l := range lines {
		low, high := slices.Clone(sum), slices.Clone(l.points)
		if stacked {
			for i, v := range l.points {
				if !math.IsNaN(v) {
					sum[i] += v
				}
				high[i] = sum[i]
			}
		}
		lows, highs = append(lows, low), append(highs, high)
	}
	return lows, highs
}

// band draws a line, piece by piece, and the area below it.
func (p *plot) band(low, high []float64, ink color.RGBA, stacked bool) {
	for i := 0; i < len(high); {
		var above, below []point
		for ; i < len(high) && !math.IsNaN(high[i]); i++ {
			above, below = append(above, p.at(i, high[i])), append(below, p.at(i, low[i]))
		}
		i++
		if len(above) == 1 {
			p.rect(above[0].x-1, above[0].y-1, 2, 2, ink)
		}
		if stacked && len(above) > 1 {
			slices.Reverse(below)
			p.fill(append(slices.Clone(above), below...), color.NRGBA{ink.R, ink.G, ink.B, 0x50})
		}
		p.stroke(above, 1.5, ink)
	}
}

// nice returns a round number that is not below v.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	magnitude := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10} {
		if v <= step*magnitude*1.0001 {
			return step * magnitude
		}
	}
	return 10 * magnitude
}

// amount writes a value in a unit of Grafana's.
func amount(v float64, unit string) string {
	switch {
	case unit == "percentunit":
		return strconv.FormatFloat(100*v, 'g', 3, 64) + " %"
	case unit == "s" && v > 0 && v < 1:
		return strconv.FormatFloat(1000*v, 'g', 3, 64) + " ms"
	case unit == "s":
		return strconv.FormatFloat(v, 'g', 3, 64) + " s"
	case v >= 1000:
		return strconv.FormatFloat(v/1000, 'g', 3, 64) + " k"
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}
