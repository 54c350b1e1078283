package main

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRun looks at the page while the program runs.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	output, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, w, "127.0.0.1:0") }()
	said := make([]byte, 1000)
	n, err := output.Read(said)
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/`).FindString(string(said[:n]))

	deadline := time.Now().Add(5 * time.Second)
	for page := ""; !strings.Contains(page, "gpt-5.4-mini"); {
		if time.Now().After(deadline) {
			t.Fatalf("no breaker appears on the page:\n%s", page)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		page = bodyOf(t, resp)
		resp.Body.Close()
		pause(ctx, 10*time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
