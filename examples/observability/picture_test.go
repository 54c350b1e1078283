package main

import (
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTheBoardIsDrawn from what a Prometheus would answer.
func TestTheBoardIsDrawn(t *testing.T) {
	t.Parallel()
	const answer = `{"data":{"result":[
		{"metric":{"gen_ai_request_model":"m","error_type":"503"},"values":[[1000,"0"],[1001,"1"],[1002,"NaN"],[1004,"2"],[1005,"2"]]},
		{"metric":{},"values":[[1000,"1"],[1005,"0.5"]]}]}}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
	defer srv.Close()
	name := filepath.Join(t.TempDir(), "board")
	over := span{time.Unix(1000, 0), time.Unix(1005, 0), time.Second}
	if err := drawBoard(t.Context(), srv.URL, over, name); err != nil {
		t.Fatal(err)
	}
	for file, width := range map[string]int{name + ".png": 1200, name + "-narrow.png": 2 * 390} {
		img := decode(t, file)
		if img.Bounds().Dx() != width || img.Bounds().Dy() < width {
			t.Errorf("%s is %v", file, img.Bounds())
		}
		for _, wanted := range []color.RGBA{inks[0], inks[1], states[0], states[2]} {
			if !has(img, wanted) {
				t.Errorf("%s has nothing in %v", file, wanted)
			}
		}
	}
}

func decode(t *testing.T, file string) image.Image {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is read
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func has(img image.Image, wanted color.RGBA) bool {
	colours, ok := img.(*image.Paletted)
	return ok && slices.Contains(colours.Palette, color.Color(wanted))
}

func TestAPictureNeedsAnAnswer(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"bad_data"}`)
	}))
	defer srv.Close()
	err := drawBoard(t.Context(), srv.URL, spanOf(time.Unix(0, 0), time.Unix(9, 0)), filepath.Join(t.TempDir(), "board"))
	if err == nil || !strings.Contains(err.Error(), "bad_data") {
		t.Errorf("got %v", err)
	}
}

func TestNothingDrawnLeavesItsPlace(t *testing.T) {
	t.Parallel()
	for _, width := range []float64{390, 1200} {
		d, err := readDashboard()
		if err != nil {
			t.Fatal(err)
		}
		var graphs []graph
		for _, p := range d.Panels {
			graphs = append(graphs, graph{panel: p, lines: make([]line, 20)})
		}
		height := arrange(graphs, width)
		for i, g := range graphs {
			if g.x < 0 || g.x+g.w > width || g.y+g.h > height {
				t.Errorf("%q leaves the picture: %+v", g.panel.Title, g)
			}
			for _, other := range graphs[:i] {
				if g.x < other.x+other.w && other.x < g.x+g.w && g.y < other.y+other.h && other.y < g.y+g.h {
					t.Errorf("%q lies on %q", g.panel.Title, other.panel.Title)
				}
			}
		}
		c, err := newCanvas(10, 10, 1)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Repeat("https://api.example.com chat ", 20) + "m"
		for s := range c.text {
			if fitted := c.fit(s, name, width); c.width(s, fitted) > width || !strings.HasPrefix(fitted, "https") || !strings.HasSuffix(fitted, "m") {
				t.Errorf("%q does not fit into %v", fitted, width)
			}
		}
	}
}

func TestANiceNumberIsNotBelow(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]float64{0: 1, -1: 1, 1: 1, 0.3: 0.3, 104: 120, 999: 1000, 0.0011: 0.0012} {
		if got := nice(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("nice(%v) = %v, want %v", v, got, want)
		}
	}
}
