package main

import (
	"cmp"
	"image"
	"image/color"
	"image/draw"
	"maps"
	"math"
	"slices"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// A point of a canvas, in the units of its text: a pixel of a screen of usual
// density.
type point struct{ x, y float64 }

// A canvas is an image with scale pixels a unit.
type canvas struct {
	*image.RGBA

	scale float64
	text  map[style]font.Face
}

// A style of text.
type style int

const (
	small style = iota
	title
	heading
)

func newCanvas(width, height, scale float64) (*canvas, error) {
	c := &canvas{image.NewRGBA(image.Rect(0, 0, int(width*scale), int(height*scale))), scale, make(map[style]font.Face)}
	for s, of := range map[style]struct {
		ttf  []byte
		size float64
	}{small: {goregular.TTF, 11}, title: {gobold.TTF, 12}, heading: {gobold.TTF, 15}} {
		parsed, err := opentype.Parse(of.ttf)
		if err != nil {
			return nil, err
		}
		c.text[s], err = opentype.NewFace(parsed, &opentype.FaceOptions{Size: of.size * scale, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// rect fills a rectangle.
func (c *canvas) rect(x, y, w, h float64, fill color.Color) {
	px := func(v float64) int { return int(math.Round(v * c.scale)) }
	draw.Draw(c, image.Rect(px(x), px(y), px(x+w), px(y+h)), image.NewUniform(fill), image.Point{}, draw.Over)
}

// write writes text whose baseline begins at p.
func (c *canvas) write(p point, s style, ink color.Color, text string) {
	d := font.Drawer{Dst: c, Src: image.NewUniform(ink), Face: c.text[s], Dot: fixed.P(int(p.x*c.scale), int(p.y*c.scale))}
	d.DrawString(text)
}

// width is that of a text.
func (c *canvas) width(s style, text string) float64 {
	return float64(font.MeasureString(c.text[s], text)) / 64 / c.scale
}

// fit returns text, with its middle left out if it is wider than width: both ends
// of a name tell it from others.
func (c *canvas) fit(s style, text string, width float64) string {
	letters := []rune(text)
	for n := len(letters); c.width(s, text) > width && n > 2; n-- {
		text = string(letters[:n/2]) + "…" + string(letters[len(letters)-(n-1)/2:])
	}
	return text
}

// fill fills the polygon through points.
func (c *canvas) fill(points []point, ink color.Color) {
	c.shapes([][]point{points}, ink)
}

// stroke draws a line through points.
func (c *canvas) stroke(points []point, width float64, ink color.Color) {
	var pieces [][]point
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		length := math.Hypot(b.x-a.x, b.y-a.y)
		if length == 0 {
			continue
		}
		n := point{(a.y - b.y) / length * width / 2, (b.x - a.x) / length * width / 2}
		pieces = append(pieces, []point{{a.x + n.x, a.y + n.y}, {b.x + n.x, b.y + n.y}, {b.x - n.x, b.y - n.y}, {a.x - n.x, a.y - n.y}})
	}
	c.shapes(pieces, ink)
}

// shapes fills polygons that turn the same way.
func (c *canvas) shapes(polygons [][]point, ink color.Color) {
	box := image.Rectangle{}
	for _, polygon := range polygons {
		for _, p := range polygon {
			x, y := int(p.x*c.scale), int(p.y*c.scale)
			box = box.Union(image.Rect(x-2, y-2, x+3, y+3))
		}
	}
	if box = box.Intersect(c.Bounds()); box.Empty() {
		return
	}
	r := vector.NewRasterizer(box.Dx(), box.Dy())
	at := func(p point) (x, y float32) {
		return float32(p.x*c.scale - float64(box.Min.X)), float32(p.y*c.scale - float64(box.Min.Y))
	}
	for _, polygon := range polygons {
		for i, p := range polygon {
			if x, y := at(p); i == 0 {
				r.MoveTo(x, y)
			} else {
				r.LineTo(x, y)
			}
		}
		r.ClosePath()
	}
	r.Draw(c, box, image.NewUniform(ink), image.Point{})
}

// paletted returns the image in its 256 most frequent colours: a quarter of the
// bytes, and nobody sees it.
func (c *canvas) paletted() *image.Paletted {
	count := make(map[color.RGBA]int)
	c.runs(func(_, from, to int, of color.RGBA) { count[of] += to - from })
	byCount := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	var palette color.Palette
	for _, of := range byCount[:min(len(byCount), 256)] {
		palette = append(palette, of)
	}
	nearest := make(map[color.RGBA]uint8)
	for _, of := range byCount {
		nearest[of] = uint8(palette.Index(of))
	}
	img := image.NewPaletted(c.Bounds(), palette)
	c.runs(func(y, from, to int, of color.RGBA) {
		row := img.Pix[img.PixOffset(from, y):img.PixOffset(to, y)]
		for i := range row {
			row[i] = nearest[of]
		}
	})
	return img
}

// runs calls f with the pixels of one colour that lie side by side.
func (c *canvas) runs(f func(y, from, to int, of color.RGBA)) {
	width := c.Bounds().Dx()
	for y := range c.Bounds().Dy() {
		for from := 0; from < width; {
			of, to := c.RGBAAt(from, y), from+1
			for to < width && c.RGBAAt(to, y) == of {
				to++
			}
			f(y, from, to, of)
			from = to
		}
	}
}
