package retry

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/retrip-go/retrip/internal/call"
	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

// A listener notes what it is told of a call.
type listener struct {
	mu       sync.Mutex
	payloads []string
	ends     []ending
}

type ending struct {
	status    int
	errorType string
}

func (l *listener) Payload(payload []byte) { l.payloads = append(l.payloads, string(payload)) }

func (l *listener) Over(status int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, ending{status, fault.Type(err)})
}

func (l *listener) over() []ending {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ends)
}

func TestAListenerIsToldOnceThatTheCallIsOver(t *testing.T) {
	t.Parallel()
	whole := func(body io.ReadCloser) { _, _ = io.Copy(io.Discard, body) }
	begun := func(body io.ReadCloser) { _, _ = body.Read(make([]byte, 1)) }
	cutOff := func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: &brokenBody{
			read: func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }, close: func() error { return nil },
		}}, nil
	}
	panics := func(*http.Request) (*http.Response, error) { panic("boom") }
	for name, row := range map[string]struct {
		base  *stub.Base
		cfg   Config
		limit time.Duration // of the call's context
		wrong bool          // the request has no URL
		torn  bool          // its body can't be read
		read  func(io.ReadCloser)
		want  ending
	}{
		"with the last byte":                {base: answers(status(200)), read: whole, want: ending{200, ""}},
		"with the last byte of an error":    {base: answers(status(400)), read: whole, want: ending{400, ""}},
		"with a Read that fails":            {base: answers(cutOff), read: whole, want: ending{200, "connection_error"}},
		"when its reader has enough":        {base: answers(status(200)), read: begun, want: ending{200, ""}},
		"with the answer of a retry":        {base: answers(status(503), status(200)), read: whole, want: ending{200, ""}},
		"with the answer that was given up": {base: answers(status(503), reject()), read: whole, want: ending{503, ""}},
		"with an answer without a body": {base: answers(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 204}, nil
		}), want: ending{204, ""}},
		"with an upgrade":               {base: answers(status(101)), want: ending{101, ""}},
		"with an error":                 {base: answers(failure(io.EOF)), want: ending{0, "connection_error"}},
		"with a refusal":                {base: answers(reject()), want: ending{0, "circuit_open"}},
		"with its context in a wait":    {base: answers(failure(io.EOF)), cfg: Config{Backoff: steady(time.Minute), MaxElapsed: -1}, limit: -1, want: ending{0, "canceled"}},
		"before it begins":              {limit: 1, want: ending{0, "timeout"}},
		"for want of a URL":             {wrong: true, want: ending{0, "_OTHER"}},
		"for want of a payload":         {torn: true, want: ending{0, "connection_error"}},
		"for want of a valid Config":    {cfg: Config{MaxAttempts: -1}, want: ending{0, "_OTHER"}},
		"with a panic of the base":      {base: answers(panics), want: ending{0, "_OTHER"}},
		"with a panic of the Config":    {base: answers(status(200)), cfg: Config{Policy: func(*Attempt) Decision { panic("boom") }}, want: ending{0, "_OTHER"}},
		"with a panic before it begins": {cfg: Config{Safe: func(*http.Request) bool { panic("boom") }}, want: ending{0, "_OTHER"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				switch {
				case row.limit < 0:
					time.AfterFunc(time.Second, cancel)
				case row.limit > 0:
					ctx, cancel = context.WithTimeout(ctx, row.limit)
					defer cancel()
					<-ctx.Done()
				}
				l := new(listener)
				req := keyed((&call.Call{Listener: l, ReadsPayload: true}).Init(ctx), t, strings.NewReader("payload"))
				if row.wrong {
					req.URL = nil
				}
				if row.torn {
					req.Body = &brokenBody{read: func([]byte) (int, error) { return 0, io.ErrClosedPipe }, close: func() error { return nil }}
					row.want.errorType = fault.Type(io.ErrClosedPipe)
				}
				var resp *http.Response
				func() {
					defer func() { _ = recover() }()
					resp, _ = NewTransport(row.base, row.cfg).RoundTrip(req)
				}()
				if row.read != nil {
					if n := len(l.over()); n != 0 {
						t.Errorf("told %d times before the answer was read", n)
					}
					row.read(resp.Body)
				}
				if resp != nil {
					_ = resp.Body.Close()
					_ = resp.Body.Close()
				}
				if got := l.over(); len(got) != 1 || got[0] != row.want {
					t.Errorf("told %v, want %v", got, row.want)
				}
			})
		})
	}
}

func TestAListenerReadsThePayloadBeforeAnybodyIsAsked(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		reads  bool
		safe   bool
		size   int
		expect bool
		want   int
	}{
		"of a call that is safe":           {true, true, 9, false, 1},
		"of one that is not":               {true, false, 9, false, 1},
		"if it wants to":                   {false, true, 9, false, 0},
		"if it is not too large":           {true, true, 99, false, 0},
		"unless the server is to be asked": {true, true, 9, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, payload := new(listener), strings.Repeat("x", row.size)
			base := answers(status(200))
			req := keyed((&call.Call{Listener: l, ReadsPayload: row.reads}).Init(t.Context()), t, opaque([]byte(payload)))
			if row.expect {
				req.Header.Set("Expect", "100-continue")
			}
			resp, err := NewTransport(base, Config{MaxReplayBytes: 50, Safe: func(*http.Request) bool {
				if len(l.payloads) != row.want {
					t.Errorf("Safe is asked with %d payloads known", len(l.payloads))
				}
				return row.safe
			}}).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, resp)
			if len(l.payloads) != row.want || row.want > 0 && l.payloads[0] != payload || base.Payloads()[0] != payload {
				t.Errorf("told of %q, sent %q", l.payloads, base.Payloads())
			}
		})
	}
}

// A Transport below, or one that is called by a function of the Config, makes
// calls of its own.
func TestAListenerHearsOfItsOwnCallOnly(t *testing.T) {
	t.Parallel()
	l := new(listener)
	other := NewTransport(answers(status(500)), Config{MaxAttempts: 1})
	below := NewTransport(answers(status(200)), Config{})
	c := (&call.Call{Listener: l, ReadsPayload: true}).Init(t.Context())
	resp, err := NewTransport(below, Config{BudgetKey: func(req *http.Request) string {
		resp, err := other.RoundTrip(keyed(req.Context(), t, strings.NewReader("other")))
		if err != nil {
			t.Error(err)
			return ""
		}
		readAll(t, resp)
		return ""
	}, Budget: NewBudget(1, 0)}).RoundTrip(keyed(c, t, strings.NewReader("payload")))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(l.over()); n != 0 {
		t.Errorf("told %d times before the answer was read", n)
	}
	readAll(t, resp)
	if got := l.over(); len(got) != 1 || got[0].status != 200 || len(l.payloads) != 1 || l.payloads[0] != "payload" {
		t.Errorf("told of %q, and %v", l.payloads, got)
	}
}
