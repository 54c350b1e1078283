package batch

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/cenkalti/backoff/v4"
)

// limits are those of the table: calls a second, and by how many they are shared.
var limits = []struct {
	rate      float64
	processes int
	workers   int
}{{20, 1, 200}, {20, 10, 200}, {2, 1, 40}, {2, 10, 40}}

// everyHint is what a provider may say when it refuses a call.
var everyHint = []hints{millis, seconds, silent}

// line returns a row of the table.
func (b *batch) line(c client, f figures) string {
	return fmt.Sprintf("| %s | %g/s | %v | %d | %v |\n", c.name, b.rate, b.hints, b.processes, f)
}

// A Row is what came of one batch of the table.
type Row struct {
	Line    string  // in Markdown
	Failed  float64 // share of the calls
	Refused float64 // requests for each call that was answered
}

// Rows simulates the batches of the table for a client that stands in a module of
// its own, for what it imports; without full only the first of them. The client
// gets the backoffs that the others of the table have.
func Rows(t *testing.T, full bool, name string, through func(base http.RoundTripper, backoffs func() backoff.BackOff) http.RoundTripper) (rows []Row) {
	c := client{name, func(base http.RoundTripper, p *process) http.RoundTripper { return through(base, backoffs(p)) }}
	for _, of := range limits {
		for _, h := range everyHint {
			b := batch{rate: of.rate, hints: h, processes: of.processes, workers: of.workers}
			f := b.simulate(t, c)
			rows = append(rows, Row{Line: b.line(c, f), Failed: f.failed, Refused: f.refused})
			if !full {
				return rows
			}
		}
	}
	return rows
}
