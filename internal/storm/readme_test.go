package storm

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestReadmeHasEveryRow compares what the README's tables name, which does not
// depend on a simulation, with what there is.
func TestReadmeHasEveryRow(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	storms := slices.DeleteFunc(rows(), func(r *row) bool { return r.proof })
	for _, test := range []struct {
		mark, want string
		columns    int // that are named
	}{
		{"storm", table(storms), 2},
		{"trials", trialTable(trials()), 1},
		{"refuges", refugeTable(refuges()), 3},
	} {
		_, after, _ := strings.Cut(string(readme), "<!-- "+test.mark+" -->\n")
		shown, _, found := strings.Cut(after, "<!-- /"+test.mark+" -->")
		if !found {
			t.Errorf("README.md has no table of %s", test.mark)
			continue
		}
		if got, want := named(shown, test.columns), named(test.want, test.columns); !slices.Equal(got, want) {
			t.Errorf("the README has the rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// named returns the header of a table, and the first columns of its rows.
func named(table string, columns int) (names []string) {
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		if i > 0 {
			line = strings.Join(strings.Split(line, "|")[:columns+1], "|")
		}
		names = append(names, line)
	}
	return names
}

func TestPictureIsSmallAndWellFormed(t *testing.T) {
	t.Parallel()
	all := rows()
	for _, r := range all {
		large.place(&r.incident)
		r.figures.load = make([]float64, r.incident.length/time.Second)
	}
	drawn := draw(all)
	if len(drawn) > 60<<10 {
		t.Errorf("%d bytes", len(drawn))
	}
	lines := 0
	for d := xml.NewDecoder(bytes.NewReader(drawn)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "polyline" {
			lines++
		}
	}
	if lines != 6 {
		t.Errorf("%d lines, want three in each panel", lines)
	}
}
