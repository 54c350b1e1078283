package aws

import (
	"flag"
	"fmt"
	"net/http"
	"testing"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/retrip-go/retrip/internal/batch"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

var full = flag.Bool("batch.full", false, "print the rows of the table")

// TestTheAdaptiveModeKeepsToALimit simulates batches with the SDK's limiter in the
// place of our pacing: refused calls are few, as with ours, and not as with a loop.
func TestTheAdaptiveModeKeepsToALimit(t *testing.T) {
	t.Parallel()
	rows := batch.Rows(t, *full, "AWS SDK's adaptive mode", func(base http.RoundTripper, backoffs func() backoff.BackOff) http.RoundTripper {
		return openai.NewTransport(newAdaptive(base), openai.Config{
			MeterProvider: noop.NewMeterProvider(), Pacing: openai.Off, Retry: retry.Config{Backoff: backoffs},
		})
	})
	for _, row := range rows {
		if *full {
			fmt.Print(row.Line)
		}
	}
	if first := rows[0]; first.Refused > 0.1 || first.Failed > 0.05 {
		t.Errorf("its limiter does not limit: %s", first.Line)
	}
}
