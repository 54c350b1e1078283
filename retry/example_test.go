package retry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"

	"github.com/retrip-go/retrip/retry"
)

// serverAnswering answers each request with the next status, and with the last one
// from then on. Whoever gets a 503 may come back at once.
func serverAnswering(statuses ...int) *httptest.Server {
	var requests atomic.Int64
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n := int(requests.Add(1))
		status := statuses[min(n, len(statuses))-1]
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "0")
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "request %d brought %d bytes", n, len(body))
	}))
}

func ExampleNewTransport() {
	srv := serverAnswering(503, 503, 200)
	defer srv.Close()

	client := &http.Client{Transport: retry.NewTransport(http.DefaultTransport, retry.Config{
		OnRetry: func(e retry.Event) { fmt.Println("retry after a", e.ErrorType) },
	})}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPut, srv.URL, strings.NewReader("payload"))
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, string(body), err)
	// Output:
	// retry after a 503
	// retry after a 503
	// 200 OK request 3 brought 7 bytes <nil>
}

func ExampleNewRequest() {
	srv := serverAnswering(503, 200)
	defer srv.Close()
	client := &http.Client{Transport: retry.NewTransport(nil, retry.Config{})}

	payload := make([]byte, 1<<20) // both attempts send these bytes, and no copy of them
	req, err := retry.NewRequest(context.Background(), http.MethodPut, srv.URL, payload)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: request 2 brought 1048576 bytes <nil>
}

func ExampleWithMaxAttempts() {
	srv := serverAnswering(503, 200)
	defer srv.Close()
	client := &http.Client{Transport: retry.NewTransport(nil, retry.Config{})}

	once := retry.WithMaxAttempts(context.Background(), 1)
	req, err := http.NewRequestWithContext(once, http.MethodGet, srv.URL, http.NoBody)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 503 Service Unavailable
}

func ExampleWithReport() {
	srv := serverAnswering(503)
	defer srv.Close()
	client := &http.Client{Transport: retry.NewTransport(nil, retry.Config{MaxAttempts: 3})}

	var report retry.Report
	ctx := retry.WithReport(context.Background(), &report)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, http.NoBody)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println("attempts:", report.Attempts)
	fmt.Println("last retry because of:", report.Reason)
	fmt.Println("no more because of:", report.Stopped)
	fmt.Println("failed with:", report.Err)
	// Output:
	// attempts: 3
	// last retry because of: overloaded
	// no more because of: attempts
	// failed with: the server answered 503 Service Unavailable
}

// Clients of one provider share what they may spend on retries.
func ExampleNewBudget() {
	srv := serverAnswering(503)
	defer srv.Close()

	budget := retry.NewBudget(10, 0) // two retries, and nothing flows in
	for _, name := range []string{"chat", "search"} {
		client := &http.Client{Transport: retry.NewTransport(nil, retry.Config{Budget: budget, MaxAttempts: 3})}
		var report retry.Report
		req, err := http.NewRequestWithContext(retry.WithReport(context.Background(), &report), http.MethodGet, srv.URL, http.NoBody)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp, err := client.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(name, "made", report.Attempts, "attempts, stopped by", report.Stopped)
	}
	// Output:
	// chat made 3 attempts, stopped by attempts
	// search made 1 attempts, stopped by budget
}
