package openai_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/retrip-go/retrip/internal/stub"
	"github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/retry"
)

// A notingSpan keeps its events as lines of text.
type notingSpan struct {
	noop.Span

	mu     sync.Mutex
	events []string
}

func (*notingSpan) IsRecording() bool { return true }

func (s *notingSpan) AddEvent(name string, options ...trace.EventOption) {
	config := trace.NewEventConfig(options...)
	line := name
	for _, a := range config.Attributes() {
		if a.Key != "retrip.retry.delay" { // by chance
			line += " " + string(a.Key) + "=" + text(a)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, line)
}

func text(a attribute.KeyValue) string {
	if a.Value.Type() == attribute.FLOAT64 {
		return fmt.Sprintf("%.0f", a.Value.AsFloat64())
	}
	return a.Value.Emit()
}

func TestASpanHasAnEventOfEachRetryAndFailover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		span := new(notingSpan)
		w := newWorld().at(atHome, internal).at(atEU, busy, reply(200, fine))
		tr := newChain(t, w, openai.Config{Targets: homeAndEU(), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		ctx := trace.ContextWithSpan(t.Context(), span)
		if got := do(t, tr, asks(t, ctx)); got.status != 200 || w.way() != "home home eu eu" {
			t.Fatalf("got %+v, went %q", got, w.way())
		}
		want := []string{
			"retrip.retry retrip.retry.attempt=1 retrip.retry.reason=server_error retrip.retry.delay_source=backoff retrip.target=home",
			"retrip.retry retrip.retry.attempt=2 retrip.retry.reason=server_error retrip.retry.delay_source=hint retrip.target=home",
			"retrip.failover retrip.retry.attempt=3 retrip.target.from=home retrip.target.to=eu error.type=500",
			"retrip.retry retrip.retry.attempt=3 retrip.retry.reason=overloaded retrip.retry.delay_source=backoff retrip.target=eu",
		}
		if !slices.Equal(span.events, want) {
			t.Errorf("the span has\n%s", strings.Join(span.events, "\n"))
		}
		if strings.Count(log.String(), "msg=retry attempt=2 ") != 1 || strings.Count(log.String(), " target=home\n") != 2 || strings.Count(log.String(), " target=eu\n") != 1 {
			t.Errorf("the log has\n%s", &log)
		}
	})
}

func TestASpanHasAnEventOfARefusalAndOfTheMoveThatFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		span := new(notingSpan)
		w := newWorld()
		tr := newChain(t, w, openai.Config{Targets: homeAndEU()})
		do(t, tr, asks(t, t.Context()))
		tr.Breaker("https://api.example.com chat gpt-4o home").Trip()
		do(t, tr, asks(t, trace.ContextWithSpan(t.Context(), span)))
		want := []string{
			"retrip.breaker.rejection retrip.breaker.name=https://api.example.com chat gpt-4o home retrip.breaker.retry_after=30 retrip.retry.attempt=1",
			"retrip.failover retrip.retry.attempt=1 retrip.target.from=home retrip.target.to=eu error.type=circuit_open",
		}
		if !slices.Equal(span.events, want) {
			t.Errorf("the span has\n%s", strings.Join(span.events, "\n"))
		}
	})
}

func TestTheNumberAndTheTargetOfAnAttemptAreReadableBelow(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		targets []openai.Target
		path    string
		want    []string
	}{
		"two targets":                  {homeAndEU(), "/v1/chat/completions", []string{"1 home", "2 eu", "3 home", "4 eu"}},
		"one place":                    {nil, "/v1/chat/completions", []string{"1 ", "2 ", "3 ", "4 "}},
		"what goes home only":          {homeAndEU(), "/v1/files", []string{"1 home"}},
		"a GET": {homeAndEU(), "/v1/models", []string{"1 home", "2 home", "3 home", "4 home"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var seen []string
				base := stub.Func(func(req *http.Request) (*http.Response, error) {
					c, ok := openai.CallFrom(req.Context())
					if seen = append(seen, fmt.Sprintf("%d %s", c.Attempt, c.Target)); !ok {
						t.Error("there is no call")
					}
					if req.Body != nil {
						_ = req.Body.Close()
					}
					return stub.Response(503, "{}"), nil
				})
				method := http.MethodPost
				if row.path == "/v1/models" {
					method = http.MethodGet
				}
				var report retry.Report
				ctx := retry.WithReport(t.Context(), &report)
				do(t, newChain(t, base, openai.Config{Targets: row.targets, Breaker: neverOpen}), request(t, ctx, method, origin+row.path, hello))
				if !slices.Equal(seen, row.want) {
					t.Errorf("the base has seen %q", seen)
				}
				for i, tried := range report.Tried {
					if i >= len(row.want) || fmt.Sprintf("%d %s", i+1, tried.Target) != row.want[i] {
						t.Errorf("the Report names %+v", report.Tried)
					}
				}
			})
		})
	}
}
