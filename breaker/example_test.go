package breaker_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/retrip-go/retrip/breaker"
)

func ExampleNew() {
	b := breaker.New(breaker.Config{Name: "search", FailureThreshold: 1}) // one failure is enough
	defer b.Close()                                                       //nolint:errcheck // nothing was registered

	search := func() error { return errors.New("connection refused") }
	for range 2 {
		var p breaker.Permit
		if err := b.Allow(&p); err != nil {
			fmt.Println("not tried:", errors.Is(err, breaker.ErrOpen))
			continue
		}
		if err := search(); err != nil {
			p.Failure()
			fmt.Println("failed:", err)
			continue
		}
		p.Success()
	}
	fmt.Println(b.State())

	// Output:
	// failed: connection refused
	// not tried: true
	// open
}

func ExampleNewTransport() {
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer down.Close()

	client := &http.Client{Transport: breaker.NewTransport(nil, breaker.Config{
		FailureThreshold: 1, // with more, failing must last for a second
		OnStateChange:    func(c breaker.StateChange) { fmt.Println(c.From, "→", c.To, "for", c.Reason) },
	})}
	defer client.CloseIdleConnections()
	for range 2 {
		resp, err := client.Get(down.URL) //nolint:noctx // as short as an example should be
		var refused *breaker.OpenError
		if errors.As(err, &refused) {
			fmt.Println("not sent: try again in", refused.RetryAfter.Round(1e9))
			continue
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		fmt.Println(resp.StatusCode)
	}

	// Output:
	// closed → open for failures_in_a_row
	// 503
	// not sent: try again in 5s
}
