package openai_test

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

func TestAFailoverIsCountedAndTheTargetIsALabel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, provider := newReader()
		w := newWorld().at(atHome, busy, reply(200, fine))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), MeterProvider: provider})
		var report retry.Report
		if got := do(t, tr, asks(t, retry.WithReport(t.Context(), &report))); got.status != 200 || w.way() != "home eu" {
			t.Fatalf("got %+v, went %q", got, w.way())
		}
		do(t, tr, asks(t, t.Context())) // to home, which is well again
		data := collect(t, reader)
		if data.sum("retrip.failovers") != 1 || data.sum("retrip.failovers",
			"retrip.target.from", "home", "retrip.target.to", "eu", "error.type", "503", "retrip.endpoint", "chat", "retrip.backend", "external",
			"gen_ai.request.model", "gpt-4o", "server.address", "api.example.com") != 1 {
			t.Errorf("failovers %+v", data.with("retrip.failovers"))
		}
		for _, row := range []struct {
			metric string
			attrs  []string
			want   uint64
		}{
			{inferenceDuration, []string{"retrip.target", "eu", "error.type", "-"}, 1}, // the target that answered
			{inferenceDuration, []string{"retrip.target", "home"}, 1},
			{attemptDuration, []string{"retrip.target", "home", "error.type", "503"}, 1},
			{attemptDuration, []string{"retrip.target", "home", "error.type", "-"}, 1},
			{attemptDuration, []string{"retrip.target", "eu", "error.type", "-"}, 1},
		} {
			if got := data.count(row.metric, row.attrs...); got != row.want {
				t.Errorf("%d of %s %v, in %+v", got, row.metric, row.attrs, data.with(row.metric))
			}
		}
		// The books: attempts = operations - never started + retries.
		if data.count(attemptDuration) != 3 || data.count(inferenceDuration) != 2 || data.sum("retrip.retries") != 1 {
			t.Errorf("%d attempts, %d operations, %v retries", data.count(attemptDuration), data.count(inferenceDuration), data.sum("retrip.retries"))
		}
		if len(report.Tried) != 2 || report.Tried[0].Target != "home" || report.Tried[0].Status != 503 || report.Tried[1].Target != "eu" || report.Tried[1].Status != 200 {
			t.Errorf("tried %+v", report.Tried)
		}
	})
}

func TestATierThatIsLeftIsWarnedOfOnceInAWhileAndItsReturnIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w := newWorld().at(atHome, busy)
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Breaker: neverOpen, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		lines := func(what string) int { return strings.Count(log.String(), what) }
		for range 5 {
			do(t, tr, asks(t, t.Context()))
		}
		const left, back = `level=WARN msg="calls leave their tier of targets" from=home to=eu tier=1 error_type=503`, `level=INFO msg="calls are back in their tier of targets" target=home tier=0`
		if lines(left) != 1 || lines(back) != 0 {
			t.Errorf("at first:\n%s", &log)
		}
		time.Sleep(10 * time.Minute)
		do(t, tr, asks(t, t.Context()))
		if lines(left) != 2 {
			t.Errorf("after ten minutes:\n%s", &log)
		}
		w.at(atHome, reply(200, fine))
		do(t, tr, asks(t, t.Context()))
		if lines(back) != 0 {
			t.Errorf("told too early:\n%s", &log)
		}
		time.Sleep(10 * time.Second)
		do(t, tr, asks(t, t.Context()))
		do(t, tr, asks(t, t.Context()))
		if lines(back) != 1 || lines("-key") != 0 {
			t.Errorf("in the end:\n%s", &log)
		}
		w.at(atHome, busy)
		do(t, tr, asks(t, t.Context()))
		if lines(left) != 3 {
			t.Errorf("the next outage, long before the ten minutes are over:\n%s", &log)
		}
	})
}

// A call that comes back to its tier does not leave it once more.
func TestAMoveToAnEarlierTierLeavesNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w := newWorld().at(atHome, busy, reply(200, fine)).at(atEU, func(*http.Request) (*http.Response, error) {
			time.Sleep(11 * time.Second)
			return nil, io.ErrUnexpectedEOF
		})
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if got := do(t, tr, asks(t, t.Context())); got.status != 200 || w.way() != "home eu home" {
			t.Fatalf("got %d, %v, went %q", got.status, got.err, w.way())
		}
		if strings.Count(log.String(), "calls leave") != 1 || !strings.Contains(log.String(), "calls are back") {
			t.Errorf("logged\n%s", &log)
		}
	})
}

func TestTheSnapshotTellsWhatATargetFailedWithAndSinceWhenItWasLastWell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		if of := tr.Snapshot().Targets[0]; !of.LastWell.IsZero() || !of.LastFailed.IsZero() || of.LastError != "" {
			t.Errorf("before any call: %+v", of)
		}
		do(t, tr, asks(t, t.Context()))
		time.Sleep(time.Minute)
		w.at(atHome, busy)
		do(t, tr, asks(t, t.Context()))
		w.at(atHome, apiError(400, "invalid_value")) // is the caller's own
		time.Sleep(time.Second)
		do(t, tr, asks(t, t.Context()))
		of := tr.Snapshot().Targets
		if at := w.start; !of[0].LastWell.Equal(at) || !of[0].LastFailed.Equal(at.Add(time.Minute)) || of[0].LastError != "503" ||
			!of[1].LastWell.Equal(at.Add(time.Minute)) || !of[1].LastFailed.IsZero() {
			t.Errorf("in the end: %+v", of)
		}
	})
}
