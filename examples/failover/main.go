// Failover sends calls to two providers, one of which has a bad day, and to a
// third that is dead, and prints where each call went.
//
//	go run -C examples ./failover
//	go run -C examples ./failover -azure
//
// The second shares calls between two deployments of Azure OpenAI by weight. All
// providers are openaitest, in this process.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	retrip "github.com/retrip-go/retrip/openai"
	"github.com/retrip-go/retrip/openai/openaitest"
	"github.com/retrip-go/retrip/retry"
)

func main() {
	azure := flag.Bool("azure", false, "two deployments that share the calls")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	play := story
	if *azure {
		play = deployments
	}
	err := play(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// story is told as a timeline: a line is a call, and where it went.
func story(ctx context.Context, w io.Writer) error {
	home, second := openaitest.NewServer(), openaitest.NewServer()
	defer home.Close()
	defer second.Close()
	dead := openaitest.NewServer()
	dead.Close() // nobody listens there

	var cfg retrip.Config
	cfg.FirstEventTimeout = 20 * time.Second // a home that says nothing is left
	cfg.Targets = []retrip.Target{
		{}, // home: where the request says, with the caller's own key
		{Name: "dead", BaseURL: dead.URL, Header: authorization("key-of-dead"), Tier: 1},
		{
			Name: "second", BaseURL: second.URL, Header: authorization("key-of-second"), Tier: 2,
			Models: map[string]string{"gpt-5.4-mini": "llama-3.3-70b-versatile"},
		},
	}
	c := newCaller(w, cfg, home.URL) //nolint:contextcheck // it outlives every context
	defer c.close()

	c.title("All is well")
	c.call(ctx)
	c.title("Home answers 503 once")
	home.Script(openaitest.Chat, openaitest.Status(http.StatusServiceUnavailable))
	c.call(ctx)
	c.title("A mistake of the caller's own is answered by home alone")
	home.Script(openaitest.Chat, openaitest.Status(http.StatusBadRequest))
	c.call(ctx)
	c.title("Home is rate limited for a minute: nobody waits for it")
	home.Script(openaitest.Chat, openaitest.Status(http.StatusTooManyRequests).With("Retry-After", "60"))
	c.call(ctx)
	c.call(ctx) // home is not even asked
	return c.err
}

// deployments share calls 3 to 1, as a reserved one and one that is paid by use
// may.
func deployments(ctx context.Context, w io.Writer) error {
	reserved, byUse := openaitest.NewServer(), openaitest.NewServer()
	defer reserved.Close()
	defer byUse.Close()
	at := func(name string, s *openaitest.Server, weight int) retrip.Target {
		return retrip.Target{
			Name: name, BaseURL: strings.TrimSuffix(s.URL, "/v1") + "/openai/deployments/{model}?api-version=2024-10-21",
			Header: http.Header{"Api-Key": {"key-of-" + name}}, Models: map[string]string{"gpt-5.4-mini": "mini-" + name}, Weight: weight,
		}
	}
	c := newCaller(io.Discard, retrip.Config{Targets: []retrip.Target{at("reserved", reserved, 3), at("by-use", byUse, 1)}}, reserved.URL) //nolint:contextcheck // it outlives every context
	defer c.close()
	calls := func(n int, what string) {
		before, beforeByUse := reserved.Count(openaitest.Chat), byUse.Count(openaitest.Chat)
		for range n {
			c.call(ctx)
		}
		fmt.Fprintf(w, "%s: of %d calls reserved got %d requests, by-use %d\n", what, n,
			reserved.Count(openaitest.Chat)-before, byUse.Count(openaitest.Chat)-beforeByUse)
	}
	calls(400, "both are well")
	reserved.Always(openaitest.Chat, openaitest.Status(http.StatusTooManyRequests).With("Retry-After", "60"))
	calls(100, "reserved is used up")
	return c.err
}

func authorization(key string) http.Header { return http.Header{"Authorization": {"Bearer " + key}} }

// A caller makes calls and tells of them.
type caller struct {
	w         io.Writer
	transport *retrip.Transport
	url       string
	start     time.Time
	err       error // the first
}

func newCaller(w io.Writer, cfg retrip.Config, url string) *caller {
	return &caller{w: w, transport: retrip.NewTransport(nil, cfg), url: url, start: time.Now()}
}

func (c *caller) close() {
	c.transport.CloseIdleConnections()
	_ = c.transport.Close()
}

func (c *caller) title(text string) { fmt.Fprintf(c.w, "\n%s\n", text) }

// call makes one call, and says where it went and what came of it.
func (c *caller) call(ctx context.Context) {
	payload, err := json.Marshal(map[string]any{"model": "gpt-5.4-mini", "messages": []any{map[string]string{"role": "user", "content": "Hello!"}}})
	if err != nil {
		c.fail(err)
		return
	}
	var report retry.Report
	req, err := retry.NewRequest(retry.WithReport(ctx, &report), http.MethodPost, c.url+"/chat/completions", payload)
	if err != nil {
		c.fail(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer key-of-home")
	client := http.Client{Transport: c.transport}
	resp, err := client.Do(req)
	if err != nil {
		c.fail(err)
		return
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	c.fail(err)
	var way []string
	for _, try := range report.Tried {
		came := strconv.Itoa(try.Status)
		if try.Status == 0 {
			came = "no connection"
		}
		way = append(way, try.Target+": "+came)
	}
	fmt.Fprintf(c.w, "%5d ms  %s\n", time.Since(c.start).Milliseconds(), strings.Join(way, ", then "))
}

func (c *caller) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}
