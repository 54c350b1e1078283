package retry

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/cenkalti/backoff/v4"

	"github.com/retrip-go/retrip/internal/fault"
	"github.com/retrip-go/retrip/internal/stub"
)

func TestAPanicLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	boom := func() { panic("boom") }
	for name, cfg := range map[string]Config{
		"Safe":      {Safe: func(*http.Request) bool { boom(); return true }},
		"Inspect":   {Inspect: func(*Attempt) error { boom(); return nil }},
		"Policy":    {Policy: func(*Attempt) Decision { boom(); return Decision{} }},
		"Backoff":   {Backoff: func() backoff.BackOff { boom(); return nil }},
		"BudgetKey": {BudgetKey: func(*http.Request) string { boom(); return "" }},
		"OnRetry":   {OnRetry: func(Event) { boom() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				sent, answered := opaque([]byte("payload")), opaque([]byte("answer"))
				var attempt *http.Request
				cfg.Budget = NewBudget(10, 0)
				transport := NewTransport(stub.Func(func(req *http.Request) (*http.Response, error) {
					attempt = req
					_ = req.Body.Close()
					return &http.Response{StatusCode: 503, Body: answered}, nil
				}), cfg)
				req := keyed(t.Context(), t, sent)
				func() {
					defer func() {
						if p := recover(); p != "boom" {
							t.Errorf("recovered %v", p)
						}
					}()
					_, _ = transport.RoundTrip(req)
				}()
				synctest.Wait()
				if sent.Closed() != 1 {
					t.Errorf("the request's body was closed %d times", sent.Closed())
				}
				if attempt != nil && (answered.Closed() != 1 || attempt.Context().Err() == nil) {
					t.Errorf("the response's body was closed %d times, its context ended with %v", answered.Closed(), attempt.Context().Err())
				}
				if b := cfg.Budget.buckets["api.example.com"]; b != nil && b.tokens != 10 {
					t.Errorf("%v tokens are left of 10", b.tokens)
				}
			})
		})
	}
}

// A brokenBody keeps to no rule of io.ReadCloser.
type brokenBody struct {
	read   func(p []byte) (int, error)
	close  func() error
	closed int
}

func (b *brokenBody) Read(p []byte) (int, error) { return b.read(p) }

func (b *brokenBody) Close() error {
	b.closed++
	return b.close()
}

// A response that is given up is drained where nobody can recover.
func TestABodyThatIsGivenUpHarmsNobody(t *testing.T) {
	t.Parallel()
	fine := func() error { return nil }
	for name, row := range map[string]struct {
		broken *brokenBody
		kept   bool // it came to an end, so that the response is what the caller gets
	}{
		"panics in Read":            {&brokenBody{read: func([]byte) (int, error) { panic("boom") }, close: fine}, false},
		"panics in Close":           {&brokenBody{read: func([]byte) (int, error) { return 0, io.EOF }, close: func() error { panic("boom") }}, true},
		"panics in both":            {&brokenBody{read: func([]byte) (int, error) { panic("boom") }, close: func() error { panic("boom") }}, false},
		"counts below 0":            {&brokenBody{read: func([]byte) (int, error) { return -1, nil }, close: fine}, true},
		"counts more than was read": {&brokenBody{read: func(p []byte) (int, error) { return len(p) + 1, nil }, close: fine}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				given := response(503, "")
				given.Body = row.broken
				base := answers(func(*http.Request) (*http.Response, error) { return given, nil }, reject())
				_, err := NewTransport(base, Config{}).RoundTrip(keyed(t.Context(), t, opaque([]byte("payload"))))
				synctest.Wait()
				if fault.IsRejection(err) == row.kept || row.broken.closed != 1 {
					t.Errorf("error %v, closed %d times", err, row.broken.closed)
				}
			})
		})
	}
}

func TestAPanicOfWhatIsDroppedLeavesNothingBehindEither(t *testing.T) {
	t.Parallel()
	var getBody func() (io.ReadCloser, error)
	base := stub.Func(func(req *http.Request) (*http.Response, error) {
		getBody = req.GetBody
		given := response(503, "")
		given.Body = &brokenBody{close: func() error { panic("boom") }}
		return given, nil
	})
	transport := NewTransport(base, Config{Policy: func(*Attempt) Decision { panic("boom") }})
	func() {
		defer func() { _ = recover() }()
		_, _ = transport.RoundTrip(keyed(t.Context(), t, bytes.NewReader([]byte("payload"))))
	}()
	if _, err := getBody(); err == nil {
		t.Error("the payload is still kept")
	}
}
