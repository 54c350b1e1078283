package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRun looks at what the program serves while it runs.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	output, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, w, "127.0.0.1:0", "", time.Second)
		_ = w.CloseWithError(io.EOF)
		done <- err
	}()
	said := make([]byte, 1000)
	n, err := output.Read(said)
	if err != nil {
		t.Fatal(err, <-done)
	}
	rest := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(output)
		rest <- string(all)
	}()
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+/metrics`).FindString(string(said[:n]))

	deadline := time.Now().Add(10 * time.Second)
	for page := ""; !strings.Contains(page, "\nretrip_breaker_state{"); {
		if time.Now().After(deadline) {
			t.Fatalf("no breaker appears in the metrics:\n%s", page)
		}
		page, err = fetch(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		pause(ctx, 20*time.Millisecond)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if end := <-rest; !regexp.MustCompile(`(?s)^prometheus: .*\n\d+ calls were made\n$`).MatchString(end) {
		t.Errorf("it says %q", end)
	}
}

func fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func TestPrometheusLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	p, err := startPrometheus(t.Context(), "127.0.0.1:1")
	if errors.Is(err, errNotInstalled) {
		t.Log(err) // and so there is nothing to leave behind
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	p.stop()
	if _, err := os.Stat(p.folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", p.folder, err)
	}
}

func TestBoardsHoldEveryQuery(t *testing.T) {
	t.Parallel()
	rows, err := boards("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	queries := 0
	if err := eachQuery(func(_, _, _ string) error { queries++; return nil }); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, row := range rows {
		n := strings.Count(row.url, ".expr=")
		if n == 0 || n > 10 {
			t.Errorf("%s has %d queries: none, or too many", row.name, n)
		}
		if names[row.name] || !regexp.MustCompile(`^[a-z]+$`).MatchString(row.name) {
			t.Errorf("%q is no name, or one of two", row.name)
		}
		names[row.name] = true
		if strings.Contains(row.url, "%24") {
			t.Errorf("%s: a variable of Grafana's is left", row.name)
		}
		queries -= n
	}
	if queries != 0 {
		t.Errorf("%d queries are missing", queries)
	}
}
